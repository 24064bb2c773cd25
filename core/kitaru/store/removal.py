"""Executions that go: which may, what needs them still, and the end of all their rows.

`delete` is the only statement list that removes executions; it leaves no row of theirs in any
table. Ids that others keep of them (a child's parent, a replay's original, where a cached result
came from) are history and stay. Only finished executions are ever removed.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

from kitaru.errors import KitaruStateError
from kitaru.models import ExecutionStatus
from kitaru.store import listing, logs, metadata, settings
from kitaru.store.executions import Row
from kitaru.store.listing import Filter

_FINISHED = tuple(status.value for status in ExecutionStatus if status.is_finished)
#: A replay in one of these may read its original's record; a failed one does when it is retried.
_READING = ("pending", "running", "waiting", "failed")
_IN = "IN (SELECT value FROM json_each(?))"
#: Tables whose rows are an execution's, by their column `execution`.
_OWNED = ("leases", "waits", "artifacts", "calls", "logs", "idempotency_keys")
#: Tags are found by their own key: they have no index by execution.
_TAGS = (
    "DELETE FROM execution_tags WHERE (tag, created_at, execution) IN ("  # noqa: S608
    "SELECT json_each.value, executions.created_at, executions.id "
    f"FROM executions, json_each(executions.tags) WHERE executions.id {_IN})"
)
_BYTES = (
    "SELECT sum(inputs_size + coalesce(result_size, 0) "  # noqa: S608
    "+ coalesce((SELECT sum(result_size) FROM calls WHERE execution = executions.id), 0) "
    "+ coalesce((SELECT sum(size) FROM artifacts WHERE execution = executions.id), 0) "
    "+ coalesce((SELECT sum(length(CAST(message AS BLOB))) FROM logs "
    f"WHERE execution = executions.id), 0)) FROM executions WHERE id {_IN}"
)


@dataclass(frozen=True, slots=True)
class Removal:
    """What one transaction has removed, and why it has left the rest."""

    exec_ids: tuple[str, ...]
    bytes: int
    kept: dict[str, str]


@dataclass(frozen=True, slots=True)
class Replays:
    """Rows of the replays that may still read their originals, of those up to row `upto`.

    `last` is the execution in that row. While it is there, whatever starts has a larger one; a row
    that nobody is behind is given again once it is empty.
    """

    rows: tuple[int, ...]
    upto: int
    last: str


def refuse_unfinished(row: Row) -> None:
    """Go on only with an execution that has ended.

    Raises:
        KitaruStateError: it has not.
    """
    if not row.status.is_finished:
        raise KitaruStateError(
            f"Cannot delete execution {row.exec_id}: it is {row.status}. Only completed, failed "
            f"and cancelled ones can be deleted: first `kitaru executions cancel {row.exec_id}`."
        )


def choose(conn: sqlite3.Connection, where: Filter, *, keep_failed: bool) -> list[int]:
    """The finished executions that fit, newest first: a replay comes before its original."""
    condition, parameters = _conditions(where, keep_failed=keep_failed)
    rows = conn.execute(
        f"SELECT id FROM executions WHERE {condition} ORDER BY id DESC",  # noqa: S608
        parameters,
    )
    return [row[0] for row in rows.fetchall()]


def replays(conn: sqlite3.Connection) -> Replays:
    """The replays there are; goes through many rows, so it is asked once, and not in a write."""
    marks = ", ".join("?" * len(_READING))
    rows = conn.execute(
        f"SELECT id FROM executions WHERE status IN ({marks}) AND plan NOT NULL",  # noqa: S608
        _READING,
    )
    return _up_to(conn, tuple(row[0] for row in rows.fetchall()), 2**63 - 1)


def _up_to(conn: sqlite3.Connection, rows: tuple[int, ...], most: int) -> Replays:
    last = "SELECT id, exec_id FROM executions WHERE id <= ? ORDER BY id DESC LIMIT 1"
    upto, exec_id = conn.execute(last, (most,)).fetchone() or (0, "")
    return Replays(rows, upto, exec_id)


def _still_known(conn: sqlite3.Connection, known: Replays) -> Replays:
    """The same while it holds; asked anew where somebody else has removed the last of them."""
    if _up_to(conn, known.rows, known.upto) == known:
        return known
    return replays(conn)


def remove(
    conn: sqlite3.Connection,
    chosen: Collection[int],
    where: Filter,
    *,
    keep_failed: bool,
    known: Replays,
) -> tuple[Removal, Replays]:
    """Delete those of the chosen ones that still fit and that nothing needs.

    Returns what was removed, and the replays as they are known from then on.
    """
    known = _still_known(conn, known)
    found = measure(conn, chosen, where, keep_failed=keep_failed, known=known)
    delete(conn, _rows_of(conn, found.exec_ids))
    return found, _up_to(conn, known.rows, known.upto)


def measure(
    conn: sqlite3.Connection,
    chosen: Collection[int],
    where: Filter,
    *,
    keep_failed: bool,
    known: Replays,
) -> Removal:
    """What `remove` would do."""
    condition, parameters = _conditions(where, keep_failed=keep_failed)
    rows = conn.execute(
        f"SELECT id, exec_id FROM executions WHERE id {_IN} AND {condition}",  # noqa: S608
        (json.dumps([*chosen]), *parameters),
    ).fetchall()
    going = {row["id"]: row["exec_id"] for row in rows}
    kept = needed(conn, going, known=known)
    going = {id_: exec_id for id_, exec_id in going.items() if exec_id not in kept}
    return Removal(tuple(going.values()), size(conn, going), kept)


def needed(conn: sqlite3.Connection, going: Mapping[int, str], *, known: Replays) -> dict[str, str]:
    """Which of these have to stay if only these go, each with the reason."""
    known, kept = _still_known(conn, known), _unsent(conn, going)
    going = {id_: exec_id for id_, exec_id in going.items() if exec_id not in kept}
    while found := _needed_by_others(conn, going, known):
        kept |= found
        going = {id_: exec_id for id_, exec_id in going.items() if exec_id not in found}
    return kept


def _unsent(conn: sqlite3.Connection, going: Mapping[int, str]) -> dict[str, str]:
    """Those with log lines that a log store is to get and has not got yet."""
    if settings.get(conn, logs.LOG_STORE) is None:
        return {}
    sent = int(settings.get(conn, logs.COPIED) or 0)
    rows = conn.execute(
        f"SELECT DISTINCT execution FROM logs WHERE execution {_IN} AND id > ?",  # noqa: S608
        (json.dumps([*going]), sent),
    ).fetchall()
    reason = "its log lines are not in the log store yet: `kitaru log-store push`"
    return {going[row[0]]: reason for row in rows}


def _needed_by_others(
    conn: sqlite3.Connection, going: Mapping[int, str], known: Replays
) -> dict[str, str]:
    ids = {*going.values()}
    rows = conn.execute(
        "SELECT id, exec_id, status, original_exec_id FROM executions "  # noqa: S608
        f"WHERE (id {_IN} OR id > ?) AND plan NOT NULL",
        (json.dumps(known.rows), known.upto),
    ).fetchall()
    found = {
        row["original_exec_id"]: f"its replay {row['exec_id']} is {row['status']} and may read it"
        for row in rows
        if row["original_exec_id"] in ids and row["status"] in _READING and row["id"] not in going
    }
    parents = conn.execute(
        "SELECT child.exec_id AS needed, parent.exec_id, parent.status FROM executions AS child "  # noqa: S608
        "JOIN executions AS parent ON parent.exec_id = child.parent_exec_id "
        f"WHERE child.id {_IN}",
        (json.dumps([*going]),),
    ).fetchall()
    return found | {
        row["needed"]: f"its parent {row['exec_id']} is {row['status']} and may still ask for it"
        for row in parents
        if row["status"] not in _FINISHED
    }


def size(conn: sqlite3.Connection, going: Collection[int]) -> int:
    """The bytes of values and log lines of executions."""
    return int(conn.execute(_BYTES, (json.dumps([*going]),)).fetchone()[0] or 0)


def children(conn: sqlite3.Connection, exec_ids: Collection[str]) -> list[str]:
    """The executions that these have started and that are none of them."""
    rows = conn.execute(
        f"SELECT exec_id FROM executions WHERE parent_exec_id {_IN} ORDER BY id",  # noqa: S608
        (json.dumps([*exec_ids]),),
    )
    return [row[0] for row in rows.fetchall() if row[0] not in exec_ids]


def delete(conn: sqlite3.Connection, going: Collection[int]) -> None:
    """Remove executions with all that is theirs; the caller has checked that they may go."""
    which = (json.dumps([*going]),)
    for id_ in going:
        _drop_values(conn, id_)
        metadata.drop(conn, id_)
    conn.execute(_TAGS, which)
    for table in _OWNED:
        conn.execute(f"DELETE FROM {table} WHERE execution {_IN}", which)  # noqa: S608
    conn.execute(f"DELETE FROM executions WHERE id {_IN}", which)  # noqa: S608


def _drop_values(conn: sqlite3.Connection, execution: int) -> None:
    owners = [f"inputs:{execution}", f"result:{execution}"]
    conn.execute(f"DELETE FROM chunks WHERE owner {_IN}", (json.dumps(owners),))  # noqa: S608
    for prefix in ("call", "artifact"):
        # `;` is the character after `:`.
        ends = (f"{prefix}:{execution}:", f"{prefix}:{execution};")
        conn.execute("DELETE FROM chunks WHERE owner > ? AND owner < ?", ends)


def _rows_of(conn: sqlite3.Connection, exec_ids: Collection[str]) -> list[int]:
    rows = conn.execute(
        f"SELECT id FROM executions WHERE exec_id {_IN}",  # noqa: S608
        (json.dumps([*exec_ids]),),
    )
    return [row[0] for row in rows.fetchall()]


def _conditions(where: Filter, *, keep_failed: bool) -> tuple[str, list[Any]]:
    statuses = [each for each in _FINISHED if not (keep_failed and each == "failed")]
    sql, parameters = listing.conditions(where, "ended_at")
    sql.append(f"status IN ({', '.join('?' * len(statuses))})")
    return " AND ".join(sql), [*parameters, *statuses]
