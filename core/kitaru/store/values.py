"""Encoded values in rows: short ones inline, long ones in chunks, each with a digest.

A digest is checked on every read, so damage is a `KitaruCorruptionError`, never a wrong value.
"""

from __future__ import annotations

import contextlib
import io
import json
import re
import sqlite3
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple, TypeVar

from kitaru import codec, config
from kitaru.errors import KitaruCorruptionError, KitaruNotFoundError, KitaruUsageError

_json = json.JSONEncoder(separators=(",", ":")).encode
Row = TypeVar("Row")


class StoredValue(NamedTuple):
    """The three columns of a value: `data` is `None` when it lies in chunks."""

    data: bytes | None
    size: int
    digest: bytes


def put(conn: sqlite3.Connection, owner: str, data: bytes) -> StoredValue:
    """Store a value under its owner's key; what it had before is replaced."""
    digest = codec.digest(data)
    if len(data) <= config.INLINE_BYTES:
        return StoredValue(data, len(data), digest)
    drop(conn, owner)
    conn.executemany(
        "INSERT INTO chunks (owner, position, data) VALUES (?, ?, ?)",
        (
            (owner, start // config.CHUNK_BYTES, data[start : start + config.CHUNK_BYTES])
            for start in range(0, len(data), config.CHUNK_BYTES)
        ),
    )
    return StoredValue(None, len(data), digest)


def drop(conn: sqlite3.Connection, owner: str) -> None:
    """Remove the chunks of a value."""
    conn.execute("DELETE FROM chunks WHERE owner = ?", (owner,))


def get(conn: sqlite3.Connection, owner: str, stored: StoredValue, *, what: str) -> bytes:
    """The value's bytes; `what` names it in the error when they are damaged."""
    data = stored.data
    if data is None:
        rows = conn.execute("SELECT data FROM chunks WHERE owner = ? ORDER BY position", (owner,))
        whole = io.BytesIO()  # unlike a list of parts it is no second copy
        for row in rows:
            # Damage may also have turned bytes into text.
            whole.write(row[0] if isinstance(row[0], bytes) else b"")
        data = whole.getvalue()
    return checked(data, stored.digest, what=what)


def checked(data: object, digest: bytes, *, what: str) -> bytes:
    """The bytes of a value, if they are those that were stored."""
    if not isinstance(data, bytes) or codec.digest(data) != digest:
        raise KitaruCorruptionError(
            f"{what} is damaged in the store: its bytes do not match their digest. "
            "Restore the store from a backup, or replay the execution from an earlier call."
        )
    return data


@contextlib.contextmanager
def intact(what: str) -> Iterator[None]:
    """Where rows become values: a row that cannot become one is damaged."""
    try:
        yield
    except (ValueError, TypeError, OverflowError, KeyError) as exc:
        raise KitaruCorruptionError(
            f"{what} is damaged in the store: {exc}. Restore the store from a backup."
        ) from exc


def one_row(rows: Sequence[Row], *, what: str) -> Row:
    """The only row of a result; `KitaruNotFoundError` when there is none."""
    if not rows:
        raise KitaruNotFoundError(f"{what} does not exist. Check the id.")
    return rows[0]


def cursor(*place: int) -> str:
    """Where a page has ended, as opaque text."""
    return "-".join(map(str, place))


def place(cursor: str, *, parts: int) -> list[int]:
    """What `cursor` was made of.

    Raises:
        KitaruUsageError: it is not such a text.
    """
    text = str(cursor)
    if not re.fullmatch(rf"[0-9]{{1,18}}(-[0-9]{{1,18}}){{{parts - 1}}}", text):
        raise KitaruUsageError(f"{text!r:.60} is not a cursor of a page; leave it out to start.")
    return [int(part) for part in text.split("-")]


def dump(value: Any) -> str | None:
    """JSON text for a column; `None` stays NULL."""
    return None if value is None else _json(value)


def load(text: str | None, *, what: str) -> Any:
    """The value of a JSON column."""
    if text is None:
        return None
    try:
        return json.loads(text)
    except (ValueError, TypeError, RecursionError) as exc:
        raise KitaruCorruptionError(
            f"{what} is damaged in the store: a column is not JSON. "
            "Restore the store from a backup."
        ) from exc
