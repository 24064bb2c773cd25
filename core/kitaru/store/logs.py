"""Captured lines of executions, one row each.

A line comes from user code, so each field is made fit for its row here: one odd line must never
cost the others, or the drive.
"""

from __future__ import annotations

import sqlite3
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

from kitaru import clock, ids
from kitaru.models import LOG_LEVELS, LogEntry, Page
from kitaru.store import journal, values

_LAST_US = 253_402_300_799_999_999  # the end of the year 9999, where datetimes end
_LAST_LINENO = 2**63 - 1

_INFO = LOG_LEVELS.index("INFO")


@dataclass(frozen=True, slots=True)
class Which:
    """Which lines are meant: `checkpoint` is a name or a call id, `level` the least level.

    `text` is contained in the message, whatever the case of its ASCII letters.
    """

    source: str = "step"
    checkpoint: str | None = None
    level: str | None = None
    text: str | None = None


@dataclass(frozen=True, slots=True)
class LogRecord:
    """One captured line; `at` in microseconds, `level` a level's name."""

    at: int
    level: str
    message: str
    call_id: str | None = None
    attempt: int | None = None
    source: str = "step"
    module: str | None = None
    filename: str | None = None
    lineno: int | None = None


@dataclass(frozen=True, slots=True)
class StoredLine:
    """A line with its place among all lines of the store, and whose it is."""

    id: int
    exec_id: str
    flow_name: str
    call_id: str | None
    attempt: int | None
    entry: LogEntry


#: The setting that says how far the lines have been copied elsewhere, by their ids.
COPIED = "log_store_sent"
#: The setting that says where they are copied to.
LOG_STORE = "log_store"


def add(conn: sqlite3.Connection, execution: int, records: Iterable[LogRecord]) -> None:
    """Append lines; their ids grow, also where the newest lines were copied and then deleted."""
    conn.executemany(
        "INSERT INTO logs (id, execution, call_id, attempt, at, level, source, message, module, "  # noqa: S608
        "filename, lineno) VALUES (1 + max(ifnull((SELECT max(id) FROM logs), 0), ifnull("
        f"(SELECT CAST(value AS INTEGER) FROM settings WHERE name = '{COPIED}'), 0)), "
        "?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        [
            (
                execution,
                record.call_id,
                record.attempt,
                min(max(record.at, 0), _LAST_US),
                _text(record.level) or "",
                record.source,
                _text(record.message) or "",
                _text(record.module),
                _text(record.filename),
                _lineno(record.lineno),
            )
            for record in records
        ],
    )


def _text(value: object) -> str | None:
    """A field as text that any row takes; what is no text is told by its type."""
    if value is None:
        return None
    text = value if isinstance(value, str) else type(value).__name__
    return str.encode(text, "utf-8", "backslashreplace").decode()


def _lineno(value: object) -> int | None:
    return value if isinstance(value, int) and abs(value) <= _LAST_LINENO else None


def read(
    conn: sqlite3.Connection,
    execution: int,
    which: Which,
    *,
    limit: int | None = None,
    cursor: str | None = None,
    until: int | None = None,
) -> Page[LogEntry]:
    """The lines in the order of their times, from the first or from where a page has ended.

    With `until` only those that were stored up to this row.
    """
    where, parameters = _conditions(execution, which)
    if until is not None:
        where += " AND id <= ?"
        parameters.append(until)
    if cursor is not None:
        where += " AND (at, id) > (?, ?)"
        parameters += values.place(cursor, parts=2)
    rows = conn.execute(
        f"{_SELECT}{where} ORDER BY at, id LIMIT ?",
        (*parameters, -1 if limit is None else limit + 1),
    ).fetchall()
    more = limit is not None and len(rows) > limit
    rows = rows[:limit]
    next_cursor = values.cursor(rows[-1]["at"], rows[-1]["id"]) if more else None
    return Page([_entry(row) for row in rows], next_cursor)


def tail(conn: sqlite3.Connection, execution: int, which: Which, *, count: int) -> Page[LogEntry]:
    """The last lines in the order of their times."""
    where, parameters = _conditions(execution, which)
    rows = conn.execute(
        f"{_SELECT}{where} ORDER BY at DESC, id DESC LIMIT ?", (*parameters, count)
    ).fetchall()
    return Page([_entry(row) for row in reversed(rows)])


def of_body(conn: sqlite3.Connection, execution: int) -> Counter[int]:
    """How often the body of a flow has stored which line, without those of its calls."""
    found = conn.execute(
        "SELECT level, message FROM logs "
        "WHERE execution = ? AND call_id IS NULL AND source = 'step'",
        (execution,),
    )
    return Counter(hash((level, message)) for level, message in found.fetchall())


def key(record: LogRecord) -> int:
    """What `of_body` counts this line under."""
    return hash((_text(record.level) or "", _text(record.message) or ""))


def newest(conn: sqlite3.Connection) -> int:
    """The number of the row that was stored last, of whatever execution."""
    return int(conn.execute("SELECT coalesce(max(id), 0) FROM logs").fetchone()[0])


def read_after(
    conn: sqlite3.Connection, execution: int, which: Which, *, after: int, limit: int
) -> tuple[list[LogEntry], int]:
    """A page of the lines stored since a row, in the order they were stored, and where it ends."""
    where, parameters = _conditions(execution, which)
    # By row: each is looked at once, while the index would go through the whole execution.
    rows = conn.execute(
        f"{_SELECT}+{where} AND id > ? ORDER BY id LIMIT ?", (*parameters, after, limit)
    ).fetchall()
    end = rows[-1]["id"] if len(rows) == limit else newest(conn)
    return [_entry(row) for row in rows], end


def stored_after(conn: sqlite3.Connection, after: int, *, limit: int) -> list[StoredLine]:
    """Lines of all executions behind a place, in the order they were stored."""
    rows = conn.execute(
        "SELECT logs.id, exec_id, flow_name, call_id, attempt, at, level, source, message, module, "
        "filename, lineno FROM logs CROSS JOIN executions ON executions.id = logs.execution "
        "WHERE logs.id > ? ORDER BY logs.id LIMIT ?",
        (after, limit),
    ).fetchall()
    return [
        StoredLine(
            row["id"],
            row["exec_id"],
            row["flow_name"],
            row["call_id"],
            row["attempt"],
            _entry(row),
        )
        for row in rows
    ]


def count_after(conn: sqlite3.Connection, after: int) -> int:
    """How many lines are behind a place."""
    return int(conn.execute("SELECT count(*) FROM logs WHERE id > ?", (after,)).fetchone()[0])


_SELECT = (
    "SELECT id, at, level, source, call_id, message, module, filename, lineno FROM logs WHERE "
)


def _conditions(execution: int, which: Which) -> tuple[str, list[object]]:
    where = "execution = ? AND source = ?"
    parameters: list[object] = [execution, which.source]
    if which.checkpoint is not None:
        where += f" AND {journal.OF_CALLS}"
        parameters += [which.checkpoint] * 3
    if which.level is not None:
        # What is no standard level's name counts as INFO, so it is told by what it is not.
        least = LOG_LEVELS.index(which.level)
        below, known = ("NOT ", LOG_LEVELS[:least]) if least <= _INFO else ("", LOG_LEVELS[least:])
        where += f" AND upper(level) {below}IN ({', '.join('?' * len(known))})"
        parameters += known
    if which.text is not None:
        where += " AND instr(lower(message), lower(?)) > 0"
        parameters.append(which.text)
    return where, parameters


@values.intact("A log line")
def _entry(row: sqlite3.Row) -> LogEntry:
    return LogEntry(
        timestamp=clock.from_us(row["at"]),
        level=row["level"],
        source=row["source"],
        checkpoint_name=row["call_id"] and ids.call_name(row["call_id"]),
        message=row["message"],
        module=row["module"],
        filename=row["filename"],
        lineno=row["lineno"],
    )
