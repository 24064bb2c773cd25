"""What tests of child executions share: parents, their children, and processes of both."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from kitaru import Execution, KitaruClient
from tests import drives, support
from tests.support import until


def executions() -> Any:
    return KitaruClient().executions


def children(handle: drives.Handle | str) -> tuple[str, ...]:
    exec_id = handle if isinstance(handle, str) else handle.exec_id
    return tuple(executions().get(exec_id).children)


def only_child(handle: drives.Handle | str) -> str:
    """The id of the only child, as soon as there is one."""
    until(lambda: children(handle), "a child is started")
    (found,) = children(handle)
    return found


def has(exec_id: str, status: str) -> Execution:
    """The execution, as soon as it has this status."""
    until(lambda: executions().get(exec_id).status == status, f"{exec_id} is {status}")
    return executions().get(exec_id)


def start(home: Path, name: str, **inputs: Any) -> tuple[Any, str]:
    """Start a flow of `tests.child_flows` in a process of its own."""
    target = f"tests.child_flows:{name}"
    process = support.spawn(home, "-m", "tests.support", target, json.dumps(inputs), "1")
    return process, process.stdout.readline().strip()


def answer(exec_id: str) -> None:
    """Answer what an execution asks as soon as it does."""
    drives.answer(exec_id, "approve", "yes")
