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
RUNS, SECONDS = 2, 12.0
CONTROLS, CONTROL_SECONDS = 4, 4.0
#: One after the other, without a step of Python between them.
FOLDS = 100
#: Pages of their own for most calls: a lost page that many calls share is soon written again.
RESULT = b'"' + b"r" * 3000 + b'"'


def race(home: Path, kind: str, *, counts: tuple[int, int], seconds: float) -> int:
    """Let writers and others run side by side; how many commits were acknowledged."""
    roles = [f"{kind}-writes"] * counts[0] + [f"{kind}-folds"] * counts[1]
    started = [
        support.spawn(home, "-m", "tests.chaos.wal_reset", role, str(seconds)) for role in roles
    ]
    told = [json.loads(support.finish(process)) for process in started]
    errors = [error for each in told for error in each["errors"]]
    assert not errors, f"{len(errors)} errors, such as {errors[0]}"
    return sum(each["done"] for each in told[: counts[0]])


def run(home: Path, *, side: int, writing: int = WRITERS, seconds: float = SECONDS) -> int:
    """Write beside the store's maintenance, and see that it is all there; how many commits."""
    home.mkdir(mode=0o700)
    acknowledged = race(home, "store", counts=(writing, side), seconds=seconds)
    ((kept,),) = support.query(home, "SELECT count(*) FROM calls")
    assert kept == acknowledged, f"{acknowledged - kept} of {acknowledged} commits are lost"
    assert support.is_sound(home)
    found = KitaruClient(home=home).store.examine(full=True)
    assert {each.code for each in found} <= {"stalled"}, found
    support.forget(home)
    return acknowledged


def control_loses(home: Path, *, side: int, seconds: float = CONTROL_SECONDS) -> bool:
    """Whether the same without the lock loses or damages anything."""
    home.mkdir(mode=0o700)
    with contextlib.closing(_connect(home)) as conn:
        conn.execute("PRAGMA journal_mode=WAL")
        conn.execute("CREATE TABLE rows (number INTEGER, padding BLOB)")
        conn.execute("CREATE INDEX numbers ON rows (number)")
    try:
        acknowledged = race(home, "plain", counts=(1, side), seconds=seconds)
        kept = support.query(home, "SELECT count(*) FROM rows")
        return kept != [(acknowledged,)] or not support.is_sound(home)
    except (AssertionError, sqlite3.Error):
        return True


def maintain(store: Store, rng: random.Random, *, seconds: float) -> int:
    """Whatever the store does with its file besides writing rows; how often."""
    copy = store.home.path / f"copy-{rng.random()}"
    until, done = time.monotonic() + seconds, 0
    while time.monotonic() < until:
        chosen = rng.random()
        if chosen < 0.001:
            maintenance.compact(store)
        elif chosen < 0.002:
            maintenance.back_up(store, copy, progress=None)
            copy.unlink()
        elif chosen < 0.02:
            Store(store.home, durability="normal").close()
        else:
            with store.alone() as conn:
                conn.executescript("PRAGMA wal_checkpoint(PASSIVE);" * FOLDS)
        done += 1
    return done


def _connect(home: Path) -> sqlite3.Connection:
    conn = sqlite3.connect(home / "kitaru.db", timeout=30, isolation_level=None)
    conn.execute("PRAGMA synchronous=OFF")
    return conn


def insert(home: Path, *, seconds: float) -> int:
    """Commit row after row without a lock; how many."""
    until, done = time.monotonic() + seconds, 0
    with contextlib.closing(_connect(home)) as conn:
        while time.monotonic() < until:
            done += 1
            scattered = done * 2_654_435_761 % 4_294_967_291
            conn.execute("INSERT INTO rows VALUES (?, ?)", (scattered, RESULT))
    return done


def fold(home: Path, *, seconds: float) -> int:
    """Fold the WAL in without a lock, as any program can that opens the file; how often."""
    until, done = time.monotonic() + seconds, 0
    with contextlib.closing(_connect(home)) as conn:
        while time.monotonic() < until:
            with contextlib.suppress(sqlite3.Error):  # damaged already: its writer will tell
                conn.executescript("PRAGMA wal_checkpoint(PASSIVE);" * FOLDS)
            done += FOLDS
    return done


def act(role: str, seconds: float) -> dict[str, object]:
    """What one of the processes does, and what came of it."""
    home, errors = config.find_home(), list[str]()
    if role.startswith("plain"):
        act_plainly = insert if role == "plain-writes" else fold
        return {"done": act_plainly(home.path, seconds=seconds), "errors": errors}
    store = open_store(home)
    with store.alone() as conn:
        conn.execute("PRAGMA synchronous=OFF")
    if role == "store-folds":
        return {"done": maintain(store, random.Random(), seconds=seconds), "errors": errors}
    lease = writers.start(store)
    waits, errors = writers.record_calls(store.write, lease, seconds=seconds, result=RESULT)
    return {"done": len(waits), "errors": errors}


def _trial(scope: Scope) -> str:
    runs, controls = scope.times(RUNS), scope.times(CONTROLS)
    commits = sum(run(scope.home / f"run-{each}", side=2 + each % 3) for each in range(runs))
    lost = sum(
        control_loses(scope.home / f"control-{each}", side=1 + each % 2) for each in range(controls)
    )
    return (
        f"{runs} runs of {SECONDS:g} s, {commits} commits, 0 lost, 0 corrupt; control without the "
        f"lock: {lost} of {controls} runs of {CONTROL_SECONDS:g} s lost rows or were damaged "
        f"(SQLite {sqlite_version()})"
    )


TRIALS = (Trial(name="wal-reset", run=_trial),)

if __name__ == "__main__":
    print(json.dumps(act(sys.argv[1], float(sys.argv[2]))), flush=True)
