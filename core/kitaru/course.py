"""Whether a drive goes on, and what ended it first.

What cannot go on (taken over, cancelled, code that diverged, a store that fails) leaves the flow
as an `Unwind`, which `except Exception` in user code does not catch; every later durable call of
that drive raises it again.
"""

from __future__ import annotations

import threading
from typing import NoReturn

from kitaru import clock, config
from kitaru.context import Unwind
from kitaru.effects import CalledOff
from kitaru.errors import (
    FailureOrigin,
    KitaruBackendError,
    KitaruCorruptionError,
    KitaruDivergenceError,
    KitaruError,
    KitaruExecutionError,
    KitaruLeaseError,
)
from kitaru.ledger import Ledger


class Course:
    """The course of one drive; `halted` is what ended it, once something has.

    `deadline` is when the execution's time is over, in microseconds.
    """

    def __init__(self, ledger: Ledger, *, deadline: int | None) -> None:
        self.ledger = ledger
        self.halted: Unwind | None = None
        self._deadline = deadline
        self._stopping = False
        self._lock = threading.Lock()
        self._guard = _Guard(self)

    def stop(self) -> None:
        """Leave the execution resumable at its next durable call."""
        self._stopping = True
        self.ledger.disturb()

    def end(self, unwind: Unwind) -> Unwind:
        """End the drive at its next durable call; the first reason stays."""
        with self._lock:
            # Who has let go has also lost the lease, which others may notice first.
            if self.halted is None or unwind.why == "suspended":
                self.halted = unwind
            halted = self.halted
        self.ledger.disturb()
        return halted

    def halt(self, unwind: Unwind) -> NoReturn:
        """The same from inside a durable call."""
        raise self.end(unwind)

    def check(self) -> None:
        """Leave the flow if the drive is over."""
        if self.halted is not None:
            raise self.halted
        if self.ledger.interrupt.is_set():
            if self.ledger.lost:
                error = KitaruLeaseError(
                    f"Execution {self.ledger.exec_id} was taken over or ended from outside; "
                    "this driver stopped and wrote nothing more."
                )
                self.halt(Unwind("lost", error))
            if self.ledger.cancelled:
                self.halt(Unwind("cancelled"))
            if self._stopping:
                self.halt(Unwind("stopped"))
        if self._deadline is not None:
            self.expire()
        if self.halted is not None:  # by now, maybe by another thread
            raise self.halted

    def expire(self) -> None:
        """End the drive if the execution's time is over."""
        if self._deadline is None or clock.now_us() < self._deadline or self.halted is not None:
            return
        error = KitaruExecutionError(
            f"Execution {self.ledger.exec_id} has not ended by "
            f"{clock.from_us(self._deadline):%F %T} UTC, the timeout of its flow. "
            "`retry` gives it the same time again.",
            exec_id=self.ledger.exec_id,
            failure_origin=FailureOrigin.RUNTIME,
        )
        self.end(Unwind("timeout", error))

    def ends(self, stop: threading.Event | None) -> bool:
        """Whether the drive is over, or its call that this event stops."""
        return self.ledger.interrupt.is_set() or (stop is not None and stop.is_set())

    def pause(self, seconds: float, stop: threading.Event | None = None) -> None:
        """Wait between two attempts, unless the drive or the call ends meanwhile."""
        if stop is None:
            clock.wait(self.ledger.interrupt, seconds)
            return self.check()
        until = clock.monotonic() + seconds
        while not self.ends(stop) and clock.monotonic() < until:
            clock.wait(stop, config.TICK_SECONDS)
        self.check()
        if stop.is_set():
            raise CalledOff

    def guard(self) -> _Guard:
        """Let infrastructure errors out past user code's `except Exception`."""
        return self._guard


#: What ends a drive, and why; the first that fits counts.
_ENDS: tuple[tuple[type[KitaruError], str], ...] = (
    (KitaruLeaseError, "lost"),
    (KitaruDivergenceError, "diverged"),
    (KitaruCorruptionError, "damaged"),
    (KitaruBackendError, "broken"),
)


class _Guard:
    """Makes errors of the infrastructure the end of the drive; each durable call needs it twice."""

    def __init__(self, course: Course) -> None:
        self._course = course

    def __enter__(self) -> None:
        return

    def __exit__(self, kind: object, exc: BaseException | None, trace: object) -> None:
        if exc is None:
            return
        for error, why in _ENDS:
            if isinstance(exc, error):
                self._course.halt(Unwind(why, exc))
