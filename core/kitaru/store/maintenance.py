"""What is done with the store's file as a whole: measured, copied, made smaller.

A copy is one state of the store, taken while others write. Nothing here knows what an execution
is; nothing here changes a row.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
from collections.abc import Callable
from pathlib import Path

from kitaru import clock
from kitaru.errors import KitaruCorruptionError
from kitaru.store.connection import Database
from kitaru.store.refusals import translated
from kitaru.upkeep import Backup, Compacted, StoreFacts

#: Pages copied between two reports of progress.
_STEP = 4096
#: Rows of one table that are counted; more are not told exactly.
_COUNTED = 100_000


def measure(database: Database) -> StoreFacts:
    """How large the file and its tables are; cheap for a store of any size."""
    with database.snapshot() as conn:
        names = conn.execute("SELECT name FROM sqlite_master WHERE type = 'table' ORDER BY name")
        tables = [name for (name,) in names.fetchall() if "sqlite_" not in name]
        return StoreFacts(
            schema=_number(conn, "PRAGMA user_version"),
            bytes=_size(conn),
            free_bytes=_number(conn, "PRAGMA freelist_count") * _number(conn, "PRAGMA page_size"),
            wal_bytes=wal_bytes(database.path),
            rows={name: _count(conn, name) for name in tables},
        )


def wal_bytes(path: Path) -> int:
    """How large the WAL beside a store's file is."""
    try:
        return os.stat(f"{path}-wal").st_size
    except FileNotFoundError:
        return 0


def _size(conn: sqlite3.Connection) -> int:
    return _number(conn, "PRAGMA page_count") * _number(conn, "PRAGMA page_size")


def _number(conn: sqlite3.Connection, sql: str) -> int:
    return int(conn.execute(sql).fetchone()[0])


def _count(conn: sqlite3.Connection, table: str) -> int | None:
    sql = f'SELECT count(*) FROM (SELECT 1 FROM "{table}" LIMIT {_COUNTED + 1})'  # noqa: S608
    count = _number(conn, sql)
    return count if count <= _COUNTED else None


def compact(database: Database) -> Compacted:
    """Write the file anew without what is free in it; nobody else can write meanwhile."""
    with database.alone() as conn:
        before = _size(conn)
        begun = clock.monotonic()
        conn.execute("VACUUM")
        conn.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
        seconds = clock.monotonic() - begun
        return Compacted(before, _size(conn), round(seconds, 3))


def back_up(
    database: Database, path: Path, *, progress: Callable[[int, int], None] | None
) -> Backup:
    """Copy the store, as it is now, into an empty file, and check the copy.

    Raises:
        KitaruCorruptionError: the copy is not sound, because the store is not.
    """

    def tell(_: int, left: int, total: int) -> None:
        if progress is not None:
            progress(total - left, total)

    with database.apart() as source:
        # The state is chosen by the first read; later commits would begin the copy anew.
        count = _number(source, "SELECT count(*) FROM executions")
        with translated(path), contextlib.closing(sqlite3.connect(path)) as copy:
            # A copy that is cut off is thrown away, so nothing of it has to be safe before its end.
            copy.execute("PRAGMA synchronous=OFF")
            source.backup(copy, pages=_STEP, progress=tell, sleep=0)
            # One file by itself: opened as a store it gets its WAL again.
            copy.execute("PRAGMA journal_mode=DELETE").fetchall()
            problems = [row[0] for row in copy.execute("PRAGMA quick_check").fetchall()]
    if problems != ["ok"]:
        raise KitaruCorruptionError(
            f"The store {database.path} is damaged ({problems[0]:.200}), and so would be a copy. "
            "None was made: keep the backups there are, and see `kitaru doctor`."
        )
    return Backup(str(path), path.stat().st_size, count)
