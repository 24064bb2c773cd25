"""The store beside a plain model of it: whatever drivers and clients do, both say the same.

Drivers are played by hand with the verbs that real ones use; clients are real. Processes come and
go: two handles, leases that run out, drivers that die or wake too late, a machine that crashes
inside a transaction. What is refused must change nothing.
"""

from __future__ import annotations

import contextlib
import shutil

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import initialize, invariant, rule

from kitaru.models import ExecutionStatus
from kitaru.store import Store, executions
from kitaru.store.rollup import is_true
from tests.store.clients import Clients
from tests.store.comparing import check_detail, check_summary
from tests.store.drivers import Drivers
from tests.store.model import SECOND
from tests.store.stage import STEP_US, Broken, which


class StoreMachine(Drivers, Clients):
    """All rules, what else may happen, and what holds after each step."""

    @initialize()
    def begin(self) -> None:
        """There is something to act on from the first step."""
        self.start_one(0, n=0, desk=0)

    @rule(
        what=st.sampled_from(["time", "time", "time", "reopen", "crash", "vanish"]),
        seconds=st.sampled_from([1, 16, 16, 3600]),
        number=which,
    )
    def happening(self, what: str, seconds: int, number: int) -> None:
        database = self.databases[number % 2]
        if what == "time":
            self.clock.now += seconds * SECOND
        elif what == "reopen":
            self._open(database.home)
        elif what == "crash":
            self.crash(database)
        else:
            self.vanish(database)

    def crash(self, database: Store) -> None:
        """The machine goes down inside a transaction; what lies on the disk is all there is."""
        copy = self.folder / f"crash-{next(self.homes)}"
        with contextlib.suppress(Broken), database.write() as conn:
            conn.execute("PRAGMA cache_size=1")  # so that much of it is on the disk already
            for run in self.model.runs:
                self.spoil(conn, executions.find(conn, run.exec_id).id)
            shutil.copytree(database.home.path, copy)
            raise Broken
        self.hands.clear()
        self._settle(copy)

    def vanish(self, database: Store) -> None:
        """A process goes away inside a transaction."""
        conn = database._connect()
        conn.execute("BEGIN IMMEDIATE")
        for run in self.model.runs:
            self.spoil(conn, executions.find(conn, run.exec_id).id)
        conn.close()

    @invariant()
    def both_say_the_same(self) -> None:
        StoreMachine.steps += 1
        self.number += 1
        now = self.clock.now
        database = self.databases[self.number % 2]
        client = self.desks[self.number % 2]
        listed = client.executions.list(limit=200)
        assert len(listed) == len(self.model.runs)
        for run, execution in zip(self.model.newest_first(), listed, strict=True):
            check_summary(run, execution, now)
        counts = dict.fromkeys(ExecutionStatus, 0)
        for run in self.model.runs:
            counts[run.status] += 1
        found = client.executions.status_counts()
        assert found == {status: count for status, count in counts.items() if count}
        with database.snapshot() as conn:
            assert is_true(conn)
        if self.touched is not None:
            check_detail(self.touched, client, now)
        elif self.model.runs:
            check_detail(self.model.runs[self.number % len(self.model.runs)], client, now)
        self.touched = None
        self.clock.now += STEP_US


TestStore = StoreMachine.TestCase
TestStore.settings = settings(max_examples=8, stateful_step_count=60, deadline=None, database=None)
