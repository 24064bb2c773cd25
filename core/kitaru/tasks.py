"""The durable calls of an async flow: made in its tasks, awaited on its event loop.

Each task numbers its calls in a lane of its own, and results reach the tasks in the order in which
calls ended when they were recorded, so that a flow which acts on whichever ends first does the
same again. Coroutine checkpoints run on the flow's loop, plain ones that are submitted on threads;
what is called directly and is no coroutine blocks this flow, and no other.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import sys
import threading
import weakref
from collections.abc import Callable, Sequence
from contextvars import ContextVar
from typing import Any

from kitaru import clock, config, tries
from kitaru.calls import Calls
from kitaru.children import Child
from kitaru.context import CallRequest, Request, Unwind
from kitaru.effects import (
    Ask,
    CalledOff,
    Commit,
    Effect,
    Pause,
    Recorded,
    Rest,
    Try,
    await_steps,
)
from kitaru.errors import KitaruContextError
from kitaru.futures import CheckpointFuture
from kitaru.journal import Lane, Step
from kitaru.pool import Pool
from kitaru.store import Lease, Store, Transaction
from kitaru.store.journal import CallRecord
from kitaru.turns import Turns

_UNLIMITED = sys.maxsize
#: Set in tasks that are not the flow's own: Kitaru's, and those of checkpoints' code.
_is_apart: ContextVar[bool] = ContextVar("kitaru_apart", default=False)


class TaskCalls(Calls):
    """The durable calls of one drive of an async flow."""

    is_async = True

    def __init__(self, store: Store, lease: Lease, *, interactive: bool) -> None:
        super().__init__(store, lease, interactive=interactive)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._root: asyncio.Task[Any] | None = None
        self._lanes: weakref.WeakKeyDictionary[Any, Lane] = weakref.WeakKeyDictionary()
        self._resting: set[asyncio.Future[None]] = set()
        self._commits = Pool(config.MAX_WORKERS)
        self._threads = Pool(_UNLIMITED)  # what runs here was let through before
        self._turns = Turns(())
        self._has_returned = False

    def run(self, body: Callable[[], Any]) -> Any:
        """Run the flow on a new event loop to its end."""
        self._has_returned = False
        self._turns = Turns(self.journal.endings())
        with asyncio.Runner() as runner:
            self._loop = loop = runner.get_loop()
            loop.set_task_factory(self._make_task)
            loop.set_exception_handler(_report)
            try:
                return runner.run(self._main(body))
            finally:
                self._has_returned = True
                self._root = None

    async def _main(self, body: Callable[[], Any]) -> Any:
        self._root = asyncio.current_task()
        self._lanes[self._root] = self.journal.root
        try:
            value = await body()
        except Exception:  # of user code's: what runs beside it still has its end recorded
            await self._finish_submitted()
            raise
        await self._finish_submitted()
        for child in self._children:
            if child.recorded is None:
                await self.outcome(child)
        self._has_returned = True
        return value

    async def _finish_submitted(self) -> None:
        for future in self._futures:
            await self._ended(future)

    def finish_children(self) -> None:
        """They were waited for on the loop."""

    # --- what a flow calls -------------------------------------------------------------------

    def call(self, request: Request) -> Any:
        """Make a call: a coroutine for what is awaited, the value of a plain checkpoint."""
        step = self._begin(request)
        if request.is_async:
            return self._value(step, request)
        recorded = self._settled(step, request)
        self._turns.skip(recorded.order)
        return self._deliver(step, request, recorded)

    async def _value(self, step: Step, request: Request) -> Any:
        return self._deliver(step, request, await self._awaited(step, request))

    def submit(
        self, requests: Sequence[CallRequest], *, max_workers: int | None
    ) -> list[CheckpointFuture[Any]]:
        """Make checkpoint calls beside the task that submits them."""
        limit = asyncio.Semaphore(max_workers or config.MAX_WORKERS)
        return [self._start(request, limit) for request in requests]

    def outcome(self, child: Child) -> Any:
        """The value of a child execution, when it has ended; a coroutine."""
        if child.waiting is None:
            child.waiting = self._apart(self._awaited(child.step, child.request))
        return self._outcome(child)

    async def _outcome(self, child: Child) -> Any:
        child.recorded = recorded = await asyncio.shield(child.waiting)
        return self._deliver(child.step, child.request, recorded)

    def _start(self, request: CallRequest, limit: asyncio.Semaphore) -> CheckpointFuture[Any]:
        """Run a checkpoint in a task of its own, or on a thread."""
        step, stop = self._begin(request), threading.Event()

        async def work() -> None:
            try:
                async with limit:
                    if future.start():
                        future.settle(await self._awaited(step, request, stop=stop))
            except asyncio.CancelledError:
                halted = self.course.halted
                future.settle(Recorded()) if halted is None else future.abandon(halted)
            except BaseException as unwind:  # whatever ended the drive ends the future too
                future.abandon(unwind)

        def interrupt() -> bool:
            stop.set()
            is_coroutine = request.is_async and request.isolated is None
            return task.cancel() if is_coroutine else request.isolated is not None

        future = self._future(step, request, interrupt=interrupt, awaits=self._await_future)
        task = self._apart(work())
        return future

    async def _await_future(self, future: CheckpointFuture[Any]) -> Any:
        await self._ended(future)
        return future.outcome()

    async def _ended(self, future: CheckpointFuture[Any]) -> None:
        ended = asyncio.Event()
        future.on_end(ended.set)  # it ends on the loop
        await ended.wait()

    def _called_off(self, step: Step, request: Request) -> Recorded:
        recorded = super()._called_off(step, request)
        self._turns.skip(recorded.order)
        return recorded

    def _cancelled(self, call: str) -> BaseException:
        return asyncio.CancelledError(f"{call} was cancelled.")

    # --- steps of calls ----------------------------------------------------------------------

    def put(
        self, conn: Transaction, record: CallRecord, *, step: Step, result: bytes | None = None
    ) -> int | None:
        order = super().put(conn, record, step=step, result=result)
        if order is not None:
            self._turns.expect(order)
        return order

    async def _awaited(
        self, step: Step, request: Request, *, stop: threading.Event | None = None
    ) -> Recorded:
        """The outcome of a call, in this task, when it is its turn."""
        with self.course.guard():
            with self.busy(isinstance(request, CallRequest)):
                recorded = await await_steps(
                    self.steps(step, request), lambda effect: self._perform_here(effect, stop)
                )
            if recorded.is_cancelled and step.record is None:
                self._turns.skip(recorded.order)
            else:
                await self._turns.turn(recorded.order)
        if recorded.is_cancelled:
            raise asyncio.CancelledError
        return recorded

    async def _perform_here(self, effect: Effect, stop: threading.Event | None) -> Any:
        """Carry out one effect in this task; where the task is cancelled the call is called off."""
        try:
            match effect:
                case Try(request, scope) if request.is_async and request.isolated is None:
                    return await self._apart(tries.attempt_async(request, scope))
                case Pause(seconds):
                    until = clock.monotonic() + seconds
                    while (left := until - clock.monotonic()) > 0:
                        self.course.check()
                        await self._rest(left)
                    return self.course.check()
                case Rest(seconds):
                    return await self._rest(seconds)
                case Commit() | Ask():
                    return await _on_thread(self._commits, lambda: self._perform(effect, None))
                case Try():
                    return await _on_thread(self._threads, lambda: self._perform(effect, stop))
        except asyncio.CancelledError:
            self.course.check()
            if self._has_returned:  # the loop is being closed: not the flow's doing
                raise
            raise CalledOff from None

    async def _rest(self, seconds: float) -> None:
        assert self._loop is not None
        woken = self._loop.create_future()
        self._resting.add(woken)
        try:
            await asyncio.wait([woken], timeout=seconds)
        finally:
            self._resting.discard(woken)

    # --- tasks and their lanes ---------------------------------------------------------------

    def _apart(self, coro: Any) -> asyncio.Task[Any]:
        """A task that is not the flow's own."""
        assert self._loop is not None
        apart = contextvars.copy_context()
        apart.run(_is_apart.set, True)
        return self._loop.create_task(coro, context=apart)

    def _make_task(
        self, loop: asyncio.AbstractEventLoop, coro: Any, **options: Any
    ) -> asyncio.Task[Any]:
        """Make a task; one that the flow starts has the next lane of the task it starts it in."""
        task = asyncio.Task(coro, loop=loop, **options)
        bound = options.get("context")
        apart = _is_apart.get() if bound is None else bound.get(_is_apart, False)
        parent = self._lane_of(asyncio.current_task(loop))
        if parent is not None and not apart:
            lane = self._lanes[task] = parent.branch()
            task.add_done_callback(lambda _: parent.join(lane))
        return task

    def _lane_of(self, task: asyncio.Task[Any] | None) -> Lane | None:
        return None if task is None else self._lanes.get(task)

    def _lane(self) -> Lane:
        here = threading.get_ident() == self._thread
        lane = self._lane_of(asyncio.current_task(self._loop)) if here else None
        if lane is None:
            raise KitaruContextError(
                f"A durable call of {self.exec_id} is made outside of the flow's tasks: in a "
                "thread, a callback or another event loop. Make it in the flow's own coroutines; "
                "plain checkpoints run beside them with .submit(…)."
            )
        return lane

    # --- what the heart tells ----------------------------------------------------------------

    def wake(self) -> None:
        """Let calls that rest look again; from any thread."""
        super().wake()
        if self._loop is not None:
            with contextlib.suppress(RuntimeError):  # the loop is closed: nothing rests on it
                self._loop.call_soon_threadsafe(self._wake)

    def _wake(self) -> None:
        for woken in self._resting:
            if not woken.done():
                woken.set_result(None)
        if self.ledger.interrupt.is_set() and self._root is not None:
            root, self._root = self._root, None  # once: the flow may have to clean up
            root.cancel()


def _report(loop: asyncio.AbstractEventLoop, told: dict[str, Any]) -> None:
    """Tell of errors that nobody has seen, but not of a drive that has left its tasks."""
    if not isinstance(told.get("exception"), Unwind):
        loop.default_exception_handler(told)


async def _on_thread(pool: Pool, work: Callable[[], Any]) -> Any:
    """What the work returns; its end is waited for also when the task is cancelled."""
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
    task, cancels = asyncio.current_task(), 0
    while not ended.done():
        try:
            await asyncio.wait([ended])
        except asyncio.CancelledError:
            cancels += 1
    for _ in range(cancels):
        assert task is not None
        task.uncancel()
        task.cancel()  # once more, for the task to meet at its next `await`
    return ended.result()
