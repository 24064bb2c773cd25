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
from kitaru.models import LogEntry
from kitaru.store import values

_LAST_US = 253_402_300_799_999_999  # the end of the year 9999, where datetimes end
_LAST_LINENO = 2**63 - 1


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


def add(conn: sqlite3.Connection, execution: int, records: Iterable[LogRecord]) -> None:
    """Append lines."""
    conn.executemany(
        "INSERT INTO logs (execution, call_id, attempt, at, level, source, message, module, "
        "filename, lineno) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
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
    *,
    source: str,
    checkpoint: str | None = None,
    limit: int | None = None,
) -> list[LogEntry]:
    """The first `limit` lines in the order of their times; `checkpoint` is a name or a call id."""
    where, parameters = _conditions(execution, source, checkpoint)
    rows = conn.execute(
        f"{_SELECT}{where} ORDER BY at, id LIMIT ?",
        (*parameters, -1 if limit is None else limit),
    ).fetchall()
    return [_entry(row) for row in rows]


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


def read_after(
    conn: sqlite3.Connection,
    execution: int,
    *,
    after: int,
    source: str,
    checkpoint: str | None = None,
) -> tuple[list[LogEntry], int]:
    """The lines stored since a row, in the order they were stored, and the newest row's number."""
    where, parameters = _conditions(execution, source, checkpoint)
    rows = conn.execute(f"{_SELECT}{where} AND id > ? ORDER BY id", (*parameters, after)).fetchall()
    return [_entry(row) for row in rows], rows[-1]["id"] if rows else after


_SELECT = (
    "SELECT id, at, level, source, call_id, message, module, filename, lineno FROM logs WHERE "
)


def _conditions(execution: int, source: str, checkpoint: str | None) -> tuple[str, list[object]]:
    where = "execution = ? AND source = ?"
    parameters: list[object] = [execution, source]
    if checkpoint is not None:
        # A name covers all its calls (`name#2`, …); `$` is the character after `#`.
        where += " AND (call_id = ? OR (call_id >= ? || '#' AND call_id < ? || '$'))"
        parameters += [checkpoint] * 3
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
