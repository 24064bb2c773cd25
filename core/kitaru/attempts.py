"""One checkpoint call that has to run: its attempts, its pauses, its record."""

from __future__ import annotations

import contextvars
import threading
from dataclasses import dataclass, replace
from typing import Any, Protocol

from kitaru import capture, clock, codec, config, context, failures, inputs
from kitaru.context import CallRequest, CallScope, Unwind
from kitaru.course import Course
from kitaru.errors import (
    FailureOrigin,
    KitaruContextError,
    KitaruSerializationError,
    KitaruUsageError,
)
from kitaru.futures import Recorded
from kitaru.journal import Step
from kitaru.ledger import Ledger
from kitaru.models import CallStatus
from kitaru.store import Transaction, artifacts
from kitaru.store.journal import AttemptRecord, CallRecord

#: Mistakes that a repetition cannot mend.
FINAL = (KitaruContextError, KitaruSerializationError, KitaruUsageError)


class Drive(Protocol):
    """What a running call needs of its drive."""

    course: Course
    ledger: Ledger
    running: RunningCalls

    def put(
        self, conn: Transaction, record: CallRecord, *, step: Step, result: bytes | None = None
    ) -> None: ...


@dataclass(slots=True)
class RunningCall:
    """An attempt that runs now; the heart records it once it is no longer short."""

    step: Step
    request: CallRequest
    scope: CallScope
    earlier: tuple[AttemptRecord, ...]
    since: float
    shown: bool = False

    def is_overdue(self, now: float) -> bool:
        """Whether it has run long enough to be shown as running."""
        return not self.shown and now - self.since >= config.STARTED_AFTER_SECONDS

    def record(self) -> CallRecord:
        """The call's row while it runs."""
        attempts = (*self.earlier, AttemptRecord(CallStatus.RUNNING, self.scope.started_at))
        return _record(
            self.step,
            self.request,
            CallStatus.RUNNING,
            started_at=attempts[0].started_at,
            attempts=attempts,
        )


class RunningCalls:
    """The attempts that run now, for the heart to look after."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._calls: dict[int, RunningCall] = {}

    def add(self, call: RunningCall) -> None:
        """An attempt starts."""
        with self._lock:
            self._calls[call.step.seq] = call

    def discard(self, seq: int) -> None:
        """The attempt at this place has ended."""
        with self._lock:
            self._calls.pop(seq, None)

    def overdue(self, now: float) -> list[RunningCall]:
        """Those that have run for long and are not shown yet."""
        with self._lock:
            return [call for call in self._calls.values() if call.is_overdue(now)]

    def has(self, call: RunningCall) -> bool:
        """Whether the attempt still runs."""
        with self._lock:
            return self._calls.get(call.step.seq) is call


def run(drive: Drive, step: Step, request: CallRequest) -> Recorded:
    """Run a call until it succeeds or its attempts are used up, recording each of them."""
    earlier = tuple(_interrupted(attempt) for attempt in step.attempts)
    tried = 0 if step.reopened else sum(_counts(attempt) for attempt in earlier)
    while True:
        drive.course.check()  # a submitted call may have stood in the queue for long
        scope = CallScope(drive.ledger.exec_id, step.call_id, len(earlier) + 1, clock.now_us())
        running = RunningCall(step, request, scope, earlier, clock.monotonic())
        drive.running.add(running)
        data, exc = _attempt(request, scope)
        if exc is None:
            assert data is not None
            ended = AttemptRecord(
                CallStatus.COMPLETED, scope.started_at, clock.now_us(), scope.metadata
            )
            _commit(drive, running, (*earlier, ended), result=data)
            return Recorded(result=data)
        failure = failures.describe(exc)
        tried += 1
        earlier += (
            AttemptRecord(
                CallStatus.FAILED, scope.started_at, clock.now_us(), scope.metadata, failure
            ),
        )
        last = tried > request.policy.retries or isinstance(exc, FINAL)
        _commit(drive, running, earlier, failure=failure, again=not last)
        if last:
            return Recorded(failure=failure, cause=exc)
        drive.course.pause(request.policy.pause(tried))


def _attempt(request: CallRequest, scope: CallScope) -> tuple[bytes | None, BaseException | None]:
    """Run the checkpoint's code once, in its own context."""

    def work() -> bytes:
        context.current_call.set(scope)
        with capture.lines():
            value = request.run()
        return codec.encode(value, types=request.returns, path="result")

    try:
        return contextvars.copy_context().run(work), None
    except Unwind:
        raise
    except BaseException as exc:  # user code: any exception is a failed attempt
        return None, exc


def _commit(
    drive: Drive,
    running: RunningCall,
    attempts: tuple[AttemptRecord, ...],
    *,
    result: bytes | None = None,
    failure: dict[str, Any] | None = None,
    again: bool = False,
) -> None:
    """Record an attempt's end with all it produced, in one transaction."""
    step, scope = running.step, running.scope
    status = CallStatus.COMPLETED if failure is None else CallStatus.FAILED
    record = _record(
        step,
        running.request,
        CallStatus.RUNNING if again else status,
        started_at=attempts[0].started_at,
        ended_at=None if again else attempts[-1].ended_at,
        metadata=scope.metadata,
        failure=None if again else failure,
        # The only attempt of a simple call is told by its own row, unless a retry may empty that.
        attempts=attempts if len(attempts) > 1 or failure is not None else (),
    )
    with drive.ledger.commit() as conn:
        drive.put(conn, record, step=step, result=result)
        if scope.artifacts or len(attempts) > 1:
            artifacts.replace(conn, drive.ledger.lease.execution, step.seq, new=scope.artifacts)


def record_override(drive: Drive, step: Step, request: CallRequest) -> Recorded:
    """Record the value a replay puts in a call's place, as the type the checkpoint declares."""
    assert step.override is not None
    what = f"Override of {step.call_id!r}"
    try:
        value = codec.decode(step.override, types=request.returns, path=what)
        value = inputs.conform(value, request.returns_annotation(), what=what)
        data = codec.encode(value, types=request.returns, path=what)
    except (KitaruUsageError, KitaruSerializationError) as exc:
        # Not the flow's to catch: it would go on without the value it was to get.
        drive.course.halt(Unwind("refused", exc))
    now = clock.now_us()
    record = replace(
        _record(step, request, CallStatus.COMPLETED, started_at=now, ended_at=now),
        original_call_id=step.original,
        metadata={"overridden": True},
    )
    with drive.ledger.commit() as conn:
        drive.put(conn, record, step=step, result=data)
    return Recorded(result=data)


def _record(step: Step, request: CallRequest, status: CallStatus, **rest: Any) -> CallRecord:
    return CallRecord(
        seq=step.seq,
        call_id=step.call_id,
        kind="checkpoint",
        status=status,
        inputs_digest=request.inputs_digest,
        inputs_shown=request.inputs_shown,
        type=request.type,
        parents=step.parents,
        **rest,
    )


def _interrupted(attempt: AttemptRecord) -> AttemptRecord:
    """An attempt that was under way when its driver died."""
    if attempt.status is not CallStatus.RUNNING:
        return attempt
    failure = {
        "message": "Interrupted: its driver stopped before it ended.",
        "exception_type": None,
        "traceback": None,
        "origin": FailureOrigin.RUNTIME.value,
        "interrupted": True,
    }
    return replace(attempt, status=CallStatus.FAILED, failure=failure)


def _counts(attempt: AttemptRecord) -> bool:
    return attempt.failure is not None and not attempt.failure.get("interrupted")
