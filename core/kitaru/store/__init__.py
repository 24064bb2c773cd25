"""The store: one SQLite file that holds everything an execution was, is and waits for.

`Store` is how the rest of Kitaru reaches it: `write` for a transaction, `together` for one that is
shared, `snapshot` for reading. What happens inside a transaction is composed from the verbs of the
modules here. Nothing else imports sqlite3 or sqlite-utils.
"""

from __future__ import annotations

import os
import sqlite3
import threading
from collections.abc import Collection
from pathlib import Path

from kitaru import config, masks
from kitaru.store import (
    artifacts,
    due,
    endings,
    executions,
    journal,
    keys,
    leases,
    logs,
    refs,
    settings,
    stacks,
    waits,
)
from kitaru.store.connection import Database
from kitaru.store.leases import Lease
from kitaru.store.opening import is_current

__all__ = [
    "Lease",
    "Store",
    "Transaction",
    "artifacts",
    "close_all",
    "due",
    "endings",
    "executions",
    "is_current",
    "journal",
    "keys",
    "leases",
    "logs",
    "open_store",
    "refs",
    "settings",
    "sqlite_version",
    "stacks",
    "waits",
]

Transaction = sqlite3.Connection


class Store(Database):
    """An open store."""

    def lease_row(self, execution: int) -> sqlite3.Row | None:
        """The lease of an execution as it stands now."""
        rows = self.read(leases.SELECT, (execution,))
        return rows[0] if rows else None

    def news(self, watched: Collection[int]) -> tuple[dict[int, sqlite3.Row], set[int]]:
        """The leases of some executions, and which of these have waits that were just closed."""
        with self.snapshot() as conn:
            return leases.of(conn, watched), waits.closed(conn, watched)


_stores: dict[str, Store] = {}
#: The same by the paths they were asked for, which may be several for one file.
_asked: dict[Path, Store] = {}
_opening = threading.Lock()


def open_store(home: config.Home) -> Store:
    """The process's one open store of a home."""
    masks.watch(home)  # what is read from the store may be shown
    found = _asked.get(home.path)
    if found is not None and not found.is_stale():
        return found
    key = str(home.database.resolve())
    with _opening:
        store = _stores.get(key)
        if store is None or store.is_stale():
            if store is not None:
                store.discard()
            store = _stores[key] = Store(home, durability=config.durability())
        _asked[home.path] = store
        return store


def close_all() -> None:
    """Close every store of this process; what is asked for later is opened again."""
    with _opening:
        for store in _stores.values():
            if not store.is_stale():
                store.close()
        _stores.clear()
        _asked.clear()


def _after_fork_in_child() -> None:
    global _opening
    _opening = threading.Lock()  # whoever had it is not in the child


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork_in_child)


def sqlite_version() -> str:
    """The release of the SQLite engine in use, such as `3.51.3`."""
    return sqlite3.sqlite_version
