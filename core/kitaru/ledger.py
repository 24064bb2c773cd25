"""What the driver of one execution writes, always through its lease.

Lines and metadata gather in memory and travel with the next commit, so a short checkpoint costs
exactly one. Each commit also learns whether the execution was cancelled or taken over.
"""

from __future__ import annotations

import contextlib
import functools
import math
import threading
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Sequence
from typing import Any

from kitaru import clock, config, context, masks
from kitaru.errors import KitaruLeaseError
from kitaru.models import ExecutionStatus
from kitaru.store import Lease, Store, Transaction, executions, journal, leases, logs
from kitaru.store.leases import LeaseRow
from kitaru.store.logs import LogRecord

#: So long what a commit has told of the lease is as good as what a look would tell: an answer
#: to the look might be under way as long.
_FRESH_SECONDS = 0.001


class Ledger:
    """The pen of one driver.

    `interrupt` is set when the drive has to look up: cancelled, taken over, or asked to stop. The
    lines of the flow's body that a drive makes again are `repeated`: they are stored already.
    """

    def __init__(self, store: Store, lease: Lease, metadata: dict[str, Any]) -> None:
        self.store = store
        self.lease = lease
        self.exec_id = lease.exec_id
        self.interrupt = threading.Event()
        self.on_interrupt: Callable[[], None] = lambda: None
        self.cancelled = False
        self.lost = False
        self._metadata = metadata
        #: The last transaction that looked at the lease, and when.
        self._fenced = 0, -math.inf
        self._repeated: Counter[int] = Counter()
        # Re-entrant: a finalizer that prints may run anywhere, also in here.
        self._lock = threading.RLock()
        self._lines: list[LogRecord] = []
        self._metadata_changed = False

    def line(self, record: LogRecord) -> None:
        """Keep a line for the next commit."""
        with self._lock:
            if record.call_id is None and self._repeated[logs.key(record)] > 0:
                self._repeated[logs.key(record)] -= 1
            else:
                self._lines.append(record)

    def look_for_secrets(self, what: str, data: bytes, call_id: str | None = None) -> None:
        """Warn where registered secrets stand in a value that is to be recorded as it is."""
        for owner in masks.found_in(data):
            message = (
                f"{what} holds the registered secret {owner}, and is recorded exactly. Read "
                "secrets where they are used (kitaru.get_secret), and keep them out of values."
            )
            self.line(LogRecord(clock.now_us(), "WARNING", message, call_id))

    def start_over(self) -> None:
        """The flow is driven from its top: what its body has told so far it tells again."""
        with self.store.snapshot() as conn:  # not with the lock: a reader may print in a finalizer
            stored = logs.of_body(conn, self.lease.execution)
        with self._lock:
            waiting = Counter(logs.key(line) for line in self._lines if line.call_id is None)
            self._repeated = stored + waiting

    def oldest_line(self) -> int | None:
        """When the oldest line to be written was made, in microseconds."""
        if not self._lines:  # most often, and asked many times a second
            return None
        with self._lock:
            return self._lines[0].at if self._lines else None

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
        with self.gathered() as begin, self.store.write() as conn:
            begin(conn)
            yield conn

    def together(
        self, work: Callable[[Transaction], None], calls: Collection[str | None] | None = None
    ) -> None:
        """The same for work that may share its transaction with others'.

        What it takes along is as in `gathered`: lines of another call belong to that call's own
        commit.
        """
        with self.gathered(calls) as begin:
            self.store.together(functools.partial(_part, begin, work))

    def all_together(
        self, works: Sequence[tuple[Callable[[Transaction], None], Collection[str | None]]]
    ) -> list[BaseException | None]:
        """The same for several works, each with its calls; returns what each has raised."""
        gathered = [self.gathered(calls) for _, calls in works]
        parts = [
            functools.partial(_part, each.__enter__(), work)
            for each, (work, _) in zip(gathered, works, strict=True)
        ]
        errors: list[BaseException | None]
        try:
            errors = self.store.all_together(parts)
        except BaseException as exc:  # nothing was begun
            errors = [exc for _ in works]
        for each, error in zip(gathered, errors, strict=True):
            each.__exit__(None, error, None)
        return errors

    def gathered(self, calls: Collection[str | None] | None = None) -> _Gathered:
        """What has gathered, or what these calls and the flow's body (`None`) have told of it.

        It is the start of a transaction, and kept if that is not committed.
        """
        return _Gathered(self, calls)

    def take(self, calls: Collection[str | None] | None) -> tuple[list[LogRecord], bool]:
        """Lines to be written now, and whether the metadata are."""
        with self._lock:
            lines, changed = self._lines, self._metadata_changed
            if not (lines or changed):
                return [], False
            left: list[LogRecord] = []
            if calls is not None:
                left = [line for line in lines if line.call_id not in calls]
                lines = [line for line in lines if line.call_id in calls]
            self._lines, self._metadata_changed = left, False
            return lines, changed

    def keep(self, lines: list[LogRecord], *, changed: bool, exc: BaseException) -> None:
        """Take back what was not committed, and see why."""
        with self._lock:
            self._lines = lines + self._lines
            self._metadata_changed = changed or self._metadata_changed
        if isinstance(exc, KitaruLeaseError):
            self.lost = True
            self.disturb()

    def begin(self, conn: Transaction, lines: list[LogRecord], *, changed: bool) -> None:
        """Begin a transaction of this driver's."""
        if leases.fence(conn, self.lease):
            self._cancel()
        self._fenced = self.store.commits + 1, clock.monotonic()
        if lines:
            logs.add(conn, self.lease.execution, lines)
        if changed:
            executions.set_metadata(conn, self.lease.execution, self._metadata)

    def look(self) -> None:
        """Notice a cancellation or a take-over; one look-up by key.

        None where a commit of this driver's is the last one here, and others have had no time to
        speak of for theirs.
        """
        commit, at = self._fenced
        if self.store.commits != commit or clock.monotonic() - at > _FRESH_SECONDS:
            self.notice(self.store.lease_row(self.lease.execution))

    def notice(self, row: LeaseRow | None) -> None:
        """The same from the lease's row, which somebody has read."""
        if row is None or row["epoch"] != self.lease.epoch:
            self.lost = True
            self.disturb()
        elif row["cancel_requested"]:
            self._cancel()

    def _cancel(self) -> None:
        self.cancelled = True
        self.disturb()

    def disturb(self) -> None:
        """Let the drive look up from whatever it waits for."""
        self.interrupt.set()
        self.on_interrupt()

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
        stops_children: bool = False,
    ) -> str:
        """End the drive: outcome, status and lease in one commit; a requested cancel wins.

        Returns:
            The action that was taken.
        """
        if result is not None:
            self.look_for_secrets("The flow's result", result)

        def work(conn: Transaction) -> None:
            nonlocal action, reason, result, failure
            execution = self.lease.execution
            if self.cancelled and action != "cancel":
                action, reason, result, failure = "cancel", "Cancelled.", None, None
            row = executions.at(conn, execution)
            if row.status is ExecutionStatus.WAITING and action != "cancel":
                executions.advance(conn, row, "continue")
                row = executions.at(conn, execution)
            executions.set_outcome(conn, execution, result=result, failure=failure)
            journal.cut_off(conn, execution)
            executions.advance(conn, row, action, reason=reason)
            leases.release(conn, execution)
            if stops_children:
                executions.stop_children(conn, self.exec_id)

        self.together(work)
        return action

    def release(self) -> None:
        """Stop driving without a change of status: the execution can be resumed."""
        with self.commit() as conn:
            leases.release(conn, self.lease.execution)

    def renew(self, conn: Transaction) -> None:
        """Push the lease's expiry out, inside a commit."""
        leases.renew(conn, self.lease)


def _part(
    begin: Callable[[Transaction], None], work: Callable[[Transaction], None], conn: Transaction
) -> None:
    begin(conn)
    work(conn)


class _Gathered:
    """What a driver has gathered, while it is written; gives what begins the transaction."""

    __slots__ = ("_changed", "_ledger", "_lines")

    def __init__(self, ledger: Ledger, calls: Collection[str | None] | None) -> None:
        self._ledger = ledger
        self._lines, self._changed = ledger.take(calls)

    def __enter__(self) -> Callable[[Transaction], None]:
        return self._begin

    def _begin(self, conn: Transaction) -> None:
        self._ledger.begin(conn, self._lines, changed=self._changed)

    def __exit__(self, kind: object, exc: BaseException | None, trace: object) -> None:
        if exc is not None:
            self._ledger.keep(self._lines, changed=self._changed, exc=exc)


def flush_due(ledger: Ledger) -> bool:
    """Whether kept lines are old enough to be written by themselves."""
    oldest = ledger.oldest_line()
    limit = config.LOG_FLUSH_SECONDS * 1_000_000
    return oldest is not None and clock.now_us() - oldest >= limit
