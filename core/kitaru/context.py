"""Where user code is: in which flow, and in which checkpoint call.

Context variables carry it; whatever a flow calls asks here first, so that a call in the wrong
place is a `KitaruContextError` and never a half-made record. Nothing here does any work.
"""

from __future__ import annotations

import contextlib
import itertools
import os
from collections.abc import Callable, Iterator, Sequence
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

from kitaru.errors import KitaruContextError, KitaruError, KitaruUsageError
from kitaru.retry import RetryPolicy

if TYPE_CHECKING:  # a module that only defines flows loads no store
    from kitaru.config import Home
    from kitaru.store import Store, Transaction
    from kitaru.store.artifacts import NewArtifact
    from kitaru.store.journal import CallKind
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
class IsolatedTask:
    """What a subprocess needs for one attempt of a checkpoint.

    `target` with `root` names it for an import; `arguments` are encoded.
    """

    name: str
    target: str
    root: str | None
    arguments: bytes


class Work(Protocol):
    """The code of a checkpoint with the arguments of one call; what it gives may be a coroutine.

    A call that is to run must `keep` its arguments first, as they are when the call is made.
    """

    @property
    def shown(self) -> str: ...
    def keep(self) -> None: ...
    def __call__(self) -> Any: ...


@dataclass(slots=True)
class CallRequest:
    """One checkpoint call a flow makes.

    `dump` and `load` are between its result and the record (`load` gets the call's id too),
    `adapt` makes an override's record one of the declared type. Where `cache` says nothing, the
    flow does.
    """

    name: str
    type: str | None
    digest: bytes
    policy: RetryPolicy
    run: Work
    dump: Callable[[Any], bytes]
    load: Callable[[bytes, str], Any]
    adapt: Callable[[bytes, str], bytes]
    is_async: bool = False
    isolated: IsolatedTask | None = None
    cache: bool | None = None
    cache_key: Callable[[], bytes] = bytes
    kind: CallKind = "checkpoint"

    @property
    def shown(self) -> str:
        """The arguments as messages may show them."""
        return self.run.shown


@dataclass(frozen=True, slots=True)
class WaitRequest:
    """One question a flow asks; `load` gives the declared type or raises `ValueError`."""

    name: str
    digest: bytes
    shown: str
    question: str | None
    schema: dict[str, Any] | None
    metadata: dict[str, Any]
    timeout: float
    load: Callable[[bytes, str], Any]
    kind: CallKind = "wait"
    is_async: bool = True


@dataclass(frozen=True, slots=True)
class SleepRequest:
    """A durable pause of the flow, in seconds; `timeout` is how long a process is held for it."""

    name: str
    digest: bytes
    shown: str
    seconds: float
    timeout: float
    kind: CallKind = "sleep"
    is_async: bool = True

    @staticmethod
    def load(data: bytes, call: str) -> None:
        """A pause has no value."""


class ChildRun(Protocol):
    """A child execution and how it is driven; what it does is in the flow's own terms."""

    def prepare(self) -> None: ...
    def create(self, conn: Transaction, parent_exec_id: str) -> str: ...
    def drive(self) -> None: ...
    def retry(self, conn: Transaction, exec_id: str) -> bool: ...
    def attach(self, exec_id: str) -> bool: ...
    def on_end(self, callback: Callable[[], None]) -> None: ...


@dataclass(frozen=True, slots=True)
class ChildRequest:
    """A flow that a flow runs."""

    name: str
    digest: bytes
    shown: str
    run: ChildRun
    load: Callable[[bytes, str], Any]
    kind: CallKind = "flow"
    is_async: bool = True


Request: TypeAlias = CallRequest | WaitRequest | SleepRequest | ChildRequest


@dataclass(slots=True)
class CallScope:
    """What the running attempt of a checkpoint has gathered so far."""

    exec_id: str
    call_id: str
    attempt: int
    started_at: int
    is_async: bool = False
    metadata: dict[str, Any] = field(default_factory=dict)
    artifacts: list[NewArtifact] = field(default_factory=list)
    #: What it has used of models, by the id of each record, and how that is written at once.
    usage: dict[str, dict[str, Any]] = field(default_factory=dict)
    keep: Callable[[], None] | None = None
    is_abandoned: bool = False
    pid: int = field(default_factory=os.getpid)
    _counts: dict[str, Iterator[int]] = field(default_factory=dict)

    @property
    def recorded(self) -> dict[str, Any]:
        """The metadata that are recorded of it."""
        if not self.usage:
            return self.metadata
        from kitaru.usage import KEY  # a module that only defines flows does without

        return {**self.metadata, KEY: self.usage}

    def number(self, name: str) -> int:
        """Which event of this name comes next in the attempt (1-based); from any thread."""
        return next(self._counts.setdefault(name, itertools.count(1)))

    def add_usage(self, record: dict[str, Any], *, ends: bool = False) -> None:
        """Take in what was used, and write it at once: it is paid for, whatever comes next.

        Args:
            record: an `llm_usage_v1` record.
            ends: whether the attempt ends with it, and is about to be written anyway.
        """
        self.usage[record["record_id"]] = record
        if self.keep is not None and not ends:
            self.keep()

    def add_metadata(self, metadata: dict[str, Any]) -> None:
        """Take in metadata for the attempt."""
        merge_metadata(self.metadata, metadata)

    def add_artifact(self, artifact: NewArtifact) -> None:
        """Take in a value the attempt saves."""
        self.artifacts.append(artifact)


@contextlib.contextmanager
def calling(scope: CallScope) -> Iterator[None]:
    """While a checkpoint's code runs here."""
    token = current_call.set(scope)
    try:
        yield
    finally:
        current_call.reset(token)


class Driver(Protocol):
    """What drives the flow that is running here; in an async flow `call` gives a coroutine."""

    store: Store
    is_async: bool

    @property
    def exec_id(self) -> str: ...
    @property
    def home(self) -> Home: ...
    def pause(self, seconds: float) -> None: ...
    def call(self, request: Request) -> Any: ...
    def submit(self, requests: Sequence[CallRequest], *, max_workers: int | None) -> list[Any]: ...
    def start_child(self, request: ChildRequest) -> Any: ...
    def outcome(self, child: Any) -> Any: ...
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
    refuse_late(call, what)
    return driver, call


def refuse_late(call: CallScope, what: str) -> None:
    """Refuse what an attempt does that was left behind."""
    if call.is_abandoned:
        raise KitaruContextError(
            f"{what} comes too late: attempt {call.attempt} of {call.exec_id}/{call.call_id} was "
            "over its time, and nothing more of it is recorded."
        )


def refuse_forked(call: CallScope, what: str) -> None:
    """Refuse what a forked child cannot record."""
    if call.pid != os.getpid():
        raise KitaruContextError(
            f"{what} is called in a process that {call.exec_id}/{call.call_id} has forked, from "
            "which nothing can be recorded. Call it in the checkpoint itself; for many at a time "
            "there are .submit(…) and .map(…)."
        )


def refuse_in_import(what: str) -> None:
    """Refuse to start anything while a target is imported: each import would start it again."""
    target = importing.get()
    if target is not None:
        raise KitaruUsageError(
            f"{what} is started while {target!r} is imported, so each resume, retry and replay "
            "would start it again; put it under if __name__ == '__main__'."
        )


def refuse_nested(what: str) -> None:
    """Refuse to start what cannot be a child from inside a flow, or while a target is imported."""
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
