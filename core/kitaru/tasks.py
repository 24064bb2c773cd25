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
import functools
import socket
import sys
import threading
import weakref
from collections.abc import Callable, Sequence
from contextvars import ContextVar
from typing import Any

from kitaru import attempts, clock, config, effects, tries
from kitaru.awaited import AwaitedCall, UnawaitedCall, on_thread, report_unseen
from kitaru.batches import Batches
from kitaru.calls import Calls
from kitaru.children import Child
from kitaru.context import CallRequest, ChildRequest, Request, Unwind
from kitaru.effects import Ask, CalledOff, Commit, Effect, Pause, Recorded, Rest, Try
from kitaru.errors import KitaruContextError, KitaruRuntimeError
from kitaru.futures import CheckpointFuture
from kitaru.journal import Lane, Step
from kitaru.models import CallStatus
from kitaru.pool import Pool
from kitaru.store import Lease, Store
from kitaru.turns import RestingLoop, RestingSelector, Turns, planned

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
        self._batches = Batches(self.ledger)
        self._threads = Pool(_UNLIMITED)  # what runs here was let through before
        self._limit = asyncio.Semaphore(config.MAX_WORKERS)
        self._turns = Turns(())
        self._has_returned = False

    @property
    def is_busy(self) -> bool:
        """Whether a checkpoint is under way, or a result is on its way to its task."""
        return super().is_busy or self._turns.has_results

    def run(self, body: Callable[[], Any]) -> Any:
        """Run the flow on a new event loop to its end."""
        self._has_returned = False
        self._limit = asyncio.Semaphore(config.MAX_WORKERS)
        self._turns = Turns(self.journal.endings())
        self._loop = loop = self._new_loop()
        with asyncio.Runner(loop_factory=lambda: loop) as runner:
            loop.set_task_factory(self._make_task)
            loop.set_exception_handler(report_unseen)
            try:
                return runner.run(self._main(body))
            except BaseException:  # the end of the drive counts, not what the flow made of it
                self.course.check()
                raise
            finally:
                self._has_returned = True
                self._root = None

    def _new_loop(self) -> asyncio.AbstractEventLoop:
        try:
            selector = RestingSelector(self._turns)
            try:
                # The loop is to have these: one that is half made complains when it is collected.
                for end in socket.socketpair():
                    end.close()
                return RestingLoop(selector)
            except OSError:
                selector.close()
                raise
        except OSError as exc:
            error = KitaruRuntimeError(
                f"No event loop could be made for execution {self.exec_id}: {exc}. Run fewer "
                "async flows at a time, or raise the limit of open files. It is recorded; "
                f"continue it with `kitaru executions resume {self.exec_id}`."
            )
        self.course.halt(Unwind("broken", error))

    async def _main(self, body: Callable[[], Any]) -> Any:
        self._root = asyncio.current_task()
        self._lanes[self._root] = self.journal.root
        self.course.check()
        try:
            value = await body()
        except Exception:  # of user code's: what runs beside it still has its end recorded
            await self._finish_submitted()
            raise
        await self._finish_submitted()
        left = [child for child in self._children if child.recorded is None]
        if left:
            await asyncio.wait([self._watched(child) for child in left])
        for child in left:
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
            return UnawaitedCall(self._value(step, request), step.call_id)
        with self.busy:
            recorded = self._settled(step, request)
        self._turns.skip(planned(step.original_order))
        self._turns.skip(recorded.order)
        return self._deliver(step, request, recorded)

    async def _value(self, step: Step, request: Request) -> Any:
        if step.record is not None and step.record.status is CallStatus.CANCELLED:
            await self._cancelled_again(step, step.record.ended_order)
        return self._deliver(step, request, await self._awaited(step, request))

    def submit(
        self, requests: Sequence[CallRequest], *, max_workers: int | None
    ) -> list[CheckpointFuture[Any]]:
        """Make checkpoint calls beside the task that submits them."""
        limit = self._limit if max_workers is None else asyncio.Semaphore(max_workers)
        return [self._start(request, limit) for request in requests]

    def outcome(self, child: Child) -> Any:
        """The value of a child execution, when it has ended; a coroutine."""
        return self._outcome(child, self._watched(child))

    async def _outcome(self, child: Child, waiting: asyncio.Task[Recorded]) -> Any:
        child.recorded = recorded = await asyncio.shield(waiting)
        return self._deliver(child.step, child.request, recorded)

    def _watched(self, child: Child) -> asyncio.Task[Recorded]:
        if child.waiting is None:
            child.waiting = self._apart(self._awaited(child.step, child.request))
        watching: asyncio.Task[Recorded] = child.waiting
        return watching

    def _start(self, request: CallRequest, limit: asyncio.Semaphore) -> CheckpointFuture[Any]:
        """Run a checkpoint in a task of its own, or on a thread."""
        step, stop = self._begin(request), threading.Event()
        # What is recorded takes its turn, whatever stands in the queue.
        place = limit if step.record is None else contextlib.nullcontext()

        async def work() -> None:
            try:
                async with place:
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
        self.busy.begin()  # from now on, though it may stand in the queue for long
        task = self._apart(work())
        task.add_done_callback(lambda _: self.busy.end())
        return future

    async def _await_future(self, future: CheckpointFuture[Any]) -> Any:
        await self._ended(future)
        return future.outcome()

    async def _ended(self, future: CheckpointFuture[Any]) -> None:
        ended = asyncio.Event()
        future.on_end(ended.set)  # it ends on the loop
        await ended.wait()

    def _begin(self, request: Request) -> Step:
        step = super()._begin(request)
        if not isinstance(request, ChildRequest):  # that is often awaited much later
            self._turns.plan(step.original_order)
        return step

    def _called_off(self, step: Step, request: Request) -> Recorded:
        if step.record is not None:  # called off before its task began, as when it was recorded
            recorded = self._recorded(step, step.record)
            self.journal.observed(step, failed=recorded.result is None)
        else:
            recorded = super()._called_off(step, request)
        self._turns.skip(planned(step.original_order))
        self._turns.skip(recorded.order)
        return recorded

    def _cancelled(self, call: str) -> BaseException:
        return asyncio.CancelledError(f"{call} was cancelled.")

    # --- steps of calls ----------------------------------------------------------------------

    def next_ending(self) -> int:
        order = super().next_ending()
        self._turns.expect(order)
        return order

    async def _awaited(
        self, step: Step, request: Request, *, stop: threading.Event | None = None
    ) -> Recorded:
        """The outcome of a call, in this task, when it is its turn.

        Where the task is cancelled before it has the outcome, the call is recorded as cancelled,
        whatever it still came to.
        """
        call = AwaitedCall(step, stop)
        counts = self.busy if isinstance(request, CallRequest) else contextlib.nullcontext()
        with self.course.guard(), counts:
            perform = functools.partial(self._perform_here, call=call)
            if step.record is not None:
                recorded = self._recorded(step, step.record)
            else:
                await self._take_turn(call, self._turns.plan(step.original_order))
                recorded = await effects.await_steps(self.steps(step, request), perform)
            await self._take_turn(call, recorded.order)
            if call.cancelled is not None:
                self._leave_if_over(call)
                self._turns.skip(recorded.order)
                if not recorded.is_cancelled:  # it came too late
                    steps = attempts.called_off(self, step, request)
                    self._turns.skip((await effects.await_steps(steps, perform)).order)
                self.journal.observed(step, failed=True)
                raise call.cancelled
        return recorded

    async def _take_turn(self, call: AwaitedCall, order: int | None) -> None:
        if call.cancelled is None and order is not None:
            try:
                with self.busy:
                    await self._turns.turn(order)
            except asyncio.CancelledError as exc:
                # What the flow got in time when it was recorded, it gets in time again.
                if call.step.record is None or self._has_returned or self.ledger.interrupt.is_set():
                    call.cancelled = exc

    async def _cancelled_again(self, step: Step, order: int | None) -> None:
        """Wait for the flow to cancel what it has cancelled before."""
        assert self._loop is not None
        try:
            with self.busy:
                await self._loop.create_future()
        except asyncio.CancelledError:
            self.course.check()
            self._turns.skip(order)
            self.journal.observed(step, failed=True)
            raise

    async def _perform_here(self, effect: Effect, *, call: AwaitedCall) -> Any:
        """Carry out one effect in this task; where the task is cancelled the call is called off.

        A commit is seen out, and the cancellation kept for what follows.
        """
        if isinstance(effect, Commit):
            if len(asyncio.all_tasks(self._loop)) == 1:  # nothing waits for this thread meanwhile
                return self._perform(effect, None)
            ended = self._batches.commit(effect)
            await call.see_out(ended)
            return ended.result()
        self._leave_if_cancelled(call)
        match effect:
            case Try(request, scope) if request.is_async and request.isolated is None:
                ended = self._apart(tries.attempt_async(request, scope))
                await call.see_out(ended, ended.cancel)
            case Try():
                stop = call.stop or threading.Event()
                ended = on_thread(self._threads, lambda: self._perform(effect, stop))
                await call.see_out(ended, stop.set)
            case Ask():
                ended = on_thread(self._threads, lambda: self._perform(effect, None))
                await call.see_out(ended)
            case Pause(seconds):
                ended = self._apart(self._pause(seconds))
                await call.see_out(ended, ended.cancel)
            case Rest(seconds):
                ended = self._apart(self._rest(seconds))
                await call.see_out(ended, ended.cancel)
        if call.cancelled is not None and not ended.cancelled():
            ended.exception()  # seen: the call is over, whatever it came to
        self._leave_if_cancelled(call)
        return ended.result()

    def _leave_if_cancelled(self, call: AwaitedCall) -> None:
        if call.cancelled is not None:
            self._leave_if_over(call)
            raise CalledOff

    def _leave_if_over(self, call: AwaitedCall) -> None:
        """A task may be cancelled because its drive is over: nothing is recorded then."""
        self.course.check()
        if self._has_returned and call.cancelled is not None:  # the loop is being closed
            raise call.cancelled

    async def _pause(self, seconds: float) -> None:
        until = clock.monotonic() + seconds
        while (left := until - clock.monotonic()) > 0:
            self.course.check()
            await self._rest(left)
        self.course.check()

    async def _rest(self, seconds: float) -> None:
        assert self._loop is not None
        woken = self._loop.create_future()
        self._resting.add(woken)
        try:
            await asyncio.wait([woken], timeout=seconds)
        finally:
            self._resting.discard(woken)
        await self._turns.quiet()

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
