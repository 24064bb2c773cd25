"""Executions on their way out of one store and into another: their rows as JSON data.

Rows leave without numbers that only this store knows; values leave as the text of their records.
Redacted, they hold what may be shown and nothing else. What comes in is finished history: it keeps
its ids, is never driven on, and serves no cache. A row that could not be read is refused.
"""

from __future__ import annotations

import json
import re
import sqlite3
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple

from kitaru import clock, codec, config
from kitaru.errors import KitaruCorruptionError, KitaruRuntimeError, KitaruStateError
from kitaru.models import ExecutionStatus
from kitaru.redaction import is_secret, safe_text, shown_value
from kitaru.store import artifacts, executions, history, journal, logs, metadata, shown, values
from kitaru.store.values import StoredValue

Rows = list[tuple[str, dict[str, Any]]]


class _Value(NamedTuple):
    """The columns of a recorded value, and its owner's key; `size` is "" where none is kept."""

    data: str
    size: str
    digest: str
    owner: str


_VALUES: dict[str, tuple[_Value, ...]] = {
    "executions": (
        _Value("inputs", "inputs_size", "inputs_digest", "inputs:{id}"),
        _Value("result", "result_size", "result_digest", "result:{id}"),
    ),
    "calls": (_Value("result", "result_size", "result_digest", "call:{execution}:{seq}"),),
    "waits": (_Value("answer", "", "answer_digest", ""),),
    "artifacts": (_Value("data", "size", "digest", "artifact:{execution}:{seq}:{position}"),),
    "logs": (),
}
TABLES = tuple(_VALUES)
#: What means something in one store only. A key of the cache would offer values to other flows.
_LEFT_OUT = {"id", "execution", "deadline_at", "plan", "cache_key", "due_at", "awaited"}
_ORDER = {"calls": "seq", "waits": "seq", "artifacts": "seq, position", "logs": "id"}
_JSON = {"tags", "metadata", "failure", "spec", "attempts", "schema"}
_TEXT = {"status_reason", "inputs_shown", "question", "rejected", "message", "module", "filename"}
_ID = re.compile(r"kr-[0-9a-z]{1,60}", re.ASCII)
#: What rows that nobody exported come to, besides errors of reading them back.
_UNSOUND = (
    sqlite3.IntegrityError,
    sqlite3.ProgrammingError,
    sqlite3.InterfaceError,
    sqlite3.DataError,
    KeyError,
    TypeError,
    ValueError,
    OverflowError,
    AttributeError,
    RecursionError,
)


def rows(conn: sqlite3.Connection, execution: int, *, raw: bool) -> Iterator[tuple[str, Any]]:
    """An execution as names of tables and rows; the first is that of `executions`."""
    sql = "SELECT * FROM executions WHERE id = ?"
    yield "executions", _outgoing(conn, "executions", _one(conn, sql, execution), raw=raw)
    for table, order in _ORDER.items():
        sql = f"SELECT * FROM {table} WHERE execution = ? ORDER BY {order}"  # noqa: S608
        for row in conn.execute(sql, (execution,)).fetchall():
            yield table, _outgoing(conn, table, dict(row), raw=raw)


def fingerprint(found: Iterable[tuple[str, Any]]) -> str:
    """A digest that two exports of the same execution share."""
    return codec.digest(json.dumps([*found], sort_keys=True).encode()).hex()


def add(conn: sqlite3.Connection, group: Rows, *, redacted: bool) -> str | None:
    """Put an execution into the store as history; its id, or `None` if it is there already.

    Raises:
        KitaruStateError: another execution has its id.
        KitaruCorruptionError: its rows are not those of an execution.
    """
    first = dict(group[0][1])
    exec_id = first.get("exec_id")
    if not isinstance(exec_id, str) or not _ID.fullmatch(exec_id):
        raise KitaruCorruptionError(f"The file names an execution {exec_id!r:.60}, which is no id.")
    mark = fingerprint(group)
    if executions.exists(conn, exec_id):
        _refuse_other(conn, exec_id, mark=mark, redacted=redacted)
        return None
    try:
        _insert(conn, group, {"digest": mark, "redacted": redacted})
        _read_back(conn, exec_id)
    except (*_UNSOUND, KitaruRuntimeError) as exc:
        raise KitaruCorruptionError(
            f"The file's rows of {exec_id} are not those of an execution ({exc!s:.100}). Nothing "
            "was imported; export it again."
        ) from exc
    return exec_id


def _refuse_other(conn: sqlite3.Connection, exec_id: str, *, mark: str, redacted: bool) -> None:
    row = executions.find(conn, exec_id)
    imported = executions.drive_data(conn, row.id)["spec"].get(history.MARK)
    there = imported["digest"] if imported else fingerprint(rows(conn, row.id, raw=not redacted))
    if there != mark:
        raise KitaruStateError(
            f"Cannot import execution {exec_id}: the store has one with this id that is not the "
            "same. Import into a store of its own: set KITARU_HOME to an empty folder."
        )


def _one(conn: sqlite3.Connection, sql: str, key: int) -> dict[str, Any]:
    return dict(conn.execute(sql, (key,)).fetchone())


# --- out ------------------------------------------------------------------------------------------


@values.intact("An execution")
def _outgoing(
    conn: sqlite3.Connection, table: str, row: dict[str, Any], *, raw: bool
) -> dict[str, Any]:
    found = {name: row[name] for name in row if name not in _LEFT_OUT}
    for value in _VALUES[table]:
        record = _record(conn, row, value)
        for name in (value.size, value.digest):
            found.pop(name, None)
        if record is not None and not raw:
            record = _masked(record, hidden=table == "artifacts" and is_secret(row["name"], ""))
        found[value.data] = None if record is None else record.decode()
    if not raw:
        found = {name: _shown(name, column) for name, column in found.items()}
        if "inputs_digest" in found:
            found["inputs_digest"] = b""  # that of a short secret would give it away
    return {
        name: {"hex": column.hex()} if isinstance(column, bytes) else column
        for name, column in found.items()
    }


def _record(conn: sqlite3.Connection, row: Mapping[str, Any], value: _Value) -> bytes | None:
    data = row[value.data]
    size = row[value.size] if value.size else (None if data is None else len(data))
    if size is None:
        return None
    stored = StoredValue(data, size, row[value.digest])
    return values.get(conn, value.owner.format_map(row), stored, what=f"A value ({value.data})")


def _masked(record: bytes, *, hidden: bool) -> bytes:
    """The record of what may be shown of a value; of a large one, how large it is."""
    if len(record) > config.EXPORT_VALUE_BYTES:
        told = {"bytes": len(record), "digest": codec.digest(record).hex()}
        return codec.encode({"omitted": told})
    return codec.encode(shown_value(codec.plain(record), hidden=hidden))


def _shown(name: str, column: Any) -> Any:
    if name in _TEXT and isinstance(column, str):
        return safe_text(column)
    if name not in _JSON or column is None:
        return column
    data = _without_state(values.load(column, what=f"Column {name}"))
    return values.dump(shown_value(data, masks=name != "schema"))


def _without_state(data: Any) -> Any:
    """Failures without what rebuilds their exceptions, which holds any values."""
    if isinstance(data, list):
        return [_without_state(each) for each in data]
    if not isinstance(data, dict):
        return data
    kept = dict(data)
    if "origin" in data:
        kept.pop("exception", None)
    if isinstance(kept.get("failure"), dict):
        kept["failure"] = _without_state(kept["failure"])
    return kept


# --- in -------------------------------------------------------------------------------------------


def _insert(conn: sqlite3.Connection, group: Rows, mark: dict[str, Any]) -> None:
    head = _ended(dict(group[0][1]), mark)
    records = {value: head.pop(value.data) for value in _VALUES["executions"]}
    execution = _add(conn, "executions", head | {"inputs_size": 0, "inputs_digest": b""})
    metadata.put(conn, execution, before={}, after=json.loads(head["metadata"]))
    for value, record in records.items():
        if record is not None:
            stored = values.put(conn, value.owner.format(id=execution), record.encode())
            conn.execute(
                f"UPDATE executions SET {value.data} = ?, {value.size} = ?, "  # noqa: S608
                f"{value.digest} = ? WHERE id = ?",
                (*stored, execution),
            )
    for tag in dict.fromkeys(json.loads(head["tags"])):  # masked, two may have become one
        found = {"tag": tag, "created_at": head["created_at"], "execution": execution}
        _add(conn, "execution_tags", found)
    for table, row in group[1:]:
        _add(conn, table, _stored(conn, table, {**row, "execution": execution}))
    journal.cut_off(conn, execution)


def _ended(head: dict[str, Any], mark: dict[str, Any]) -> dict[str, Any]:
    """The execution's row as history."""
    spec = json.loads(head["spec"])
    mark["redacted"] = mark["redacted"] or history.is_redacted(spec)
    spec |= {"target": None, "problem": "it was imported from a file", history.MARK: mark}
    head["spec"] = values.dump(spec)
    if not ExecutionStatus(head["status"]).is_finished:
        head["status_reason"] = f"It was {head['status']} when it was exported."
        head["status"] = ExecutionStatus.CANCELLED.value
        head["ended_at"] = clock.not_before(head["started_at"] or head["created_at"])
    return head


def _stored(conn: sqlite3.Connection, table: str, row: dict[str, Any]) -> dict[str, Any]:
    for value in _VALUES[table]:
        record = row[value.data]
        stored: tuple[Any, ...] = (None, None, None)
        if record is not None and value.size:
            stored = values.put(conn, value.owner.format_map(row), record.encode())
        elif record is not None:
            stored = (record.encode(), None, codec.digest(record.encode()))
        row |= dict(zip((value.data, value.size, value.digest), stored, strict=True))
        row.pop("", None)
    return row


def _add(conn: sqlite3.Connection, table: str, row: Mapping[str, Any]) -> int:
    columns = {each["name"] for each in conn.execute(f"PRAGMA table_info({table})").fetchall()}
    if unknown := {*row} - columns:
        raise KeyError(f"no column {min(unknown)!r:.40} in {table}")
    taken = {
        name: bytes.fromhex(column["hex"]) if isinstance(column, dict) else column
        for name, column in row.items()
    }
    cursor = conn.execute(
        f"INSERT INTO {table} ({', '.join(taken)}) VALUES ({', '.join('?' * len(taken))})",  # noqa: S608
        [*taken.values()],
    )
    return int(cursor.lastrowid or 0)


def _read_back(conn: sqlite3.Connection, exec_id: str) -> None:
    """Refuse what could be stored but not read."""
    row = executions.find(conn, exec_id)
    executions.get(conn, row.id)
    for call in journal.load(conn, row.id, exec_id=exec_id):
        shown.call_model(call, exec_id=exec_id)
    for found in artifacts.listing(conn, row.id, exec_id=exec_id):
        codec.plain(artifacts.read(conn, row.id, found))
    for _ in rows(conn, row.id, raw=False):  # reads every column, and each value that is shown
        pass
    for source in ("step", "runner"):
        logs.read(conn, row.id, logs.Which(source))
