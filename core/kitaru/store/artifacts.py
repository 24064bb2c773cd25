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
from kitaru.models import ArtifactRef
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


def copy(conn: sqlite3.Connection, source: tuple[int, int], target: tuple[int, int]) -> None:
    """Give a call (row of its execution, its number) what another call saved."""
    rows = conn.execute(
        "SELECT position, name, kind, tags, created_at, size, digest, data FROM artifacts "
        "WHERE execution = ? AND seq = ? ORDER BY position",
        source,
    ).fetchall()
    new = []
    for row in rows:
        place = _owner(*source, row["position"])
        stored = StoredValue(row["data"], row["size"], row["digest"])
        data = values.get(conn, place, stored, what=f"Artifact {row['name']}")
        tags = tuple(values.load(row["tags"], what=f"Artifact {row['name']}"))
        new.append(NewArtifact(row["name"], row["kind"], tags, row["created_at"], data))
    replace(conn, *target, new=new)


@values.intact("An artifact")
def listing(conn: sqlite3.Connection, execution: int, *, exec_id: str) -> list[StoredArtifact]:
    """All artifacts of an execution: per call what it saved, then its result."""
    calls = conn.execute(
        "SELECT seq, call_id, type, kind, ended_at, result_size FROM calls "
        "WHERE execution = ? ORDER BY seq",
        (execution,),
    ).fetchall()
    saved: dict[int, list[sqlite3.Row]] = {}
    for row in conn.execute(
        "SELECT seq, position, name, kind, tags, created_at, size FROM artifacts "
        "WHERE execution = ? ORDER BY seq, position",
        (execution,),
    ).fetchall():
        saved.setdefault(row["seq"], []).append(row)
    found = []
    for call in calls:
        found += _saved(saved.get(call["seq"], []), ids.qualified(exec_id, call["call_id"]), call)
        if call["result_size"] is not None and call["kind"] == "checkpoint":
            found.append(_result(call, ids.qualified(exec_id, call["call_id"])))
    return found


def _saved(rows: list[sqlite3.Row], owner_id: str, call: sqlite3.Row) -> list[StoredArtifact]:
    counts: Counter[str] = Counter()
    found = []
    for row in rows:
        counts[row["name"]] += 1
        suffix = ids.call_id(row["name"], counts[row["name"]])
        model = ArtifactRef(
            artifact_id=f"{owner_id}/{suffix}",
            name=row["name"],
            kind=row["kind"],
            save_type="manual",
            producing_call=call["call_id"],
            metadata=_metadata(row["size"], values.load(row["tags"], what=owner_id)),
            size=row["size"],
            created_at=clock.from_us(row["created_at"]),
        )
        found.append(StoredArtifact(model, row["seq"], row["position"]))
    return found


def _result(call: sqlite3.Row, owner_id: str) -> StoredArtifact:
    model = ArtifactRef(
        artifact_id=owner_id,
        name=call["call_id"],
        kind=RESULT_KINDS.get(call["type"], call["type"]),
        save_type="step_output",
        producing_call=call["call_id"],
        metadata=_metadata(call["result_size"], ()),
        size=call["result_size"],
        created_at=clock.from_us(call["ended_at"]),
    )
    return StoredArtifact(model, call["seq"], None)


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
