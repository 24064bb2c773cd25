"""What the driver of one execution writes, always through its lease.

Lines and metadata gather in memory and travel with the next commit, so a short checkpoint costs
exactly one. Each commit also learns whether the execution was cancelled or taken over.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from typing import Any

from kitaru import config, context
from kitaru.errors import KitaruLeaseError
from kitaru.models import ExecutionStatus
from kitaru.store import Lease, Store, Transaction, executions, leases, logs
from kitaru.store.logs import LogRecord


class Ledger:
    """The pen of one driver.

    `interrupt` is set when the drive has to look up: cancelled, taken over, or asked to stop.
    While the flow `repeats` what an earlier drive has recorded, lines of its body are kept back:
    they are stored already, if the next call is a known one.
    """

    def __init__(self, store: Store, lease: Lease, metadata: dict[str, Any]) -> None:
        self.store = store
        self.lease = lease
        self.exec_id = lease.exec_id
        self.interrupt = threading.Event()
        self.cancelled = False
        self.lost = False
        self._metadata = metadata
        self.repeats = False
        # Re-entrant: a finalizer that prints may run anywhere, also in here.
        self._lock = threading.RLock()
        self._lines: list[LogRecord] = []
        self._metadata_changed = False

    def line(self, record: LogRecord) -> None:
        """Keep a line for the next commit."""
        with self._lock:
            self._lines.append(record)

    def drop_body_lines(self) -> None:
        """Forget lines of the flow's body that an earlier drive has already stored."""
        with self._lock:
            self._lines = [line for line in self._lines if line.call_id is not None]

    def oldest_line(self) -> int | None:
        """When the oldest line to be written was made, in microseconds."""
        with self._lock:
            return next((line.at for line in self._lines if not self._keeps_back(line)), None)

    def _keeps_back(self, line: LogRecord) -> bool:
        return self.repeats and line.call_id is None

    def merge_metadata(self, metadata: dict[str, Any]) -> None:
        """Keep execution metadata for the next commit."""
        with self._lock:
            context.merge_metadata(self._metadata, metadata)
            self._metadata_changed = True

    @contextlib.contextmanager
    def commit(self) -> Iterator[Transaction]:
        """A fenced transaction that takes along what has gathered.

        Raises:
            KitaruLeaseError: another runner has taken over.
            KitaruBackendError: the store cannot be written; nothing was.
        """
        with self._lock:
            lines = [line for line in self._lines if not self._keeps_back(line)]
            self._lines = [line for line in self._lines if self._keeps_back(line)]
            changed, self._metadata_changed = self._metadata_changed, False
        try:
            with self.store.fenced(self.lease) as (conn, cancel):
                if cancel:
                    self._cancel()
                if lines:
                    logs.add(conn, self.lease.execution, lines)
                if changed:
                    executions.set_metadata(conn, self.lease.execution, self._metadata)
                yield conn
        except BaseException as exc:
            with self._lock:
                self._lines = lines + self._lines
                self._metadata_changed = changed or self._metadata_changed
            if isinstance(exc, KitaruLeaseError):
                self.lost = True
                self.interrupt.set()
            raise

    def look(self) -> None:
        """Notice a cancellation or a take-over; one look-up by key."""
        row = self.store.lease_row(self.lease.execution)
        if row is None or row["epoch"] != self.lease.epoch:
            self.lost = True
            self.interrupt.set()
        elif row["cancel_requested"]:
            self._cancel()

    def _cancel(self) -> None:
        self.cancelled = True
        self.interrupt.set()

    def was_cancelled(self) -> bool:
        """After the lease was lost: whether it was to a cancellation."""
        with self.store.snapshot() as conn:
            row = executions.at(conn, self.lease.execution)
        return row.status is ExecutionStatus.CANCELLED

    def finish(
        self,
        action: str,
        *,
        reason: str | None = None,
        result: bytes | None = None,
        failure: dict[str, Any] | None = None,
    ) -> str:
        """End the drive: outcome, status and lease in one commit; a requested cancel wins.

        Returns:
            The action that was taken.
        """
        self.repeats = False
        with self.commit() as conn:
            execution = self.lease.execution
            if self.cancelled and action != "cancel":
                action, reason, result, failure = "cancel", "Cancelled.", None, None
            row = executions.at(conn, execution)
            if row.status is ExecutionStatus.WAITING and action != "cancel":
                executions.advance(conn, row, "continue")
                row = executions.at(conn, execution)
            executions.set_outcome(conn, execution, result=result, failure=failure)
            executions.advance(conn, row, action, reason=reason)
            leases.release(conn, execution)
        return action

    def release(self) -> None:
        """Stop driving without a change of status: the execution can be resumed."""
        with self.commit() as conn:
            leases.release(conn, self.lease.execution)

    def renew(self, conn: Transaction) -> None:
        """Push the lease's expiry out, inside a commit."""
        leases.renew(conn, self.lease)


def flush_due(ledger: Ledger, now: int) -> bool:
    """Whether kept lines are old enough to be written by themselves."""
    oldest = ledger.oldest_line()
    return oldest is not None and now - oldest >= config.LOG_FLUSH_SECONDS * 1_000_000
