"""Makes every durable call of a drive durable: recorded ones return their record, others run.

It is what `context.current_driver` holds while a flow runs. A result is committed before the flow
gets it, and the flow gets it from the commit.
"""

from __future__ import annotations

from typing import Any

from kitaru import attempts, codec, config, failures, ids, polling
from kitaru.context import CallRequest, WaitRequest
from kitaru.course import Course
from kitaru.errors import KitaruSerializationError
from kitaru.futures import CheckpointFuture, Recorded
from kitaru.journal import Journal, Step
from kitaru.ledger import Ledger
from kitaru.pool import Pool
from kitaru.replay import load_plan
from kitaru.store import Lease, Store, Transaction, artifacts, executions, journal
from kitaru.store.journal import CallKind, CallRecord
from kitaru.store.logs import LogRecord


class Calls:
    """The durable calls of one drive.

    Args:
        store: where the execution is.
        lease: the right to drive it.
        interactive: whether waits are asked in the terminal.
    """

    def __init__(self, store: Store, lease: Lease, *, interactive: bool) -> None:
        with store.snapshot() as conn:
            data = executions.drive_data(conn, lease.execution)
        self.ledger = Ledger(store, lease, data["metadata"])
        self.course = Course(self.ledger)
        self.running = attempts.RunningCalls()
        self.interactive = interactive
        self._store = store
        self._execution = lease.execution
        self._pool = Pool(config.MAX_WORKERS)
        self._futures: list[CheckpointFuture[Any]] = []
        self._plan = load_plan(data["plan"])
        self._original_id: str | None = data["original_exec_id"]
        self._original = 0
        self.journal = self._load()
        self.ledger.repeats = self.journal.is_known

    @property
    def exec_id(self) -> str:
        """The execution."""
        return self.ledger.exec_id

    def start_over(self) -> None:
        """Number calls from the first again, for another drive of the flow."""
        self._futures.clear()
        self.journal = self._load()

    def _load(self) -> Journal:
        with self._store.snapshot() as conn:
            records = journal.load(conn, self._execution, exec_id=self.exec_id)
            original: list[CallRecord] = []
            if self._plan is not None and self._original_id is not None:
                self._original = executions.find(conn, self._original_id).id
                original = journal.load(conn, self._original, exec_id=self._original_id)
        return Journal(
            self.exec_id,
            records,
            plan=self._plan,
            original=original,
            original_id=self._original_id,
        )

    def call(self, request: CallRequest) -> Any:
        """Make a checkpoint call and return its value."""
        step = self._begin_call(request)
        return self._deliver(step, request, self._settle(step, request))

    def submit(self, request: CallRequest) -> CheckpointFuture[Any]:
        """Make a checkpoint call beside the flow."""
        step = self._begin_call(request)
        future: CheckpointFuture[Any] = CheckpointFuture(
            step.call_id, lambda recorded: self._deliver(step, request, recorded)
        )
        self._futures.append(future)

        def work() -> None:
            try:
                future.settle(self._settle(step, request))
            except BaseException as unwind:  # whatever ended the drive ends the future too
                future.abandon(unwind)

        if step.record is not None:
            work()
        else:
            self._pool.run(work)
        return future

    def ask(self, request: WaitRequest) -> Any:
        """Put a question and return its answer, or leave the flow until there is one."""
        asked = codec.fingerprint([request.question, request.schema], path=request.name)
        shown = f"question={request.question!r:.80}"
        step = self._begin(name=request.name, kind="wait", digest=asked, shown=shown)
        with self.course.guard():
            if step.record is None and step.reuse is None:
                data = polling.Question(self, step, request, digest=asked, shown=shown).answer()
            else:
                if step.record is None:
                    self._copy(step)
                data = self._result(step)
        self.journal.observed(step, failed=False)
        return request.parse(data)

    def join(self) -> None:
        """Wait until no submitted call runs."""
        self._pool.join()

    def is_idle(self) -> bool:
        """Whether no submitted call runs."""
        return self._pool.is_idle()

    def raise_unobserved(self) -> None:
        """A submitted call that failed without anybody looking fails the flow."""
        for future in self._futures:
            if not future.observed and future.failed:
                future.result()

    def merge_metadata(self, metadata: dict[str, Any]) -> None:
        """Add to the execution's metadata."""
        self.ledger.merge_metadata(metadata)

    def line(self, record: LogRecord) -> None:
        """Record a line of user code's."""
        self.ledger.line(record)

    def read_named(self, exec_id: str, name: str) -> bytes:
        """The encoded value another execution has under a name."""
        with self._store.snapshot() as conn:
            return artifacts.read_named(conn, executions.find(conn, exec_id), name)

    def put(
        self, conn: Transaction, record: CallRecord, *, step: Step, result: bytes | None = None
    ) -> None:
        """Write a call's row inside a commit; with it, failures before it become history."""
        self.running.discard(step.seq)
        journal.put(conn, self._execution, record, result=result)
        if step.settles:
            journal.settle(conn, self._execution, step.settles)

    def _begin_call(self, request: CallRequest) -> Step:
        return self._begin(
            name=request.name,
            kind="checkpoint",
            digest=request.inputs_digest,
            shown=request.inputs_shown,
        )

    def _begin(self, *, name: str, kind: CallKind, digest: bytes, shown: str) -> Step:
        self.course.check()
        with self.course.guard():
            step = self.journal.begin(name=name, kind=kind, digest=digest, shown=shown)
            if step.known:
                self.ledger.drop_body_lines()
            else:
                self.ledger.repeats = False
            if step.record is None:
                self.ledger.look()
        if step.record is None:
            self.course.check()
        return step

    def _settle(self, step: Step, request: CallRequest) -> Recorded:
        """The outcome of a call: recorded, replaced, reused, or made now."""
        with self.course.guard():
            if step.record is not None and step.record.failure is not None:
                return Recorded(failure=step.record.failure)
            if step.record is not None:
                return Recorded(result=self._result(step))
            if step.override is not None:
                return attempts.record_override(self, step, request)
            if step.reuse is not None:
                self._copy(step)
                failure = step.reuse.failure
                return Recorded(failure=failure) if failure else Recorded(self._result(step))
            return attempts.run(self, step, request)

    def _deliver(self, step: Step, request: CallRequest, recorded: Recorded) -> Any:
        """Give the flow what was recorded, never what was in memory."""
        failed = recorded.failure is not None
        self.journal.observed(step, failed=failed)
        call = ids.qualified(self.exec_id, step.call_id)
        if recorded.failure is not None:
            exc = failures.rebuild(recorded.failure, call=call)
            trace = recorded.cause.__traceback__ if recorded.cause else None
            raise exc.with_traceback(trace)
        assert recorded.result is not None
        try:
            return codec.decode(recorded.result, types=request.returns, path=call)
        except KitaruSerializationError as exc:
            with self.course.guard():
                self.journal.refuse_result(step, str(exc))

    def _result(self, step: Step) -> bytes:
        with self._store.snapshot() as conn:
            what = f"Result of {ids.qualified(self.exec_id, step.call_id)}"
            return journal.result(conn, self._execution, step.seq, what=what)

    def _copy(self, step: Step) -> None:
        with self.ledger.commit() as conn:
            journal.copy_calls(
                conn,
                source=self._original,
                target=self._execution,
                first=step.seq,
                before=step.seq + 1,
            )
