"""What this program is, which store it uses and which settings hold, as CLI and MCP tell it.

Looking never makes a store.
"""

from __future__ import annotations

import os
import platform
from typing import Any

from kitaru import config, settings, stacks
from kitaru.settings import Setting
from kitaru.store import sqlite_version
from kitaru.version import VERSION

#: The first SQLite release without the WAL-reset bug, and the older branches that got its mend.
_WAL_RESET_FIXED = (3, 51, 3)
_WAL_RESET_BACKPORTS = ((3, 44, 6), (3, 50, 7))
_WAL_RESET_NOTE = (
    "This SQLite has the WAL-reset bug, mended in 3.51.3; Kitaru's write lock keeps it away."
)


def facts(home: config.Home) -> dict[str, Any]:
    """Versions, the store's place and why it was chosen, and how durable it is; JSON data."""
    engine = sqlite_version()
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
        "sqlite_note": _WAL_RESET_NOTE if has_wal_reset_bug(engine) else None,
    }


def has_wal_reset_bug(engine: str) -> bool:
    """Whether a release of SQLite can lose commits when the WAL starts anew beside a checkpoint."""
    release = tuple(map(int, engine.split(".")))
    mended = any(release[:2] == fix[:2] and release >= fix for fix in _WAL_RESET_BACKPORTS)
    return release < _WAL_RESET_FIXED and not mended


def settings_in_force(home: config.Home) -> dict[str, Setting[Any]]:
    """Every setting as a run gets it that names none itself, and where it came from.

    Raises:
        KitaruUsageError: a setting cannot be right.
    """
    run = settings.resolve(active_stack=stacks.current_stack(home=home.path).name)
    return {
        "home": Setting(str(home.path), home.source),
        "durability": Setting(config.durability(), _variable("KITARU_DURABILITY")),
        "allow_network_home": Setting(
            config.allow_network_home(), _variable("KITARU_ALLOW_NETWORK_HOME")
        ),
        "stack": run.stack,
        "cache": run.cache,
        "retries": run.retries,
    }


def _variable(name: str) -> str:
    return name if name in os.environ else "default"


def _is_writable(home: config.Home) -> bool:
    """Whether the store can be written, or made where there is none."""
    place = home.path
    while not place.exists() and place != place.parent:
        place = place.parent
    writable = os.access(place, os.W_OK | os.X_OK)
    return writable and (not os.path.exists(home.database) or os.access(home.database, os.W_OK))
