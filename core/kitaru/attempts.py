"""One checkpoint call that has to run: its attempts, its pauses, its record.

It is written as steps (`effects`), which a sync flow's driver walks and an async flow's awaits.
"""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

from kitaru import clock, config, masks, redaction, retry, usage
from kitaru.context import CallRequest, CallScope, Request, Unwind
from kitaru.course import Course
from kitaru.effects import CalledOff, Commit, Pause, Recorded, Steps, Tried, Try
from kitaru.errors import FailureOrigin, KitaruSerializationError, KitaruUsageError
from kitaru.journal import Step
from kitaru.ledger import Ledger
from kitaru.models import CallStatus
from kitaru.store import Transaction, artifacts, executions, journal
from kitaru.store.artifacts import NewArtifact
from kitaru.store.journal import AttemptRecord, CallRecord


class Drive(Protocol):
    """What a call needs of its drive."""

    course: Course
    ledger: Ledger
    running: RunningCalls

    def put(
        self, conn: Transaction, record: CallRecord, *, step: Step, result: bytes | None = None
    ) -> int | None: ...


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
        used = {usage.KEY: dict(self.scope.usage)} if self.scope.usage else {}
        now = AttemptRecord(CallStatus.RUNNING, self.scope.started_at, metadata=used)
        attempts = (*self.earlier, now)
        return row(
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
        if not self._calls:  # most often, and asked many times a second
            return []
        with self._lock:
            return [call for call in self._calls.values() if call.is_overdue(now)]

    def has(self, call: RunningCall) -> bool:
        """Whether the attempt still runs."""
        with self._lock:
            return self._calls.get(call.step.seq) is call


class Attempts:
    """The attempts of one call."""

    def __init__(
        self, drive: Drive, step: Step, request: CallRequest, *, cache_key: bytes | None = None
    ) -> None:
        self._cache_key = cache_key
        self._drive = drive
        self._step = step
        self._request = request
        earlier = step.earlier
        self._past: tuple[AttemptRecord, ...] = (
            tuple(map(_interrupted, earlier.attempts)) if earlier is not None else ()
        )
        self._order: int | None = None

    def steps(self) -> Steps:
        """Run the call until it succeeds or its attempts are used up, recording each of them."""
        policy = self._request.policy
        tried = 0 if self._step.is_reopened else len([*filter(_counts, self._past)])
        while True:
            self._drive.course.check()  # a submitted call may have stood in the queue for long
            number = len(self._past) + 1
            begun = clock.not_before(_last_time(self._past))
            exec_id, is_async = self._drive.ledger.exec_id, self._request.is_async
            scope = CallScope(exec_id, self._step.call_id, number, begun, is_async)
            running = RunningCall(self._step, self._request, scope, self._past, clock.monotonic())
            scope.keep = functools.partial(self._keep, running)
            self._drive.running.add(running)
            try:
                tried_now: Tried = yield Try(self._request, scope)
            except CalledOff:
                tried_now = Tried(stopped=True)
            except BaseException:  # nothing of it is recorded, so the heart must not show it
                self._drive.running.discard(self._step.seq)
                raise
            tried += 1
            if tried_now.stopped:
                self._drive.course.check()  # the drive itself is over: nothing is recorded
                self._past += (self._ended(scope, CallStatus.CANCELLED),)
                yield self._commit(scope, CallStatus.CANCELLED)
                return Recorded(order=self._order)
            if tried_now.failure is None:
                self._past += (self._ended(scope, CallStatus.COMPLETED),)
                yield self._commit(scope, CallStatus.COMPLETED, result=tried_now.result)
                return Recorded(result=tried_now.result, order=self._order)
            assert tried_now.cause is not None
            failure, again = tried_now.failure, policy.repeats(tried_now.cause, tried=tried)
            self._past += (self._ended(scope, CallStatus.FAILED, failure),)
            if not again:
                yield self._commit(scope, CallStatus.FAILED, failure=failure)
                return Recorded(failure=failure, cause=tried_now.cause, order=self._order)
            yield self._commit(scope, CallStatus.RUNNING)
            try:
                yield Pause(policy.pause(tried, asked=retry.asked_by(tried_now.cause)))
            except CalledOff:
                yield self._commit(scope, CallStatus.CANCELLED)
                return Recorded(order=self._order)

    @staticmethod
    def _ended(
        scope: CallScope, status: CallStatus, failure: dict[str, Any] | None = None
    ) -> AttemptRecord:
        ended_at = clock.not_before(scope.started_at)
        return AttemptRecord(status, scope.started_at, ended_at, scope.recorded, failure)

    def _keep(self, running: RunningCall) -> None:
        """Write what an attempt has used by now.

        One that was left behind has ended already, and its execution may have.
        """
        scope, execution = running.scope, self._drive.ledger.lease.execution
        for ended in self._past[scope.attempt - 1 : scope.attempt]:
            # What is written of a later attempt has this one in it.
            ended.metadata[usage.KEY] = dict(scope.usage)

        def work(conn: Transaction) -> None:
            if self._drive.running.has(running):
                journal.put(conn, execution, running.record())
            else:
                used = {usage.KEY: dict(scope.usage)}
                seq = self._step.seq
                journal.amend(conn, execution, seq, attempt=scope.attempt, metadata=used)
                executions.settle_again(conn, execution)

        with self._drive.course.guard():
            self._drive.ledger.together(work, (None, self._step.call_id))
            running.shown = True

    def _commit(
        self,
        scope: CallScope,
        status: CallStatus,
        *,
        result: bytes | None = None,
        failure: dict[str, Any] | None = None,
    ) -> Commit:
        """Record an attempt's end with all it produced, in one transaction."""
        past = self._past
        _look_for_secrets(self._drive, self._step, result, saved=scope.artifacts)
        record = row(
            self._step,
            self._request,
            status,
            started_at=past[0].started_at,
            ended_at=None if status is CallStatus.RUNNING else past[-1].ended_at,
            metadata=scope.recorded,
            failure=failure,
            # The only attempt of a simple call is told by its own row, unless a retry may empty it.
            attempts=past if len(past) > 1 or status is not CallStatus.COMPLETED else (),
            cache_key=self._cache_key if status is CallStatus.COMPLETED else None,
        )

        def work(conn: Transaction) -> None:
            self._order = self._drive.put(conn, record, step=self._step, result=result)
            if scope.artifacts or len(past) > 1:
                execution = self._drive.ledger.lease.execution
                artifacts.replace(conn, execution, self._step.seq, new=scope.artifacts)

        return Commit(work, self._step.call_id)


def called_off(drive: Drive, step: Step, request: Request) -> Steps:
    """Record that a call was cancelled by its flow before it ran."""
    return recording(drive, step, row(step, request, CallStatus.CANCELLED, ended_at=clock.now_us()))


def overridden(drive: Drive, step: Step, request: CallRequest) -> Steps:
    """Record the value a replay puts in a call's place, as the type the checkpoint declares."""
    assert step.override is not None
    try:
        data = request.adapt(step.override, f"Override of {step.call_id!r}")
    except (KitaruUsageError, KitaruSerializationError) as exc:
        # Not the flow's to catch: it would go on without the value it was to get.
        drive.course.halt(Unwind("refused", exc))
    now = clock.now_us()
    record = row(
        step,
        request,
        CallStatus.COMPLETED,
        started_at=now,
        ended_at=now,
        original_call_id=step.original,
        metadata={"overridden": True},
    )
    return (yield from recording(drive, step, record, result=data))


def from_cache(drive: Drive, step: Step, request: CallRequest) -> Steps:
    """Take over what an earlier call with the same key has recorded; else run."""
    key = request.cache_key()
    with drive.ledger.store.snapshot() as conn:
        hit = journal.cached(conn, key)
        # All of it now: its execution may be deleted before this call is recorded.
        saved = artifacts.saved(conn, hit.execution, hit.seq) if hit is not None else []
    if hit is None or not _loads(request, hit):
        return (yield from Attempts(drive, step, request, cache_key=key).steps())
    now = clock.now_us()
    record = row(
        step,
        request,
        CallStatus.COMPLETED,
        started_at=now,
        ended_at=now,
        metadata=hit.metadata,
        original_call_id=hit.call,
        cached_from=hit.call,
    )

    def copy(conn: Transaction) -> None:
        artifacts.replace(conn, drive.ledger.lease.execution, step.seq, new=saved)

    return (yield from recording(drive, step, record, result=hit.result, also=copy))


def _loads(request: CallRequest, hit: journal.Cached) -> bool:
    """Whether the declared type still takes an earlier result: types change too."""
    try:
        request.load(hit.result, hit.call)
    except KitaruSerializationError:
        return False
    return True


def recording(
    drive: Drive,
    step: Step,
    record: CallRecord,
    *,
    result: bytes | None = None,
    also: Callable[[Transaction], None] = lambda conn: None,
) -> Steps:
    """Write a call's row, and what belongs to it, in one commit."""
    _look_for_secrets(drive, step, result)
    order: list[int | None] = []

    def work(conn: Transaction) -> None:
        order.append(drive.put(conn, record, step=step, result=result))
        also(conn)

    yield Commit(work, step.call_id)
    return Recorded(result=result, order=order[0])


def _look_for_secrets(
    drive: Drive, step: Step, result: bytes | None, *, saved: Sequence[NewArtifact] = ()
) -> None:
    """Warn of secrets in what a call leaves, with the lines of its own commit."""
    if not masks.are_known():
        return
    if result is not None:
        drive.ledger.look_for_secrets(f"The result of {step.call_id!r}", result, step.call_id)
    for each in saved:
        what = f"Artifact {each.name!r} of {step.call_id!r}"
        drive.ledger.look_for_secrets(redaction.recordable(what), each.data, step.call_id)


def row(step: Step, request: Request, status: CallStatus, **rest: Any) -> CallRecord:
    """A call's row."""
    return CallRecord(
        seq=step.seq,
        lane=step.lane.path,
        position=step.position,
        call_id=step.call_id,
        kind=request.kind,
        status=status,
        inputs_digest=request.digest,
        inputs_shown=request.shown,
        type=request.type if isinstance(request, CallRequest) else None,
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


def _last_time(past: tuple[AttemptRecord, ...]) -> int:
    return past[-1].ended_at or past[-1].started_at if past else 0


def _counts(attempt: AttemptRecord) -> bool:
    return attempt.failure is not None and not attempt.failure.get("interrupted")
