"""Readers that hold one state of the store for long, while others commit a hundred thousand times.

As long as one reads, the WAL grows; it is back within its limit with the next commit after that.
What clients ask of a large store never holds a state of it for long.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from benchmarks import stores
from kitaru import KitaruClient, config
from kitaru.store import Store, connection, executions, logs, open_store
from kitaru.store.logs import LogRecord
from tests import support
from tests.chaos.trial import Scope, Trial

#: What a commit adds, in bytes of a line, and the most that one transaction adds to a WAL.
LINE, TRANSACTION_BYTES = "x" * 200, 1024 * 1024
#: Of one transaction of a client's on a large store.
MOST_MS = 100.0
#: Two processes that hold a state: one with nothing but SQLite, one inside a long read of ours.
RAW = """
import os, sqlite3, sys
conn = sqlite3.connect(os.path.join(os.environ["KITARU_HOME"], "kitaru.db"), isolation_level=None)
conn.execute("BEGIN")
print(conn.execute("SELECT count(*) FROM logs").fetchone()[0], flush=True)
sys.stdin.readline()
print(conn.execute("SELECT count(*) FROM logs").fetchone()[0], flush=True)
"""
OURS = """
import sys
from kitaru import config
from kitaru.store import open_store
with open_store(config.find_home()).apart() as conn:
    print(conn.execute("SELECT count(*) FROM logs").fetchone()[0], flush=True)
    sys.stdin.readline()
    print(conn.execute("SELECT count(*) FROM logs").fetchone()[0], flush=True)
"""


def wal_bytes(home: Path) -> int:
    """How long the WAL is now."""
    return (home / "kitaru.db-wal").stat().st_size


@contextlib.contextmanager
def holding(home: Path, program: str) -> Iterator[None]:
    """A process that holds a state of the store while the block runs, and sees only that."""
    process = support.spawn(home, "-c", program)
    assert process.stdout is not None
    before = process.stdout.readline()
    yield
    assert process.stdin is not None
    print("again", file=process.stdin, flush=True)
    assert support.finish(process) == before.strip(), "the state it has held has changed"


def commit(store: Store, execution: int, *, seconds: float, most: int) -> int:
    """Commit lines one by one; how many it were."""
    until = time.monotonic() + seconds
    for number in range(most):
        if time.monotonic() > until:
            return number
        with store.write() as conn:
            logs.add(conn, execution, [LogRecord(number, "INFO", LINE)])
    return most


def run(home: Path, *, commits: int, seconds: float) -> str:
    """Commit under readers of both kinds, for half of the time each."""
    os.environ["KITARU_DURABILITY"] = "normal"  # no power is cut here, and it is five times as fast
    process, exec_id = support.start(home, "chain", length=1)
    support.finish(process)
    store = open_store(config.find_home(home))
    with store.snapshot() as conn:
        execution = executions.find(conn, exec_id).id
    done, largest = 0, 0
    for program in (RAW, OURS):
        with holding(home, program):
            done += commit(store, execution, seconds=seconds / 2, most=commits // 2)
            largest = max(largest, wal_bytes(home))
        commit(store, execution, seconds=seconds, most=2)
        after = wal_bytes(home)
        limit = connection._WAL_LIMIT_BYTES
        assert after <= limit + TRANSACTION_BYTES, f"the WAL has {after} bytes"
    assert len(KitaruClient(home=home).executions.logs(exec_id)) == done + 5
    assert support.is_sound(home)
    return (
        f"{done} commits under two readers, WAL up to {largest / 1e6:.0f} MB, "
        f"{after / 1e6:.0f} MB after (limit {limit / 1e6:.0f} MB)"
    )


# --- how long clients hold a state ----------------------------------------------------------------


class Stopwatch:
    """The longest transaction of a store's readers, in milliseconds, by what was asked."""

    def __init__(self, store: Store) -> None:
        self.longest: dict[str, float] = {}
        self.asked = ""
        for name in ("snapshot", "apart"):
            setattr(store, name, self._timed(getattr(store, name)))

    def _timed(self, held: Callable[..., Any]) -> Callable[..., Any]:
        @contextlib.contextmanager
        def timed(**options: Any) -> Iterator[Any]:
            with held(**options) as conn:
                begun = time.thread_time()  # others on the machine do not count
                yield conn
                took = 1000 * (time.thread_time() - begun)
            self.longest[self.asked] = max(self.longest.get(self.asked, 0.0), took)

        return timed


def questions(client: KitaruClient, exec_id: str) -> dict[str, Callable[[], Any]]:
    """What people and assistants ask of a large store."""
    ask = client.executions
    first = ask.list(limit=200)
    return {
        "list": lambda: ask.list(limit=200, cursor=first.next_cursor),
        "list by filters": lambda: ask.list("agent", "failed", tags=["nightly"], limit=200),
        "counts": ask.status_counts,
        "statistics": lambda: ask.statistics(["flow", "status"], ["mean:duration:avg"]),
        "statistics by day": lambda: ask.statistics(["time:day", "stack"]),
        "get": lambda: ask.get(exec_id),
        "logs": lambda: ask.logs(exec_id),
        "artifacts": lambda: client.artifacts.list(exec_id),
        "waits": ask.open_waits,
    }


def time_reads(scope: Scope) -> str:
    """Ask everything of a store of so many executions, three times; the best of each counts."""
    count = scope.times(100_000)
    home = stores.kept(count)
    client = KitaruClient(home=home)
    watch = Stopwatch(client._open())
    longest: dict[str, float] = {}
    for name, ask in questions(client, client.executions.latest().exec_id).items():
        for _ in range(3):
            watch.asked, watch.longest = name, {}
            ask()
            longest[name] = min(longest.get(name, 1e9), watch.longest[name])
    support.forget(home)
    worst = max(longest, key=longest.__getitem__)
    assert longest[worst] <= MOST_MS, f"{worst} holds a state for {longest[worst]:.0f} ms"
    return f"{count} executions, longest read {longest[worst]:.1f} ms ({worst})"


TRIALS = (
    Trial(
        name="readers",
        run=lambda scope: run(scope.home, commits=scope.times(100_000), seconds=40 * scope.factor),
    ),
    Trial(name="reads", run=time_reads, alone=True),
)
