"""Runs a checkpoint's code once: on this thread, within a time limit, awaited, or isolated.

Whatever it raises is a failed attempt. A plain function cannot be stopped: one that is over its
time is left behind on its thread, and what it still does is not recorded. Coroutines are
cancelled, isolated ones killed.
"""

from __future__ import annotations

import contextvars
import threading
from collections.abc import Callable

from kitaru import capture, clock, config, context, failures
from kitaru.context import CallRequest, CallScope, Unwind
from kitaru.effects import Tried
from kitaru.errors import FailureOrigin, KitaruContextError


def attempt(
    request: CallRequest,
    scope: CallScope,
    *,
    home: config.Home,
    stops: Callable[[], bool],
    line: Callable[..., None],
) -> Tried:
    """Run it from this thread, and wait for its end; an isolated one ends when it `stops`."""
    if request.isolated is not None:
        from kitaru import isolation  # brings subprocess, which most flows do without

        return isolation.attempt(
            request.isolated,
            scope,
            home=home,
            stops=stops,
            timeout=request.policy.timeout,
            line=line,
        )
    if request.is_async:
        import anyio

        if _has_loop():
            raise KitaruContextError(
                f"Async checkpoint {request.name!r} is called in an event loop that a plain flow "
                "runs, and would stop that. Make the flow an `async def` and await it, or .submit "
                "it outside of the loop."
            )
        return anyio.run(attempt_async, request, scope)
    if request.policy.timeout is None:
        return _run(request, scope)
    return _run_in_time(request, scope, request.policy.timeout)


async def attempt_async(request: CallRequest, scope: CallScope) -> Tried:
    """Run a coroutine in a task of its own, and await its end."""
    import anyio

    try:
        with context.calling(scope), capture.lines():
            with anyio.move_on_after(request.policy.timeout) as limit:
                value = await request.run()
        if limit.cancelled_caught:
            return _timed_out(request, "it was cancelled")
        return Tried(request.dump(value))  # pyright: ignore[reportPossiblyUnboundVariable]
    except (Unwind, GeneratorExit):
        raise
    except BaseException as exc:  # user code: any exception is a failed attempt
        if _is_cancelled(exc):
            raise
        return failed(exc)


def _has_loop() -> bool:
    import asyncio

    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True


def _is_cancelled(exc: BaseException) -> bool:
    """Whether the flow has cancelled it, rather than its own code."""
    import asyncio

    task = asyncio.current_task()
    return isinstance(exc, asyncio.CancelledError) and task is not None and task.cancelling() > 0


def failed(exc: BaseException, origin: FailureOrigin | None = None) -> Tried:
    """An attempt that raised."""
    return Tried(failure=failures.describe(exc, origin=origin), cause=exc)


def _run(request: CallRequest, scope: CallScope) -> Tried:
    def work() -> bytes:
        context.current_call.set(scope)
        with capture.lines():
            value = request.run()
        return request.dump(value)

    try:
        return Tried(contextvars.copy_context().run(work))
    except Unwind:
        raise
    except BaseException as exc:  # user code: any exception is a failed attempt
        return failed(exc)


def _run_in_time(request: CallRequest, scope: CallScope, seconds: float) -> Tried:
    ended = threading.Event()
    outcome: list[Tried] = []
    unwound: list[Unwind] = []
    bound = contextvars.copy_context()

    def work() -> None:
        try:
            outcome.append(bound.run(_run, request, scope))
        except Unwind as unwind:
            unwound.append(unwind)
        finally:
            ended.set()

    until = clock.monotonic() + seconds
    threading.Thread(target=work, name=f"kitaru-{scope.call_id}", daemon=True).start()
    if clock.wait(ended, max(0.0, until - clock.monotonic())):
        if unwound:
            raise unwound[0]
        return outcome[0]
    scope.is_abandoned = True
    return _timed_out(request, "its thread was left behind")


def _timed_out(request: CallRequest, what: str) -> Tried:
    seconds = request.policy.timeout
    message = f"Checkpoint {request.name!r} did not end within {seconds:g} seconds; {what}."
    return failed(TimeoutError(message), FailureOrigin.RUNTIME)
