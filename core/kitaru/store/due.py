"""Which executions could go on now although nobody drives them, and when the next one could.

Each question is one query on indexes, so that it can be asked whenever the store has changed. It
only finds; whether an execution may be taken is decided in the transaction that takes it.
"""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass

from kitaru import clock
from kitaru.store import leases, values


@dataclass(frozen=True, slots=True)
class Due:
    """An execution that could go on: its driver died while it ran, or `why` says what has come."""

    id: int
    exec_id: str
    flow_name: str
    why: str
    is_stalled: bool


_HOLDER = "runner, host, pid, mark, expires_at"
_WAITING = "SELECT id FROM executions WHERE status = 'waiting'"
#: What can let a waiting execution go on. CROSS keeps the order of the tables, `+` the index.
_READY = """
SELECT waits.execution AS id, 'its question is answered' AS why, 1 AS is_awaited
FROM waits JOIN calls USING (execution, seq)
WHERE waits.status <> 'pending' AND calls.status = 'running' AND waits.execution IN ({which})
UNION ALL
SELECT execution, 'it has slept', 1 FROM calls
WHERE due_at <= :now AND status = 'running' AND +execution IN ({which})
UNION ALL
SELECT id, 'its time is up', 1 FROM executions WHERE deadline_at <= :now AND id IN ({which})
UNION ALL
SELECT parent.id, 'its child ' || child.exec_id || ' has ended', calls.awaited
FROM executions AS parent
CROSS JOIN executions AS child ON child.parent_exec_id = parent.exec_id
CROSS JOIN calls ON calls.child_exec_id = child.exec_id AND +calls.execution = parent.id
WHERE parent.id IN ({which}) AND child.status IN ('completed', 'failed', 'cancelled')
AND calls.status = 'running'
"""


def is_due(conn: sqlite3.Connection, execution: int) -> bool:
    """Whether something that a waiting execution has waited for has come."""
    sql = _READY.format(which="SELECT :execution")
    parameters = {"execution": execution, "now": clock.now_us()}
    return any(row["is_awaited"] for row in conn.execute(sql, parameters).fetchall())


@values.intact("An execution")
def undriven(conn: sqlite3.Connection) -> list[Due]:
    """The executions that could go on, oldest first: what they wait for came, or a driver died."""
    ready = conn.execute(
        f"SELECT id, exec_id, flow_name, status, why, max(is_awaited) AS is_awaited, {_HOLDER} "  # noqa: S608
        f"FROM ({_READY.format(which=_WAITING)}) JOIN executions USING (id) "
        "LEFT JOIN leases ON leases.execution = id GROUP BY id",
        {"now": clock.now_us()},
    ).fetchall()
    running = conn.execute(
        f"SELECT id, exec_id, flow_name, status, 'its driver is gone' AS why, 1 AS is_awaited, "  # noqa: S608
        f"{_HOLDER} FROM executions LEFT JOIN leases ON execution = id WHERE status = 'running'"
    ).fetchall()
    found = []
    for row in (*ready, *running):
        holder = leases.holder(row)
        # A driver that died has not said what it waited for.
        if holder == "dead" or (holder == "nobody" and row["is_awaited"]):
            is_stalled = row["status"] == "running"
            found.append(Due(row["id"], row["exec_id"], row["flow_name"], row["why"], is_stalled))
    return sorted(found, key=lambda each: each.id)


def driven(conn: sqlite3.Connection) -> list[str]:
    """The executions that somebody drives now."""
    rows = conn.execute(
        f"SELECT exec_id, {_HOLDER} FROM leases JOIN executions ON id = execution "  # noqa: S608
        "WHERE runner NOT NULL ORDER BY id"
    ).fetchall()
    return [row["exec_id"] for row in rows if leases.holder(row) == "alive"]


def next_at(conn: sqlite3.Connection) -> int | None:
    """When the next sleep or the time of a waiting execution ends, in microseconds."""
    row = conn.execute(
        "SELECT min(at) FROM (SELECT * FROM (SELECT due_at AS at FROM calls "
        "JOIN executions ON id = execution WHERE due_at > :now AND calls.status = 'running' "
        "AND executions.status = 'waiting' ORDER BY due_at LIMIT 1) "
        "UNION ALL SELECT min(deadline_at) FROM executions "
        "WHERE status = 'waiting' AND deadline_at > :now)",
        {"now": clock.now_us()},
    ).fetchone()
    return None if row[0] is None else int(row[0])
