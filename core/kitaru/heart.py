"""One thread per process that looks after all running drives, a few times a second.

It renews leases, records long calls as running, writes out lines of running calls, and notices
cancellations and take-overs. It never decides anything: a drive whose tick cannot write is left
to find out at its own next commit.
"""

from __future__ import annotations

import threading
from typing import Protocol

from kitaru import clock, config
from kitaru.errors import KitaruError


class Beating(Protocol):
    """A drive that wants to be ticked."""

    def tick(self) -> None: ...
    def fault(self, exc: Exception) -> None: ...


class Heart:
    """The registry of running drives and the thread that ticks them."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._drives: set[Beating] = set()
        self._changed = threading.Event()
        self._thread: threading.Thread | None = None

    def add(self, drive: Beating) -> None:
        """Start ticking a drive."""
        with self._lock:
            self._drives.add(drive)
            if self._thread is None or not self._thread.is_alive():
                self._thread = threading.Thread(target=self._beat, name="kitaru-heart", daemon=True)
                self._thread.start()

    def remove(self, drive: Beating) -> None:
        """Stop ticking a drive."""
        with self._lock:
            self._drives.discard(drive)

    def _beat(self) -> None:
        while True:
            clock.wait(self._changed, config.TICK_SECONDS)
            with self._lock:
                drives = list(self._drives)
                if not drives:
                    self._thread = None
                    return
            for drive in drives:
                try:
                    drive.tick()
                except KitaruError:
                    # Nothing is lost: what was to be written is kept, and the drive meets the
                    # same error at its next commit, where it ends with it.
                    continue
                except Exception as exc:  # a fault in one drive must not stop the others' beat
                    self.remove(drive)
                    drive.fault(exc)


heart = Heart()
