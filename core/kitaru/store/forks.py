"""What becomes of open stores when their process forks: the child lets go, the parent goes on.

A store registers while it is open. Nothing here touches a file.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from typing import Protocol

#: How long a fork waits for other threads to come out of SQLite.
SECONDS = 1.0


class Forked(Protocol):
    """An open store file."""

    def hold(self) -> list[Callable[[], None]]: ...
    def leak(self) -> None: ...


open_databases: list[Forked] = []
#: What forking threads hold, by thread.
_held: dict[int, list[Callable[[], None]]] = {}


def _before_fork() -> None:
    # A thread that is inside SQLite at that moment would leave its global locks taken in the child.
    mine = _held.setdefault(threading.get_ident(), [])
    for database in open_databases:
        mine += database.hold()


def _after_fork_in_parent() -> None:
    for let_in in _held.pop(threading.get_ident(), []):
        let_in()


def _after_fork_in_child() -> None:
    _held.clear()
    for database in open_databases:
        database.leak()
    open_databases.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(
        before=_before_fork,
        after_in_parent=_after_fork_in_parent,
        after_in_child=_after_fork_in_child,
    )
