"""What one task of an async flow waits for: work on a thread, code in a task of its own.

Neither can be dropped when the waiting task is cancelled: a commit may already be on disk, code may
have to clean up. So an end is always seen out, and the cancellation kept until then.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine, Generator
from typing import Any, NoReturn

from kitaru.context import Unwind
from kitaru.errors import KitaruUsageError
from kitaru.journal import Step
from kitaru.pool import Pool


class UnawaitedCall(Coroutine[Any, Any, Any]):
    """The coroutine of a call, which is no condition: `if kitaru.wait(…):` would always hold."""

    def __init__(self, coroutine: Any, call: str) -> None:
        self.__qualname__ = call
        coroutine.__qualname__ = call  # for the warning about one that is not awaited
        self._coroutine: Coroutine[Any, Any, Any] = coroutine

    def __await__(self) -> Generator[Any, Any, Any]:
        return self._coroutine.__await__()

    def send(self, value: Any) -> Any:
        return self._coroutine.send(value)

    def throw(self, *raised: Any) -> Any:
        return self._coroutine.throw(*raised)

    def close(self) -> None:
        self._coroutine.close()

    def __bool__(self) -> NoReturn:
        self.close()
        raise KitaruUsageError(
            f"Call {self.__qualname__!r} is used as a condition before it is awaited, which would "
            "always hold; write `await …` in an async flow."
        )


class AwaitedCall:
    """A call that a task awaits; `cancelled` is the first cancellation that has met the task.

    `stop` ends its attempt on a thread, where that can be ended.
    """

    def __init__(self, step: Step, stop: threading.Event | None) -> None:
        self.step = step
        self.stop = stop
        self.cancelled: asyncio.CancelledError | None = None

    async def see_out(
        self, ended: asyncio.Future[Any], interrupt: Callable[[], object] = lambda: None
    ) -> None:
        """Wait for an end, also when the task is cancelled; that interrupts it once."""
        while not ended.done():
            try:
                await asyncio.wait([ended])
            except asyncio.CancelledError as exc:
                if self.cancelled is None:
                    self.cancelled = exc
                    interrupt()


def on_thread(pool: Pool, work: Callable[[], Any]) -> asyncio.Future[Any]:
    """What the work comes to on a thread."""
    loop = asyncio.get_running_loop()
    ended: asyncio.Future[Any] = loop.create_future()

    def end(value: Any, error: BaseException | None) -> None:
        ended.set_result(value) if error is None else ended.set_exception(error)

    def run() -> None:
        try:
            outcome, error = work(), None
        except BaseException as exc:  # raised again where it is awaited
            outcome, error = None, exc
        loop.call_soon_threadsafe(end, outcome, error)

    pool.run(run)
    return ended


def report_unseen(loop: asyncio.AbstractEventLoop, told: dict[str, Any]) -> None:
    """Tell of errors that nobody has seen, but not of a drive that has left its tasks."""
    exc = told.get("exception")
    has_left = isinstance(exc, Unwind) or (
        isinstance(exc, BaseExceptionGroup) and exc.subgroup(Unwind) is not None
    )
    if not has_left:
        loop.default_exception_handler(told)
