"""Idempotency keys: what is asked for twice with one key is done once.

A key is recorded in the transaction that creates its execution or takes its lease, so a crash
leaves both or neither, and of two processes that race with one key the second finds it taken. It
is kept as long as its execution. Of the request it keeps a digest, never the arguments.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from kitaru import clock, codec, config
from kitaru.errors import KitaruUsageError


@dataclass(frozen=True, slots=True)
class Key:
    """A key, and the digest (hexadecimal) of the request that it stands for."""

    text: str
    digest: str


def of(text: str | None, request: Mapping[str, Any]) -> Key | None:
    """The key that a client gave for a request; `None` where it gave none.

    Raises:
        KitaruUsageError: it cannot be a key.
        KitaruSerializationError: the request holds what cannot be recorded.
    """
    if text is None:
        return None
    is_text = isinstance(text, str)
    if not is_text or not 0 < len(text) <= config.MAX_IDEMPOTENCY_KEY or not text.isprintable():
        raise KitaruUsageError(
            f"The idempotency key is {text!r:.60}; give 1 to {config.MAX_IDEMPOTENCY_KEY} "
            "printable characters, or leave it out."
        )
    return Key(text, codec.fingerprint(dict(request), path="request").hex())


def find(conn: sqlite3.Connection, key: Key | None) -> str | None:
    """The execution that the first request with this key made or retried, if there was one.

    Raises:
        KitaruUsageError: that was another request.
    """
    if key is None:
        return None
    row = conn.execute(
        "SELECT digest, action, exec_id, flow_name FROM idempotency_keys "
        "JOIN executions ON id = execution WHERE key = ?",
        (key.text,),
    ).fetchone()
    if row is None:
        return None
    if row["digest"] == key.digest:
        return str(row["exec_id"])
    raise KitaruUsageError(
        f"Idempotency key {key.text!r} was used for another request: a {row['action']}, which gave "
        f"execution {row['exec_id']} of flow {row['flow_name']!r}. Nothing was started: give a new "
        "key, or repeat that request unchanged."
    )


def record(conn: sqlite3.Connection, key: Key | None, *, action: str, execution: int) -> None:
    """Note what a key was used for, in the transaction that does it."""
    if key is not None:
        conn.execute(
            "INSERT INTO idempotency_keys (key, digest, action, execution, created_at) "
            "VALUES (?, ?, ?, ?, ?)",
            (key.text, key.digest, action, execution, clock.now_us()),
        )
