"""Threads for submitted calls: as many as there is work for, up to a limit.

Threads end when there is nothing left to do, so there is no pool to shut down. Daemons, like the
threads of drives: `exits` says what becomes of running flows at the end of the process.
"""

from __future__ import annotations

import contextvars
import threading
from collections import deque
from collections.abc import Callable

from kitaru.errors import KitaruRuntimeError


class Pool:
    """Runs functions on at most `limit` threads, in the order they came."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._work: deque[Callable[[], None]] = deque()
        self._threads = 0
        self._idle = threading.Condition()

    def run(self, work: Callable[[], None]) -> None:
        """Run a function in a copy of the caller's context; it must not raise."""
        bound = contextvars.copy_context()
        with self._idle:
            self._work.append(lambda: bound.run(work))
            if self._threads >= self._limit:
                return
            self._threads += 1
        try:
            threading.Thread(target=self._serve, name="kitaru-call", daemon=True).start()
        except RuntimeError as exc:  # the system has no more threads
            with self._idle:
                self._threads -= 1
                if not self._threads:
                    self._work.clear()
                self._idle.notify_all()
                if self._threads:
                    return  # those that run will come to it
            if "shutdown" in str(exc):
                # Python 3.12.0 to 3.12.2 start no thread once main has ended; flows still finish.
                return bound.run(work)
            raise KitaruRuntimeError(
                f"No thread could be started for a submitted call: {exc}. Run fewer at a time."
            ) from exc

    def is_idle(self) -> bool:
        """Whether all work is done."""
        with self._idle:
            return self._threads == 0

    def join(self) -> None:
        """Wait until all work is done."""
        with self._idle:
            self._idle.wait_for(lambda: self._threads == 0)

    def _serve(self) -> None:
        while True:
            with self._idle:
                if not self._work:
                    self._threads -= 1
                    self._idle.notify_all()
                    return
                work = self._work.popleft()
            work()
