"""Questions that suspend executions, and their answers.

An answer is checked against the question's schema before it gets here; it is stored once, and it
is the driver that turns it into the record of the call.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

from kitaru import clock, codec, ids
from kitaru.errors import KitaruCorruptionError
from kitaru.models import PendingWait
from kitaru.store import values


@dataclass(frozen=True, slots=True)
class Question:
    """A wait as its flow asks it; `schema` is JSON Schema."""

    seq: int
    call_id: str
    name: str
    question: str | None
    schema: dict[str, Any] | None
    metadata: dict[str, Any]


#: What `_model` reads of a question.
_ASKED = "call_id, question, schema, waits.metadata, waits.created_at"


def ask(conn: sqlite3.Connection, execution: int, question: Question) -> None:
    """Put a question; asking again after a restart keeps when it was first put."""
    conn.execute(
        "INSERT INTO waits (execution, seq, call_id, name, question, schema, metadata, status, "
        "created_at) VALUES (?, ?, ?, ?, ?, ?, ?, 'pending', ?) "
        "ON CONFLICT (execution, seq) DO UPDATE SET call_id = excluded.call_id, "
        "name = excluded.name, question = excluded.question, schema = excluded.schema, "
        "metadata = excluded.metadata, status = 'pending', resolved_at = NULL "
        "WHERE status IN ('pending', 'withdrawn')",
        (
            execution,
            question.seq,
            question.call_id,
            question.name,
            question.question,
            values.dump(question.schema),
            values.dump(question.metadata),
            clock.now_us(),
        ),
    )


def answer(conn: sqlite3.Connection, execution: int, seq: int, *, value: bytes) -> None:
    """Store the answer to a pending question."""
    conn.execute(
        "UPDATE waits SET status = 'answered', answer = ?, answer_digest = ?, "
        "resolved_at = max(?, created_at), rejected = NULL "
        "WHERE execution = ? AND seq = ? AND status = 'pending'",
        (value, codec.digest(value), clock.now_us(), execution, seq),
    )


def reject(conn: sqlite3.Connection, execution: int, seq: int, *, reason: str) -> None:
    """Ask again: the declared type refused an answer that the schema let through."""
    conn.execute(
        "UPDATE waits SET status = 'pending', answer = NULL, answer_digest = NULL, "
        "resolved_at = NULL, rejected = ? WHERE execution = ? AND seq = ?",
        (reason, execution, seq),
    )


def abort_all(conn: sqlite3.Connection, execution: int) -> None:
    """Close every pending question without an answer."""
    conn.execute(
        "UPDATE waits SET status = 'aborted', resolved_at = max(?, created_at) "
        "WHERE execution = ? AND status = 'pending'",
        (clock.now_us(), execution),
    )


def status(conn: sqlite3.Connection, execution: int, seq: int) -> str | None:
    """`pending`, `answered`, `aborted`, or `None` when it was never asked."""
    row = conn.execute(
        "SELECT status FROM waits WHERE execution = ? AND seq = ?", (execution, seq)
    ).fetchone()
    return None if row is None else str(row[0])


def withdraw(conn: sqlite3.Connection, execution: int, seq: int) -> None:
    """The flow no longer asks this."""
    conn.execute(
        "UPDATE waits SET status = 'withdrawn', resolved_at = max(?, created_at) "
        "WHERE execution = ? AND seq = ? AND status = 'pending'",
        (clock.now_us(), execution, seq),
    )


def closed(conn: sqlite3.Connection, watched: Collection[int]) -> set[int]:
    """Which of these executions have an answer that their flow has not seen."""
    rows = conn.execute(
        "SELECT DISTINCT waits.execution FROM waits JOIN calls USING (execution, seq) "
        "WHERE waits.status <> 'pending' AND calls.status = 'running' "
        "AND waits.execution IN (SELECT value FROM json_each(?))",
        (json.dumps([*watched]),),
    ).fetchall()
    return {row[0] for row in rows}


def let_go(conn: sqlite3.Connection, execution: int, seqs: Collection[int]) -> None:
    """Note for which calls an execution waits while nobody drives it."""
    conn.execute(
        "UPDATE calls SET awaited = seq IN (SELECT value FROM json_each(?)) "
        "WHERE execution = ? AND status = 'running'",
        (json.dumps([*seqs]), execution),
    )


def children(conn: sqlite3.Connection, execution: int, *, awaited: bool) -> list[str]:
    """The child executions whose outcomes an execution has yet to take, in the order of calls.

    Args:
        awaited: only those it waited for when its driver let go.
    """
    rows = conn.execute(
        "SELECT child_exec_id FROM calls WHERE execution = ? AND status = 'running' "
        "AND child_exec_id IS NOT NULL AND awaited >= ? ORDER BY seq",
        (execution, int(awaited)),
    ).fetchall()
    return [str(row[0]) for row in rows]


def read_answer(conn: sqlite3.Connection, execution: int, seq: int, *, what: str) -> bytes | None:
    """The stored answer; `None` while there is none."""
    row = conn.execute(
        "SELECT answer, answer_digest FROM waits WHERE execution = ? AND seq = ? "
        "AND status = 'answered'",
        (execution, seq),
    ).fetchone()
    if row is None:
        return None
    value = row[0]
    if not isinstance(value, bytes) or codec.digest(value) != row[1]:
        raise KitaruCorruptionError(
            f"The answer to {what} is damaged in the store. Restore the store from a backup, or "
            "replay the execution from this wait and answer it again."
        )
    return value


def pending(conn: sqlite3.Connection, execution: int, *, exec_id: str) -> list[PendingWait]:
    """The questions that wait for an answer, oldest first."""
    return [model for _, model in pending_rows(conn, execution, exec_id=exec_id)]


@values.intact("A wait")
def pending_rows(
    conn: sqlite3.Connection, execution: int, *, exec_id: str
) -> list[tuple[int, PendingWait]]:
    """The pending questions, each with its place in the journal."""
    rows = conn.execute(
        f"SELECT seq, {_ASKED} FROM waits "  # noqa: S608
        "WHERE execution = ? AND status = 'pending' ORDER BY seq",
        (execution,),
    ).fetchall()
    return [(int(row["seq"]), _model(row, exec_id=exec_id)) for row in rows]


@values.intact("A wait")
def open_everywhere(conn: sqlite3.Connection, *, limit: int) -> list[PendingWait]:
    """The pending questions of all executions, oldest first."""
    rows = conn.execute(
        f"SELECT executions.exec_id, {_ASKED} FROM executions CROSS JOIN waits ON execution = id "  # noqa: S608
        "WHERE executions.status = 'waiting' AND waits.status = 'pending' "
        "ORDER BY waits.created_at, waits.execution, seq LIMIT ?",
        (limit,),
    ).fetchall()
    return [_model(row, exec_id=row["exec_id"]) for row in rows]


def _model(row: sqlite3.Row, *, exec_id: str) -> PendingWait:
    wait_id = ids.qualified(exec_id, row["call_id"])
    what = f"Wait {wait_id}"
    return PendingWait(
        wait_id=wait_id,
        name=row["call_id"],
        question=row["question"],
        schema=values.load(row["schema"], what=what),
        metadata=values.load(row["metadata"], what=what),
        entered_waiting_at=clock.from_us(row["created_at"]),
    )
