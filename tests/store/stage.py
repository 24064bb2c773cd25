"""The stage of the model test: a store with two handles, drivers played by hand, and a clock.

Nothing here is a rule; rules act through it, and see through `expecting` that what is refused is
refused with the right error and changes nothing.
"""

from __future__ import annotations

import atexit
import contextlib
import functools
import itertools
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine

from kitaru import KitaruClient, clock, codec, config, ids, launch
from kitaru.definition import FlowDefinition
from kitaru.errors import KitaruError, KitaruLeaseError
from kitaru.ledger import Ledger
from kitaru.models import CallStatus
from kitaru.store import Store, Transaction, executions, journal, leases
from kitaru.store import stacks as stored_stacks
from kitaru.store.artifacts import NewArtifact
from kitaru.store.journal import CallRecord
from tests.store.model import SECOND, Call, Model, Run

MOST_RUNS = 6
#: Where files are kept in memory, if the system has such a folder: only what they hold counts.
QUICK = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
STEP_US = SECOND // 10


class Broken(Exception):
    """What ends a transaction before its commit."""


class StillClock(clock.Clock):
    """Time passes when it is told to."""

    def __init__(self) -> None:
        self.now = 1_700_000_000 * SECOND

    def now_us(self) -> int:
        return self.now


class Desk(KitaruClient):
    """A client of a handle that is open already."""

    def __init__(self, opened: Store) -> None:
        super().__init__(home=opened.home.path)
        self._opened = opened

    def _open(self) -> Store:
        return self._opened


def first(n: Any) -> None:
    """A flow."""


def second(n: Any) -> None:
    """Another flow."""


FLOWS = (
    FlowDefinition(first, "first", tags=("nightly",)),
    FlowDefinition(first, "first", run_options={"stack": "far"}),
    FlowDefinition(second, "second", tags=("nightly", "ไทย")),
)


@dataclass
class Hand:
    """A driver that is played by hand, with what its ledger would know."""

    run: Run
    epoch: int
    ledger: Ledger
    flow: FlowDefinition


@functools.cache
def empty_store() -> Path:
    """A store without executions; each example starts from a copy of it."""
    folder = tempfile.mkdtemp(prefix="kitaru-model-", dir=QUICK)
    atexit.register(shutil.rmtree, folder)
    home = config.find_home(folder)
    made = Store(home, durability="normal")
    with made.write() as conn:
        stored_stacks.create(conn, "far", type=config.LOCAL_STACK_TYPE)
    made.close()
    return home.database


#: The last one lies in chunks beside its row.
VALUES: tuple[Any, ...] = (
    *(None, 0, -0.0, float("nan"), 2**70, "", "\ud800", (1, [b"\0"]), {1: "a", "1": {2}}),
    "x" * 40_000,
)
values = st.integers(0, len(VALUES) - 1)
answers = st.sampled_from([True, True, None, None, "text"])
saves = st.lists(st.tuples(st.sampled_from(["notes", "état"]), values), max_size=2)
which = st.integers(0, 2**16)
some = st.booleans()


class Stage(RuleBasedStateMachine):
    """Model and store, side by side."""

    #: Of all examples, for whoever counts them.
    steps = 0

    def __init__(self) -> None:
        super().__init__()
        self._around = contextlib.ExitStack()
        self.clock = StillClock()
        self._around.enter_context(clock.use(self.clock))
        numbers = itertools.count(1)
        self._around.enter_context(ids.use(lambda: f"{next(numbers):016d}"))
        self.folder = Path(self._around.enter_context(tempfile.TemporaryDirectory(dir=QUICK)))
        self.homes = itertools.count(1)
        self.model = Model()
        self.number = 0
        self.hands: list[Hand] = []
        self.touched: Run | None = None
        self.databases: list[Store] = []
        self._settle(empty_store().parent)

    def _settle(self, old: Path) -> None:
        """Go on with a copy of a store, as it lies on the disk now."""
        home = config.find_home(self.folder / f"home-{next(self.homes)}")
        home.path.mkdir(mode=0o700)
        for name in (config.DATABASE_NAME, f"{config.DATABASE_NAME}-wal"):
            if (old / name).exists():
                shutil.copyfile(old / name, home.path / name)
        self._open(home)

    def _open(self, home: config.Home) -> None:
        """Two handles, as two processes would have them."""
        for database in self.databases:
            database.close()
        self.databases = [Store(home, durability="normal") for _ in range(2)]
        self.desks = [Desk(database) for database in self.databases]
        for hand in self.hands:
            hand.ledger.store = self.databases[hand.epoch % 2]

    def teardown(self) -> None:
        for database in self.databases:
            database.close()
        self._around.close()

    # --- helpers ----------------------------------------------------------------------------------

    def desk(self, number: int) -> Desk:
        """One of the clients."""
        return self.desks[number % 2]

    def pick(self, number: int) -> Run:
        """One of the executions."""
        self.touched = self.model.runs[number % len(self.model.runs)]
        return self.touched

    def hand(self, number: int) -> Hand:
        """One of the drivers."""
        chosen = self.hands[number % len(self.hands)]
        self.touched = None if chosen.run.is_gone else chosen.run
        return chosen

    @contextlib.contextmanager
    def expecting(self, error: type[BaseException] | None, text: str = "") -> Iterator[None]:
        """See that an action is refused with this error and changes nothing, or not refused."""
        before = [database.version() for database in self.databases]
        found: BaseException | None = None
        try:
            yield
        except (KitaruError, Broken) as exc:
            found = exc
        assert isinstance(found, error or type(None)), f"{found!r}, not {error} {text!r}"
        if found is not None:
            assert text in str(found), f"{found} does not say {text!r}"
            after = [database.version() for database in self.databases]
            assert after == before, f"what was refused has changed something: {found!r}"

    def illegal(self, run: Run, action: str) -> str:
        """What a move that is not in the table is told."""
        return f"Cannot {action} execution {run.exec_id}: it is {run.status}."

    def write(self, hand: Hand, work: Callable[[Transaction], None], *, shared: bool) -> bool:
        """Write as a driver does; false, and nothing written, where it is one no more."""
        error = self.lease_error(hand)
        with self.expecting(KitaruLeaseError if error else None, error or ""):
            if shared:
                hand.ledger.together(work)
            else:
                with hand.ledger.commit() as conn:
                    work(conn)
        if error:
            self.hands.remove(hand)
        return error is None

    def lease_error(self, hand: Hand) -> str | None:
        """Why a driver may not write."""
        if hand.run.is_gone:
            return f"Execution {hand.run.exec_id} was deleted."
        if hand.epoch != hand.run.epoch:
            return f"Execution {hand.run.exec_id} was taken over"
        return None

    def take(self, run: Run, lease: leases.Lease, flow: FlowDefinition, database: Store) -> None:
        """A driver begins."""
        assert lease.epoch == run.epoch
        with database.snapshot() as conn:
            metadata = executions.drive_data(conn, lease.execution)["metadata"]
        self.hands.append(Hand(run, lease.epoch, Ledger(database, lease, metadata), flow))

    def put(self, conn: Transaction, hand: Hand, seq: int, call: Call, **more: Any) -> None:
        """Write a call's row, as it stands in the model, and what it settles."""
        now = self.clock.now
        order = seq if call.has_ended else None
        record = CallRecord(
            seq=seq,
            lane="",
            position=seq,
            call_id=call.call_id,
            kind=call.kind,  # type: ignore[arg-type]
            status=CallStatus(call.status),
            inputs_digest=b"",
            inputs_shown="",
            started_at=now,
            ended_at=now if call.has_ended else None,
            failure=failure(call.failure),
            due_at=call.due_at,
            **more,
        )
        data = codec.encode(call.value) if call.status == "completed" else None
        journal.put(conn, hand.ledger.lease.execution, record, order=order, result=data)

    def start_one(self, number: int, *, n: int, desk: int) -> None:
        """An execution of a flow."""
        flow = FLOWS[number]
        database, inputs = self.databases[desk % 2], {"n": VALUES[n]}
        lease = launch.start(database, flow, inputs)
        stack = flow.run_options.get("stack", "local")
        run = Run(lease.exec_id, flow.name, inputs, flow.tags, stack, self.clock.now)
        run.take(self.clock.now)
        self.model.runs.append(run)
        self.touched = run
        self.take(run, lease, flow, database)

    def spoil(self, conn: Transaction, execution: int) -> None:
        """Change everything about an execution, if there still is one."""
        if conn.execute("SELECT 1 FROM executions WHERE id = ?", (execution,)).fetchone():
            executions.set_metadata(conn, execution, {"spoilt": True})
        executions.set_outcome(conn, execution, result=b"1" * 50_000)
        leases.revoke(conn, execution)
        conn.execute("DELETE FROM calls WHERE execution = ?", (execution,))
        conn.execute("UPDATE executions SET status = 'cancelled' WHERE id = ?", (execution,))


def failure(message: str | None) -> dict[str, Any] | None:
    """A failure as drivers record it."""
    return None if message is None else {"message": message, "origin": "user_code"}


def encoded(saved: list[tuple[str, Any]], now: int) -> list[NewArtifact]:
    """Values as a checkpoint saves them."""
    return [NewArtifact(name, "context", ("t",), now, codec.encode(each)) for name, each in saved]
