"""Executions: their rows, their status, and how they are found."""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from kitaru import clock, codec, config
from kitaru.errors import KitaruNotFoundError
from kitaru.models import Actions, Execution, ExecutionStatus, move
from kitaru.store import journal, leases, refs, shown, usage, values, waits
from kitaru.store import metadata as rows
from kitaru.store.values import StoredValue
from kitaru.usage_summary import SUMMARY_KEY, is_whole


@dataclass(frozen=True, slots=True)
class NewExecution:
    """What is fixed when an execution starts; `plan` is a replay's."""

    exec_id: str
    flow_id: str
    flow_name: str
    inputs: bytes
    spec: dict[str, Any]
    stack_name: str = config.DEFAULT_STACK
    tags: tuple[str, ...] = ()
    original_exec_id: str | None = None
    parent_exec_id: str | None = None
    plan: dict[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class Row:
    """An execution's row number, id and status: what a transaction needs to act on it."""

    id: int
    exec_id: str
    status: ExecutionStatus
    holder: leases.Holder = field(default="nobody")


SUMMARY = (
    "SELECT id, executions.exec_id, flow_id, flow_name, status, status_reason, "
    "executions.created_at, started_at, ended_at, stack_name, original_exec_id, parent_exec_id, "
    "tags, metadata, failure, spec, runner, host, pid, mark, expires_at, "
    "(SELECT count(*) FROM artifacts WHERE execution = id) AS saved "
    "FROM executions LEFT JOIN leases ON leases.execution = executions.id "
)
_AT = (
    "SELECT id, exec_id, status, runner, host, pid, mark, expires_at "
    "FROM executions LEFT JOIN leases ON execution = id WHERE id = ?"
)
#: Calls by themselves: a subquery gives one number only, and would go through them twice.
_COUNTS = (
    "SELECT count(*), count(result_size) FROM calls WHERE execution = ? AND kind = 'checkpoint'"
)


def create(conn: sqlite3.Connection, new: NewExecution, *, starts: bool = False) -> int:
    """Add an execution, pending or already started; return its row number."""
    now, inputs = clock.now_us(), new.inputs
    is_inline = len(inputs) <= config.INLINE_BYTES
    cursor = conn.execute(
        "INSERT INTO executions (exec_id, flow_id, flow_name, status, created_at, started_at, "
        "stack_name, original_exec_id, parent_exec_id, tags, metadata, spec, plan, inputs, "
        "inputs_size, inputs_digest) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, '{}', ?, ?, ?, ?, ?)",
        (
            new.exec_id,
            new.flow_id,
            new.flow_name,
            (ExecutionStatus.RUNNING if starts else ExecutionStatus.PENDING).value,
            now,
            now if starts else None,
            new.stack_name,
            new.original_exec_id,
            new.parent_exec_id,
            values.dump(new.tags),
            values.dump(new.spec),
            values.dump(new.plan),
            inputs if is_inline else None,
            len(inputs),
            codec.digest(inputs),
        ),
    )
    execution = cursor.lastrowid
    assert execution is not None
    if not is_inline:
        values.put(conn, f"inputs:{execution}", inputs)
    if new.tags:
        conn.executemany(
            "INSERT INTO execution_tags (tag, created_at, execution) VALUES (?, ?, ?)",
            [(tag, now, execution) for tag in new.tags],
        )
    return execution


def find(conn: sqlite3.Connection, ref: str) -> Row:
    """The execution that is meant, as it stands in this transaction.

    Args:
        conn: the transaction.
        ref: full id, unique prefix, `latest`, `latest:<status>` or `latest:<flow>`.

    Raises:
        KitaruNotFoundError: there is none; names the nearest ids.
        KitaruStateError: the prefix fits several; names some.
        KitaruUsageError: it is not text that can be an id.
    """
    return at(conn, refs.resolve(conn, ref))


@values.intact("An execution")
def at(conn: sqlite3.Connection, execution: int) -> Row:
    """The execution in this row, as it stands in this transaction."""
    row = conn.execute(_AT, (execution,)).fetchone()
    if row is None:
        raise KitaruNotFoundError("The execution was deleted meanwhile. Look at what there is now.")
    return Row(row["id"], row["exec_id"], ExecutionStatus(row["status"]), leases.holder(row))


def exists(conn: sqlite3.Connection, exec_id: str) -> bool:
    """Whether there is an execution with this full id."""
    sql = "SELECT 1 FROM executions WHERE exec_id = ?"
    return conn.execute(sql, (exec_id,)).fetchone() is not None


def get(conn: sqlite3.Connection, execution: int) -> Execution:
    """One execution without its calls and artifacts."""
    row = conn.execute(f"{SUMMARY}WHERE id = ?", (execution,)).fetchone()
    return model(conn, row, detail=True)


def summary(
    conn: sqlite3.Connection, execution: int, *, client: Actions | None = None
) -> Execution:
    """One execution as a row of a listing, bound to a client."""
    row = conn.execute(f"{SUMMARY}WHERE id = ?", (execution,)).fetchone()
    return model(conn, row, detail=False, client=client)


@values.intact("An execution")
def model(
    conn: sqlite3.Connection, row: sqlite3.Row, *, detail: bool, client: Actions | None = None
) -> Execution:
    """What a row of `SUMMARY` says; with `detail` also inputs and result."""
    exec_id, what = row["exec_id"], f"Execution {row['exec_id']}"
    status = ExecutionStatus(row["status"])
    asked = []
    if status is ExecutionStatus.WAITING:
        asked = waits.pending(conn, row["id"], exec_id=exec_id)
    metadata = values.load(row["metadata"], what=what)
    calls, results = conn.execute(_COUNTS, (row["id"],)).fetchone()
    inputs: dict[str, Any] = {}
    result = None
    if detail:
        inputs = codec.plain(read_inputs(conn, row["id"], exec_id=exec_id))
        if (data := read_result(conn, row["id"], exec_id=exec_id)) is not None:
            result = codec.plain(data)
    return Execution(
        exec_id=exec_id,
        flow_id=row["flow_id"],
        flow_name=row["flow_name"],
        status=status,
        status_reason=row["status_reason"],
        created_at=clock.from_us(row["created_at"]),
        started_at=_time(row["started_at"]),
        ended_at=_time(row["ended_at"]),
        stack_name=row["stack_name"],
        tags=tuple(values.load(row["tags"], what=what)),
        metadata=metadata,
        inputs=inputs,
        result=result,
        failure=shown.failure_info(values.load(row["failure"], what=what)),
        pending_wait=asked[0] if asked else None,
        pending_waits=tuple(asked),
        frozen_execution_spec=values.load(row["spec"], what=what),
        original_exec_id=row["original_exec_id"],
        parent_exec_id=row["parent_exec_id"],
        stalled=status is ExecutionStatus.RUNNING and leases.holder(row) != "alive",
        checkpoint_count=calls,
        artifact_count=row["saved"] + results,
        llm_usage_summary=_used(conn, row["id"], status=status, metadata=metadata),
        _client=client,
    )


def _used(
    conn: sqlite3.Connection, execution: int, *, status: ExecutionStatus, metadata: dict[str, Any]
) -> dict[str, Any] | None:
    """What an execution has used of models: by now, or as it was when it ended."""
    if status.is_finished and SUMMARY_KEY not in metadata:
        return None
    found = metadata.get(SUMMARY_KEY)
    # One that is damaged is made again: what it was made from is still there.
    return found if status.is_finished and is_whole(found) else usage.summary(conn, execution)


def read_inputs(conn: sqlite3.Connection, execution: int, *, exec_id: str) -> bytes:
    """The encoded inputs of an execution."""
    row = conn.execute(
        "SELECT inputs, inputs_size, inputs_digest FROM executions WHERE id = ?", (execution,)
    ).fetchone()
    return values.get(conn, f"inputs:{execution}", StoredValue(*row), what=f"Inputs of {exec_id}")


def read_result(conn: sqlite3.Connection, execution: int, *, exec_id: str) -> bytes | None:
    """The encoded result of a completed execution."""
    row = conn.execute(
        "SELECT result, result_size, result_digest FROM executions WHERE id = ?", (execution,)
    ).fetchone()
    if row is None or row["result_size"] is None:
        return None
    return values.get(conn, f"result:{execution}", StoredValue(*row), what=f"Result of {exec_id}")


def drive_data(conn: sqlite3.Connection, execution: int) -> dict[str, Any]:
    """What a driver needs to know: spec, metadata, plan, deadline and names."""
    row = conn.execute(
        "SELECT exec_id, flow_name, spec, metadata, plan, original_exec_id, deadline_at "
        "FROM executions WHERE id = ?",
        (execution,),
    ).fetchone()
    what = f"Execution {row['exec_id']}"
    return {
        **dict(row),
        **{key: values.load(row[key], what=what) for key in ("spec", "metadata", "plan")},
    }


def advance(
    conn: sqlite3.Connection, row: Row, action: str, *, reason: str | None = None
) -> ExecutionStatus:
    """Make one legal move and note why; the only statement that changes a status."""
    status = move(action, exec_id=row.exec_id, status=row.status)
    now = clock.now_us()
    conn.execute(
        "UPDATE executions SET status = ?, status_reason = ?, "
        "started_at = coalesce(started_at, max(?, created_at)), "
        "ended_at = max(?, coalesce(started_at, created_at)) WHERE id = ?",
        (
            status.value,
            reason,
            now if status is ExecutionStatus.RUNNING else None,
            now if status.is_finished else None,
            row.id,
        ),
    )
    if status.is_finished:
        usage.settle(conn, row.id)
    return status


def settle_again(conn: sqlite3.Connection, execution: int) -> None:
    """What models have used became known late: sum it up anew where the execution has ended."""
    if at(conn, execution).status.is_finished:
        usage.settle(conn, execution)


def stop(conn: sqlite3.Connection, row: Row, *, action: str = "cancel", reason: str) -> None:
    """Cancel an execution and its children: those that are driven at their next durable call."""
    _stop(conn, row, action=action, reason=reason)
    stop_children(conn, row.exec_id)


def stop_children(conn: sqlite3.Connection, exec_id: str) -> None:
    """Cancel all executions below this one."""
    rows = conn.execute(
        "WITH RECURSIVE below (id, exec_id, status) AS ("
        "SELECT id, exec_id, status FROM executions WHERE parent_exec_id = ? "
        "UNION SELECT child.id, child.exec_id, child.status FROM below "
        "JOIN executions AS child ON child.parent_exec_id = below.exec_id) "
        "SELECT id FROM below WHERE status IN ('pending', 'running', 'waiting') ORDER BY id",
        (exec_id,),
    ).fetchall()
    for row in rows:
        reason = f"Cancelled with execution {exec_id}, which started it."
        _stop(conn, at(conn, row[0]), action="cancel", reason=reason)


def _stop(conn: sqlite3.Connection, row: Row, *, action: str, reason: str) -> None:
    if action == "cancel" and row.status is ExecutionStatus.RUNNING and row.holder == "alive":
        leases.request_cancel(conn, row.id)
        return
    waits.abort_all(conn, row.id)
    journal.cut_off(conn, row.id)
    advance(conn, row, action, reason=reason)
    leases.revoke(conn, row.id)


def note(conn: sqlite3.Connection, row: Row, reason: str) -> None:
    """Say why the status is what it is, without a move."""
    conn.execute("UPDATE executions SET status_reason = ? WHERE id = ?", (reason, row.id))


def set_outcome(
    conn: sqlite3.Connection,
    execution: int,
    *,
    result: bytes | None = None,
    failure: dict[str, Any] | None = None,
) -> None:
    """Store how an execution ended, or forget it before a retry."""
    stored: tuple[Any, ...] = (None, None, None)
    if result is not None:
        stored = values.put(conn, f"result:{execution}", result)
    conn.execute(
        "UPDATE executions SET failure = ?, result = ?, result_size = ?, result_digest = ? "
        "WHERE id = ?",
        (values.dump(failure), *stored, execution),
    )


def set_deadline(conn: sqlite3.Connection, execution: int, at: int | None) -> None:
    """When the execution is to have ended, in microseconds."""
    conn.execute("UPDATE executions SET deadline_at = ? WHERE id = ?", (at, execution))


def set_metadata(conn: sqlite3.Connection, execution: int, metadata: dict[str, Any]) -> None:
    """Replace the execution's metadata; only its driver does."""
    rows.replace(conn, execution, before=rows.load(conn, execution), after=metadata)


def _time(value: int | None) -> datetime | None:
    return None if value is None else clock.from_us(value)
