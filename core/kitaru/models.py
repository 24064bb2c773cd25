"""The values Kitaru hands out, and the one table of legal status moves.

Everything here is frozen and JSON-ready (`to_dict`); times are aware UTC. Store, client, docs and
tests read the life cycle of an execution from `MOVES` and nowhere else.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any, Generic, Literal, Protocol, TypeVar

from kitaru.errors import FailureOrigin, KitaruStateError, KitaruUsageError
from kitaru.frozen import Model

T = TypeVar("T")


class ExecutionStatus(StrEnum):
    """Where an execution is in its life."""

    PENDING = "pending"
    RUNNING = "running"
    WAITING = "waiting"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"

    @property
    def is_finished(self) -> bool:
        """Whether the execution has ended (a failed one can still be retried)."""
        return self in (self.COMPLETED, self.FAILED, self.CANCELLED)

    @property
    def is_successful(self) -> bool:
        """Whether the execution ended with a result."""
        return self is self.COMPLETED


class CallStatus(StrEnum):
    """Where one durable call is; `cancelled` is one that the flow itself called off."""

    PENDING = "pending"
    RUNNING = "running"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"


_S = ExecutionStatus

#: action -> {status it is legal in: status it leads to}. `None`: the status stays.
MOVES: Mapping[str, Mapping[ExecutionStatus, ExecutionStatus | None]] = {
    "start": {_S.PENDING: _S.RUNNING},
    "wait": {_S.RUNNING: _S.WAITING},
    "continue": {_S.WAITING: _S.RUNNING},
    "complete": {_S.RUNNING: _S.COMPLETED},
    "fail": {_S.RUNNING: _S.FAILED},
    "input": {_S.WAITING: None},
    "abort": {_S.WAITING: _S.CANCELLED},
    "cancel": {_S.PENDING: _S.CANCELLED, _S.RUNNING: _S.CANCELLED, _S.WAITING: _S.CANCELLED},
    "resume": {_S.RUNNING: _S.RUNNING, _S.WAITING: _S.RUNNING},
    "retry": {_S.FAILED: _S.RUNNING},
    "replay": {_S.WAITING: None, _S.COMPLETED: None, _S.FAILED: None, _S.CANCELLED: None},
}

#: The actions a person or an assistant can ask for.
PUBLIC_ACTIONS = ("input", "abort", "cancel", "resume", "retry", "replay")


def legal_actions(status: ExecutionStatus) -> tuple[str, ...]:
    """The public actions that are legal in a status."""
    return tuple(action for action in PUBLIC_ACTIONS if status in MOVES[action])


def move(action: str, *, exec_id: str, status: ExecutionStatus) -> ExecutionStatus:
    """The status an action leads to; `KitaruStateError` when it is not legal now."""
    moves = MOVES[action]
    if status not in moves:
        legal = ", ".join(legal_actions(status)) or "none"
        raise KitaruStateError(
            f"Cannot {action} execution {exec_id}: it is {status}. "
            f"{action.capitalize()} works on {' or '.join(moves)}; legal now: {legal}."
        )
    return moves[status] or status


def parse_status(value: str | ExecutionStatus) -> ExecutionStatus:
    """The status with this name, in any letter case."""
    try:
        return ExecutionStatus(str(value).strip().lower())
    except ValueError:
        raise KitaruUsageError(
            f"Unknown status {str(value)!r}; use one of: {', '.join(ExecutionStatus)}."
        ) from None


class Page(list[T], Generic[T]):
    """One page of a listing; `next_cursor` asks for the next one, `None` at the end."""

    def __init__(self, items: list[T], next_cursor: str | None = None) -> None:
        super().__init__(items)
        self.next_cursor = next_cursor


@dataclass(frozen=True, slots=True)
class FailureInfo(Model):
    """Why an execution, call or attempt failed."""

    message: str
    exception_type: str | None = None
    traceback: str | None = None
    origin: FailureOrigin = FailureOrigin.UNKNOWN


@dataclass(frozen=True, slots=True)
class PendingWait(Model):
    """An open question; `schema` is JSON Schema, or `None` for a plain go-ahead."""

    wait_id: str
    name: str
    question: str | None
    schema: dict[str, Any] | None
    metadata: dict[str, Any]
    entered_waiting_at: datetime


@dataclass(frozen=True, slots=True)
class ArtifactRef(Model):
    """A named, recorded value of an execution; `size` is in bytes."""

    artifact_id: str
    name: str
    kind: str | None
    save_type: str
    producing_call: str
    metadata: dict[str, Any]
    size: int
    created_at: datetime
    _load: Callable[[str, Any, bool], Any] | None = field(default=None, repr=False, compare=False)

    def load(self, as_type: Any = None, *, allow_pickle: bool = False) -> Any:
        """The recorded value.

        Args:
            as_type: the user's type it holds, if it holds one.
            allow_pickle: whether to read a value that a checkpoint recorded with
                `serializer="pickle"`, which runs whatever code its writer put there.

        Raises:
            KitaruSerializationError: the value needs a type that `as_type` does not name, or is a
                pickle and `allow_pickle` is not given.
        """
        if self._load is None:
            raise KitaruUsageError(f"Artifact {self.artifact_id} is not bound to a store.")
        return self._load(self.artifact_id, as_type, allow_pickle)


ViewFormat = Literal["json", "text", "image", "pickle", "binary"]


@dataclass(frozen=True, slots=True)
class ArtifactView(Model):
    """A piece of an artifact's value, as it may be shown: secrets masked, controls escaped.

    `text` are the characters from the asked offset on, of `total`; `next_offset` asks for the
    next piece, `None` at the end. `data` are the bytes of an image. `note` says how to get what is
    not shown.
    """

    artifact: ArtifactRef
    format: ViewFormat
    mime_type: str
    text: str | None = None
    total: int = 0
    next_offset: int | None = None
    data: bytes | None = field(default=None, repr=False)
    note: str | None = None


@dataclass(frozen=True, slots=True)
class CheckpointAttempt(Model):
    """One try of a checkpoint."""

    attempt_id: str
    status: CallStatus
    started_at: datetime | None
    ended_at: datetime | None
    metadata: dict[str, Any]
    failure: FailureInfo | None
    llm_usage_records: tuple[dict[str, Any], ...] = ()


@dataclass(frozen=True, slots=True)
class CheckpointCall(Model):
    """One durable call of an execution, with every attempt it took."""

    call_id: str
    name: str
    checkpoint_type: str | None
    status: CallStatus
    started_at: datetime | None
    ended_at: datetime | None
    metadata: dict[str, Any]
    original_call_id: str | None
    parent_call_ids: tuple[str, ...]
    cached_from: str | None
    failure: FailureInfo | None
    attempts: tuple[CheckpointAttempt, ...]
    artifacts: tuple[ArtifactRef, ...] = ()
    llm_usage_records: tuple[dict[str, Any], ...] = ()


#: Levels of lines from the least on; a line of any other level counts as INFO.
LOG_LEVELS = ("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL")


@dataclass(frozen=True, slots=True)
class LogEntry(Model):
    """One line written while an execution ran; `level` is a level's name."""

    timestamp: datetime
    level: str
    source: str
    checkpoint_name: str | None
    message: str
    module: str | None = None
    filename: str | None = None
    lineno: int | None = None


@dataclass(frozen=True, slots=True)
class StackInfo(Model):
    """A place where executions run; runs that name no other one use the active one."""

    name: str
    type: str
    is_active: bool


class Actions(Protocol):
    """What an `Execution` needs of the client it came from."""

    def get(self, exec_id: str) -> Execution: ...
    def retry(self, exec_id: str) -> Execution: ...
    def resume(self, exec_id: str) -> Execution: ...
    def cancel(self, exec_id: str) -> Execution: ...
    def replay(
        self,
        exec_id: str,
        from_: str,
        overrides: Mapping[str, Any] | None = None,
        **flow_inputs: Any,
    ) -> Execution: ...


@dataclass(frozen=True, slots=True)
class Execution(Model):
    """One run of a flow, as it stood when it was read.

    `result` and `inputs` are shown as plain JSON data; `FlowHandle.get` gives the exact value.
    `children` are the ids of the executions its flow has run, in the order of its calls;
    `pending_wait` is the oldest of the `pending_waits`.
    """

    exec_id: str
    flow_id: str
    flow_name: str
    status: ExecutionStatus
    status_reason: str | None
    created_at: datetime
    started_at: datetime | None
    ended_at: datetime | None
    stack_name: str
    tags: tuple[str, ...]
    metadata: dict[str, Any]
    inputs: dict[str, Any]
    result: Any
    failure: FailureInfo | None
    pending_wait: PendingWait | None
    frozen_execution_spec: dict[str, Any]
    original_exec_id: str | None
    parent_exec_id: str | None
    stalled: bool
    checkpoint_count: int
    artifact_count: int
    checkpoints: tuple[CheckpointCall, ...] = ()
    artifacts: tuple[ArtifactRef, ...] = ()
    children: tuple[str, ...] = ()
    pending_waits: tuple[PendingWait, ...] = ()
    llm_usage_summary: dict[str, Any] | None = None
    _client: Actions | None = field(default=None, repr=False, compare=False)
    _repeated: bool = field(default=False, repr=False, compare=False)

    @property
    def repeated(self) -> bool:
        """Whether the call that gave this found its idempotency key used, and started nothing."""
        return self._repeated

    def _actions(self) -> Actions:
        if self._client is None:
            raise KitaruUsageError(f"Execution {self.exec_id} is not bound to a client.")
        return self._client

    def refresh(self) -> Execution:
        """The execution as it stands now."""
        return self._actions().get(self.exec_id)

    def retry(self) -> Execution:
        """Run a failed execution again from where it failed."""
        return self._actions().retry(self.exec_id)

    def resume(self) -> Execution:
        """Continue an answered or stalled execution."""
        return self._actions().resume(self.exec_id)

    def cancel(self) -> Execution:
        """Stop the execution."""
        return self._actions().cancel(self.exec_id)

    def replay(
        self, from_: str, overrides: Mapping[str, Any] | None = None, **flow_inputs: Any
    ) -> Execution:
        """Start a new execution that reuses this one's record up to `from_`."""
        return self._actions().replay(self.exec_id, from_, overrides, **flow_inputs)

    def list_checkpoints(self) -> tuple[CheckpointCall, ...]:
        """The calls of the execution as they stand now, in order."""
        return self.refresh().checkpoints

    def list_artifacts(self) -> tuple[ArtifactRef, ...]:
        """The artifacts of the execution as they stand now, in order."""
        return self.refresh().artifacts
