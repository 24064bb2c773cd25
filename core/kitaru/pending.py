"""Calls that wait for something outside of their process: an answer, a time, a child execution.

Each is recorded first, then looked after for a while; when all that a flow has under way only
waits, and has been looked after for long enough, the process lets go of the execution.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Generator, Sequence
from typing import Any, Generic, Protocol, TypeVar

from kitaru import clock, config, exits, failures, ids, redaction, terminal
from kitaru.attempts import Drive, recording, row
from kitaru.context import Request, SleepRequest, Unwind, WaitRequest
from kitaru.effects import Ask, CalledOff, Commit, Effect, Recorded, Rest, Steps
from kitaru.heart import heart
from kitaru.journal import Step
from kitaru.models import CallStatus, ExecutionStatus, PendingWait
from kitaru.store import Transaction, due, executions, leases, waits
from kitaru.store.journal import CallRecord


class Asking(Drive, Protocol):
    """What a waiting call needs of its drive; `pending` are all that it has."""

    interactive: bool
    pending: set[Pending[Any]]

    @property
    def is_busy(self) -> bool: ...
    def wake(self) -> None: ...


R = TypeVar("R", bound=Request)


class Pending(ABC, Generic[R]):
    """A call on its way to an outcome that comes from outside."""

    def __init__(self, drive: Asking, step: Step, request: R) -> None:
        self._drive = drive
        self._ledger = drive.ledger
        self._execution = drive.ledger.lease.execution
        self._step = step
        self._request = request
        self._order: int | None = None
        self._has_let_go = False
        now = step.earlier.started_at if step.earlier else None
        self._since = clock.now_us() if now is None else now

    @property
    def seq(self) -> int:
        """Its place in the journal."""
        return self._step.seq

    def steps(self) -> Steps:
        """Look after the call until it has its outcome; leaves the flow when it lets go."""
        yield from self._start()
        self._drive.pending.add(self)
        heart.hurry()
        try:
            while True:
                recorded = yield from self._look()
                if recorded is not None:
                    return recorded
                self._drive.course.check()
                if self._may_let_go():
                    yield Rest(0)  # other tasks may be about to go on
                    yield Commit(self._let_go)
                    if self._has_let_go:
                        self._drive.course.halt(Unwind("suspended"))
                yield from self._came((yield self._rest()))
        except CalledOff:
            self._drive.course.check()
            yield Commit(self._withdraw)
            return Recorded(order=self._order)
        finally:
            self._drive.pending.discard(self)
            self._stop()

    @abstractmethod
    def is_late(self) -> bool:
        """Whether this process has waited for it for as long as it is to."""

    @abstractmethod
    def _start(self) -> Generator[Effect, Any, None]:
        """Record it, where that was not done before."""

    @abstractmethod
    def _look(self) -> Generator[Effect, Any, Recorded | None]:
        """Its outcome, recorded; `None` while there is none."""

    @abstractmethod
    def _why(self) -> str:
        """What a status of `waiting` is for."""

    def _stop(self) -> None:
        return

    def _rest(self) -> Effect:
        return Rest(config.TICK_SECONDS if self.is_late() else config.REST_SECONDS)

    def _came(self, outcome: Any) -> Generator[Effect, Any, None]:
        """Take what came of a rest."""
        yield from ()

    def _may_let_go(self) -> bool:
        late = all(each.is_late() for each in self._drive.pending.copy())
        return late and not self._drive.is_busy

    def _let_go(self, conn: Transaction) -> None:
        waits.let_go(conn, self._execution, [each.seq for each in self._drive.pending.copy()])
        if self._ledger.cancelled:
            return  # letting go would forget that somebody has cancelled it just now
        if due.is_due(conn, self._execution) or not self._may_let_go():
            return  # what it waits for has just come, or another call's outcome
        now = executions.at(conn, self._execution)
        if now.status is ExecutionStatus.RUNNING:
            executions.advance(conn, now, "wait", reason=self._why())
        leases.revoke(conn, self._execution)  # nothing of this drive is written after this
        self._has_let_go = True

    def _withdraw(self, conn: Transaction) -> None:
        waits.withdraw(conn, self._execution, self._step.seq)
        self._end(conn, CallStatus.CANCELLED)

    def _end(
        self, conn: Transaction, status: CallStatus, *, result: bytes | None = None, **more: Any
    ) -> None:
        """Record the outcome; the execution runs again when it was the last it waited for."""
        record = self._row(status, ended_at=clock.not_before(self._since), **more)
        self._order = self._drive.put(conn, record, step=self._step, result=result)
        now = executions.at(conn, self._execution)
        if now.status is ExecutionStatus.WAITING:
            left = waits.pending(conn, self._execution, exec_id=now.exec_id)
            if left:
                executions.note(conn, now, _waiting_for(left))
            else:
                executions.advance(conn, now, "continue")

    def _row(self, status: CallStatus, **more: Any) -> CallRecord:
        return row(self._step, self._request, status, started_at=self._since, **more)


class Question(Pending[WaitRequest]):
    """A wait: a question and its answer."""

    def __init__(self, drive: Asking, step: Step, request: WaitRequest) -> None:
        super().__init__(drive, step, request)
        self._wait_id = ids.qualified(drive.ledger.exec_id, step.call_id)
        self._prompt: terminal.TerminalPrompt | None = None
        self._until = clock.monotonic() + request.timeout

    def is_late(self) -> bool:
        return clock.monotonic() >= self._until or exits.is_leaving()

    def _why(self) -> str:
        return f"Waiting for {self._step.call_id}."

    def _start(self) -> Generator[Effect, Any, None]:
        if self._read() is None:
            yield Commit(self._ask)
        if self._drive.interactive:
            self._prompt = terminal.TerminalPrompt(self._request, wait=self._wait_id)

    def _stop(self) -> None:
        if self._prompt is not None:
            self._prompt.close()

    def _rest(self) -> Effect:
        if self._prompt is not None and self._prompt.is_open:
            prompt = self._prompt
            return Ask(lambda: prompt.poll(config.POLL_SECONDS))
        return super()._rest()

    def _came(self, outcome: Any) -> Generator[Effect, Any, None]:
        if isinstance(outcome, terminal.Typed):
            data = outcome.data
            yield Commit(self._abort if data is None else lambda conn: self._answer(conn, data))

    def _answer(self, conn: Transaction, data: bytes) -> None:
        waits.answer(conn, self._execution, self._step.seq, value=data)

    def _abort(self, conn: Transaction) -> None:
        now = executions.at(conn, self._execution)
        reason = f"Wait {self._step.call_id} was aborted."
        executions.stop(conn, now, action="abort", reason=reason)

    def _look(self) -> Generator[Effect, Any, Recorded | None]:
        answer = self._read()
        if answer is None:
            return None
        try:
            self._request.load(answer, self._wait_id)
        except Exception as exc:  # a validator of the user's may raise anything
            reason = f"The answer was refused by the flow's type: {_refusal(exc):.300}"
            yield Commit(lambda conn: self._reject(conn, reason))
            return None
        call_id = self._step.call_id
        self._ledger.look_for_secrets(f"The answer to {call_id!r}", answer, call_id)
        yield Commit(lambda conn: self._end(conn, CallStatus.COMPLETED, result=answer), call_id)
        return Recorded(result=answer, order=self._order)

    def _read(self) -> bytes | None:
        with self._ledger.store.snapshot() as conn:
            return waits.read_answer(conn, self._execution, self._step.seq, what=self._wait_id)

    def _ask(self, conn: Transaction) -> None:
        self._drive.put(conn, self._row(CallStatus.RUNNING), step=self._step)
        waits.ask(
            conn,
            self._execution,
            waits.Question(
                seq=self._step.seq,
                call_id=self._step.call_id,
                name=self._request.name,
                question=self._request.question,
                schema=self._request.schema,
                metadata=self._request.metadata,
            ),
        )
        exec_id = self._ledger.exec_id
        self._wait(conn, _waiting_for(waits.pending(conn, self._execution, exec_id=exec_id)))

    def _wait(self, conn: Transaction, reason: str) -> None:
        now = executions.at(conn, self._execution)
        if now.status is ExecutionStatus.WAITING:
            executions.note(conn, now, reason)
        else:
            executions.advance(conn, now, "wait", reason=reason)

    def _reject(self, conn: Transaction, reason: str) -> None:
        waits.reject(conn, self._execution, self._step.seq, reason=reason)
        self._wait(conn, reason)


class Nap(Pending[SleepRequest]):
    """A durable sleep: it ends at a recorded time, in whatever process."""

    def __init__(self, drive: Asking, step: Step, request: SleepRequest) -> None:
        super().__init__(drive, step, request)
        earlier = step.earlier.due_at if step.earlier else None
        due = self._since + round(request.seconds * 1_000_000)
        self._due = due if earlier is None else earlier
        self._until = clock.monotonic() + request.timeout

    def is_late(self) -> bool:
        is_over = clock.monotonic() >= self._until or exits.is_leaving()
        return is_over and self._left() > 0

    def _left(self) -> float:
        return (self._due - clock.now_us()) / 1_000_000

    def _why(self) -> str:
        return f"Sleeping until {clock.from_us(self._due).isoformat(timespec='seconds')}."

    def _start(self) -> Generator[Effect, Any, None]:
        if self._step.earlier is None or self._step.is_reopened:
            record = self._row(CallStatus.RUNNING, due_at=self._due)
            yield from recording(self._drive, self._step, record)

    def _rest(self) -> Effect:
        return Rest(min(config.REST_SECONDS, max(0.0, self._left())))

    def _look(self) -> Generator[Effect, Any, Recorded | None]:
        if self._left() > 0:
            return None
        yield Commit(lambda conn: self._end(conn, CallStatus.COMPLETED, result=b"null"))
        return Recorded(result=b"null", order=self._order)


def _refusal(exc: Exception) -> str:
    return redaction.recordable(failures.text(exc))


def _waiting_for(asked: Sequence[PendingWait]) -> str:
    return f"Waiting for {', '.join(each.name for each in asked)}."
