"""Leases: who drives an execution, and the fence that keeps everybody else from writing to it.

A lease's epoch grows at each take-over. Every journal write checks the epoch inside its own
transaction, so a driver that was overtaken writes nothing. Time only offers a lease to others;
the epoch decides.
"""

from __future__ import annotations

import json
import os
import sqlite3
from collections.abc import Collection
from dataclasses import dataclass
from typing import Literal, TypeAlias

from kitaru import clock, config, host
from kitaru.errors import KitaruLeaseError

Holder = Literal["nobody", "alive", "dead"]

SELECT = (
    "SELECT epoch, runner, host, pid, mark, expires_at, cancel_requested FROM leases "
    "WHERE execution = ?"
)

#: A cancellation that came as a driver left is the next one's to carry out, unless all is over.
_KEEP_CANCEL = (
    "cancel_requested = cancel_requested "
    "AND (SELECT ended_at IS NULL FROM executions WHERE id = execution)"
)

#: What a lease's row says.
LeaseRow: TypeAlias = sqlite3.Row


@dataclass(frozen=True, slots=True)
class Lease:
    """A driver's right to write to one execution; `execution` is its row."""

    execution: int
    exec_id: str
    epoch: int


def holder(row: sqlite3.Row | None) -> Holder:
    """Whether anybody drives an execution, from its lease's row."""
    if row is None or row["runner"] is None:
        return "nobody"
    if row["expires_at"] <= clock.now_us():
        return "dead"
    gone = host.is_dead(host=row["host"], pid=row["pid"], mark=row["mark"])
    return "dead" if gone else "alive"


def is_late(conn: sqlite3.Connection, execution: int) -> bool:
    """Whether a lease has run out of a driver that may well live, and then renews it soon."""
    found = row(conn, execution)
    if found is None or found["runner"] is None:
        return False
    return not host.is_dead(host=found["host"], pid=found["pid"], mark=found["mark"])


def row(conn: sqlite3.Connection, execution: int) -> sqlite3.Row | None:
    """The lease's row."""
    found: sqlite3.Row | None = conn.execute(SELECT, (execution,)).fetchone()
    return found


def of(conn: sqlite3.Connection, watched: Collection[int]) -> dict[int, sqlite3.Row]:
    """The leases of several executions, by their rows."""
    rows = conn.execute(
        "SELECT execution, epoch, cancel_requested FROM leases "
        "WHERE execution IN (SELECT value FROM json_each(?))",
        (json.dumps([*watched]),),
    ).fetchall()
    return {found["execution"]: found for found in rows}


def take(conn: sqlite3.Connection, *, execution: int, exec_id: str, runner: str) -> Lease:
    """Take the lease at the next epoch; the caller has checked that it may.

    A cancellation that a driver died with is the next one's to carry out.
    """
    pid = os.getpid()
    conn.execute(
        "INSERT INTO leases (execution, epoch, runner, host, pid, mark, expires_at) "
        "VALUES (?, 1, ?, ?, ?, ?, ?) ON CONFLICT (execution) DO UPDATE SET "
        "epoch = epoch + 1, runner = excluded.runner, host = excluded.host, pid = excluded.pid, "
        "mark = excluded.mark, expires_at = excluded.expires_at",
        (execution, runner, host.host_id(), pid, host.own_mark(), _expiry()),
    )
    taken = row(conn, execution)
    assert taken is not None
    return Lease(execution, exec_id, taken["epoch"])


def fence(conn: sqlite3.Connection, lease: Lease) -> bool:
    """Refuse the write of an overtaken driver; otherwise tell whether a cancel was requested."""
    # By its id too: the row of a deleted execution may be another one's by now.
    now = conn.execute(
        "SELECT epoch, cancel_requested FROM leases JOIN executions ON id = execution "
        "WHERE execution = ? AND exec_id = ?",
        (lease.execution, lease.exec_id),
    ).fetchone()
    if now is None:
        raise KitaruLeaseError(
            f"Execution {lease.exec_id} was deleted. Its runner stopped and wrote nothing more."
        )
    if now[0] != lease.epoch:
        raise KitaruLeaseError(
            f"Execution {lease.exec_id} was taken over by another runner. This one stopped and "
            "wrote nothing more; `kitaru executions get` shows how it goes on."
        )
    return bool(now[1])


def renew(conn: sqlite3.Connection, lease: Lease) -> None:
    """Push the expiry out; the caller has fenced."""
    conn.execute(
        "UPDATE leases SET expires_at = ? WHERE execution = ?", (_expiry(), lease.execution)
    )


def release(conn: sqlite3.Connection, execution: int) -> None:
    """Nobody drives the execution any more."""
    conn.execute(
        f"UPDATE leases SET runner = NULL, {_KEEP_CANCEL} WHERE execution = ?",  # noqa: S608
        (execution,),
    )


def revoke(conn: sqlite3.Connection, execution: int) -> None:
    """Release, and fence whoever may still be at it."""
    conn.execute(
        f"UPDATE leases SET epoch = epoch + 1, runner = NULL, {_KEEP_CANCEL} WHERE execution = ?",  # noqa: S608
        (execution,),
    )


def request_cancel(conn: sqlite3.Connection, execution: int) -> None:
    """Ask the driver to stop at its next durable call."""
    conn.execute("UPDATE leases SET cancel_requested = 1 WHERE execution = ?", (execution,))


def _expiry() -> int:
    return clock.now_us() + int(config.LEASE_SECONDS * 1_000_000)
