"""Many processes take up executions that nobody drives: each is driven once, and none is left.

Each process does what a worker and its runners do, without a new process for each execution: it
looks for what is due, takes the lease in the transaction that checks whether it may, and drives.
They look in random order, so that they often want the same one.

`python -m tests.chaos.claims SEED` is one of them; it tells how long each claim took.
"""

from __future__ import annotations

import json
import random
import sys
import time
from collections import Counter
from pathlib import Path

from kitaru import KitaruStateError, config, launch, targets
from kitaru.store import Store, due, leases, open_store
from tests import support
from tests.chaos import figures, history
from tests.chaos.history import History
from tests.chaos.trial import Scope, Trial

PROCESSES = 8
#: Executions that a process tries before it looks again, and those made in one transaction.
HANDFUL = 50
TARGET = "tests.flows:chain"
ARGUMENTS = {"length": 1}


def make_stalled(home: Path, count: int) -> None:
    """Executions that are under way with nobody who drives them."""
    flow = targets.load(TARGET, root=str(support.ROOT)).definition
    prepared = launch.prepare(flow, launch.encoded(flow, ARGUMENTS))
    store = open_store(config.Home(home, "test"))
    for done in range(0, count, HANDFUL):
        with store.write() as conn:
            for _ in range(min(HANDFUL, count - done)):
                leases.release(conn, launch.create(conn, prepared).execution)


def claim_all(store: Store, rng: random.Random) -> tuple[list[float], list[float]]:
    """Take up and drive whatever is due; how long each claim took, and each that was refused."""
    flow = targets.load(TARGET, root=str(support.ROOT)).definition
    won: list[float] = []
    lost: list[float] = []
    while True:
        with store.snapshot() as conn:
            found = due.undriven(conn)
        if not found:
            return won, lost
        for each in rng.sample(found, min(HANDFUL, len(found))):
            began = time.perf_counter()
            try:
                lease = launch.resume(store, flow, each.exec_id)
            except KitaruStateError:  # another process was quicker
                lost.append(time.perf_counter() - began)
                continue
            won.append(time.perf_counter() - began)
            driver = launch.driver(store, flow, lease)
            driver.start()
            driver.ended.wait()


def check(home: Path, count: int) -> None:
    """Each execution was driven once after its start, completed, and ran its checkpoint once."""
    rows = support.query(
        home,
        "SELECT exec_id, status, epoch, runner IS NULL, "
        "(SELECT count(*) FROM logs WHERE logs.execution = executions.id "
        "AND message LIKE 'Resumed by %') "
        "FROM executions JOIN leases ON execution = id",
    )
    assert len(rows) == count, f"{count - len(rows)} are missing"
    wrong = [row for row in rows if row[1:] != ("completed", 2, 1, 1)]
    assert not wrong, f"{len(wrong)} were not driven exactly once, such as {wrong[:3]}"
    runs = Counter((home / "effects").read_text().split())
    assert runs == Counter(f"{exec_id}/step" for exec_id, *_ in rows)
    assert support.is_sound(home)


def run(home: Path, *, executions: int, rng: random.Random, processes: int = PROCESSES) -> str:
    """Let several processes take up so many executions."""
    make_stalled(home, executions)
    History(home).begin()
    seeds = [str(rng.random()) for _ in range(processes)]
    claiming = [support.spawn(home, "-m", "tests.chaos.claims", seed) for seed in seeds]
    for process in claiming:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
    began = time.monotonic()
    for process in claiming:
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()
    told = [json.loads(support.finish(process)) for process in claiming]
    seconds = time.monotonic() - began
    check(home, executions)
    noted = history.check(home)
    shares = [len(each["won"]) for each in told]
    assert sum(shares) == executions
    waits = [wait for each in told for wait in (*each["won"], *each["lost"])]
    return (
        f"{processes} processes, {executions} executions, 0 driven twice, 0 missing, "
        f"{noted}, {len(waits) - executions} refused; claim {figures.times(waits)}, "
        f"{figures.shares(shares)}, {executions / seconds:.0f}/s"
    )


def main() -> None:
    """Be one of the processes."""
    store = open_store(config.find_home())
    print("ready", flush=True)
    sys.stdin.readline()
    won, lost = claim_all(store, random.Random(sys.argv[1]))
    print(json.dumps({"won": won, "lost": lost}), flush=True)


def _trial(scope: Scope) -> str:
    return run(scope.home, executions=scope.times(10_000), rng=scope.rng)


TRIALS = (Trial(name="claims", run=_trial),)

if __name__ == "__main__":
    main()
