"""What a store is told about itself, by name: each setting is one JSON value.

Owns the table `settings`. What a value means is known to whoever put it there; each verb works
inside the caller's transaction.
"""

from __future__ import annotations

import json
import sqlite3
from typing import Any

from kitaru.errors import KitaruCorruptionError


def get(conn: sqlite3.Connection, name: str) -> Any:
    """A setting's value; `None` where it was never put or was removed.

    Raises:
        KitaruCorruptionError: what is stored is no JSON.
    """
    row = conn.execute("SELECT value FROM settings WHERE name = ?", (name,)).fetchone()
    try:
        return None if row is None else json.loads(row["value"])
    except ValueError:
        raise KitaruCorruptionError(
            f"The setting {name!r} of the store is damaged. Restore the store from a backup."
        ) from None


def put(conn: sqlite3.Connection, name: str, value: Any) -> None:
    """Keep a JSON value under a name, in the place of an earlier one."""
    conn.execute(
        "INSERT INTO settings (name, value) VALUES (?, ?) "
        "ON CONFLICT (name) DO UPDATE SET value = excluded.value",
        (name, json.dumps(value)),
    )


def remove(conn: sqlite3.Connection, name: str) -> None:
    """Forget a setting."""
    conn.execute("DELETE FROM settings WHERE name = ?", (name,))
