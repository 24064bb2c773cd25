"""Group commit: works of several threads that share a transaction.

Who comes while nobody commits leads: it commits whatever is ready by then, its own work among it.
Who comes meanwhile waits until its work is done, or until it is the next to lead; that one begins
before the others go on, so that the disk never waits for them.
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
    """A thread that waits for its work, or to lead."""

    __slots__ = ("_wakes", "leads")

    def __init__(self) -> None:
        self.leads = False
        self._wakes = threading.Lock()
        self._wakes.acquire()

    def wait(self) -> None:
        """Until it is woken."""
        self._wakes.acquire()

    def wake(self) -> None:
        """Let it go on."""
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
        if follower is not None:
            self._wait(works[0], follower)
        if follower is None or follower.leads:
            self._lead()

    def _wait(self, work: Work, follower: Follower) -> None:
        try:
            follower.wait()
        except BaseException:  # Ctrl-C: the work is done without it, the next leads in its place
            with self._changing:
                work.follower = None
            if follower.leads:
                self._hand_on([])
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
            self._hand_on(group)

    def _hand_on(self, done: Sequence[Work]) -> None:
        with self._changing:
            heir = None
            for each in self._ready:
                if (heir := each.follower) is not None:
                    heir.leads = True
                    heir.wake()
                    break
            self._is_led = heir is not None
        for each in done:
            if (follower := each.follower) is not None and not follower.leads:
                follower.wake()
