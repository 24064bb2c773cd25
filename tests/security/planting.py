"""What somebody might write into a store who can: payloads, and every place that takes text.

Each payload tells by a file if it ever ran: `trap` is a module whose import makes the file, and
the rest would make it by a command of the system's.
"""

from __future__ import annotations

import json
import pickle
import shlex
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kitaru import codec
from tests.support import Tripwire, query

#: The column of a value, and those that must fit it for it to be read at all.
_DIGESTS = {
    ("executions", "inputs"): ("inputs_size", "inputs_digest"),
    ("executions", "result"): ("result_size", "result_digest"),
    ("calls", "result"): ("result_size", "result_digest"),
    ("artifacts", "data"): ("size", "digest"),
    ("waits", "answer"): (None, "answer_digest"),
}
_TRAP = """
from pathlib import Path
Path({marker!r}).touch()
import kitaru
class Trap:
    def __new__(cls, *args): Path({marker!r}).touch(); return object.__new__(cls)
@kitaru.flow
def flow(way: str = "") -> str: return "trapped"
"""


@dataclass(frozen=True)
class Place:
    """Where text stands: a table's column, or a text in the JSON of one."""

    table: str
    column: str
    #: How SQLite's JSON names the text inside; none for the whole column.
    path: str | None = None

    def __str__(self) -> str:
        return f"{self.table}.{self.column}{(self.path or '$')[1:]}"


def set_trap(folder: Path, marker: Path) -> None:
    """Put the module there that no payload may get imported."""
    (folder / "trap.py").write_text(_TRAP.format(marker=str(marker)))


def payloads(folder: Path, marker: Path) -> dict[str, bytes]:
    """What is planted, by name; `folder` has the trap."""
    touch = shlex.join(["touch", str(marker)])
    pickled = pickle.dumps(Tripwire(marker))
    named = {
        "$": "dataclass",
        "t": "trap:Trap",
        "type": "trap:Trap",
        "bases": ["trap:Trap"],
        "py/object": "trap.Trap",
        "__class__": "trap.Trap",
        "__reduce__": ["os.system", [touch]],
        "v": {},
    }
    tagged = {"$": "model", "t": "subprocess:Popen", "v": [["args", touch], ["shell", True]]}
    return {
        "pickle": codec.wrap_pickle(pickled),
        "bare pickle": pickled,
        "class": json.dumps(named).encode(),
        "tag": json.dumps(tagged).encode(),
        "yaml": f"!!python/object/apply:os.system ['{touch}']".encode(),
        "target": f"{folder}/trap.py:flow".encode(),
        "deep": b"[" * 100_000,
        "ill-formed": b"\xff\xfe\x80 \xed\xa0\x80",
    }


def places(home: Path) -> list[Place]:
    """Every place of a store's file that takes text; a new column is one by itself."""
    found = []
    for (table,) in query(home, "SELECT name FROM sqlite_master WHERE type = 'table'"):
        if table.startswith("sqlite_"):
            continue
        for _, column, type_, *_ in query(home, f'PRAGMA table_info("{table}")'):
            if type_ != "INTEGER":
                found.append(Place(table, column))
                found += _inside(home, table, column)
    return found


def _inside(home: Path, table: str, column: str) -> Iterator[Place]:
    """The texts inside a column's JSON."""
    paths = query(
        home,
        f"SELECT DISTINCT tree.fullkey FROM {table}, json_tree({table}.{column}) AS tree "
        f"WHERE typeof({table}.{column}) = 'text' AND json_valid({table}.{column}) "
        f"AND substr({table}.{column}, 1, 1) IN ('{{', '[') AND tree.type = 'text'",
    )
    yield from (Place(table, column, path) for (path,) in paths)


def plant(home: Path, place: Place, payload: bytes) -> int:
    """Put a payload in a place, in each row that can take it; how many did."""
    table, column = place.table, place.column
    with closing(sqlite3.connect(home / "kitaru.db")) as conn:
        conn.execute("PRAGMA wal_autocheckpoint=0")
        before = conn.total_changes
        value: Any = _as_column(conn, place, payload)
        if place.path is not None:
            conn.execute(
                f"UPDATE OR IGNORE {table} SET {column} = json_set({column}, ?, ?) "
                f"WHERE json_valid({column}) AND json_extract({column}, ?) NOT NULL",
                (place.path, payload.decode("utf-8", "replace"), place.path),
            )
        else:
            conn.execute(f"UPDATE OR IGNORE {table} SET {column} = {value}", (payload,))
        fitting = _DIGESTS.get((table, column))
        if fitting is not None:
            size, digest = fitting
            sets = [f"{digest} = ?", *([f"{size} = ?"] if size else [])]
            values = (codec.digest(payload), *([len(payload)] if size else []))
            conn.execute(f"UPDATE {table} SET {', '.join(sets)} WHERE {column} NOT NULL", values)
        conn.commit()
        return conn.total_changes - before


def _as_column(conn: sqlite3.Connection, place: Place, payload: bytes) -> str:
    types = {row[1]: row[2] for row in conn.execute(f'PRAGMA table_info("{place.table}")')}
    return "CAST(? AS TEXT)" if types[place.column] == "TEXT" else "?"
