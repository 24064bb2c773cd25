"""Where user code is: in which flow, and in which checkpoint call.

Context variables carry it; whatever a flow calls asks here first, so that a call in the wrong
place is a `KitaruContextError` and never a half-made record. Nothing here does any work.
"""

from __future__ import annotations

from collections.abc import Callable
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any, Protocol

from kitaru.codec import DeclaredTypes
from kitaru.errors import KitaruContextError, KitaruError, KitaruUsageError
from kitaru.retry import RetryPolicy
from kitaru.store.artifacts import NewArtifact
from kitaru.store.logs import LogRecord


class Unwind(BaseException):
    """Leaves a flow from inside a durable call; user code's `except Exception` does not catch it.

    `error` is what ends the drive; without one the flow was suspended, stopped or cancelled.
    """

    def __init__(self, why: str, error: KitaruError | None = None) -> None:
        super().__init__(why)
        self.why = why
        self.error = error


@dataclass(frozen=True, slots=True)
class CallRequest:
    """One checkpoint call a flow makes; the digest is of its bound arguments."""

    name: str
    type: str | None
    inputs_digest: bytes
    inputs_shown: str
    run: Callable[[], Any]
    returns: DeclaredTypes
    returns_annotation: Callable[[], Any]
    policy: RetryPolicy


@dataclass(frozen=True, slots=True)
class WaitRequest:
    """One question a flow asks; `parse` gives the declared type or raises `ValueError`."""

    name: str
    question: str | None
    schema: dict[str, Any] | None
    metadata: dict[str, Any]
    timeout: float
    parse: Callable[[bytes], Any]


@dataclass(slots=True)
class CallScope:
    """What the running attempt of a checkpoint has gathered so far."""

    exec_id: str
    call_id: str
    attempt: int
    started_at: int
    metadata: dict[str, Any] = field(default_factory=dict)
    artifacts: list[NewArtifact] = field(default_factory=list)


class Outcome(Protocol):
    """A submitted call that may still be running."""

    def result(self, timeout: float | None = None) -> Any: ...
    def exception(self, timeout: float | None = None) -> BaseException | None: ...
    def done(self) -> bool: ...


class Driver(Protocol):
    """What drives the flow that is running here."""

    @property
    def exec_id(self) -> str: ...
    def call(self, request: CallRequest) -> Any: ...
    def submit(self, request: CallRequest) -> Outcome: ...
    def ask(self, request: WaitRequest) -> Any: ...
    def merge_metadata(self, metadata: dict[str, Any]) -> None: ...
    def line(self, record: LogRecord) -> None: ...
    def read_named(self, exec_id: str, name: str) -> bytes: ...


current_driver: ContextVar[Driver | None] = ContextVar("kitaru_driver", default=None)
current_call: ContextVar[CallScope | None] = ContextVar("kitaru_call", default=None)
#: The target whose module is being imported.
importing: ContextVar[str | None] = ContextVar("kitaru_importing", default=None)


def in_flow(what: str) -> Driver:
    """The driver of the flow whose body is running; an error anywhere else."""
    driver = current_driver.get()
    if driver is None:
        raise KitaruContextError(
            f"{what} works inside a running @flow only. Start the flow with `.run(…)` and call it "
            "from the flow's body."
        )
    call = current_call.get()
    if call is not None:
        raise KitaruContextError(
            f"{what} works in the flow's body, not inside checkpoint {call.call_id!r} of "
            f"{call.exec_id}. Move it to the flow, before or after the checkpoint."
        )
    return driver


def in_checkpoint(what: str) -> tuple[Driver, CallScope]:
    """The driver and the running call; an error outside a checkpoint."""
    driver, call = current_driver.get(), current_call.get()
    if driver is None or call is None:
        raise KitaruContextError(f"{what} works inside a running @checkpoint only. Call it there.")
    return driver, call


def refuse_in_import(what: str) -> None:
    """Refuse to start anything while a target is imported: each import would start it again."""
    target = importing.get()
    if target is not None:
        raise KitaruUsageError(
            f"{what} is started while {target!r} is imported, so each resume, retry and replay "
            "would start it again; put it under if __name__ == '__main__'."
        )


def refuse_nested(what: str) -> None:
    """Refuse to start an execution from inside another, or while a target is imported."""
    refuse_in_import(what)
    driver = current_driver.get()
    if driver is not None:
        raise KitaruContextError(
            f"{what} is started inside execution {driver.exec_id}; each drive of that would start "
            "it again, linked to nothing. Start it outside of any flow, or make it a checkpoint."
        )


def merge_metadata(into: dict[str, Any], new: dict[str, Any]) -> None:
    """Add metadata: dicts merge, for anything else the last value wins."""
    for key, value in new.items():
        old = into.get(key)
        if isinstance(old, dict) and isinstance(value, dict):
            merge_metadata(old, value)
        else:
            into[key] = value
