"""The store: one SQLite file that holds everything an execution was, is and waits for.

`Store` is how the rest of Kitaru reaches it: `write` for a transaction of anybody, `fenced` for a
transaction of an execution's driver, `snapshot` for reading. What happens inside a transaction is
composed from the verbs of the modules here. Nothing else imports sqlite3 or sqlite-utils.
"""

from __future__ import annotations

import contextlib
import sqlite3
import threading
from collections.abc import Iterator

from kitaru import config
from kitaru.store import artifacts, executions, journal, leases, logs, waits
from kitaru.store.connection import Database
from kitaru.store.leases import Lease

__all__ = [
    "Lease",
    "Store",
    "Transaction",
    "artifacts",
    "executions",
    "journal",
    "leases",
    "logs",
    "open_store",
    "sqlite_version",
    "waits",
]

Transaction = sqlite3.Connection


class Store(Database):
    """An open store."""

    @contextlib.contextmanager
    def fenced(self, lease: Lease) -> Iterator[tuple[Transaction, bool]]:
        """A driver's transaction, and whether a cancel is requested.

        Raises:
            KitaruLeaseError: another runner has taken over; nothing is written.
        """
        with self.write() as conn:
            yield conn, leases.fence(conn, lease)

    def lease_row(self, execution: int) -> sqlite3.Row | None:
        """The lease of an execution as it stands now."""
        rows = self.read(leases.SELECT, (execution,))
        return rows[0] if rows else None


_stores: dict[str, Store] = {}
_opening = threading.Lock()


def open_store(home: config.Home) -> Store:
    """The process's one open store of a home."""
    key = str(home.database.resolve())
    with _opening:
        store = _stores.get(key)
        if store is None or store.is_stale():
            if store is not None:
                store.discard()
            store = _stores[key] = Store(home, durability=config.durability())
        return store


def sqlite_version() -> str:
    """The release of the SQLite engine in use, such as `3.51.3`."""
    return sqlite3.sqlite_version
