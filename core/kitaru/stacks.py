"""Stacks: the places where executions run. `local`, this machine, is built in.

The active stack is kept in the store; a run uses it unless a setting names another. Reading never
makes a store. Names and types are checked before anything is opened.
"""

from __future__ import annotations

import os

from kitaru import config, naming
from kitaru.errors import KitaruUsageError
from kitaru.models import StackInfo
from kitaru.store import open_store, stacks

HomePath = str | os.PathLike[str] | None


def list_stacks(*, home: HomePath = None) -> list[StackInfo]:
    """All stacks, `local` first.

    Args:
        home: the store's folder; by default found as `kitaru status` says.

    Example:
        >>> import kitaru
        >>> kitaru.list_stacks()[0]
        StackInfo(name='local', type='local', is_active=True)
    """
    found = config.find_home(home)
    if not found.database.exists():
        return stacks.infos()
    with open_store(found).snapshot() as conn:
        return stacks.load(conn)


def current_stack(*, home: HomePath = None) -> StackInfo:
    """The active stack.

    Args:
        home: the store's folder; by default found as `kitaru status` says.

    Example:
        >>> import kitaru
        >>> kitaru.current_stack().name
        'local'
    """
    return stacks.active(list_stacks(home=home))


def use_stack(name: str, *, home: HomePath = None) -> StackInfo:
    """Make a stack the active one, for all processes that use the store.

    Args:
        name: the stack.
        home: the store's folder; by default found as `kitaru status` says.

    Raises:
        KitaruStateError: there is no such stack.

    Example:
        >>> import kitaru
        >>> kitaru.use_stack("local").is_active
        True
    """
    with open_store(config.find_home(home)).write() as conn:
        stacks.activate(conn, name)
        return stacks.find(conn, name)


def create_stack(
    name: str,
    *,
    type: str = config.LOCAL_STACK_TYPE,
    activate: bool = False,
    home: HomePath = None,
) -> StackInfo:
    """Add a stack.

    Args:
        name: what it is called.
        type: what it is; `local`, this machine, is the only type.
        activate: whether it becomes the active one.
        home: the store's folder; by default found as `kitaru status` says.

    Raises:
        KitaruUsageError: the name cannot be used, or there is no such type.
        KitaruStateError: there is a stack with this name.

    Example:
        >>> import kitaru
        >>> kitaru.create_stack("nightly")
        StackInfo(name='nightly', type='local', is_active=False)
    """
    naming.checked(name, what="Stack")
    if type != config.LOCAL_STACK_TYPE:
        raise KitaruUsageError(
            f"There is no stack type {type!r:.60}; use {config.LOCAL_STACK_TYPE!r}."
        )
    with open_store(config.find_home(home)).write() as conn:
        stacks.create(conn, name, type=type)
        if activate:
            stacks.activate(conn, name)
        return stacks.find(conn, name)


def delete_stack(name: str, *, home: HomePath = None) -> None:
    """Remove a stack; executions that ran there stay as they are.

    Args:
        name: the stack.
        home: the store's folder; by default found as `kitaru status` says.

    Raises:
        KitaruStateError: there is no such stack, or it is `local` or the active one.

    Example:
        >>> import kitaru
        >>> kitaru.create_stack("old").name
        'old'
        >>> kitaru.delete_stack("old")
    """
    with open_store(config.find_home(home)).write() as conn:
        stacks.delete(conn, name)
