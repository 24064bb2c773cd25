"""Drivers with a fault each, which the suite's comparison has to find out.

Each function breaks Kitaru in the process that calls it: a forked stage, never a test's own.
"""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Iterator
from typing import Any

from kitaru.ledger import Ledger
from kitaru.store import Transaction, journal, leases, logs
from kitaru.store.connection import Database
from tests.support import until


def goes_on_before_the_commit() -> None:
    """The third transaction is committed by the fourth; who wrote it has gone on long before."""
    begun = 0

    @contextlib.contextmanager
    def write(database: Database) -> Iterator[Transaction]:
        nonlocal begun
        with database._lock:
            begun += 1
            number, conn = begun, database._writer
            if not conn.in_transaction:
                conn.execute("BEGIN IMMEDIATE")
            yield conn
            if number != 3:
                conn.execute("COMMIT")

    Database.write = write  # type: ignore[method-assign, assignment]


def runs_recorded_calls_again() -> None:
    """A resumed drive knows of no record."""

    def load(*args: Any, **options: Any) -> list[Any]:
        return []

    journal.load = load
    journal.to_drive = load


def knows_no_leases() -> None:
    """Anybody may drive, as if nobody did; none of two ends before both have begun."""

    def holder(row: sqlite3.Row | None) -> leases.Holder:
        return "nobody"

    def is_late(conn: Transaction, execution: int) -> bool:
        return False

    finish = Ledger.finish

    def waits(ledger: Ledger, action: str, **how: Any) -> str:
        def epoch() -> int:
            row = ledger.store.lease_row(ledger.lease.execution)
            return 0 if row is None else row["epoch"]

        until(lambda: epoch() > 2, "both drive")
        return finish(ledger, action, **how)

    leases.holder, leases.is_late = holder, is_late
    Ledger.finish = waits  # type: ignore[method-assign]


def loses_lines() -> None:
    """The first line of each commit is not stored."""
    add = logs.add

    def add_some(conn: Transaction, execution: int, records: Any) -> None:
        add(conn, execution, list(records)[1:])

    logs.add = add_some


def changes_records() -> None:
    """A resumed drive writes over what was recorded."""
    take = leases.take

    def take_and_touch(conn: Transaction, **who: Any) -> leases.Lease:
        conn.execute("UPDATE calls SET ended_at = ended_at + 1")
        return take(conn, **who)

    leases.take = take_and_touch
