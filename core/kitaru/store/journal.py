"""The recorded calls of executions: one row per durable call, in the order they were made."""

from __future__ import annotations

import functools
import json
import sqlite3
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Literal, NamedTuple

from kitaru import clock, ids
from kitaru.models import CallStatus
from kitaru.store import values
from kitaru.store.values import StoredValue

CallKind = Literal["checkpoint", "wait", "sleep", "flow"]


@dataclass(slots=True)
class AttemptRecord:
    """One try of a call; times in microseconds."""

    status: CallStatus
    started_at: int
    ended_at: int | None = None
    metadata: dict[str, Any] = field(default_factory=dict)
    failure: dict[str, Any] | None = None

    def dump(self) -> dict[str, Any]:
        """The attempt as JSON data."""
        return {
            "status": self.status.value,
            "started_at": self.started_at,
            "ended_at": self.ended_at,
            "metadata": self.metadata,
            "failure": self.failure,
        }


_NOTHING: Mapping[str, Any] = MappingProxyType({})


class CallRecord(NamedTuple):
    """One durable call as it stands in the journal; its result is read by `result`.

    `lane` and `position` say which call of which task it is, `seq` numbers all calls as they were
    made. `settled` says that the flow went on after it saw the call fail, so that the failure is
    part of its history. `failure` holds a `FailureInfo` and, under `exception`, what rebuilds it.
    """

    seq: int
    lane: str
    position: int
    call_id: str
    kind: CallKind
    status: CallStatus
    inputs_digest: bytes
    inputs_shown: str
    type: str | None = None
    settled: bool = False
    started_at: int | None = None
    ended_at: int | None = None
    parents: tuple[str, ...] = ()
    metadata: Mapping[str, Any] = _NOTHING
    attempts: tuple[AttemptRecord, ...] = ()
    failure: dict[str, Any] | None = None
    original_call_id: str | None = None
    cached_from: str | None = None
    ended_order: int | None = None
    due_at: int | None = None
    child_exec_id: str | None = None
    cache_key: bytes | None = None

    @property
    def is_recorded(self) -> bool:
        """Whether the call has an outcome; one cut off by the end of its flow has none."""
        if self.status is CallStatus.CANCELLED:
            return self.ended_order is not None
        return self.status in (CallStatus.COMPLETED, CallStatus.FAILED)

    @property
    def is_copied(self) -> bool:
        """Whether a replay took it over from its original."""
        return self.original_call_id is not None and self.cached_from is None


#: Calls as `from_rows` reads them.
SELECT = f"SELECT {', '.join(CallRecord._fields)} FROM calls "  # noqa: S608
#: What only people look at; a drive does without it.
_SHOWN = ("type", "ended_at", "parents", "metadata", "cache_key")
_DRIVEN = ", ".join("NULL" if name in _SHOWN else name for name in CallRecord._fields)
_SELECT_DRIVEN = f"SELECT {_DRIVEN} FROM calls "  # noqa: S608
_IN_ORDER = "WHERE execution = ? ORDER BY seq"
_STATUS, _SETTLED, _PARENTS, _ATTEMPTS = map(
    CallRecord._fields.index, ("status", "settled", "parents", "attempts")
)
#: The columns that hold JSON, and what they are where they hold nothing.
_JSON: tuple[tuple[int, Any], ...] = (
    (_PARENTS, ()),
    (CallRecord._fields.index("metadata"), _NOTHING),
    (_ATTEMPTS, ()),
    (CallRecord._fields.index("failure"), None),
)
_STATUSES = {status.value: status for status in CallStatus}
#: Of the calls with a name, or of one call; the same text three times. `$` comes after `#`.
OF_CALLS = "(call_id = ? OR (call_id >= ? || '#' AND call_id < ? || '$'))"
#: What a replay takes over; attempts and times of waking belong to the original.
_COPIED = (
    "seq, lane, position, call_id, kind, type, status, settled, started_at, ended_at, "
    "inputs_digest, inputs_shown, parents, metadata, failure, ended_order, child_exec_id, "
    "result_size, result_digest, result"
)


def owner(execution: int, seq: int) -> str:
    """The key of a call's result among the chunks."""
    return f"call:{execution}:{seq}"


def put(
    conn: sqlite3.Connection,
    execution: int,
    record: CallRecord,
    *,
    order: int | None = None,
    result: bytes | None = None,
) -> None:
    """Write a call's row, ended at a place in the order of endings; an earlier row is replaced."""
    row: dict[str, Any] = {
        "execution": execution,
        "seq": record.seq,
        "lane": record.lane,
        "position": record.position,
        "call_id": record.call_id,
        "kind": record.kind,
        "type": record.type,
        "status": record.status._value_,
        "settled": 1 if record.settled else 0,
        "started_at": record.started_at,
        "ended_at": record.ended_at,
        "inputs_digest": bytearray(record.inputs_digest),
        "inputs_shown": record.inputs_shown,
        "parents": values.dump(record.parents) if record.parents else None,
        "metadata": values.dump(record.metadata) if record.metadata else None,
        "attempts": values.dump([each.dump() for each in record.attempts])
        if record.attempts
        else None,
        "failure": values.dump(record.failure),
        "original_call_id": record.original_call_id,
        "cached_from": record.cached_from,
        "ended_order": order,
        "due_at": record.due_at,
        "child_exec_id": record.child_exec_id,
        "cache_key": record.cache_key,
    }
    if result is not None:
        stored = values.put(conn, owner(execution, record.seq), result)
        row["result_size"] = stored.size
        row["result_digest"] = bytearray(stored.digest)
        row["result"] = None if stored.data is None else bytearray(stored.data)
    # Most of a row is NULL most often, and binding that costs more than any value.
    given = {name: value for name, value in row.items() if value is not None}
    conn.execute(_insert(tuple(given)), tuple(given.values()))


@functools.cache
def _insert(columns: tuple[str, ...]) -> str:
    marks = ", ".join("?" * len(columns))
    return f"INSERT OR REPLACE INTO calls ({', '.join(columns)}) VALUES ({marks})"  # noqa: S608


def amend(
    conn: sqlite3.Connection, execution: int, seq: int, *, attempt: int, metadata: dict[str, Any]
) -> None:
    """Add to the metadata of an attempt (1-based) that has ended.

    The last one's are those of its call too, and the only one of a simple call has no others.
    """
    row = conn.execute(
        "SELECT call_id, metadata, attempts FROM calls WHERE execution = ? AND seq = ?",
        (execution, seq),
    ).fetchone()
    if row is None:
        return
    what = f"Call {row['call_id']}"
    attempts = values.load(row["attempts"], what=what) or []
    of_call = values.load(row["metadata"], what=what) or {}
    if attempt <= len(attempts):
        attempts[attempt - 1]["metadata"] |= metadata
    if attempt >= len(attempts):
        of_call |= metadata
    conn.execute(
        "UPDATE calls SET metadata = ?, attempts = ? WHERE execution = ? AND seq = ?",
        (values.dump(of_call or None), values.dump(attempts or None), execution, seq),
    )


def settle(conn: sqlite3.Connection, execution: int, seqs: Iterable[int]) -> None:
    """Mark failures as part of the flow's history."""
    conn.executemany(
        "UPDATE calls SET settled = 1 WHERE execution = ? AND seq = ?",
        [(execution, seq) for seq in seqs],
    )


def reopen_failed(conn: sqlite3.Connection, execution: int) -> None:
    """Let the calls that made the execution fail run again; their attempts stay."""
    conn.execute(
        "UPDATE calls SET status = 'pending', failure = NULL, ended_order = NULL "
        "WHERE execution = ? AND status IN ('failed', 'cancelled') AND settled = 0",
        (execution,),
    )


def cut_off(conn: sqlite3.Connection, execution: int) -> None:
    """The flow has ended: what it still had under way will not come to an end of its own."""
    conn.execute(
        "UPDATE calls SET status = 'cancelled', ended_at = max(?, coalesce(started_at, 0)) "
        "WHERE execution = ? AND status IN ('pending', 'running')",
        (clock.now_us(), execution),
    )
    conn.execute(
        "UPDATE waits SET status = 'withdrawn', resolved_at = max(?, created_at) "
        "WHERE execution = ? AND status = 'pending'",
        (clock.now_us(), execution),
    )


def copy_calls(
    conn: sqlite3.Connection, *, source: int, target: int, first: int, before: int
) -> None:
    """Give a replay the calls `first <= seq < before` of its original, with their artifacts."""
    exec_id = conn.execute("SELECT exec_id FROM executions WHERE id = ?", (source,)).fetchone()[0]
    conn.execute(
        f"INSERT OR REPLACE INTO calls (execution, {_COPIED}, original_call_id) "  # noqa: S608
        f"SELECT ?, {_COPIED}, ? || '/' || call_id FROM calls "
        "WHERE execution = ? AND seq >= ? AND seq < ? AND (status IN ('completed', 'failed') "
        "OR status = 'cancelled' AND ended_order IS NOT NULL)",
        (target, exec_id, source, first, before),
    )
    # Not what an attempt has saved whose call came to no outcome: that call is made anew.
    copied = "IN (SELECT seq FROM calls WHERE execution = ? AND seq >= ? AND seq < ?)"
    conn.execute(
        "INSERT OR REPLACE INTO artifacts (execution, seq, position, name, kind, tags, created_at, "  # noqa: S608
        "size, digest, data) SELECT ?, seq, position, name, kind, tags, created_at, size, digest, "
        f"data FROM artifacts WHERE execution = ? AND seq {copied}",
        (target, source, target, first, before),
    )
    for prefix in ("call", "artifact"):
        # The chunk's owner is `prefix:execution:seq[:position]`; `;` is the character after `:`.
        head, end = f"{prefix}:{source}:", f"{prefix}:{source};"
        tail = len(head) + 1
        conn.execute(
            "INSERT OR REPLACE INTO chunks (owner, position, data) "  # noqa: S608
            "SELECT ? || substr(owner, ?), position, data FROM chunks WHERE owner > ? "
            f"AND owner < ? AND CAST(substr(owner, ?) AS INTEGER) {copied}",
            (f"{prefix}:{target}:", tail, head, end, tail, target, first, before),
        )


def set_order(conn: sqlite3.Connection, execution: int, seq: int, *, order: int) -> None:
    """Give an ended call another place among those that have ended."""
    conn.execute(
        "UPDATE calls SET ended_order = ? WHERE execution = ? AND seq = ?", (order, execution, seq)
    )


def load(conn: sqlite3.Connection, execution: int, *, exec_id: str) -> list[CallRecord]:
    """All calls of an execution, in the order they were made, without their results."""
    return from_rows(conn.execute(f"{SELECT}{_IN_ORDER}", (execution,)), exec_id)


def to_drive(conn: sqlite3.Connection, execution: int, *, exec_id: str) -> list[CallRecord]:
    """The same with what a drive needs of them: no types, ends, parents, metadata, cache keys."""
    return from_rows(conn.execute(f"{_SELECT_DRIVEN}{_IN_ORDER}", (execution,)), exec_id)


def since(
    conn: sqlite3.Connection, execution: int, *, exec_id: str, after: int, also: Iterable[int]
) -> list[CallRecord]:
    """The calls made behind a place, and those in some places, in the order they were made."""
    rows = conn.execute(
        f"{SELECT}WHERE execution = ? AND seq > ? UNION ALL {SELECT}WHERE execution = ? "  # noqa: S608
        "AND seq <= ? AND seq IN (SELECT value FROM json_each(?)) ORDER BY seq",
        (execution, after, execution, after, json.dumps([*also])),
    ).fetchall()
    return from_rows(rows, exec_id)


def result(conn: sqlite3.Connection, execution: int, seq: int, *, what: str) -> bytes:
    """The encoded result of a completed call."""
    rows = conn.execute(
        "SELECT result, result_size, result_digest FROM calls "
        "WHERE execution = ? AND seq = ? AND status = 'completed'",
        (execution, seq),
    ).fetchall()
    row = values.one_row(rows, what=what)
    return values.get(conn, owner(execution, seq), StoredValue(*row), what=what)


def results(
    conn: sqlite3.Connection, execution: int, *, first: int, count: int
) -> list[tuple[int, StoredValue]]:
    """The stored results of the completed calls from a place on, each with its place."""
    rows = conn.execute(
        "SELECT seq, result, result_size, result_digest FROM calls "
        "WHERE execution = ? AND seq >= ? AND status = 'completed' ORDER BY seq LIMIT ?",
        (execution, first, count),
    ).fetchall()
    return [(seq, StoredValue(*stored)) for seq, *stored in rows]


def child_of(conn: sqlite3.Connection, execution: int, seq: int) -> tuple[str, int]:
    """The child execution that a call has started, and when, in microseconds."""
    found = conn.execute(
        "SELECT child_exec_id, started_at FROM calls WHERE execution = ? AND seq = ?",
        (execution, seq),
    ).fetchall()
    child, started_at = values.one_row(found, what="The child's call")
    return str(child), int(started_at)


@dataclass(frozen=True, slots=True)
class Cached:
    """A completed call that may stand for another: its id, place, metadata and result."""

    call: str
    execution: int
    seq: int
    metadata: dict[str, Any]
    result: bytes


def cached(conn: sqlite3.Connection, key: bytes) -> Cached | None:
    """The latest completed call that ran under this cache key."""
    found = conn.execute(
        "SELECT exec_id, execution, seq, call_id, calls.metadata, calls.result, "
        "calls.result_size, calls.result_digest FROM calls JOIN executions ON id = execution "
        "WHERE cache_key = ? ORDER BY calls.ended_at DESC LIMIT 1",
        (key,),
    ).fetchone()
    if found is None:
        return None
    call = ids.qualified(found["exec_id"], found["call_id"])
    stored = StoredValue(found["result"], found["result_size"], found["result_digest"])
    place = owner(found["execution"], found["seq"])
    return Cached(
        call,
        found["execution"],
        found["seq"],
        values.load(found["metadata"], what=call) or {},
        values.get(conn, place, stored, what=f"Result of {call}"),
    )


@values.intact("A call")
def from_rows(rows: Iterable[sqlite3.Row], exec_id: str) -> list[CallRecord]:
    """Rows of `SELECT` as records."""
    return [_from_row(row, exec_id) for row in rows]


def _from_row(row: sqlite3.Row, exec_id: str) -> CallRecord:
    found: list[Any] = [*row]
    status = found[_STATUS]
    found[_STATUS] = _STATUSES.get(status) or CallStatus(status)
    found[_SETTLED] = found[_SETTLED] != 0
    for column, empty in _JSON:
        text = found[column]
        if text is None:
            found[column] = empty
        else:
            found[column] = values.load(text, what=f"Call {exec_id}/{row['call_id']}")
    if found[_PARENTS]:
        found[_PARENTS] = tuple(found[_PARENTS])
    if found[_ATTEMPTS]:
        found[_ATTEMPTS] = tuple(map(_attempt, found[_ATTEMPTS]))
    return CallRecord._make(found)


def _attempt(data: dict[str, Any]) -> AttemptRecord:
    return AttemptRecord(**{**data, "status": CallStatus(data["status"])})
