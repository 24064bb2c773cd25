"""What this program is and which store it uses, as `kitaru status` and the MCP server tell it.

Looking never makes a store.
"""

from __future__ import annotations

import os
import platform
from typing import Any

from kitaru import config
from kitaru.store import sqlite_version
from kitaru.version import VERSION

#: The first SQLite release without the WAL-reset bug.
_WAL_RESET_FIXED = (3, 51, 3)
_WAL_RESET_NOTE = (
    "SQLite before 3.51.3 has the WAL-reset bug; Kitaru's write lock keeps it from happening."
)


def facts(home: config.Home) -> dict[str, Any]:
    """Versions, the store's place and why it was chosen, and how durable it is; JSON data."""
    engine = sqlite_version()
    old = tuple(map(int, engine.split("."))) < _WAL_RESET_FIXED
    return {
        "sdk_version": VERSION,
        "python_version": platform.python_version(),
        "home": str(home.path),
        "home_source": home.source,
        "database": str(home.database),
        "exists": os.path.exists(home.database),
        "writable": _is_writable(home),
        "durability": config.durability(),
        "sqlite_version": engine,
        "sqlite_note": _WAL_RESET_NOTE if old else None,
    }


def _is_writable(home: config.Home) -> bool:
    """Whether the store can be written, or made where there is none."""
    place = home.path
    while not place.exists() and place != place.parent:
        place = place.parent
    writable = os.access(place, os.W_OK | os.X_OK)
    return writable and (not os.path.exists(home.database) or os.access(home.database, os.W_OK))
