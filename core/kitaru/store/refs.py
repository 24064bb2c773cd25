"""How people name an execution: full id, unique prefix, `latest`, `latest:failed`, `latest:flow`.

Every way is answered by an index, and a full id always wins. What fits nothing, or several, is
refused with the ids that were probably meant, in few enough words for any reader.
"""

from __future__ import annotations

import difflib
import sqlite3

from kitaru import ids, redaction
from kitaru.errors import KitaruNotFoundError, KitaruStateError, KitaruUsageError
from kitaru.models import ExecutionStatus
from kitaru.store import values

LATEST = "latest"
#: How many executions a message names.
_NEAREST = 3
_CANDIDATES = 5
#: Among how many of the newest the nearest are looked for.
_RECENT = 500
#: What a message shows of a text that was given, and of a flow's name, in characters.
_REF_SHOWN = 60
_FLOW_SHOWN = 16


@values.intact("An execution")
def resolve(conn: sqlite3.Connection, ref: str) -> int:
    """The row of the execution that is meant.

    Raises:
        KitaruNotFoundError: there is none; names the nearest ids.
        KitaruStateError: the prefix fits several; names some.
        KitaruUsageError: it is not text that can be an id.
    """
    if not isinstance(ref, str) or not redaction.is_storable(ref):
        raise KitaruUsageError(f"{ref!r:.60} is no execution's id; give its text.")
    ref = ref.strip()
    word, _, which = ref.partition(":")
    if word == LATEST:
        return _latest(conn, which.strip(), ref=ref)
    full = ref if ref.startswith(ids.EXECUTION_PREFIX) else ids.EXECUTION_PREFIX + ref
    rows = conn.execute(
        "SELECT id, exec_id, status, flow_name FROM executions "
        "WHERE exec_id >= ? AND exec_id < ? || '~' ORDER BY exec_id LIMIT ?",
        (full, full, _CANDIDATES + 1),
    ).fetchall()
    if not ref or not rows:
        raise KitaruNotFoundError(f"No execution {_shown(ref)}. {_nearest(conn, full)}")
    if len(rows) > 1 and rows[0]["exec_id"] != full:
        raise KitaruStateError(
            f"{_shown(ref)} fits several executions: {_candidates(rows)}. Give more characters."
        )
    return int(rows[0]["id"])


def of_flow(flow: str) -> tuple[str, list[str]]:
    """A condition on executions, in SQL, for a flow's name or id."""
    if not flow.startswith(ids.FLOW_PREFIX):
        return "flow_name = ?", [flow]
    # An id has one name, and the indexes are by name.
    name = "SELECT flow_name FROM execution_rollup WHERE flow_id = ? LIMIT 1"
    return f"flow_id = ? AND flow_name = ({name})", [flow, flow]


def beginning_with(
    conn: sqlite3.Connection, typed: str, *, limit: int
) -> list[tuple[str, str, str]]:
    """Executions (id, status, flow) whose id begins like this; of all of them the newest."""
    select = "SELECT exec_id, status, flow_name FROM executions "
    if ids.EXECUTION_PREFIX.startswith(typed):
        rows = conn.execute(f"{select}ORDER BY created_at DESC LIMIT ?", (limit,))
    else:
        full = typed if typed.startswith(ids.EXECUTION_PREFIX) else ids.EXECUTION_PREFIX + typed
        rows = conn.execute(
            f"{select}WHERE exec_id >= ? AND exec_id < ? || '~' ORDER BY exec_id LIMIT ?",
            (full, full, limit),
        )
    return [tuple(row) for row in rows.fetchall()]


def calls_beginning_with(
    conn: sqlite3.Connection, execution: int, typed: str, *, limit: int
) -> list[tuple[str, str]]:
    """Checkpoint calls (id, status) of an execution whose id begins like this, in their order."""
    rows = conn.execute(
        "SELECT call_id, status FROM calls WHERE execution = ? AND kind = 'checkpoint' "
        "AND substr(call_id, 1, length(?)) = ? ORDER BY seq LIMIT ?",
        (execution, typed, typed, limit),
    )
    return [tuple(row) for row in rows.fetchall()]


def _latest(conn: sqlite3.Connection, which: str, *, ref: str) -> int:
    """The newest execution, of all or with this status or flow; a status's word is no flow."""
    condition, parameters = of_flow(which)
    is_status = which.lower() in list(ExecutionStatus)
    if is_status:
        condition, parameters = "status = ?", [which.lower()]
    elif ref == LATEST:
        condition, parameters = "true", []
    row = conn.execute(
        f"SELECT id FROM executions WHERE {condition} "  # noqa: S608
        "ORDER BY created_at DESC, id DESC LIMIT 1",
        parameters,
    ).fetchone()
    if row is None and is_status:
        raise KitaruNotFoundError(f"No execution is {which} now. {_nearest(conn, '')}")
    if row is None:
        raise KitaruNotFoundError(
            f"No execution is {_shown(ref)}. Write latest, latest:<status> "
            f"({', '.join(ExecutionStatus)}) or latest:<flow>. {_newest(conn)}"
        )
    return int(row[0])


def _candidates(rows: list[sqlite3.Row]) -> str:
    told = [
        f"{row['exec_id']} ({row['status']} {row['flow_name']:.{_FLOW_SHOWN}})"
        for row in rows[:_CANDIDATES]
    ]
    return ", ".join([*told, "…"] if len(rows) > _CANDIDATES else told)


def _nearest(conn: sqlite3.Connection, wanted: str) -> str:
    recent = _recent(conn, _RECENT)
    # What is longer than any id is like none, and would take long to compare.
    near = difflib.get_close_matches(wanted[:_REF_SHOWN], recent, n=_NEAREST, cutoff=0.6)
    return f"Nearest: {', '.join(near)}." if near else _newest(conn)


def _newest(conn: sqlite3.Connection) -> str:
    recent = _recent(conn, _NEAREST)
    if not recent:
        return "The store has no executions yet."
    return f"Newest: {', '.join(recent)}. `kitaru executions list` shows more."


def _recent(conn: sqlite3.Connection, count: int) -> list[str]:
    rows = conn.execute(
        "SELECT exec_id FROM executions ORDER BY created_at DESC LIMIT ?", (count,)
    ).fetchall()
    return [row[0] for row in rows]


def _shown(ref: str) -> str:
    text = repr(ref)
    return text if len(text) <= _REF_SHOWN else f"{text[:_REF_SHOWN]}…'"
