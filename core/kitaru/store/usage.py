"""What executions have used of models: read from their calls, summed up when they end.

Owns the summary that the transaction which ends an execution writes into its metadata, whoever
ends it and whether or not anybody looks.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from typing import Any

from kitaru import usage, usage_summary
from kitaru.store import metadata as rows
from kitaru.store import values

_CALLS = (
    "SELECT call_id, metadata, attempts, original_call_id, cached_from FROM calls "
    "WHERE execution = ?1 AND (instr(metadata, ?2) OR instr(attempts, ?2)) ORDER BY seq"
)


def summary(conn: sqlite3.Connection, execution: int) -> dict[str, Any] | None:
    """What an execution has used so far; `None` where it has called no model."""
    return usage_summary.summary(_records(conn, execution))


def _records(conn: sqlite3.Connection, execution: int) -> Iterator[dict[str, Any]]:
    for row in conn.execute(_CALLS, (execution, f'"{usage.KEY}"')).fetchall():
        what = f"Call {row['call_id']}"
        attempts = values.load(row["attempts"], what=what) or ()
        yield from usage.of_call(
            values.load(row["metadata"], what=what) or {},
            [each["metadata"] for each in attempts],
            reuse=usage.reuse_of(
                original_call_id=row["original_call_id"], cached_from=row["cached_from"]
            ),
        )


def settle(conn: sqlite3.Connection, execution: int) -> None:
    """An execution ends: write what it has used into its metadata, where it has used anything."""
    found = summary(conn, execution)
    if found is None:
        return
    before = rows.load(conn, execution)
    after = {**before, usage_summary.SUMMARY_KEY: found, **usage_summary.flat(found)}
    rows.replace(conn, execution, before=before, after=after)
