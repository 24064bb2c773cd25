"""Drives one execution: runs its flow from the top and makes every durable call durable.

A recorded call returns its record; any other runs, and its result is committed before the flow
goes on. What cannot go on (taken over, cancelled, code that diverged, a store that fails) leaves
the flow as an `Unwind`, which `except Exception` in user code does not catch, and every later
durable call of that drive raises it again.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any, NoReturn

from kitaru import attempts, capture, clock, codec, config, context, failures, ids, polling
from kitaru.context import CallRequest, Unwind, WaitRequest
from kitaru.errors import (
    FailureOrigin,
    KitaruBackendError,
    KitaruCorruptionError,
    KitaruDivergenceError,
    KitaruError,
    KitaruLeaseError,
    KitaruSerializationError,
)
from kitaru.futures import CheckpointFuture, Recorded
from kitaru.heart import heart
from kitaru.journal import Journal, Step
from kitaru.ledger import Ledger, flush_due
from kitaru.pool import Pool
from kitaru.replay import load_plan
from kitaru.retry import RetryPolicy
from kitaru.store import Lease, Store, Transaction, artifacts, executions, journal
from kitaru.store.journal import CallKind, CallRecord
from kitaru.store.logs import LogRecord

_ORIGINS = {
    "diverged": FailureOrigin.DIVERGENCE,
    "damaged": FailureOrigin.BACKEND,
    "refused": FailureOrigin.RUNTIME,
}


@dataclass(frozen=True, slots=True)
class Ending:
    """How a drive ended in this process: `why` is completed, failed, cancelled, suspended, …"""

    why: str
    error: KitaruError | None = None
    cause: BaseException | None = None


class Driver:
    """The driver of one execution; `drive` runs on a thread of its own.

    Args:
        store: where the execution is.
        lease: the right to drive it.
        body: the flow, bound to its inputs.
        returns: the user types its result may hold.
        retries: how often the whole flow is driven again after a failure.
        interactive: whether waits are asked in the terminal.
    """

    def __init__(
        self,
        store: Store,
        lease: Lease,
        *,
        body: Callable[[], Any],
        returns: codec.DeclaredTypes,
        policy: RetryPolicy,
        interactive: bool = False,
    ) -> None:
        self.ended = threading.Event()
        self.ending: Ending | None = None
        self._store = store
        self._lease = lease
        self._body = body
        self._returns = returns
        self._policy = policy
        self.interactive = interactive
        self._halted: Unwind | None = None
        self._stopping = False
        self._lock = threading.Lock()
        self.running = attempts.RunningCalls()
        self._pool = Pool(config.MAX_WORKERS)
        self._futures: list[CheckpointFuture[Any]] = []
        self._renewed = clock.monotonic()
        with store.snapshot() as conn:
            data = executions.drive_data(conn, lease.execution)
        self._plan = load_plan(data["plan"])
        self._original_id: str | None = data["original_exec_id"]
        self._original = 0
        self.ledger = Ledger(store, lease, data["metadata"])
        self._journal = self._load_journal()

    @property
    def exec_id(self) -> str:
        return self._lease.exec_id

    def _load_journal(self) -> Journal:
        with self._store.snapshot() as conn:
            records = journal.load(conn, self._lease.execution, exec_id=self.exec_id)
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

    def drive(self) -> None:
        """Run the flow to its end, its next wait, or whatever stops it."""
        capture.install()
        context.current_driver.set(self)
        heart.add(self)
        try:
            self.ending = self._drive()
        finally:
            heart.remove(self)
            self.ended.set()

    def stop(self) -> None:
        """Leave the execution resumable at its next durable call."""
        self._stopping = True
        self.ledger.interrupt.set()

    def _drive(self) -> Ending:
        tries = 0
        while True:
            try:
                with capture.lines():
                    value = self._body()
                self._join(raise_unobserved=True)
                with self._guard():
                    self.check()
                    self._journal.close()
                data = codec.encode(value, types=self._returns, path="result")
                return self._finish("complete", result=data, reason=self._journal.unreached())
            except Unwind as unwind:
                return self._end(self._halted or unwind)
            except BaseException as exc:  # user code: whatever it raises ends the execution
                self._join(raise_unobserved=False)
                if self._halted is not None:
                    return self._end(self._halted)
                tries += 1
                if tries > self._policy.retries or isinstance(exc, attempts.FINAL):
                    return self._fail(exc)
            try:
                self._again(tries)
            except Unwind as unwind:
                return self._end(unwind)

    def _again(self, tries: int) -> None:
        self.pause(self._policy.pause(tries))
        with self._guard():
            with self.ledger.commit() as conn:
                journal.reopen_failed(conn, self._lease.execution)
            self._futures.clear()
            self._journal = self._load_journal()

    def _fail(self, exc: BaseException, origin: FailureOrigin | None = None) -> Ending:
        failure = failures.describe(exc, origin=origin)
        ending = self._finish("fail", reason=failure["message"], failure=failure)
        return replace(ending, cause=exc) if ending.why == "fail" else ending

    def _finish(self, action: str, **outcome: Any) -> Ending:
        try:
            with self._guard():
                return Ending(self.ledger.finish(action, **outcome))
        except Unwind as unwind:
            return self._end(unwind)

    def _end(self, unwind: Unwind) -> Ending:
        """Turn what stopped the flow into the end of the drive."""
        self._join(raise_unobserved=False)
        try:
            if unwind.why == "broken":
                # If the store can be written after all, others need not wait for the lease to end.
                with contextlib.suppress(KitaruError):
                    self.ledger.release()
            elif unwind.why == "cancelled":
                self.ledger.finish("cancel", reason="Cancelled.")
            elif unwind.why == "stopped":
                self.ledger.release()
            elif unwind.error is not None and unwind.why in _ORIGINS:
                return self._fail(unwind.error, _ORIGINS[unwind.why])
            elif unwind.why == "lost" and self.ledger.was_cancelled():
                return Ending("cancel")
        except KitaruError as exc:
            return Ending("broken", exc)
        return Ending(unwind.why, unwind.error)

    def _join(self, *, raise_unobserved: bool) -> None:
        """Wait for submitted calls; one that failed unseen fails the flow."""
        self._pool.join()
        for future in self._futures if raise_unobserved else ():
            if not future.observed and future.failed:
                future.result()

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
        with self._guard():
            if step.record is None and step.reuse is None:
                data = polling.Question(self, step, request, digest=asked, shown=shown).answer()
            else:
                if step.record is None:
                    self._copy(step)
                data = self._result(step)
        self._journal.observed(step, failed=False)
        return request.parse(data)

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

    def _begin_call(self, request: CallRequest) -> Step:
        return self._begin(
            name=request.name,
            kind="checkpoint",
            digest=request.inputs_digest,
            shown=request.inputs_shown,
        )

    def _begin(self, *, name: str, kind: CallKind, digest: bytes, shown: str) -> Step:
        self.check()
        with self._guard():
            step = self._journal.begin(name=name, kind=kind, digest=digest, shown=shown)
            if step.known:
                self.ledger.drop_body_lines()
            if step.record is None:
                self.ledger.look()
        if step.record is None:
            self.check()
        return step

    def _settle(self, step: Step, request: CallRequest) -> Recorded:
        """The outcome of a call: recorded, replaced, reused, or made now."""
        with self._guard():
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
        self._journal.observed(step, failed=failed)
        call = ids.qualified(self.exec_id, step.call_id)
        if recorded.failure is not None:
            exc = failures.rebuild(recorded.failure, call=call)
            trace = recorded.cause.__traceback__ if recorded.cause else None
            raise exc.with_traceback(trace)
        assert recorded.result is not None
        try:
            return codec.decode(recorded.result, types=request.returns, path=call)
        except KitaruSerializationError as exc:
            with self._guard():
                self._journal.refuse_result(step, str(exc))

    def _result(self, step: Step) -> bytes:
        with self._store.snapshot() as conn:
            what = f"Result of {ids.qualified(self.exec_id, step.call_id)}"
            return journal.result(conn, self._lease.execution, step.seq, what=what)

    def _copy(self, step: Step) -> None:
        with self.ledger.commit() as conn:
            journal.copy_calls(
                conn,
                source=self._original,
                target=self._lease.execution,
                first=step.seq,
                before=step.seq + 1,
            )

    def put(
        self, conn: Transaction, record: CallRecord, *, step: Step, result: bytes | None = None
    ) -> None:
        """Write a call's row inside a commit; with it, failures before it become history."""
        self.running.discard(step.seq)
        journal.put(conn, self._lease.execution, record, result=result)
        if step.settles:
            journal.settle(conn, self._lease.execution, step.settles)

    def check(self) -> None:
        """Leave the flow if this drive is over."""
        if self._halted is not None:
            raise self._halted
        if self.ledger.interrupt.is_set():
            if self.ledger.lost:
                error = KitaruLeaseError(
                    f"Execution {self.exec_id} was taken over or ended from outside; this driver "
                    "stopped and wrote nothing more."
                )
                self.halt(Unwind("lost", error))
            if self.ledger.cancelled:
                self.halt(Unwind("cancelled"))
            if self._stopping:
                self.halt(Unwind("stopped"))

    def halt(self, unwind: Unwind) -> NoReturn:
        """End the drive from inside a durable call."""
        with self._lock:
            self._halted = self._halted or unwind
        raise self._halted

    def pause(self, seconds: float) -> None:
        """Wait between two attempts, unless the drive ends meanwhile."""
        clock.wait(self.ledger.interrupt, seconds)
        self.check()

    def join(self) -> None:
        """Wait until no submitted call runs."""
        self._pool.join()

    @contextlib.contextmanager
    def _guard(self) -> Iterator[None]:
        """Let infrastructure errors out past user code's `except Exception`."""
        try:
            yield
        except KitaruLeaseError as exc:
            self.halt(Unwind("lost", exc))
        except KitaruDivergenceError as exc:
            self.halt(Unwind("diverged", exc))
        except KitaruCorruptionError as exc:
            self.halt(Unwind("damaged", exc))
        except KitaruBackendError as exc:
            self.halt(Unwind("broken", exc))

    def tick(self) -> None:
        """Look after the drive: renew the lease, show long calls, write out old lines."""
        self.ledger.look()
        now = clock.monotonic()
        overdue = self.running.overdue(now)
        renew = now - self._renewed >= config.LEASE_RENEW_SECONDS
        if not (overdue or renew or flush_due(self.ledger, clock.now_us())):
            return
        with self.ledger.commit() as conn:
            self.ledger.renew(conn)
            for call in overdue:
                # Under the write lock a call is either still running here, or recorded.
                if self.running.has(call):
                    journal.put(conn, self._lease.execution, call.record())
        for call in overdue:
            call.shown = True
        self._renewed = now
