"""Makes every durable call of a drive durable: recorded ones return their record, others run.

It is what `context.current_driver` holds while a flow runs. A result is committed before the flow
gets it, and the flow gets it from the commit. Here is what a sync flow's drive does on its own
thread; what an async flow's does otherwise is in `tasks`.
"""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable, Sequence
from typing import Any

from kitaru import attempts, children, clock, config, failures, ids, pending, tries
from kitaru.busy import Busy
from kitaru.children import Child, Offspring
from kitaru.context import CallRequest, ChildRequest, Request, SleepRequest, WaitRequest
from kitaru.course import Course
from kitaru.effects import Ask, Commit, Effect, Pause, Recorded, Rest, Steps, Try, walk
from kitaru.errors import KitaruContextError, KitaruSerializationError
from kitaru.futures import CheckpointFuture
from kitaru.journal import Journal, Lane, Step
from kitaru.ledger import Ledger
from kitaru.models import CallStatus
from kitaru.pool import Pool
from kitaru.replay import load_plan
from kitaru.store import Lease, Store, Transaction, artifacts, executions, history, journal
from kitaru.store.journal import CallRecord
from kitaru.store.leases import LeaseRow
from kitaru.store.logs import LogRecord
from kitaru.store.results import Results


class Calls:
    """The durable calls of one drive.

    Args:
        store: where the execution is.
        lease: the right to drive it.
        interactive: whether waits are asked in the terminal.
    """

    is_async = False

    def __init__(self, store: Store, lease: Lease, *, interactive: bool) -> None:
        with store.snapshot() as conn:
            data = executions.drive_data(conn, lease.execution)
        self.ledger = Ledger(store, lease, data["metadata"])
        self.ledger.on_interrupt = self.wake
        self.course = Course(self.ledger, deadline=data["deadline_at"])
        self.running = attempts.RunningCalls()
        self.pending: set[pending.Pending[Any]] = set()
        self.interactive = interactive
        self.store = store
        self._caches: bool = data["spec"].get("cache", False)
        self._execution = lease.execution
        self._bell = threading.Event()
        self.busy = Busy(self._rested)
        self._pool = Pool(config.MAX_WORKERS)
        self._pools = [self._pool]
        self._futures: list[CheckpointFuture[Any]] = []
        self._children: list[Child] = []
        self._results = Results(store, lease.execution)
        self._plan = load_plan(data["plan"])
        self._original_id: str | None = data["original_exec_id"]
        self._original = 0
        self._thread = 0
        self.journal = self._load()
        self.ledger.start_over()

    @property
    def exec_id(self) -> str:
        """The execution."""
        return self.ledger.exec_id

    @property
    def home(self) -> config.Home:
        """Where the store is."""
        return self.store.home

    def pause(self, seconds: float) -> None:
        """Let seconds pass inside a checkpoint, unless the drive ends meanwhile."""
        self.course.pause(seconds)

    @property
    def is_busy(self) -> bool:
        """Whether a checkpoint runs, stands in a queue or pauses."""
        return bool(self.busy)

    def start(self) -> None:
        """This thread runs the flow's body from now on."""
        self._thread = threading.get_ident()

    def run(self, body: Callable[[], Any]) -> Any:
        """Run the flow to its end."""
        return body()

    def start_over(self) -> None:
        """Number calls from the first again, for another drive of the flow."""
        self._futures.clear()
        self._children.clear()
        self.journal = self._load()
        self.ledger.start_over()

    def _load(self) -> Journal:
        with self.store.snapshot() as conn:
            records = journal.to_drive(conn, self._execution, exec_id=self.exec_id)
            original: list[CallRecord] = []
            if self._plan is not None and self._original_id is not None:
                self._original = executions.find(conn, self._original_id).id
                original = journal.to_drive(conn, self._original, exec_id=self._original_id)
        return Journal(
            self.exec_id,
            records,
            plan=self._plan,
            original=original,
            original_id=self._original_id,
        )

    # --- what a flow calls -------------------------------------------------------------------

    def call(self, request: Request) -> Any:
        """Make a call and return its value."""
        step = self._begin(request)
        return self._deliver(step, request, self._settled(step, request))

    def submit(
        self, requests: Sequence[CallRequest], *, max_workers: int | None
    ) -> list[CheckpointFuture[Any]]:
        """Make checkpoint calls beside the flow, at most `max_workers` of them at a time."""
        pool = self._pool_for(max_workers)
        return [self._submit(request, pool) for request in requests]

    def start_child(self, request: ChildRequest) -> Child:
        """Start a child execution, or find the one that was started."""
        step = self._begin(request)
        with self.course.guard():
            child = Child(step, request, exec_id=children.start(self, step, request))
        self._children.append(child)
        return child

    def outcome(self, child: Child) -> Any:
        """The value of a child execution that has ended, waiting for its end."""
        if child.recorded is None:
            child.recorded = self._settled(child.step, child.request)
        return self._deliver(child.step, child.request, child.recorded)

    def merge_metadata(self, metadata: dict[str, Any]) -> None:
        """Add to the execution's metadata."""
        self.ledger.merge_metadata(metadata)

    def line(self, record: LogRecord) -> None:
        """Record a line of user code's."""
        self.ledger.line(record)

    def read_named(self, exec_id: str, name: str) -> bytes:
        """The encoded value another execution has under a name."""
        with self.store.snapshot() as conn:
            row = executions.find(conn, exec_id)
            history.refuse_redacted(executions.drive_data(conn, row.id)["spec"], row.exec_id)
            return artifacts.read_named(conn, row, name)

    # --- the end of the flow -----------------------------------------------------------------

    def join(self) -> None:
        """Wait until no submitted call runs."""
        for pool in self._pools:
            pool.join()

    def finish_children(self) -> None:
        """Wait for children that the flow has not waited for; one that failed fails the flow."""
        left = [child for child in self._children if child.recorded is None]
        for child in left:
            child.recorded = self._settled(child.step, child.request)
        for child in left:
            self.outcome(child)

    def raise_unobserved(self) -> None:
        """A submitted call that failed without anybody looking fails the flow."""
        for future in self._futures:
            if not future.observed and future.failed:
                future.result()

    # --- steps of calls ----------------------------------------------------------------------

    def put(
        self, conn: Transaction, record: CallRecord, *, step: Step, result: bytes | None = None
    ) -> int | None:
        """Write a call's row inside a commit; with it, failures before it become history.

        Returns:
            The call's place among those that have ended; `None` while it goes on.
        """
        self.running.discard(step.seq)
        order = None if record.ended_at is None else self.next_ending()
        journal.put(conn, self._execution, record, order=order, result=result)
        if step.settles:
            journal.settle(conn, self._execution, step.settles)
        return order

    def next_ending(self) -> int:
        """The place of a call that ends now, among all that have."""
        return self.journal.next_ending()

    def _pool_for(self, max_workers: int | None) -> Pool:
        if max_workers is None:
            return self._pool
        pool = Pool(max_workers)
        self._pools.append(pool)
        return pool

    def _submit(self, request: CallRequest, pool: Pool) -> CheckpointFuture[Any]:
        step, stop = self._begin(request), threading.Event() if request.isolated else None

        def interrupt() -> bool:
            if stop is None:
                return False
            stop.set()
            if future.wait_cancelled():
                self.journal.observed(step, failed=True)
            return future.cancelled()

        future = self._future(step, request, interrupt=interrupt)

        def work() -> None:
            try:
                if future.start():  # it may have been called off while it stood in the queue
                    future.settle(self._settled(step, request, stop=stop))
            except BaseException as unwind:  # whatever ended the drive ends the future too
                future.abandon(unwind)
            finally:
                self.busy.end()

        self.busy.begin()  # from now on, though it may stand in the queue for long
        if step.record is not None:
            work()
        else:
            pool.run(work)
        return future

    def _future(self, step: Step, request: CallRequest, **how: Any) -> CheckpointFuture[Any]:
        future: CheckpointFuture[Any] = CheckpointFuture(
            step.call_id,
            deliver=lambda recorded: self._deliver(step, request, recorded),
            call_off=lambda: self._called_off(step, request),
            **how,
        )
        self._futures.append(future)
        return future

    def _lane(self) -> Lane:
        if threading.get_ident() != self._thread:
            raise KitaruContextError(
                f"A durable call of {self.exec_id} is made from a thread that the flow started. "
                "Threads come in no fixed order, so it could not be found again: use .submit(…) or "
                ".map(…)."
            )
        return self.journal.root

    def _begin(self, request: Request) -> Step:
        lane = self._lane()
        self.course.check()
        if isinstance(request, CallRequest) and not self.journal.is_recorded(lane):
            request.run.keep()
        with self.course.guard():
            step = self.journal.begin(lane, request)
            if step.record is None:
                self.ledger.look()
        if step.record is None:
            self.course.check()
        return step

    def _settled(
        self, step: Step, request: Request, *, stop: threading.Event | None = None
    ) -> Recorded:
        """The outcome of a call, on this thread."""
        with self.course.guard():
            if step.record is not None:
                return self._recorded(step, step.record)
            perform = functools.partial(self._perform, stop=stop)
            return walk(self.steps(step, request), perform)

    def _called_off(self, step: Step, request: Request) -> Recorded:
        """Record that the flow has cancelled a call before it ran."""
        self.journal.observed(step, failed=True)
        with self.course.guard():
            steps = attempts.called_off(self, step, request)
            return walk(steps, lambda effect: self._perform(effect, None))

    def _cancelled(self, call: str) -> BaseException:
        from concurrent.futures import CancelledError

        return CancelledError(f"{call} was cancelled.")

    def steps(self, step: Step, request: Request) -> Steps:
        """The steps to the outcome of a call that is not recorded: replaced, reused, or made."""
        if step.override is not None and isinstance(request, CallRequest):
            return attempts.overridden(self, step, request)
        if step.reuse is not None:
            return self._reused(step, step.reuse)
        match request:
            case WaitRequest():
                return pending.Question(self, step, request).steps()
            case SleepRequest():
                return pending.Nap(self, step, request).steps()
            case CallRequest() if self._caches if request.cache is None else request.cache:
                return attempts.from_cache(self, step, request)
            case CallRequest():
                return attempts.Attempts(self, step, request).steps()
            case ChildRequest():
                return Offspring(self, step, request).steps()

    def _recorded(self, step: Step, record: CallRecord) -> Recorded:
        result = None
        if record.status is CallStatus.COMPLETED:
            result = self._results.take(step.seq, what=self._result_of(step))
        return Recorded(result, record.failure, order=record.ended_order)

    def _reused(self, step: Step, record: CallRecord) -> Steps:
        order: list[int] = []

        def work(conn: Transaction) -> None:
            source, target, seq = self._original, self._execution, step.seq
            journal.copy_calls(conn, source=source, target=target, first=seq, before=seq + 1)
            # It ends here and now: its place in the original may be another call's here.
            order.append(self.next_ending())
            journal.set_order(conn, target, seq, order=order[0])

        yield Commit(work)
        result = None
        if record.status is CallStatus.COMPLETED:
            with self.store.snapshot() as conn:
                what = self._result_of(step)
                result = journal.result(conn, self._execution, step.seq, what=what)
        return Recorded(result, record.failure, order=order[0])

    def _perform(self, effect: Effect, stop: threading.Event | None) -> Any:
        """Carry out one effect on this thread."""
        match effect:
            case Commit():
                return self.ledger.together(effect.work, (None, effect.call_id))
            case Try():
                request, scope, home = effect.request, effect.scope, self.store.home
                stops = functools.partial(self.course.ends, stop)
                return tries.attempt(request, scope, home=home, stops=stops, line=self.line)
            case Pause(seconds):
                return self.course.pause(seconds, stop)
            case Rest(seconds):
                clock.wait(self._bell, seconds)
                return self._bell.clear()
            case Ask(look):
                return look()

    def _deliver(self, step: Step, request: Request, recorded: Recorded) -> Any:
        """Give the flow what was recorded, never what was in memory."""
        failed = recorded.result is None
        self.journal.observed(step, failed=failed)
        call = ids.qualified(self.exec_id, step.call_id)
        if recorded.failure is not None:
            exc = failures.rebuild(recorded.failure, call=call)
            trace = recorded.cause.__traceback__ if recorded.cause else None
            raise exc.with_traceback(trace)
        if recorded.result is None:
            raise self._cancelled(call)
        try:
            return request.load(recorded.result, call)
        except KitaruSerializationError as exc:
            with self.course.guard():
                self.journal.refuse_result(step, str(exc))

    def _result_of(self, step: Step) -> str:
        return f"Result of {ids.qualified(self.exec_id, step.call_id)}"

    # --- what the heart tells ----------------------------------------------------------------

    @property
    def rests(self) -> bool:
        """Whether a call waits for a change in the store."""
        return bool(self.pending)

    def notice(self, lease: LeaseRow | None, *, answered: bool) -> None:
        """Something has changed in the store: the lease, or an answer has come."""
        self.ledger.notice(lease)
        if answered:
            self.wake()

    def _rested(self) -> None:
        if self.pending:
            self.wake()

    def wake(self) -> None:
        """Let calls that rest look again; from any thread."""
        self._bell.set()
