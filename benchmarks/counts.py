"""Questions over many executions: statistics, listings, and what a start and an end cost.

The store is the generated one. Beside each statistic stands plain SQLite: the same question by
`GROUP BY` over a bare table of as many rows with the columns that are needed, in the same run.
The cost of a start and an end, two commits of the store's own functions, is measured in turn on a
store of a thousand executions and on the large one. `KITARU_BENCH_EXECUTIONS` sets its size.
"""

from __future__ import annotations

import os
import sqlite3
import statistics
import tempfile
import time
from collections.abc import Callable
from contextlib import closing
from datetime import timedelta
from pathlib import Path
from typing import Any

from benchmarks import patterns, stores
from kitaru import KitaruClient, codec, config, ids
from kitaru.store import Store, executions
from kitaru.store.executions import NewExecution

EXECUTIONS = int(os.environ.get("KITARU_BENCH_EXECUTIONS", "1000000"))
FEW = 1000
SEED = 1
READS = 7
STARTS = 40
ROUNDS = 7
FLOW, TAG = patterns.FLOWS[0], "nightly"
WEEK = patterns.END - timedelta(days=7)

#: What is asked: the client's arguments, the same in plain SQL, and the most it may take, in ms.
STATISTICS: dict[str, tuple[dict[str, Any], str, int]] = {
    "counts by status": (
        {"group_by": ["status"]},
        "SELECT status, count(*) FROM bare GROUP BY status",
        50,
    ),
    "day x status, mean duration": (
        {"group_by": ["time:day", "status"], "metrics": ["mean:duration:avg"]},
        "SELECT started_at / 86400000000, status, count(*), avg(ended_at - started_at) "
        "FROM bare GROUP BY 1, 2",
        200,
    ),
    "metadata sum by flow": (
        {"group_by": ["flow"], "metrics": ["cost:metadata:cost_usd:sum"]},
        "SELECT flow_name, count(*), sum(json_extract(metadata, '$.cost_usd')) "
        "FROM bare GROUP BY 1",
        1000,
    ),
}
#: Asked as well, without an aim.
MORE: dict[str, dict[str, Any]] = {
    "metadata sum by status": {"group_by": ["status"], "metrics": ["cost:metadata:cost_usd:sum"]},
    "hours": {"group_by": ["time:hour"]},
    "status of one week": {"group_by": ["status"], "since": WEEK},
    "p95 of durations by flow": {"group_by": ["flow"], "metrics": ["p:duration:p95"]},
    "by tag": {"group_by": ["tag"]},
}
LISTS: dict[str, dict[str, Any]] = {
    "nothing": {},
    "flow": {"flow": FLOW},
    "flow's id": {"flow": ids.flow_id("flows", FLOW)},
    "status": {"status": "failed"},
    "stack": {"stack": "gpu"},
    "tag": {"tags": [TAG]},
    "two tags": {"tags": [TAG, "v2"]},
    "since": {"since": WEEK},
    "flow, status": {"flow": FLOW, "status": "pending"},
    "flow, stack": {"flow": FLOW, "stack": "gpu"},
    "stack, status": {"stack": "gpu", "status": "pending"},
    "flow, stack, status": {"flow": FLOW, "stack": "gpu", "status": "cancelled"},
    "tag, status": {"tags": [TAG], "status": "pending"},
    "tag, flow, status": {"tags": [TAG], "flow": FLOW, "status": "pending"},
    "status, since": {"status": "cancelled", "since": WEEK},
}


def bare(home: config.Home, folder: Path) -> sqlite3.Connection:
    """A table with nothing but what the questions need, and an index on the status."""
    conn = sqlite3.connect(folder / "bare.db")
    conn.execute("PRAGMA journal_mode=WAL")
    conn.execute("ATTACH ? AS made", (os.fspath(home.database),))
    conn.execute(
        "CREATE TABLE bare AS SELECT id, flow_name, status, started_at, ended_at, metadata "
        "FROM made.executions"
    )
    conn.execute("CREATE INDEX bare_status ON bare (status)")
    conn.commit()
    conn.execute("DETACH made")
    return conn


def timed(work: Callable[[], object]) -> float:
    """Milliseconds of one go."""
    begun = time.perf_counter()
    work()
    return (time.perf_counter() - begun) * 1000


def start_and_end(store: Store) -> float:
    """Milliseconds of an execution's start and end, in two commits of a driver's kind."""
    new = NewExecution(
        exec_id=ids.new_execution_id(),
        flow_id=ids.flow_id("flows", FLOW),
        flow_name=FLOW,
        inputs=codec.encode({}),
        spec={},
        tags=(TAG,),
    )
    begun = time.perf_counter()
    with store.write() as conn:
        number = executions.create(conn, new)
        executions.advance(conn, executions.at(conn, number), "start")
    with store.write() as conn:
        executions.set_metadata(conn, number, {"cost_usd": 0.5, "model": "one"})
        executions.advance(conn, executions.at(conn, number), "complete")
    return (time.perf_counter() - begun) * 1000


def growth(large: Path) -> dict[str, float]:
    """What a start and an end cost on few executions and on many, in turn."""
    with tempfile.TemporaryDirectory() as name:
        small = config.find_home(name)
        small.database.unlink(missing_ok=True)
        stores.generate(small, count=FEW, seed=SEED)
        opened = {
            "few": Store(small, durability="full"),
            "many": Store(config.find_home(os.fspath(large)), durability="full"),
        }
        found: dict[str, list[float]] = {key: [] for key in opened}
        for _ in range(ROUNDS):
            for key, store in opened.items():
                found[key].append(statistics.median(start_and_end(store) for _ in range(STARTS)))
        for store in opened.values():
            store.close()
    few, many = (statistics.median(found[key]) for key in ("few", "many"))
    return {"few": few, "many": many, "ratio": many / few}


def main() -> dict[str, Any]:
    """Measure, print, and return the figures."""
    home = config.find_home(stores.kept(EXECUTIONS, seed=SEED))
    client = KitaruClient(home=home.path).executions
    figures: dict[str, Any] = {"executions": EXECUTIONS, "statistics": {}, "lists": {}}
    print(f"questions over {EXECUTIONS:,} executions (ms, median of {READS})")
    with tempfile.TemporaryDirectory() as name, closing(bare(home, Path(name))) as conn:
        for what, (asked, sql, aim) in STATISTICS.items():
            plain, ours = [], []
            for _ in range(READS):
                plain.append(timed(lambda sql=sql: conn.execute(sql).fetchall()))
                ours.append(timed(lambda asked=asked: client.statistics(**asked)))
            floor, mine = statistics.median(plain), statistics.median(ours)
            figures["statistics"][what] = {"plain": floor, "kitaru": mine}
            print(
                f"  {what:30} plain SQLite {floor:8.1f}   kitaru {mine:8.1f}   "
                f"{mine / floor:6.3f} x   (at most {aim})"
            )
    for what, asked in MORE.items():
        mine = statistics.median(
            timed(lambda asked=asked: client.statistics(**asked)) for _ in range(3)
        )
        figures["statistics"][what] = {"kitaru": mine}
        print(f"  {what:30} {'':21}   kitaru {mine:8.1f}")
    for what, filters in LISTS.items():
        taken = [timed(lambda it=filters: client.list(limit=50, **it)) for _ in range(READS)]
        figures["lists"][what] = statistics.median(taken)
    slowest = max(figures["lists"], key=figures["lists"].__getitem__)
    print(
        f"  newest 50 by {len(LISTS)} filters: {min(figures['lists'].values()):.1f} to "
        f"{figures['lists'][slowest]:.1f} ({slowest})   (at most 10)"
    )
    exec_id = client.list(limit=50)[-1].exec_id
    figures["get"] = statistics.median(timed(lambda: client.get(exec_id)) for _ in range(READS))
    print(f"  get: {figures['get']:.1f}   (at most 5)")
    figures["start and end"] = grown = growth(home.path)
    print(
        f"  a start and an end: {grown['few']:.2f} at {FEW:,}, {grown['many']:.2f} at "
        f"{EXECUTIONS:,}   {grown['ratio']:.2f} x   (0.8 to 1.2)"
    )
    return figures


if __name__ == "__main__":
    main()
