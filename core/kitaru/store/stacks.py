"""Stacks: the places where executions run, and which of them is the active one.

`local` is built in: it has no row and is active while no row is. Each verb works inside the
caller's transaction and refuses before it writes.
"""

from __future__ import annotations

import shlex
import sqlite3
from collections.abc import Iterable, Sequence

from kitaru import clock, config
from kitaru.errors import KitaruStateError
from kitaru.models import StackInfo


def infos(rows: Iterable[sqlite3.Row] = ()) -> list[StackInfo]:
    """All stacks, the built-in one first; without rows, those of a store that is not made yet."""
    made = [StackInfo(row["name"], row["type"], bool(row["active"])) for row in rows]
    built_in = StackInfo(
        config.DEFAULT_STACK, config.LOCAL_STACK_TYPE, not any(stack.is_active for stack in made)
    )
    return [built_in, *made]


def load(conn: sqlite3.Connection) -> list[StackInfo]:
    """All stacks, by name behind the built-in one."""
    return infos(conn.execute("SELECT name, type, active FROM stacks ORDER BY name").fetchall())


def active(stacks: Iterable[StackInfo]) -> StackInfo:
    """The one that is active."""
    return next(stack for stack in stacks if stack.is_active)


def find(conn: sqlite3.Connection, name: str) -> StackInfo:
    """The stack with this name.

    Raises:
        KitaruStateError: there is none.
    """
    return choose(load(conn), name)


def choose(stacks: Sequence[StackInfo], name: str, *, source: str | None = None) -> StackInfo:
    """The one with this name.

    Args:
        stacks: all there are.
        name: the stack.
        source: the setting that names it, for the error.

    Raises:
        KitaruStateError: there is none.
    """
    for stack in stacks:
        if stack.name == name:
            return stack
    named = f" The name comes from: {source}." if source else ""
    raise KitaruStateError(
        f"Stack {name!r} not found.{named} Stacks: {', '.join(each.name for each in stacks)}; "
        f"create it with `kitaru stack create {shlex.quote(str(name))}`."
    )


def create(conn: sqlite3.Connection, name: str, *, type: str) -> None:
    """Add a stack.

    Raises:
        KitaruStateError: there is one with this name.
    """
    if any(stack.name == name for stack in load(conn)):
        raise KitaruStateError(
            f"Stack {name!r} exists already. Choose another name, or make it the active one with "
            f"`kitaru stack use {shlex.quote(str(name))}`."
        )
    conn.execute(
        "INSERT INTO stacks (name, type, created_at) VALUES (?, ?, ?)",
        (name, type, clock.now_us()),
    )


def activate(conn: sqlite3.Connection, name: str) -> None:
    """Make a stack the active one.

    Raises:
        KitaruStateError: there is none with this name.
    """
    find(conn, name)
    conn.execute("UPDATE stacks SET active = (name = ?)", (name,))


def delete(conn: sqlite3.Connection, name: str) -> None:
    """Remove a stack; executions that ran there keep its name.

    Raises:
        KitaruStateError: there is none with this name, or it is built in or active.
    """
    stack = find(conn, name)
    if name == config.DEFAULT_STACK:
        raise KitaruStateError(
            f"Stack {name!r} is built in and cannot be deleted. To run elsewhere, make another one "
            "active with `kitaru stack use NAME`."
        )
    if stack.is_active:
        raise KitaruStateError(
            f"Stack {name!r} is the active one and cannot be deleted. First make another one "
            f"active: `kitaru stack use {config.DEFAULT_STACK}`."
        )
    conn.execute("DELETE FROM stacks WHERE name = ?", (name,))
