"""Child executions: flows that a flow runs.

The call that starts a child and the child itself are recorded in one transaction, so a child is
started once, however often its parent is driven. Its outcome becomes the parent's record when the
parent first gets it, and stays what it was, whatever is done with the child later.
"""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass
from typing import Any

from kitaru import clock, exits, failures
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
    known = step.record or step.reuse or step.earlier
    if known is not None and known.child_exec_id is not None:
        if step.is_reopened:
            _retry(drive, step, request, exec_id=known.child_exec_id)
        elif known is step.earlier:
            request.run.attach(known.child_exec_id)
        return known.child_exec_id
    with drive.ledger.commit() as conn:
        exec_id = request.run.create(conn, drive.ledger.exec_id)
        drive.put(conn, _under_way(step, request, exec_id), step=step)
    request.run.drive()
    return exec_id


def _retry(drive: Drive, step: Step, request: ChildRequest, *, exec_id: str) -> None:
    """Retry a child with its parent: once, so its retry and the parent's record go together."""
    with drive.ledger.commit() as conn:
        is_taken = request.run.retry(conn, exec_id)
        drive.put(conn, _under_way(step, request, exec_id), step=step)
    if is_taken:
        request.run.drive()


def _under_way(step: Step, request: ChildRequest, exec_id: str) -> CallRecord:
    since = step.earlier.started_at if step.earlier else clock.now_us()
    return row(step, request, CallStatus.RUNNING, started_at=since, child_exec_id=exec_id)


class Offspring(Pending[ChildRequest]):
    """Waits for the end of a child; drives it on where nobody does and it can go on."""

    def __init__(self, drive: Asking, step: Step, request: ChildRequest) -> None:
        super().__init__(drive, step, request)
        self._is_left = False
        self._child = ""

    def is_late(self) -> bool:
        return self._is_left or exits.is_leaving()

    def _why(self) -> str:
        return f"Waiting for child execution {self._child}."

    def _start(self) -> Generator[Effect, Any, None]:
        with self._ledger.store.snapshot() as conn:
            self._child = journal.child_of(conn, self._execution, self._step.seq)
        self._request.run.on_end(self._drive.wake)
        yield from ()

    def _look(self) -> Generator[Effect, Any, Recorded | None]:
        with self._ledger.store.snapshot() as conn:
            now = executions.find(conn, self._child)
        if not now.status.is_finished:
            self._is_left = now.holder != "alive" and not self._request.run.attach(self._child)
            return None
        outcome: list[Recorded] = []
        yield Commit(lambda conn: outcome.append(self._take(conn)))
        return outcome[0]

    def _take(self, conn: Transaction) -> Recorded:
        """Make the child's outcome the parent's record."""
        child = executions.find(conn, self._child)
        execution = executions.get(conn, child.id)
        if execution.status is ExecutionStatus.COMPLETED:
            result = executions.read_result(conn, child.id, exec_id=self._child)
            self._end(conn, CallStatus.COMPLETED, result=result, child_exec_id=self._child)
            return Recorded(result=result, order=self._order)
        failure = self._failure(execution)
        self._end(conn, CallStatus.FAILED, failure=failure, child_exec_id=self._child)
        return Recorded(failure=failure, order=self._order)

    def _failure(self, execution: Execution) -> dict[str, Any]:
        error = failures.ended(execution, parent=self._ledger.exec_id)
        failure = failures.describe(error, origin=error.failure_origin)
        return failure | {"exec_id": execution.exec_id}
