"""One wait that has no answer yet: asked, looked after for a while, then let go."""

from __future__ import annotations

import threading
from typing import Any, Protocol

from kitaru import clock, config, failures, ids
from kitaru.attempts import Drive
from kitaru.context import Unwind, WaitRequest
from kitaru.journal import Step
from kitaru.models import CallStatus, ExecutionStatus
from kitaru.store import executions, leases, waits
from kitaru.store.journal import CallRecord
from kitaru.terminal import TerminalPrompt


class Asking(Drive, Protocol):
    """What a wait needs of its driver."""

    interactive: bool

    def is_idle(self) -> bool: ...


class Question:
    """A question on its way to its answer."""

    def __init__(
        self, drive: Asking, step: Step, request: WaitRequest, *, digest: bytes, shown: str
    ) -> None:
        self._drive = drive
        self._ledger = drive.ledger
        self._execution = drive.ledger.lease.execution
        self._step = step
        self._request = request
        self._digest = digest
        self._shown = shown
        self._wait_id = ids.qualified(drive.ledger.exec_id, step.call_id)
        self._asked_at = clock.now_us()

    def answer(self) -> bytes:
        """The answer, recorded; leaves the flow when none comes in time."""
        answer = self._read()
        if answer is None:
            self._ask()
        elif self._accept(answer):
            return answer
        prompt = (
            TerminalPrompt(self._request, wait=self._wait_id) if self._drive.interactive else None
        )
        try:
            return self._poll(prompt)
        finally:
            if prompt is not None:
                prompt.close()

    def _poll(self, prompt: TerminalPrompt | None) -> bytes:
        deadline = clock.monotonic() + self._request.timeout
        seen = -1
        while True:
            version = self._ledger.store.version()
            if version != seen:
                seen = version
                answer = self._read()
                if answer is not None and self._accept(answer):
                    return answer
                self._ledger.look()
            self._drive.course.check()
            late = clock.monotonic() >= deadline or not threading.main_thread().is_alive()
            if late and self._drive.is_idle():  # submitted calls still need this process
                self._let_go()
                continue
            if prompt is not None and prompt.is_open:
                typed = prompt.poll(config.POLL_SECONDS)
                if typed is not None:
                    self._store_typed(typed)
            else:
                clock.wait(self._ledger.interrupt, config.POLL_SECONDS)

    def _ask(self) -> None:
        with self._ledger.commit() as conn:
            self._drive.put(conn, self._record(CallStatus.RUNNING), step=self._step)
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
            self._wait(conn)

    def _wait(self, conn: Any, reason: str | None = None) -> None:
        row = executions.at(conn, self._execution)
        reason = reason or f"Waiting for {self._step.call_id}."
        if row.status is ExecutionStatus.WAITING:
            executions.note(conn, row, reason)
        else:
            executions.advance(conn, row, "wait", reason=reason)

    def _read(self) -> bytes | None:
        with self._ledger.store.snapshot() as conn:
            return waits.read_answer(conn, self._execution, self._step.seq, what=self._wait_id)

    def _accept(self, answer: bytes) -> bool:
        """Record an answer, or ask again when the declared type refuses it."""
        try:
            self._request.parse(answer)
        except Exception as exc:  # a validator of the user's may raise anything
            reason = f"The answer was refused by the flow's type: {failures.text(exc):.300}"
            with self._ledger.commit() as conn:
                waits.reject(conn, self._execution, self._step.seq, reason=reason)
                self._wait(conn, reason)
            return False
        with self._ledger.commit() as conn:
            record = self._record(CallStatus.COMPLETED, ended_at=clock.now_us())
            self._drive.put(conn, record, step=self._step, result=answer)
            row = executions.at(conn, self._execution)
            if row.status is ExecutionStatus.WAITING:
                executions.advance(conn, row, "continue")
        return True

    def _store_typed(self, answer: bytes) -> None:
        with self._ledger.commit() as conn:
            waits.answer(conn, self._execution, self._step.seq, value=answer)

    def _let_go(self) -> None:
        with self._ledger.commit() as conn:
            if waits.status(conn, self._execution, self._step.seq) == "answered":
                return
            leases.release(conn, self._execution)
        self._drive.course.halt(Unwind("suspended"))

    def _record(self, status: CallStatus, ended_at: int | None = None) -> CallRecord:
        return CallRecord(
            seq=self._step.seq,
            call_id=self._step.call_id,
            kind="wait",
            status=status,
            inputs_digest=self._digest,
            inputs_shown=self._shown,
            parents=self._step.parents,
            started_at=self._asked_at,
            ended_at=ended_at,
        )
