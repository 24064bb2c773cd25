"""Group commit: works of several threads that share a transaction.

Who comes while nobody commits leads: it commits whatever is ready by then, its own work among it.
Who comes meanwhile waits until its work is done, or nobody leads any more.
"""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Callable, Sequence

from kitaru.store.refusals import translated


class Work:
    """Somebody's part of a shared transaction."""

    __slots__ = ("_work", "error", "follower")

    def __init__(self, work: Callable[[sqlite3.Connection], None]) -> None:
        self._work = work
        self.error: BaseException | None = None
        self.follower: Follower | None = None

    def run(self, conn: sqlite3.Connection, *, translated: translated, alone: bool) -> None:
        """Do it; beside others a failure takes back this part only, and is kept."""
        if alone:
            self._work(conn)
            return
        conn.execute("SAVEPOINT part")
        try:
            with translated:
                self._work(conn)
        except BaseException as exc:
            # A full disk has rolled back everything, and every part fails with it.
            if not conn.in_transaction:
                raise
            conn.execute("ROLLBACK TO part")
            self.error = exc
        conn.execute("RELEASE part")


class Follower:
    """A thread that waits for its work, or to lead; told and asked under the lock of its line."""

    __slots__ = ("_is_woken", "_wakes", "is_done")

    def __init__(self) -> None:
        self.is_done = False
        self._is_woken = False
        self._wakes = threading.Lock()
        self._wakes.acquire()

    def wait(self) -> None:
        """Until it is woken; without the line's lock."""
        self._wakes.acquire()

    def heed(self) -> None:
        """It has been woken, and can be again."""
        self._is_woken = False

    def wake(self) -> None:
        """Let it look again."""
        if not self._is_woken:
            self._is_woken = True
            self._wakes.release()


class Line:
    """Those who want to commit.

    Args:
        commit: does the works of a group in one transaction; what it raises is everybody's.
    """

    def __init__(self, commit: Callable[[Sequence[Work]], None]) -> None:
        self._commit = commit
        self._changing = threading.Lock()
        self._ready: list[Work] = []
        self._is_led = False

    def __len__(self) -> int:
        """How many works wait for the next transaction."""
        return len(self._ready)

    def do(self, works: Sequence[Work]) -> None:
        """Return when the works are committed, or have their errors; all in one transaction."""
        with self._changing:
            self._ready += works
            follower = works[0].follower = Follower() if self._is_led else None
            self._is_led = True
        if follower is None or self._is_to_lead(works[0], follower):
            self._lead()

    def _is_to_lead(self, work: Work, follower: Follower) -> bool:
        try:
            while True:
                follower.wait()
                with self._changing:
                    follower.heed()
                    if follower.is_done:
                        return False
                    if not self._is_led:
                        self._is_led = True
                        return True
        except BaseException:  # Ctrl-C: the work is done without it, the next looks in its place
            with self._changing:
                work.follower = None
                self._wake_next()
            raise

    def _lead(self) -> None:
        group: list[Work] = []
        try:
            with self._changing:
                group, self._ready = self._ready, []
            self._commit(group)
        except BaseException as exc:  # the commit itself failed, and with it everybody's work
            for each in group:
                each.error = each.error or exc
        finally:
            with self._changing:
                self._is_led = False
                # Who comes before it is awake leads in its place: nobody waits for a thread.
                self._wake_next()
                for each in group:
                    if (follower := each.follower) is not None:
                        follower.is_done = True
                        follower.wake()

    def _wake_next(self) -> None:
        """Let one of those who are left look whether anybody leads."""
        for each in self._ready:
            if each.follower is not None:
                return each.follower.wake()
