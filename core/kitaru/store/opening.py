"""What opening a store does apart from its connections: folder, file, permissions; and looking.

Files are made for their owner only, before SQLite sees them. Looking changes nothing.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
from pathlib import Path

from kitaru import config, private
from kitaru.errors import KitaruBackendError
from kitaru.store import schema
from kitaru.store.refusals import translated


def prepare(home: config.Home) -> bool:
    """Make the folder and the file with tight permissions; return whether they can be written."""
    try:
        private.make(home.path)
    except OSError as exc:
        raise KitaruBackendError(
            f"The store's folder {home.path} (from {home.source}) cannot be made: "
            f"{exc.strerror}. Set KITARU_HOME to a folder you can write."
        ) from exc
    private.refuse_network(home.path)
    try:
        # Made before SQLite sees it, so that -wal and -shm inherit the permissions. Never opened
        # where it is: closing it would drop the locks by which this process has it open already.
        os.close(os.open(home.database, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600))
    except OSError as exc:
        if not os.access(home.database, os.R_OK):
            is_there = isinstance(exc, FileExistsError)
            reason = "you may not read it" if is_there else exc.strerror
            raise KitaruBackendError(
                f"The store {home.database} (from {home.source}) cannot be opened: {reason}. "
                "Set KITARU_HOME to a folder you can write."
            ) from exc
    return is_writable(home)


def is_writable(home: config.Home) -> bool:
    return os.access(home.path, os.W_OK) and os.access(home.database, os.W_OK)


def connect_read_only(path: Path) -> sqlite3.Connection:
    wal = Path(f"{path}-wal")
    # `immutable` would silently ignore a live WAL, so it is only for a file without one.
    mode = "mode=ro" if wal.exists() and wal.stat().st_size else "mode=ro&immutable=1"
    conn = sqlite3.connect(
        f"{path.as_uri()}?{mode}", uri=True, isolation_level=None, check_same_thread=False
    )
    conn.row_factory = sqlite3.Row
    return conn


def is_current(path: Path) -> bool:
    """Whether there is a store that opening leaves as it is: an older one would be upgraded."""
    if not path.exists():
        return False
    with translated(path), contextlib.closing(connect_read_only(path)) as conn:
        return schema.check(conn, path) == schema.SCHEMA_VERSION
