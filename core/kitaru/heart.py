"""One thread per process that looks after all running drives, a few times a second.

It renews leases, records long calls as running, writes out lines of running calls, and tells
drives what others have changed in the store: cancellations, take-overs, answers. It asks each
store once for all its drives. It never decides anything: a drive whose tick cannot write is left
to find out at its own next commit.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Generator
from typing import Protocol, TypeAlias

from kitaru import clock, config
from kitaru.errors import KitaruError
from kitaru.store import Store, Transaction
from kitaru.store.leases import LeaseRow

#: What a drive has to write at a tick, if anything; what came of it is sent or thrown back.
Tick: TypeAlias = Generator[Callable[[Transaction], None], None, None]


class Beating(Protocol):
    """A drive that wants to be ticked; one that `rests` waits for a change in the store."""

    exec_id: str
    store: Store
    execution: int
    ended: threading.Event

    @property
    def rests(self) -> bool: ...
    @property
    def is_stopped(self) -> bool: ...
    def is_due(self, now: float, *, has_jumped: bool) -> bool: ...
    def tick(self) -> Tick: ...
    def notice(self, lease: LeaseRow | None, *, answered: bool) -> None: ...
    def fault(self, exc: Exception) -> None: ...
    def stop(self) -> None: ...
    def let_go(self, conn: Transaction) -> None: ...
    def on_end(self, callback: Callable[[], None]) -> None: ...


class Heart:
    """The registry of running drives and the thread that ticks them."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._drives: set[Beating] = set()
        self._by_store: dict[Store, list[Beating]] | None = {}
        self._seen: dict[Store, int] = {}
        self._changed = threading.Event()
        self._hurried = 0.0
        self._thread: threading.Thread | None = None

    def add(self, drive: Beating) -> None:
        """Start ticking a drive.

        Raises:
            RuntimeError: no thread can be started.
        """
        with self._lock:
            if self._thread is None or not self._thread.is_alive():
                self._thread = threading.Thread(target=self._beat, name="kitaru-heart", daemon=True)
                self._thread.start()
            self._drives.add(drive)
            self._by_store = None
            self._seen.pop(drive.store, None)  # what it has missed so far is news to it

    def remove(self, drive: Beating) -> None:
        """Stop ticking a drive."""
        with self._lock:
            self._drives.discard(drive)
            self._by_store = None

    def hurry(self) -> None:
        """Look for changes now: a drive rests from now on, or this process has made one."""
        self._hurried = clock.monotonic()
        self._changed.set()

    def drives(self) -> list[Beating]:
        """All that run now; not those that have ended and still have to give their lease back."""
        with self._lock:
            return [drive for drive in self._drives if not drive.ended.is_set()]

    def forget(self) -> None:
        """In a forked child: the drives and the thread are its parent's."""
        Heart.__init__(self)

    def _beat(self) -> None:
        ticked, jumps = clock.monotonic(), clock.Jumps()
        while True:
            drives = self._grouped().values()
            rests = any(drive.rests for here in drives for drive in here)
            clock.wait(self._changed, self._pause() if rests else config.TICK_SECONDS)
            self._changed.clear()
            with self._lock:
                if not self._drives:
                    self._thread = None
                    self._seen.clear()
                    return
            now = clock.monotonic()
            due = now - ticked >= config.TICK_SECONDS
            ticked = now if due else ticked
            # After a jump of the clock leases look as if they had run out, or held for days.
            has_jumped = due and jumps.has_jumped()
            for store, here in self._grouped().items():
                self._tell(store, here)
                if due:
                    self._tick(store, here, has_jumped=has_jumped)

    def _pause(self) -> float:
        """How long to rest between two looks: a hundredth of the time since somebody hurried."""
        since = (clock.monotonic() - self._hurried) / 100
        return min(max(since, config.FIRST_POLL_SECONDS), config.POLL_SECONDS)

    def _grouped(self) -> dict[Store, list[Beating]]:
        """All drives by store; made anew only when they are others than at the last beat."""
        with self._lock:
            if self._by_store is None:
                self._by_store = {}
                for drive in self._drives:
                    self._by_store.setdefault(drive.store, []).append(drive)
            return self._by_store

    def _tell(self, store: Store, drives: list[Beating]) -> None:
        """Tell drives what has changed, if anything has."""
        try:
            version = store.version()
            if self._seen.get(store) == version:
                return
            held, answered = store.news([drive.execution for drive in drives])
        except KitaruError:
            # A store that cannot be read is met by each drive at its own next call.
            return
        self._seen[store] = version
        for drive in drives:
            drive.notice(held.get(drive.execution), answered=drive.execution in answered)

    def _tick(self, store: Store, drives: list[Beating], *, has_jumped: bool) -> None:
        """Write what drives have to write, in one transaction."""
        now = clock.monotonic()
        due = [drive for drive in drives if self._is_due(drive, now, has_jumped=has_jumped)]
        begun = [(drive, drive.tick()) for drive in due]
        writing = [
            (drive, tick, work) for drive, tick in begun if (work := self._go_on(drive, tick))
        ]
        if writing:
            errors = store.all_together([work for _, _, work in writing])
            for (drive, tick, _), error in zip(writing, errors, strict=True):
                self._go_on(drive, tick, error)

    def _is_due(self, drive: Beating, now: float, *, has_jumped: bool) -> bool:
        try:
            return drive.is_due(now, has_jumped=has_jumped)
        except Exception as exc:  # a fault in one drive must not stop the others' beat
            self.remove(drive)
            drive.fault(exc)
            return False

    def _go_on(
        self, drive: Beating, tick: Tick, error: BaseException | None = None
    ) -> Callable[[Transaction], None] | None:
        """What a drive has to write next."""
        try:
            return next(tick, None) if error is None else tick.throw(error)
        except KitaruError:
            # Nothing is lost: what was to be written is kept, and the drive meets the same
            # error at its next commit, where it ends with it.
            return None
        except Exception as exc:  # a fault in one drive must not stop the others' beat
            self.remove(drive)
            drive.fault(exc)
            return None


heart = Heart()
