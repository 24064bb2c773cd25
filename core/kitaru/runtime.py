"""Drives one execution: runs its flow from the top, and records how the drive ended.

A drive ends with the flow's result or failure, at a wait without an answer, at a cancellation,
when another driver has taken over, or when the store fails. In each case the execution is left in
a status of the table, with its lease released where that is ours to do.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from kitaru import capture, clock, codec, config, context, failures, redaction
from kitaru.calls import Calls
from kitaru.context import Unwind
from kitaru.errors import (
    FailureOrigin,
    KitaruError,
    KitaruLeaseError,
    KitaruRuntimeError,
)
from kitaru.heart import Tick, heart
from kitaru.ledger import flush_due
from kitaru.retry import FINAL, RetryPolicy
from kitaru.store import Lease, Store, Transaction, journal, leases
from kitaru.store.leases import LeaseRow

#: Reasons to end a drive that make the execution fail, and whose fault that is.
_ORIGINS = {
    "diverged": FailureOrigin.DIVERGENCE,
    "damaged": FailureOrigin.BACKEND,
    "refused": FailureOrigin.RUNTIME,
    "timeout": FailureOrigin.RUNTIME,
}


@dataclass(frozen=True, slots=True)
class Ending:
    """How a drive ended here: an action taken (`complete`, `fail`, `cancel`) or why it was left.

    `error` is what kept it from going on, `cause` the exception that made the execution fail.
    """

    why: str
    error: KitaruError | None = None
    cause: BaseException | None = None


class Driver:
    """The driver of one execution; `start` lets it drive.

    Args:
        store: where the execution is.
        lease: the right to drive it.
        body: the flow, bound to its inputs.
        returns: the user types its result may hold.
        policy: how often the whole flow is driven again after a failure.
        note: what is to be said of the execution when it completes.
        is_async: whether the flow is an `async def`.
        interactive: whether waits are asked in the terminal.
    """

    def __init__(
        self,
        store: Store,
        lease: Lease,
        *,
        body: Callable[[], Any],
        returns: codec.DeclaredTypes,
        policy: RetryPolicy,
        note: str | None = None,
        is_async: bool = False,
        interactive: bool = False,
    ) -> None:
        self.exec_id = lease.exec_id
        self.store = store
        self.execution = lease.execution
        self._epoch = lease.epoch
        self.ended = threading.Event()
        self.ending: Ending | None = None
        self._on_end: list[Callable[[], None]] = []
        self._lock = threading.Lock()
        self._body = body
        self._returns = returns
        self._policy = policy
        self._note = note
        self._calls = _calls(is_async)(store, lease, interactive=interactive)
        self.ledger = self._calls.ledger
        self._course = self._calls.course
        self._renewed = clock.monotonic()
        self._was_let_go = False
        self._owes_lease = False

    def start(self) -> None:
        """Drive on a thread of its own.

        Raises:
            RuntimeError: the system has no more threads.
        """
        heart.add(self)  # before it runs: the process may end at any moment
        try:
            # A daemon: `exits` says what becomes of it at the end of the process.
            name = f"kitaru-{self.exec_id}"
            threading.Thread(target=self._run, name=name, daemon=True).start()
        except BaseException:  # Ctrl-C too: the heart must keep no lease that nobody drives by
            heart.remove(self)
            raise

    def _run(self) -> None:
        """Run the flow to its end, its next wait, or whatever stops it."""
        capture.install()
        context.current_driver.set(self._calls)
        self._calls.start()
        try:
            self.ending = self._drive()
        except BaseException as exc:  # a fault of Kitaru's own still ends the drive in order
            self.ending = self._finish_fault(self._fault(exc))
        finally:
            with self._lock:
                self.ended.set()
            if not self._owes_lease:
                heart.remove(self)
            for callback in self._on_end:
                callback()

    def on_end(self, callback: Callable[[], None]) -> None:
        """Call this once the drive has ended, from whatever thread."""
        with self._lock:
            if not self.ended.is_set():
                self._on_end.append(callback)
                return
        callback()

    def fault(self, exc: Exception) -> None:
        """Something that must not happen did, outside of the drive's own thread."""
        self._course.end(Unwind("broken", self._fault(exc)))

    def _fault(self, exc: BaseException) -> KitaruRuntimeError:
        error = KitaruRuntimeError(
            f"Driving execution {self.exec_id} failed inside Kitaru: {type(exc).__name__}: "
            f"{redaction.recordable(str(exc)):.300}. What is recorded is kept: run it again with "
            f"`kitaru executions retry {self.exec_id}` (or resume, when it is stalled)."
        )
        error.__cause__ = exc
        return error

    def _finish_fault(self, error: KitaruRuntimeError) -> Ending:
        self._calls.join()
        failure = failures.describe(error, origin=FailureOrigin.RUNTIME)
        ending = self._finish("fail", cause=error, reason=failure["message"], failure=failure)
        return ending if ending.why == "fail" else Ending("broken", error)

    def stop(self) -> None:
        """Leave the execution resumable at its next durable call."""
        self._course.stop()

    def let_go(self, conn: Transaction) -> None:
        """Leave the execution resumable at once, whatever it does; nothing more is written."""
        now = leases.row(conn, self.execution)
        if now is not None and now["runner"] is not None and now["epoch"] == self._epoch:
            leases.revoke(conn, self.execution)
            self._was_let_go = True

    @property
    def is_stopped(self) -> bool:
        """Whether the drive was stopped, and has left the execution resumable."""
        ending = self.ending
        return self._was_let_go or (ending is not None and ending.why == "stopped")

    def _drive(self) -> Ending:
        tries = 0
        while True:
            try:
                self._course.check()  # its time may be over already
                data = self._result()
            except Unwind as unwind:
                return self._end(self._course.halted or unwind)
            except BaseException as exc:  # user code: whatever it raises ends the execution
                self._calls.join()
                if self._course.halted is not None:
                    return self._end(self._course.halted)
                tries += 1
                if tries > self._policy.retries or isinstance(exc, FINAL):
                    return self._fail(exc)
            else:
                notes = filter(None, (self._note, self._calls.journal.unreached()))
                return self._finish("complete", result=data, reason=" ".join(notes) or None)
            try:
                self._again(tries)
            except Unwind as unwind:
                return self._end(unwind)

    def _result(self) -> bytes:
        """The flow's result, encoded."""
        with capture.lines():
            value = self._calls.run(self._body)
        self._calls.join()
        self._calls.raise_unobserved()
        self._calls.finish_children()
        with self._course.guard():
            self._course.check()
            self._calls.journal.close()
        return codec.encode(value, types=self._returns, path="result")

    def _again(self, tries: int) -> None:
        self._course.pause(self._policy.pause(tries))
        with self._course.guard():
            with self.ledger.commit() as conn:
                journal.reopen_failed(conn, self.execution)
            self._calls.start_over()

    def _end(self, unwind: Unwind) -> Ending:
        """Turn what stopped the flow into the end of the drive."""
        self._calls.join()
        if unwind.error is not None and unwind.why in _ORIGINS:
            return self._fail(unwind.error, _ORIGINS[unwind.why])
        if unwind.why == "cancelled":
            return self._finish("cancel", reason="Cancelled.")
        if unwind.why == "lost":
            return self._lost(unwind.error)
        if unwind.why != "suspended":  # stopped or broken: others need not wait for the lease
            self._give_back()
        return Ending(unwind.why, unwind.error)

    def _fail(self, exc: BaseException, origin: FailureOrigin | None = None) -> Ending:
        failure = failures.describe(exc, origin=origin)
        late = self._course.halted is not None and self._course.halted.why == "timeout"
        outcome = {"reason": failure["message"], "failure": failure, "stops_children": late}
        return self._finish("fail", cause=exc, **outcome)

    def _finish(self, action: str, cause: BaseException | None = None, **outcome: Any) -> Ending:
        """Record the end; where that fails, the execution is left for another drive."""
        try:
            taken = self.ledger.finish(action, **outcome)
        except KitaruLeaseError as exc:
            return self._lost(exc)
        except KitaruError as exc:
            self._give_back()
            return Ending("broken", exc)
        return Ending(taken, cause=cause if taken == "fail" else None)

    def _give_back(self) -> None:
        """Let others go on with the execution; a lease the disk keeps now, the heart gives back."""
        try:
            self.ledger.release()
        except KitaruError:
            self._owes_lease = True

    def _lost(self, error: KitaruError | None) -> Ending:
        try:
            cancelled = self.ledger.was_cancelled()
        except KitaruError as exc:
            return Ending("broken", exc)
        return Ending("cancel") if cancelled else Ending("lost", error)

    @property
    def rests(self) -> bool:
        """Whether a call waits for a change in the store."""
        return self._calls.rests

    def notice(self, lease: LeaseRow | None, *, answered: bool) -> None:
        """Something has changed in the store."""
        self._calls.notice(lease, answered=answered)

    def is_due(self, now: float, *, has_jumped: bool) -> bool:
        """Whether there is anything to write: a lease, calls that last, old lines."""
        if self.ended.is_set():
            return self._owes_lease
        self._course.expire()
        return (
            has_jumped
            or now - self._renewed >= config.LEASE_RENEW_SECONDS
            or bool(self._calls.running.overdue(now))
            or flush_due(self.ledger)
        )

    def tick(self) -> Tick:
        """Write that."""
        now = clock.monotonic()
        if self.ended.is_set():
            if self._owes_lease:
                yield from self._pay_back(now)
            return
        running = self._calls.running
        overdue = running.overdue(now)
        with self.ledger.gathered() as begin:

            def work(conn: Transaction) -> None:
                begin(conn)
                self.ledger.renew(conn)
                for call in overdue:
                    # Under the write lock a call is either still running here, or recorded.
                    if running.has(call):
                        journal.put(conn, self.execution, call.record())

            yield work
        for call in overdue:
            call.shown = True
        self._renewed = now

    def _pay_back(self, now: float) -> Tick:
        """Give the lease back after the end, unless it was taken or has run out by now."""
        if not self.ledger.lost and now - self._renewed < config.LEASE_SECONDS:
            with self.ledger.gathered() as begin:

                def work(conn: Transaction) -> None:
                    begin(conn)
                    leases.release(conn, self.execution)

                yield work
        heart.remove(self)


def _calls(is_async: bool) -> type[Calls]:
    if not is_async:
        return Calls
    from kitaru.tasks import TaskCalls  # brings asyncio, which most flows do without

    return TaskCalls
