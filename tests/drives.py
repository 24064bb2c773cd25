"""Flows made from source text, and drives of them in this process.

A test changes a flow's code by loading another text, as a person does by editing the file; `ran`
in the text is the list that tells which checkpoints really ran.
"""

from __future__ import annotations

import textwrap
from pathlib import Path
from typing import Any, Literal, NamedTuple

import kitaru
from kitaru import config, launch
from kitaru.errors import KitaruError
from kitaru.flow import Flow
from kitaru.handle import FlowHandle, drive_here
from kitaru.store import Store, open_store
from kitaru.store.journal import CallKind
from tests.support import query, until

Handle = FlowHandle[Any]


class Made(NamedTuple):
    """A call as the journal sees it."""

    name: str
    digest: bytes = b""
    shown: str = ""
    kind: CallKind = "checkpoint"


def load(source: str, **names: Any) -> Flow[..., Any]:
    """The flow a text defines; `names` are there as globals, beside `kitaru`'s decorators."""
    namespace: dict[str, Any] = {
        "__name__": "written_in_a_test",
        "kitaru": kitaru,
        "checkpoint": kitaru.checkpoint,
        "flow": kitaru.flow,
        **names,
    }
    exec(compile(textwrap.dedent(source), "<flow>", "exec", dont_inherit=True), namespace)
    (found,) = [value for value in namespace.values() if isinstance(value, Flow)]
    return found


def store() -> Store:
    """The store of the test's home."""
    return open_store(config.find_home())


def again(action: Literal["resume", "retry"], flow: Flow[..., Any], exec_id: str) -> Handle:
    """Resume or retry an execution in this process, with any version of its flow."""
    lease = getattr(launch, action)(store(), flow.definition, exec_id)
    return drive_here(store(), flow.definition, lease, interactive=False)


def error_of(handle: Handle) -> KitaruError:
    """The error a run ends with."""
    try:
        value = handle.wait(20)
    except KitaruError as error:
        return error
    raise AssertionError(f"it completed with {value!r}")


def answer(exec_id: str, wait: str, value: Any) -> None:
    """Answer a wait as soon as it is asked."""
    pending = kitaru.KitaruClient().executions.pending_waits
    until(lambda: wait in [each.name for each in pending(exec_id)], f"{wait} is asked")
    kitaru.KitaruClient().executions.input(exec_id, wait=wait, value=value)


def left(exec_id: str) -> kitaru.Execution:
    """An execution, as soon as nobody drives it."""
    client = kitaru.KitaruClient()
    until(lambda: not client.executions.continues(exec_id), f"{exec_id} is left by its driver")
    return client.executions.get(exec_id)


def is_intact(home: Path) -> bool:
    """Whether SQLite finds the file in order."""
    return query(home, "PRAGMA integrity_check") == [("ok",)]


PIPELINE = """
@checkpoint
def research(topic: str) -> str:
    ran.append("research")
    return f"notes about {topic}"

@checkpoint
def draft(notes: str) -> str:
    ran.append("draft")
    return f"draft from [{notes}]"

@checkpoint
def publish(text: str) -> str:
    ran.append("publish")
    return f"published {text}"

@flow
def agent(topic: str) -> str:
    return publish(draft(research(topic)))
"""


class Original:
    """A completed execution, and its flow."""

    def __init__(
        self, source: str = PIPELINE, *, names: dict[str, Any] | None = None, **inputs: Any
    ):
        self.ran: list[str] = []
        self.names = {"ran": self.ran, **(names or {})}
        self.flow = self.load(source)
        self.handle = self.flow.run(**(inputs or {"topic": "dogs"}))
        self.exec_id = self.handle.exec_id

    def load(self, source: str) -> Flow[..., Any]:
        return load(source, **self.names)

    def finished(self) -> Original:
        self.handle.wait(20)
        self.ran.clear()
        return self

    def replay(self, from_: str, overrides: Any = None, **inputs: Any) -> Handle:
        return self.flow.replay(self.exec_id, from_, overrides, **inputs)


def get(handle: Handle) -> kitaru.Execution:
    return kitaru.KitaruClient().executions.get(handle.exec_id)
