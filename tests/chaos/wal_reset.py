"""Writers beside processes that fold the WAL into the file all the time: no commit is lost.

SQLite before 3.51.3 can lose commits when one process folds the WAL in while another begins it
anew. Under the store's lock the two never meet; so the store's own maintenance runs beside writers
as often as it can, in processes of their own. The same without the lock, on a file of plain SQLite,
shows whether this attack finds the fault in the engine of this machine. No power is cut here, so
that nothing is pushed to disk: the quicker they are, the more often they meet.

`python -m tests.chaos.wal_reset ROLE SECONDS` is one of those processes.
"""

from __future__ import annotations

import contextlib
import json
import random
import sqlite3
import sys
import time
from pathlib import Path

from kitaru import KitaruClient, config
from kitaru.store import Store, maintenance, open_store, sqlite_version
from tests import support
from tests.chaos import writers
from tests.chaos.trial import Scope, Trial

WRITERS = 2
RUNS, SECONDS = 2, 15.0
CONTROLS, CONTROL_SECONDS = 2, 5.0
#: Pages of their own for most calls: a lost page that many calls share is soon written again.
RESULT = b'"' + b"r" * 3000 + b'"'


def race(home: Path, kind: str, *, side: int, seconds: float) -> int:
    """Let writers and others run side by side; how many commits were acknowledged."""
    home.mkdir(mode=0o700)
    open_store(config.Home(home, "test")).close()
    roles = [f"{kind}-writes"] * WRITERS + [f"{kind}-folds"] * side
    started = [
        support.spawn(home, "-m", "tests.chaos.wal_reset", role, str(seconds)) for role in roles
    ]
    told = [json.loads(support.finish(process)) for process in started]
    errors = [error for each in told for error in each["errors"]]
    assert not errors, f"{len(errors)} errors, such as {errors[0]}"
    return sum(each["done"] for each in told[:WRITERS])


def check(home: Path, acknowledged: int) -> None:
    """Every acknowledged call is there, and the file and all values in it are sound."""
    ((kept,),) = support.query(home, "SELECT count(*) FROM calls")
    assert kept == acknowledged, f"{acknowledged - kept} of {acknowledged} commits are lost"
    assert support.is_sound(home)
    found = KitaruClient(home=home).store.examine(full=True)
    assert {each.code for each in found} <= {"stalled"}, found
    support.forget(home)


def maintain(store: Store, rng: random.Random, *, seconds: float) -> int:
    """Whatever the store does with its file besides writing rows; how often."""
    copy = store.home.path / f"copy-{rng.random()}"
    until, done = time.monotonic() + seconds, 0
    while time.monotonic() < until:
        chosen = rng.random()
        if chosen < 0.002:
            maintenance.compact(store)
        elif chosen < 0.004:
            maintenance.back_up(store, copy, progress=None)
            copy.unlink()
        elif chosen < 0.05:
            Store(store.home, durability="normal").close()
        else:
            with store.alone() as conn:
                conn.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchall()
        done += 1
    return done


def fold(path: Path, *, seconds: float) -> int:
    """Fold the WAL in without a lock, as any program can that opens the file; how often."""
    until, done = time.monotonic() + seconds, 0
    with contextlib.closing(sqlite3.connect(path, timeout=30, isolation_level=None)) as conn:
        conn.execute("PRAGMA synchronous=OFF")
        while time.monotonic() < until:
            with contextlib.suppress(sqlite3.Error):  # damaged already: its writers will tell
                conn.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchall()
            done += 1
    return done


def act(role: str, seconds: float) -> dict[str, object]:
    """What one of the processes does, and what came of it."""
    store = open_store(config.find_home())
    errors: list[str] = []
    if role == "plain-folds":
        return {"done": fold(store.path, seconds=seconds), "errors": errors}
    with store.alone() as conn:
        conn.execute("PRAGMA synchronous=OFF")
    if role == "store-folds":
        return {"done": maintain(store, random.Random(), seconds=seconds), "errors": errors}
    lease = writers.start(store)
    write = store.write if role == "store-writes" else writers.plain(store.path, synchronous="OFF")
    waits, errors = writers.record_calls(write, lease, seconds=seconds, result=RESULT)
    return {"done": len(waits), "errors": errors}


def control(home: Path, *, side: int, seconds: float) -> bool:
    """Whether anything is lost or damaged without the lock."""
    try:
        check(home, race(home, "plain", side=side, seconds=seconds))
    except (AssertionError, sqlite3.Error):
        return True
    return False


def _trial(scope: Scope) -> str:
    runs, controls = scope.times(RUNS), scope.times(CONTROLS)
    commits = 0
    for number in range(runs):
        home = scope.home / f"run-{number}"
        commits += (acknowledged := race(home, "store", side=2 + number % 3, seconds=SECONDS))
        check(home, acknowledged)
    lost = sum(
        control(scope.home / f"control-{number}", side=1 + number % 2, seconds=CONTROL_SECONDS)
        for number in range(controls)
    )
    return (
        f"{runs} runs of {SECONDS:g} s, {commits} commits, 0 lost, 0 corrupt; control without the "
        f"lock: {lost} of {controls} runs of {CONTROL_SECONDS:g} s lost rows or were damaged "
        f"(SQLite {sqlite_version()})"
    )


TRIALS = (Trial(name="wal-reset", run=_trial),)

if __name__ == "__main__":
    print(json.dumps(act(sys.argv[1], float(sys.argv[2]))), flush=True)
