"""Metadata values one by one, beside the JSON they come from, for questions over many executions.

A row holds what a value counts as: a number as itself, `true` and `false` as these words, a text
behind a quote, so that no text passes for a word, and nothing for null, lists, dicts and numbers
no float can hold. Rows lie together by key and flow. They are written with the JSON, and read by
statistics only.
"""

from __future__ import annotations

import json
import math
import sqlite3
import sys
from collections.abc import Iterator, Mapping
from typing import Any

from kitaru.redaction import is_storable
from kitaru.store import values

Scalar = str | int | float | None

_MISSING = object()


def scalar(value: Any) -> Scalar:
    """What a metadata value counts as."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return f'"{value}' if is_storable(value) else None
    if isinstance(value, int):
        if -(2**63) <= value < 2**63:
            return value
        return float(value) if abs(value) <= sys.float_info.max else None
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return None


def load(conn: sqlite3.Connection, execution: int) -> dict[str, Any]:
    """All metadata of an execution."""
    (text,) = conn.execute("SELECT metadata FROM executions WHERE id = ?", (execution,)).fetchone()
    found: dict[str, Any] = values.load(text, what=f"The metadata of execution {execution}")
    return found


def replace(
    conn: sqlite3.Connection,
    execution: int,
    *,
    before: Mapping[str, Any],
    after: Mapping[str, Any],
) -> None:
    """Give an execution other metadata, and make its rows those of them."""
    put(conn, execution, before=before, after=after)
    conn.execute("UPDATE executions SET metadata = ? WHERE id = ?", (values.dump(after), execution))


def put(
    conn: sqlite3.Connection,
    execution: int,
    *,
    before: Mapping[str, Any],
    after: Mapping[str, Any],
) -> None:
    """Make the rows of an execution those of its new metadata; only what differs is touched."""
    gone = [(key, execution) for key in before if key not in after]
    changed = [
        (key, scalar(value), execution)
        for key, value in after.items()
        if _differ(before.get(key, _MISSING), value) and is_storable(key)
    ]
    if gone:
        conn.executemany(
            # The number itself: by a column of the row, each would be looked for among all.
            "DELETE FROM execution_metadata WHERE key = ?1 AND execution = ?2 "
            "AND flow_id = (SELECT flow_id FROM executions WHERE id = ?2)",
            gone,
        )
    conn.executemany(
        "INSERT OR REPLACE INTO execution_metadata (key, flow_id, execution, value) "
        "SELECT ?1, flow_id, id, ?2 FROM executions WHERE id = ?3",
        changed,
    )


def drop(conn: sqlite3.Connection, execution: int) -> None:
    """Remove the rows of an execution that goes."""
    (text,) = conn.execute("SELECT metadata FROM executions WHERE id = ?", (execution,)).fetchone()
    put(conn, execution, before=dict(_items(text)), after={})


def fill(conn: sqlite3.Connection) -> None:
    """Write the rows of all executions, for a store that had none."""
    conn.executemany("INSERT INTO execution_metadata VALUES (?, ?, ?, ?)", _rows(conn))


def is_true(conn: sqlite3.Connection) -> bool:
    """Whether the rows are those that `fill` would write."""
    found = "SELECT value FROM execution_metadata WHERE key = ? AND flow_id = ? AND execution = ?"
    count = 0
    for *key, value in _rows(conn):
        row = conn.execute(found, key).fetchone()
        if row is None or _differ(row[0], value):
            return False
        count += 1
    return bool(conn.execute("SELECT count(*) = ? FROM execution_metadata", (count,)).fetchone()[0])


def _rows(conn: sqlite3.Connection) -> Iterator[tuple[str, str, int, Scalar]]:
    found = conn.execute("SELECT id, flow_id, metadata FROM executions WHERE metadata != '{}'")
    for execution, flow_id, text in found:
        for key, value in _items(text):
            yield key, flow_id, execution, scalar(value)


def _items(text: str) -> Iterator[tuple[str, Any]]:
    try:
        found = json.loads(text)
    except (ValueError, TypeError):  # damaged: whoever reads the execution tells it
        return
    for key, value in found.items() if isinstance(found, dict) else ():
        if is_storable(key):
            yield key, value


def _differ(before: Any, after: Any) -> bool:
    """Whether two values count as different ones; 1, 1.0 and true are three."""
    return before is _MISSING or (type(before), before) != (type(after), after)
