"""What is wrong inside a store's file, found by looking; and the repairs that are always safe.

Looking reads one state on a connection of its own and changes nothing. Repairs check again under
the write lock, and touch only what no execution can need: nothing of one that goes on.
"""

from __future__ import annotations

import contextlib
import re
import sqlite3
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from kitaru import clock
from kitaru.errors import KitaruCorruptionError
from kitaru.models import ExecutionStatus
from kitaru.store import leases, rollup, schema, values
from kitaru.store.connection import Database
from kitaru.store.opening import connect_read_only
from kitaru.store.refusals import translated
from kitaru.store.values import StoredValue
from kitaru.upkeep import Finding

_RESTORE = "Restore the store from a backup, or replay the execution from an earlier call."
_FINISHED = ", ".join(f"'{status}'" for status in ExecutionStatus if status.is_finished)
_KNOWN = ", ".join(f"'{status}'" for status in ExecutionStatus)
_JSON = {
    "executions": ("tags", "metadata", "spec", "plan", "failure"),
    "calls": ("parents", "metadata", "attempts", "failure"),
    "waits": ("schema", "metadata"),
    "artifacts": ("tags",),
}
#: Where a value may lie in chunks: what its owner is called, and its row if it does.
_OWNERS = {
    r"inputs:(\d+)": "SELECT 1 FROM executions WHERE id = ? AND inputs IS NULL",
    r"result:(\d+)": (
        "SELECT 1 FROM executions WHERE id = ? AND result IS NULL AND result_size NOT NULL"
    ),
    r"call:(\d+):(\d+)": (
        "SELECT 1 FROM calls WHERE execution = ? AND seq = ? AND result IS NULL "
        "AND result_size NOT NULL"
    ),
    r"artifact:(\d+):(\d+):(\d+)": (
        "SELECT 1 FROM artifacts WHERE execution = ? AND seq = ? AND position = ? AND data IS NULL"
    ),
}
_ORPHANED_WAITS = (
    "FROM waits WHERE status = 'pending' AND execution IN "  # noqa: S608
    f"(SELECT id FROM executions WHERE status IN ('pending', {_FINISHED}))"
)
_UNDER_WAY = "(SELECT execution FROM calls WHERE status IN ('pending', 'running'))"


@dataclass(frozen=True, slots=True)
class _Values:
    """One kind of recorded values; a row is a name, an owner's key, data, size and digest."""

    count: str
    select: str


_VALUES = (
    _Values(
        "executions",
        "SELECT 'the inputs of ' || exec_id, 'inputs:' || id, inputs, inputs_size, inputs_digest "
        "FROM executions",
    ),
    _Values(
        "executions",
        "SELECT 'the result of ' || exec_id, 'result:' || id, result, result_size, result_digest "
        "FROM executions WHERE result_size NOT NULL",
    ),
    _Values(
        "calls",
        "SELECT exec_id || '/' || call_id, 'call:' || execution || ':' || seq, calls.result, "
        "calls.result_size, calls.result_digest FROM calls JOIN executions ON id = execution "
        "WHERE calls.result_size NOT NULL",
    ),
    _Values(
        "artifacts",
        "SELECT exec_id || '/' || call_id || '/' || name, "
        "'artifact:' || execution || ':' || seq || ':' || artifacts.position, "
        "data, size, digest FROM artifacts JOIN calls USING (execution, seq) "
        "JOIN executions ON id = execution",
    ),
    _Values(
        "waits",
        "SELECT 'the answer to ' || exec_id || '/' || call_id, '', answer, length(answer), "
        "answer_digest FROM waits JOIN executions ON id = execution WHERE answer NOT NULL",
    ),
)


def newer_schema(path: Path) -> int | None:
    """The schema of a file that this program is too old for; `None` for any other file."""
    with translated(path), contextlib.closing(connect_read_only(path)) as conn:
        version = int(conn.execute("PRAGMA user_version").fetchone()[0])
    return version if version > schema.SCHEMA_VERSION else None


def examine(
    database: Database, *, full: bool, progress: Callable[[int, int], None] | None
) -> list[Finding]:
    """All that is wrong inside the file.

    Args:
        database: the open store.
        full: also go through indexes, and read every value.
        progress: told how many values are read, and of how many.
    """
    found: list[Finding] = []
    with database.apart() as conn:
        checks = [_pages(conn, full=full), _references(conn), _stalled(conn), _open_waits(conn)]
        checks += [_orphaned_chunks(conn), _statuses(conn)]
        if full:
            checks += [_columns(conn), _counts(conn), _digests(conn, progress)]
        for check in checks:
            try:
                with translated(database.path):
                    found += check
            except KitaruCorruptionError as exc:
                found.append(Finding("damaged", str(database.path), str(exc), _RESTORE))
    return found


def repair(database: Database, *, counts: bool) -> None:
    """Withdraw questions that nobody asks any more, drop chunks that nothing owns, count anew.

    Args:
        database: the open store.
        counts: whether they are known to be wrong: to look takes long, and others wait meanwhile.
    """
    with database.write() as conn:
        conn.execute(
            "UPDATE waits SET status = 'withdrawn', resolved_at = max(?, created_at) "  # noqa: S608
            f"WHERE (execution, seq) IN (SELECT execution, seq {_ORPHANED_WAITS})",
            (clock.now_us(),),
        )
        for owner in _unowned(conn):
            values.drop(conn, owner)
        if counts:
            rollup.rebuild(conn)


def _pages(conn: sqlite3.Connection, *, full: bool) -> Iterator[Finding]:
    pragma = "integrity_check" if full else "quick_check"
    for (problem,) in conn.execute(f"PRAGMA {pragma}").fetchall():
        if problem != "ok":
            yield Finding("damaged", "kitaru.db", f"SQLite finds: {problem:.300}.", _RESTORE)


def _references(conn: sqlite3.Connection) -> Iterator[Finding]:
    counts: dict[str, int] = {}
    for table, *_ in conn.execute("PRAGMA foreign_key_check").fetchall():
        counts[table] = counts.get(table, 0) + 1
    for table, count in counts.items():
        message = f"{count} rows of {table} belong to executions that are not there."
        yield Finding("orphaned_rows", table, message, _RESTORE)


def _stalled(conn: sqlite3.Connection) -> Iterator[Finding]:
    for row in conn.execute(
        "SELECT exec_id, runner, host, pid, mark, expires_at FROM executions "
        "LEFT JOIN leases ON execution = id WHERE status = 'running' ORDER BY id"
    ).fetchall():
        if leases.holder(row) != "alive":
            exec_id = row["exec_id"]
            advice = f"`kitaru executions resume {exec_id}`, or run `kitaru worker`."
            yield Finding("stalled", exec_id, "It is running, but its driver is gone.", advice)


def _open_waits(conn: sqlite3.Connection) -> Iterator[Finding]:
    for row in conn.execute(
        "SELECT exec_id, call_id, executions.status FROM waits "  # noqa: S608
        "JOIN executions ON id = execution "
        f"WHERE (execution, seq) IN (SELECT execution, seq {_ORPHANED_WAITS}) ORDER BY id, seq"
    ).fetchall():
        message = f"The question is open, but its execution is {row['status']}."
        advice = "`kitaru doctor --repair` withdraws it."
        yield Finding("orphaned_wait", f"{row['exec_id']}/{row['call_id']}", message, advice)


def _orphaned_chunks(conn: sqlite3.Connection) -> Iterator[Finding]:
    for owner in _unowned(conn):
        message = "Chunks of a value are left that nothing refers to."
        yield Finding("orphaned_chunk", owner, message, "`kitaru doctor --repair` removes them.")


def _unowned(conn: sqlite3.Connection) -> list[str]:
    owners = conn.execute("SELECT DISTINCT owner FROM chunks").fetchall()
    return [owner for (owner,) in owners if not _is_owned(conn, owner)]


def _is_owned(conn: sqlite3.Connection, owner: str) -> bool:
    for pattern, row in _OWNERS.items():
        if place := re.fullmatch(pattern, owner, re.ASCII):
            return conn.execute(row, place.groups()).fetchone() is not None
    return False


def _statuses(conn: sqlite3.Connection) -> Iterator[Finding]:
    for condition, message in (
        (
            f"status IN ({_FINISHED}) AND id IN {_UNDER_WAY}",
            "calls of it are still under way",
        ),
        ("status = 'completed' AND result_size IS NULL", "it has no result"),
        ("status = 'failed' AND failure IS NULL", "it has no failure"),
        (f"status NOT IN ({_KNOWN})", "that is no status"),
        (
            f"status IN ({_KNOWN}) AND (status IN ({_FINISHED})) <> (ended_at NOT NULL)",
            "its end does not fit that",
        ),
    ):
        for row in conn.execute(
            f"SELECT exec_id, status FROM executions WHERE {condition} ORDER BY id"  # noqa: S608
        ).fetchall():
            told = f"It is {row['status']}, but {message}."
            advice = f"Look at it: `kitaru executions get {row['exec_id']}`, and report this."
            yield Finding("status_mismatch", row["exec_id"], told, advice)


def _columns(conn: sqlite3.Connection) -> Iterator[Finding]:
    for table, columns in _JSON.items():
        owner = "id" if table == "executions" else "execution"
        for column in columns:
            rows = conn.execute(
                f"SELECT (SELECT exec_id FROM executions WHERE id = {owner}) FROM {table} "  # noqa: S608
                f"WHERE {column} NOT NULL AND NOT json_valid({column})"
            )
            for (exec_id,) in rows.fetchall():
                message = f"Column {column} of {table} is damaged."
                yield Finding("damaged_row", str(exec_id), message, _RESTORE)


def _counts(conn: sqlite3.Connection) -> Iterator[Finding]:
    if not rollup.is_true(conn):
        message = "What it keeps for lists and statistics is not what its executions are."
        advice = "`kitaru doctor --full --repair` makes it anew from them."
        yield Finding("wrong_counts", "kitaru.db", message, advice)


def _digests(
    conn: sqlite3.Connection, progress: Callable[[int, int], None] | None
) -> Iterator[Finding]:
    total = sum(_count(conn, each.count) for each in _VALUES)
    before = done = 0
    for each in _VALUES:
        for name, owner, *stored in conn.execute(each.select):
            done += 1
            if progress is not None and done % 1000 == 0:
                progress(done, total)
            if not _is_intact(conn, owner, StoredValue(*stored)):
                message = "Its bytes do not match their digest."
                yield Finding("damaged_value", name, message, _RESTORE)
        before += _count(conn, each.count)
        done = before
    if progress is not None:
        progress(total, total)


def _is_intact(conn: sqlite3.Connection, owner: str, stored: StoredValue) -> bool:
    try:
        return len(values.get(conn, owner, stored, what=owner)) == stored.size
    except KitaruCorruptionError:
        return False


def _count(conn: sqlite3.Connection, table: str) -> int:
    return int(conn.execute(f"SELECT count(*) FROM {table}").fetchone()[0])  # noqa: S608
