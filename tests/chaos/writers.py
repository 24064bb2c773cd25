"""Many processes write one store at the same time, and none is ever told that it is locked.

Flows are run to their ends; then processes record calls as fast as they can, and each transaction
is timed from asking for its turn to the end of its commit. The same load without the store's lock,
where only SQLite's busy handler makes writers wait, is timed beside it for comparison.

`python -m tests.chaos.writers HOW SECONDS` is one of those processes; it tells its times.
"""

from __future__ import annotations

import contextlib
import json
import sqlite3
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path

from kitaru import config, launch, targets
from kitaru.errors import KitaruError
from kitaru.models import CallStatus
from kitaru.store import Lease, Store, Transaction, journal, leases, open_store
from kitaru.store.journal import CallRecord
from tests import support
from tests.chaos import figures
from tests.chaos.trial import Scope, Trial

FLOWS = 4
PROCESSES = 8
BUSY_SECONDS = 30.0
#: So many, and a process gives up: a damaged file refuses everything.
MOST_ERRORS = 100
RESULT = b'"' + b"r" * 200 + b'"'

#: What begins and commits one transaction.
Write = Callable[[], AbstractContextManager[Transaction]]


def run(home: Path, *, executions: int, length: int = 5) -> str:
    """Run this many executions in each of several processes."""
    (reference, _) = support.start(home, "chain", length=length)
    result = json.loads(support.finish(reference))
    started = [support.start(home, "chain", copies=executions, length=length) for _ in range(FLOWS)]
    for process, _ in started:
        outcomes = [json.loads(line) for line in support.rest(process)[-executions:]]
        assert outcomes == [result] * executions
    statuses = support.query(home, "SELECT status, count(*) FROM executions GROUP BY status")
    assert statuses == [("completed", FLOWS * executions + 1)]
    calls = support.query(home, "SELECT count(*) FROM calls WHERE status = 'completed'")
    assert calls == [((FLOWS * executions + 1) * length,)]
    assert support.is_sound(home)
    return f"{FLOWS} processes, {executions} flows each"


def press(home: Path, how: str, *, seconds: float) -> str:
    """Let many processes record calls for so long; how long each transaction took."""
    writing = [
        support.spawn(home, "-m", "tests.chaos.writers", how, str(seconds))
        for _ in range(PROCESSES)
    ]
    told = [json.loads(support.finish(process)) for process in writing]
    errors = [error for each in told for error in each["errors"]]
    waits = [wait for each in told for wait in each["waits"]]
    if how == "store":
        assert not errors, f"{len(errors)} errors, such as {errors[0]}"
        assert support.query(home, "SELECT count(*) FROM calls") == [(len(waits),)]
    evenly = figures.shares([len(each["waits"]) for each in told])
    return f"{len(waits)} commits, {len(errors)} errors, {figures.times(waits)}, {evenly}"


def record_calls(
    write: Write, lease: Lease, *, seconds: float, result: bytes = RESULT
) -> tuple[list[float], list[str]]:
    """Record one call after the other; how long each took, and what was refused."""
    waits: list[float] = []
    errors: list[str] = []
    until = time.monotonic() + seconds
    while time.monotonic() < until and len(errors) < MOST_ERRORS:
        began = time.perf_counter()
        try:
            with write() as conn:
                leases.fence(conn, lease)
                journal.put(conn, lease.execution, _call(len(waits) + 1), result=result)
        except (sqlite3.Error, KitaruError) as exc:
            errors.append(f"{type(exc).__name__}: {exc}")
        else:
            waits.append(time.perf_counter() - began)
    return waits, errors


def _call(number: int) -> CallRecord:
    return CallRecord(
        seq=number,
        lane="",
        position=number,
        call_id=f"step#{number}",
        kind="checkpoint",
        status=CallStatus.COMPLETED,
        inputs_digest=b"inputs",
        inputs_shown="",
    )


def plain(path: Path) -> Write:
    """Transactions as SQLite alone makes them wait for each other."""
    conn = sqlite3.connect(path, timeout=BUSY_SECONDS, isolation_level=None)
    conn.execute("PRAGMA synchronous=FULL")

    @contextlib.contextmanager
    def write() -> Iterator[Transaction]:
        conn.execute("BEGIN IMMEDIATE")
        try:
            yield conn
        except BaseException:
            conn.execute("ROLLBACK")
            raise
        conn.execute("COMMIT")

    return write


def start(store: Store) -> Lease:
    """An execution to record calls in."""
    flow = targets.load("tests.flows:chain", root=str(support.ROOT)).definition
    return launch.start(store, flow, {})


def main() -> None:
    """Be one of the processes."""
    how, seconds = sys.argv[1:]
    store = open_store(config.find_home())
    lease = start(store)
    write = store.write if how == "store" else plain(store.path)
    waits, errors = record_calls(write, lease, seconds=float(seconds))
    print(json.dumps({"waits": waits, "errors": errors}), flush=True)


def _trial(scope: Scope) -> str:
    homes = [scope.home / name for name in ("flows", "store", "plain")]
    for home in homes:
        home.mkdir(mode=0o700)
    flows = run(homes[0], executions=scope.times(30))
    ours = press(homes[1], "store", seconds=20 * scope.factor)
    alone = press(homes[2], "plain", seconds=5 * scope.factor)
    return (
        f"{flows}; {PROCESSES} processes, {20 * scope.factor:g} s: {ours}; "
        f"SQLite's own waiting, {5 * scope.factor:g} s: {alone}"
    )


TRIALS = (Trial(name="writers", run=_trial, alone=True),)

if __name__ == "__main__":
    main()
