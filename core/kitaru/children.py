"""Child executions: flows that a flow runs.

The call that starts a child and the child itself are recorded in one transaction, so a child is
started once, however often its parent is driven. Its outcome becomes the parent's record when the
parent first gets it, and stays what it was, whatever is done with the child later.
"""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass
from typing import Any

from kitaru import clock, failures
from kitaru.attempts import Drive, row
from kitaru.context import ChildRequest
from kitaru.effects import Commit, Effect, Recorded
from kitaru.journal import Step
from kitaru.models import CallStatus, Execution, ExecutionStatus
from kitaru.pending import Asking, Pending
from kitaru.store import Transaction, executions, journal
from kitaru.store.journal import CallRecord


@dataclass(slots=True)
class Child:
    """A child execution, and its outcome once the parent has it."""

    step: Step
    request: ChildRequest
    exec_id: str
    recorded: Recorded | None = None
    waiting: Any = None


def start(drive: Drive, step: Step, request: ChildRequest) -> str:
    """Start a child, or take up the one that was started; returns its id."""
    known = step.record or step.reuse
    if known is not None and known.child_exec_id is not None:
        return known.child_exec_id
    earlier = step.earlier.child_exec_id if step.earlier else None
    if earlier is not None and not step.is_reopened:
        request.run.attach(earlier)
        return earlier
    request.run.prepare()
    with drive.ledger.commit() as conn:
        drive.course.check()  # a cancellation reaches only the children that there are
        if earlier is not None and not executions.exists(conn, earlier):
            earlier = None  # deleted since: a retry starts another
        exec_id, is_taken = earlier, False
        if earlier is not None:
            is_taken = request.run.retry(conn, earlier)
        if exec_id is None or _is_cancelled(conn, exec_id):
            exec_id, is_taken = request.run.create(conn, drive.ledger.exec_id), True
        # A retry is recorded with the child's own, so that each retry retries it once.
        since = clock.now_us()
        record = row(step, request, CallStatus.RUNNING, started_at=since, child_exec_id=exec_id)
        drive.put(conn, record, step=step)
    if is_taken:
        request.run.drive()
    return exec_id


def _is_cancelled(conn: Transaction, exec_id: str) -> bool:
    """Whether a child was cancelled: it cannot be retried, so a retry starts another."""
    return executions.find(conn, exec_id).status is ExecutionStatus.CANCELLED


class Offspring(Pending[ChildRequest]):
    """Waits for the end of a child; drives it on where nobody does and it can go on."""

    def __init__(self, drive: Asking, step: Step, request: ChildRequest) -> None:
        super().__init__(drive, step, request)
        self._is_left = False
        self._child = ""

    def is_late(self) -> bool:
        return self._is_left  # at the end of the process too: a child that is driven ends first

    def _why(self) -> str:
        return f"Waiting for child execution {self._child}."

    def _start(self) -> Generator[Effect, Any, None]:
        with self._ledger.store.snapshot() as conn:
            self._child, self._since = journal.child_of(conn, self._execution, self._step.seq)
        self._request.run.on_end(self._drive.wake)
        yield from ()

    def _look(self) -> Generator[Effect, Any, Recorded | None]:
        with self._ledger.store.snapshot() as conn:
            now = executions.find(conn, self._child)
        if not now.status.is_finished:
            self._drive.course.check()  # a drive that stops takes up no child
            self._is_left = now.holder != "alive" and not self._request.run.attach(self._child)
            return None
        outcome: list[Recorded | None] = []
        yield Commit(lambda conn: outcome.append(self._take(conn)))
        return outcome[0]

    def _take(self, conn: Transaction) -> Recorded | None:
        """Make the child's outcome the parent's record, unless it has just been retried."""
        child = executions.find(conn, self._child)
        if not child.status.is_finished:
            return None
        execution = executions.get(conn, child.id)
        if execution.status is ExecutionStatus.COMPLETED:
            result = executions.read_result(conn, child.id, exec_id=self._child)
            self._end(conn, CallStatus.COMPLETED, result=result)
            return Recorded(result=result, order=self._order)
        failure = self._failure(execution)
        self._end(conn, CallStatus.FAILED, failure=failure)
        return Recorded(failure=failure, order=self._order)

    def _failure(self, execution: Execution) -> dict[str, Any]:
        error = failures.ended(execution, parent=self._ledger.exec_id)
        failure = failures.describe(error, origin=error.failure_origin)
        return failure | {"exec_id": execution.exec_id}

    def _row(self, status: CallStatus, **more: Any) -> CallRecord:
        return super()._row(status, child_exec_id=self._child, **more)
