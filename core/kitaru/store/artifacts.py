"""Artifacts: what checkpoints saved by name, and the results of calls, under one kind of id.

The result of call `research` of `kr-1` is artifact `kr-1/research`; what that call saved as
`notes` is `kr-1/research/notes` (`…/notes#2` when it saved the name twice).
"""

from __future__ import annotations

import sqlite3
from collections import Counter
from dataclasses import dataclass
from typing import Any

from kitaru import clock, ids
from kitaru.errors import KitaruNotFoundError, KitaruStateError
from kitaru.models import ArtifactRef, Page
from kitaru.store import journal, values
from kitaru.store.executions import Row
from kitaru.store.values import StoredValue

#: What a call's result is, by the type its checkpoint declares; other types are kinds themselves.
RESULT_KINDS = {"llm_call": "response", "tool_call": "output"}


@dataclass(frozen=True, slots=True)
class NewArtifact:
    """A value a checkpoint saves; `data` is its encoding."""

    name: str
    kind: str
    tags: tuple[str, ...]
    created_at: int
    data: bytes


@dataclass(frozen=True, slots=True)
class StoredArtifact:
    """An artifact and where its value lies: `position` is `None` for a call's result."""

    model: ArtifactRef
    seq: int
    position: int | None


def replace(conn: sqlite3.Connection, execution: int, seq: int, *, new: list[NewArtifact]) -> None:
    """Store what the latest attempt of a call saved, instead of what earlier ones did."""
    old = conn.execute(
        "SELECT position FROM artifacts WHERE execution = ? AND seq = ?", (execution, seq)
    ).fetchall()
    for row in old:
        values.drop(conn, _owner(execution, seq, row[0]))
    if old:
        conn.execute("DELETE FROM artifacts WHERE execution = ? AND seq = ?", (execution, seq))
    for position, artifact in enumerate(new):
        stored = values.put(conn, _owner(execution, seq, position), artifact.data)
        conn.execute(
            "INSERT INTO artifacts (execution, seq, position, name, kind, tags, created_at, size, "
            "digest, data) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (
                execution,
                seq,
                position,
                artifact.name,
                artifact.kind,
                values.dump(artifact.tags),
                artifact.created_at,
                stored.size,
                stored.digest,
                stored.data,
            ),
        )


def saved(conn: sqlite3.Connection, execution: int, seq: int) -> list[NewArtifact]:
    """What a call has saved, to be given to another one."""
    rows = conn.execute(
        "SELECT position, name, kind, tags, created_at, size, digest, data FROM artifacts "
        "WHERE execution = ? AND seq = ? ORDER BY position",
        (execution, seq),
    ).fetchall()
    new = []
    for row in rows:
        place = _owner(execution, seq, row["position"])
        stored = StoredValue(row["data"], row["size"], row["digest"])
        data = values.get(conn, place, stored, what=f"Artifact {row['name']}")
        tags = tuple(values.load(row["tags"], what=f"Artifact {row['name']}"))
        new.append(NewArtifact(row["name"], row["kind"], tags, row["created_at"], data))
    return new


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which artifacts are meant; `producing_call` is the name of calls, or one call's id."""

    kind: str | None = None
    name: str | None = None
    producing_call: str | None = None


_ANY = Wanted()

#: A call's result comes after all that the call has saved.
_RESULT = 10**17
_KINDS = " ".join(f"WHEN '{type_}' THEN '{kind}'" for type_, kind in RESULT_KINDS.items())
_RESULT_KIND = f"CASE type {_KINDS} ELSE type END"
#: Two halves, each in the order of its key, which SQLite merges without sorting.
_SELECT = (
    "SELECT seq, artifacts.position AS position, name, artifacts.kind AS kind, tags, created_at, "  # noqa: S608
    "size, call_id FROM artifacts CROSS JOIN calls USING (execution, seq) "
    "WHERE artifacts.execution = :execution{saved} "
    f"UNION ALL SELECT seq, {_RESULT}, call_id, {_RESULT_KIND}, NULL, ended_at, result_size, "
    "call_id FROM calls WHERE execution = :execution AND calls.kind = 'checkpoint' "
    "AND result_size IS NOT NULL{results} ORDER BY 1, 2 LIMIT :limit"
)
_SAVED = {"kind": "artifacts.kind", "name": "name", "position": "artifacts.position"}
_RESULTS = {"kind": _RESULT_KIND, "name": "call_id", "position": str(_RESULT)}


@values.intact("An artifact")
def listing(
    conn: sqlite3.Connection,
    execution: int,
    *,
    exec_id: str,
    wanted: Wanted = _ANY,
    limit: int | None = None,
    cursor: str | None = None,
) -> Page[StoredArtifact]:
    """The artifacts of an execution: per call what it saved, then its result."""
    sql = ""
    given: dict[str, Any] = {"execution": execution, "limit": -1 if limit is None else limit + 1}
    for column, value in (("kind", wanted.kind), ("name", wanted.name)):
        if value is not None:
            sql += f" AND {{{column}}} = :{column}"
            given[column] = value
    if wanted.producing_call is not None:
        sql += f" AND {journal.OF_CALLS.replace('?', ':call')}"
        given["call"] = wanted.producing_call
    if cursor is not None:
        sql += " AND seq >= :seq AND (seq, {position}) > (:seq, :position)"
        given["seq"], given["position"] = values.place(cursor, parts=2)
    rows = _rows(conn, sql, given)
    more = limit is not None and len(rows) > limit
    rows = rows[:limit]
    next_cursor = values.cursor(rows[-1]["seq"], rows[-1]["position"]) if more else None
    numbers = _numbers(conn, execution, rows)
    return Page([_stored(row, exec_id=exec_id, numbers=numbers) for row in rows], next_cursor)


def _rows(conn: sqlite3.Connection, sql: str, given: dict[str, Any]) -> list[sqlite3.Row]:
    select = _SELECT.format(saved=sql.format(**_SAVED), results=sql.format(**_RESULTS))
    return conn.execute(select, given).fetchall()


def _numbers(
    conn: sqlite3.Connection, execution: int, rows: list[sqlite3.Row]
) -> dict[tuple[int, int], int]:
    """Which of those with the same name that a call has saved each is; by seq and position."""
    saved = [row["seq"] for row in rows if row["position"] != _RESULT]
    if not saved:
        return {}
    counts: Counter[tuple[int, str]] = Counter()
    numbers = {}
    for seq, position, name in conn.execute(
        "SELECT seq, position, name FROM artifacts WHERE execution = ? AND seq BETWEEN ? AND ? "
        "ORDER BY seq, position",
        (execution, saved[0], saved[-1]),
    ).fetchall():
        counts[seq, name] += 1
        numbers[seq, position] = counts[seq, name]
    return numbers


@values.intact("An artifact")
def find(
    conn: sqlite3.Connection, execution: int, rest: str, *, exec_id: str
) -> StoredArtifact | None:
    """The artifact whose id goes on like this after the execution's; `None` if there is none."""
    call_id, is_saved, name = rest.partition("/")
    found = conn.execute(
        "SELECT seq FROM calls WHERE execution = ? AND call_id = ?", (execution, call_id)
    ).fetchone()
    if found is None:
        return None
    # A saved name may itself look like the second of two.
    names = (name, name.rpartition("#")[0]) if is_saved else (call_id, call_id)
    given = {"execution": execution, "limit": -1, "seq": found[0], "one": names[0], "two": names[1]}
    rows = _rows(conn, " AND seq = :seq AND {name} IN (:one, :two)", given)
    rows = [row for row in rows if (row["position"] != _RESULT) == bool(is_saved)]
    numbers = _numbers(conn, execution, rows)
    for row in rows:
        artifact = _stored(row, exec_id=exec_id, numbers=numbers)
        if artifact.model.artifact_id == f"{exec_id}/{rest}":
            return artifact
    return None


def _stored(
    row: sqlite3.Row, *, exec_id: str, numbers: dict[tuple[int, int], int]
) -> StoredArtifact:
    is_result = row["position"] == _RESULT
    id_ = ids.qualified(exec_id, row["call_id"])
    if not is_result:
        id_ += "/" + ids.call_id(row["name"], numbers[row["seq"], row["position"]])
    model = ArtifactRef(
        artifact_id=id_,
        name=row["name"],
        kind=row["kind"],
        save_type="step_output" if is_result else "manual",
        producing_call=row["call_id"],
        metadata=_metadata(row["size"], values.load(row["tags"], what=id_)),
        size=row["size"],
        created_at=clock.from_us(row["created_at"]),
    )
    return StoredArtifact(model, row["seq"], None if is_result else row["position"])


def _metadata(size: int, tags: Any) -> dict[str, Any]:
    return {"storage_size": size, **({"tags": list(tags)} if tags else {})}


def read(conn: sqlite3.Connection, execution: int, artifact: StoredArtifact) -> bytes:
    """The encoded value of an artifact."""
    what = f"Artifact {artifact.model.artifact_id}"
    if artifact.position is None:
        return journal.result(conn, execution, artifact.seq, what=what)
    rows = conn.execute(
        "SELECT data, size, digest FROM artifacts WHERE execution = ? AND seq = ? AND position = ?",
        (execution, artifact.seq, artifact.position),
    ).fetchall()
    stored = StoredValue(*values.one_row(rows, what=what))
    return values.get(conn, _owner(execution, artifact.seq, artifact.position), stored, what=what)


def read_named(conn: sqlite3.Connection, row: Row, name: str) -> bytes:
    """The encoded value with this name: a call's result, or what a checkpoint saved.

    Raises:
        KitaruNotFoundError: nothing has that name; lists what there is.
        KitaruStateError: several have; lists their ids.
    """
    have = listing(conn, row.id, exec_id=row.exec_id)
    found = [a for a in have if a.model.artifact_id == name] or [a for a in have if _fits(a, name)]
    if not found:
        names = ", ".join(dict.fromkeys(a.model.name for a in have)) or "nothing"
        raise KitaruNotFoundError(
            f"Execution {row.exec_id} has no artifact {name!r}. It has: {names:.300}."
        )
    if len(found) > 1:
        found_ids = ", ".join(a.model.artifact_id for a in found)
        raise KitaruStateError(
            f"{len(found)} artifacts of {row.exec_id} are named {name!r}; name one: {found_ids}."
        )
    return read(conn, row.id, found[0])


def _fits(artifact: StoredArtifact, name: str) -> bool:
    """Whether a name is the artifact's; a checkpoint's name is that of each of its calls."""
    of_call = artifact.position is None and ids.call_name(artifact.model.name) == name
    return of_call or artifact.model.name == name


def _owner(execution: int, seq: int, position: int) -> str:
    return f"artifact:{execution}:{seq}:{position}"
