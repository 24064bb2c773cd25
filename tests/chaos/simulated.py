"""A run of a program in a world where processes die and stall; the seed decides everything.

Processes are simulated: a handle of the store, a heart and some threads each, which have turns at
their transactions. One that dies never has a turn again, and leaves what a killed process leaves;
one that stalls wakes up when others may have taken over. The store and its file are real.
"""

from __future__ import annotations

import contextlib
import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Literal, TypeAlias
from unittest import mock

from kitaru import KitaruClient, config, host, ids, launch, pending, runtime
from kitaru.errors import KitaruNotFoundError, KitaruStateError
from kitaru.handle import drive_here
from kitaru.heart import Heart
from kitaru.models import ExecutionStatus
from kitaru.runtime import Driver
from kitaru.store import Store, Transaction, due, executions, leases, open_store
from kitaru.store.connection import Database
from tests import support
from tests.chaos import programs
from tests.chaos.baton import Baton, Died

Blow: TypeAlias = Literal[
    "dies before", "dies inside", "dies after", "stalls before", "stalls after"
]
BLOWS: tuple[Blow, ...] = (
    "dies before",
    "dies inside",
    "dies after",
    "stalls before",
    "stalls after",
)
EXEC_ID = ids.EXECUTION_PREFIX + "0" * 16
#: Processes that drive at the same time, at most.
PROCESSES = 3
#: How long a process stalls, in seconds: a lease is 15.
STALLS = (5.0, 20.0, 60.0)
#: More turns than any run needs.
MOST_TURNS = 20_000
_TOUCHED = ("calls", "waits", "artifacts", "executions")


class Process:
    """A process as far as the store knows it: a handle of its own, a heart, and its threads."""

    def __init__(self, run: Run) -> None:
        self.back_us: int | None = 0
        self.store = Store(config.find_home(run.home), durability="normal")
        self.heart = Heart()
        self.drivers: list[Driver] = []
        self.epochs: dict[int, int] = {}
        self._run = run
        self._before: dict[int, int] = {}
        conn = self.store._writer
        conn.execute("CREATE TEMP TABLE touched (execution)")
        for table in _TOUCHED:
            row = "id" if table == "executions" else "execution"
            for action in ("INSERT", "UPDATE"):
                conn.execute(
                    f"CREATE TEMP TRIGGER {table}_{action} AFTER {action} ON main.{table} "
                    f"BEGIN INSERT INTO touched VALUES (NEW.{row}); END"
                )

    def die(self) -> None:
        """None of its threads ever runs again."""
        self.back_us = None
        self._run.baton.rest(lambda: False)

    def stall(self) -> None:
        """None of its threads runs for a while."""
        self.back_us = self._run.baton.now_us() + round(self._run.rng.choice(STALLS) * 1_000_000)
        self._run.baton.rest()

    def begin(self, conn: Transaction) -> None:
        """A transaction of its own begins."""
        conn.execute("DELETE FROM touched")
        self._before = _epochs(conn)

    def check(self, conn: Transaction) -> None:
        """It is about to be committed: it has written to no execution that others have taken."""
        for (row,) in conn.execute("SELECT DISTINCT execution FROM touched").fetchall():
            mine, others = self.epochs.get(row, 0), self._before.get(row, 0)
            if mine < others:
                self._run.faults.append(f"epoch {mine} wrote to execution {row} at {others}")


def _epochs(conn: Transaction) -> dict[int, int]:
    return dict(conn.execute("SELECT execution, epoch FROM leases").fetchall())


class Run:
    """One run of a seed's program.

    Args:
        home: where the store is.
        seed: chooses the program, and what happens besides blows.
        blows: what happens to a process, by the number of the transaction.
        cancel_at: after how many transactions a client cancels it, if ever.
    """

    def __init__(
        self,
        home: Path,
        seed: int,
        *,
        blows: dict[int, Blow] | None = None,
        cancel_at: int | None = None,
    ) -> None:
        self.home = home
        self.rng = random.Random(f"run {seed} {bool(blows)}")
        self.baton = Baton(self.rng)
        self.blows = blows or {}
        self.struck = 0
        self.cancel_at = cancel_at
        self.is_cancelled = False
        self.commits = 0
        self.faults: list[str] = []
        self.trace: list[str] = []
        self._seed = seed
        self._processes: list[Process] = []
        self._client = KitaruClient(home=home)
        self._store = open_store(config.find_home(home))

    # --- what replaces parts of Kitaru -------------------------------------------------------

    @contextlib.contextmanager
    def installed(self) -> Iterator[None]:
        """While transactions, hearts, ids and leases are this run's."""
        write, take = Database.write, leases.take

        def here(database: Database) -> Process | None:
            process = self.baton.here.process
            return process if isinstance(process, Process) and process.store is database else None

        @contextlib.contextmanager
        def watched(database: Database) -> Iterator[Transaction]:
            process = here(database)
            if process is None:
                with write(database) as conn:
                    yield conn
                return
            self.baton.rest()
            blow = self._next_commit(process)
            self._strike(process, blow, "before")
            try:
                with write(database) as conn:
                    process.begin(conn)
                    yield conn
                    process.check(conn)
                    if blow == "dies inside":
                        raise Died
            except Died:
                process.die()
            self._strike(process, blow, "after")

        def taken(conn: Transaction, **given: Any) -> leases.Lease:
            lease = take(conn, **given)
            process = self.baton.here.process
            assert isinstance(process, Process)
            process.epochs[lease.execution] = lease.epoch
            return lease

        hearts = _Hearts(self.baton)
        random.seed(self._seed)  # what pauses between attempts are drawn from
        with (
            self.baton.installed(),
            ids.use(self._next_id),
            mock.patch.object(Database, "write", watched),
            mock.patch.object(leases, "take", taken),
            mock.patch.object(host, "is_dead", return_value=False),  # only their leases tell
            mock.patch.object(runtime, "heart", hearts),
            mock.patch.object(pending, "heart", hearts),
            mock.patch.multiple(config, TICK_SECONDS=1.0, POLL_SECONDS=1.0, REST_SECONDS=2.0),
        ):
            programs.world = programs.World(ran=self._ran)
            yield

    def _next_id(self) -> str:
        return f"{self._store.read('SELECT count(*) FROM executions')[0][0]:016}"

    def _next_commit(self, process: Process) -> Blow | None:
        self.commits += 1
        blow = self.blows.get(self.commits)
        self.struck += blow is not None
        self.trace.append(f"{self._processes.index(process)} {self.baton.now_us()} {blow}")
        return blow

    def _strike(self, process: Process, blow: Blow | None, side: str) -> None:
        if blow == f"dies {side}":
            process.die()
        elif blow == f"stalls {side}":
            process.stall()

    def _ran(self, key: str) -> None:
        """A checkpoint runs: its call is not recorded yet, unless its driver was overtaken."""
        exec_id, _, call_id = key.partition("/")
        process = self.baton.here.process
        assert isinstance(process, Process)
        rows = self._store.read(
            "SELECT id, epoch, (SELECT status FROM calls WHERE execution = id AND call_id = ?) "
            "FROM executions JOIN leases ON execution = id WHERE exec_id = ?",
            (call_id, exec_id),
        )
        row, epoch, status = rows[0]
        if status == "completed" and process.epochs[row] == epoch:
            self.faults.append(f"{key} ran although it was recorded")
        self.baton.rest()

    # --- the world outside -------------------------------------------------------------------

    def see_through(self) -> None:
        """Drive the program to its end, with whatever processes are left."""
        while not self._is_over():
            assert self.baton.turns < MOST_TURNS, "it does not come to an end"
            self._answer()
            self._cancel()
            self._take_up()
            self.baton.rest(lambda: False, seconds=self.rng.uniform(0.1, 6.0))
        self.faults += [f"a thread ended with {exc!r}" for exc in self.baton.failures]
        self._judge_drivers()

    def leave(self) -> None:
        """Close what is open, and let threads of dead processes end."""
        for process in self._processes:
            process.store.close()
        self.baton.let_all_leave()
        support.forget(self.home)

    def _is_over(self) -> bool:
        rows = self._store.read(
            "SELECT status, failure FROM executions WHERE exec_id = ?", (EXEC_ID,)
        )
        if any(map(self._is_busy, self._processes)):
            return False
        if not rows:
            self._spawn(self._start)
            return False
        status, failure = rows[0]
        if status == "failed" and programs.TO_MEND in failure:
            programs.world.is_mended = True
            self._spawn(lambda store: self._again("retry", store, EXEC_ID))
            return False
        return ExecutionStatus(status).is_finished

    def _is_busy(self, process: Process) -> bool:
        return process.back_us is not None and self.baton.has_threads(process)

    def _take_up(self) -> None:
        with self._store.snapshot() as conn:
            found = due.undriven(conn)
        for each in found:
            if self.rng.random() < 0.7:
                self._spawn(
                    lambda store, exec_id=each.exec_id: self._again("resume", store, exec_id)
                )

    def _answer(self) -> None:
        rows = self._store.read(
            "SELECT exec_id, call_id FROM waits JOIN executions ON id = execution "
            "WHERE waits.status = 'pending' ORDER BY execution, seq"
        )
        for exec_id, wait in rows:
            if self.rng.random() < 0.5:
                value = programs.answer_to(f"{exec_id}/{wait}")
                with contextlib.suppress(KitaruStateError):  # its execution runs just now
                    self._client.executions.input(exec_id, wait=wait, value=value)

    def _cancel(self) -> None:
        if self.cancel_at is not None and self.commits >= self.cancel_at and not self.is_cancelled:
            # It may have ended, or never been there.
            with contextlib.suppress(KitaruStateError, KitaruNotFoundError):
                self._client.executions.cancel(EXEC_ID)
                self.is_cancelled = True

    def _spawn(self, work: Callable[[Store], None]) -> None:
        """Let some living process do something on a thread of its own."""
        alive = [each for each in self._processes if each.back_us is not None]
        awake = [each for each in alive if (each.back_us or 0) <= self.baton.now_us()]
        if not awake or (self.blows and len(alive) < PROCESSES and self.rng.random() < 0.5):
            awake = [Process(self)]
            self._processes += awake
        process = self.rng.choice(awake)
        self.baton.start(lambda: work(process.store), process)

    def _start(self, store: Store) -> None:
        flow = programs.program.definition
        drive_here(store, flow, launch.start(store, flow, {"seed": self._seed}), interactive=False)

    def _again(self, action: Literal["resume", "retry"], store: Store, exec_id: str) -> None:
        with store.snapshot() as conn:
            name = executions.get(conn, executions.find(conn, exec_id).id).flow_name
        flow = {"program": programs.program, "child": programs.child}[name].definition
        with contextlib.suppress(KitaruStateError):  # somebody else was quicker
            lease = getattr(launch, action)(store, flow, exec_id)
            drive_here(store, flow, lease, interactive=False)

    def _judge_drivers(self) -> None:
        for process in self._processes:
            for driver in process.drivers if process.back_us is not None else ():
                ending = driver.ending
                if ending is None or ending.why not in (*_ENDINGS, "lost"):
                    self.faults.append(f"a driver of {driver.exec_id} ended with {ending}")
                elif ending.why == "lost" and type(ending.error).__name__ != "KitaruLeaseError":
                    self.faults.append(f"an overtaken driver ended with {ending.error!r}")


_ENDINGS = ("complete", "fail", "cancel", "suspended")


class _Hearts:
    """Each process's own heart."""

    def __init__(self, baton: Baton) -> None:
        self._baton = baton

    def _mine(self) -> Process:
        process = self._baton.here.process
        assert isinstance(process, Process)
        return process

    def add(self, drive: Driver) -> None:
        self._mine().drivers.append(drive)
        self._mine().heart.add(drive)

    def remove(self, drive: Driver) -> None:
        self._mine().heart.remove(drive)

    def hurry(self) -> None:
        self._mine().heart.hurry()
