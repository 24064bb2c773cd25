"""Looking at many executions: a list, one execution, statistics, on stores of 10³ to 10⁶.

The stores are generated, as months of use would make them. The floor is plain SQLite over a bare
table of as many rows with the columns that are needed: the newest fifty by their key, one by its
key, and counts by `GROUP BY`. `benchmarks.counts` asks more at one size.
"""

from __future__ import annotations

import sqlite3
import tempfile
from contextlib import closing
from functools import cache
from pathlib import Path
from typing import Any

from benchmarks import counts, stores
from benchmarks.rounds import Side, interleave
from benchmarks.scope import Scope
from benchmarks.worker import Worker
from kitaru import KitaruClient, config

SIZES = (1000, 10_000, 100_000, 1_000_000)
QUICK = (10_000,)
PAGE = 50
FLOOR = "bare SQLite"
QUESTIONS = {
    "list": "List of the newest 50",
    "filtered": "List of the newest 50 of a flow",
    "get": "One execution, with its checkpoints",
    "statistics": "Counts by status",
}
_SQL = {
    "list": f"SELECT * FROM bare ORDER BY id DESC LIMIT {PAGE}",
    "filtered": f"SELECT * FROM bare WHERE flow_name = '{counts.FLOW}' ORDER BY id DESC "
    f"LIMIT {PAGE}",
    "get": "SELECT * FROM bare WHERE id = (SELECT max(id) - 20 FROM bare)",
    "statistics": "SELECT status, count(*) FROM bare GROUP BY status",
}


@cache
def _bare(home: str) -> sqlite3.Connection:
    folder = Path(tempfile.mkdtemp(dir=Path(home).parent))
    with closing(counts.bare(config.find_home(home), folder)):
        pass
    conn = sqlite3.connect(folder / "bare.db")
    conn.execute("CREATE UNIQUE INDEX bare_id ON bare (id)")
    conn.execute("CREATE INDEX bare_flow ON bare (flow_name, id)")
    conn.commit()
    for path in folder.glob("bare.db*"):
        path.unlink()  # it lives for as long as it is open
    folder.rmdir()
    return conn


def plain(home: str) -> dict[str, float]:
    """Every question of plain SQLite."""
    conn = _bare(home)
    return {
        name: counts.timed(lambda sql=sql: conn.execute(sql).fetchall())
        for name, sql in _SQL.items()
    }


def asked() -> dict[str, float]:
    """Every question of the client."""
    client = KitaruClient().executions
    exec_id = _some()
    questions = {
        "list": lambda: client.list(limit=PAGE),
        "filtered": lambda: client.list(flow=counts.FLOW, limit=PAGE),
        "get": lambda: client.get(exec_id),
        "statistics": lambda: client.statistics(group_by=["status"]),
    }
    return {name: counts.timed(question) for name, question in questions.items()}


@cache
def _some() -> str:
    return KitaruClient().executions.list(limit=PAGE)[-1].exec_id


def run(scope: Scope) -> list[dict[str, Any]]:
    """Every question at every size."""
    tables = []
    for size in QUICK if scope.quick else SIZES:
        home = stores.kept(size, seed=counts.SEED)
        with Worker("queries") as floor, Worker("queries", home=home) as ours:

            def bare(home: Path = home, floor: Worker = floor) -> Any:
                return floor.run("plain", home=str(home))

            def kitarus(ours: Worker = ours) -> Any:
                return ours.run("asked")

            sides = [Side(FLOOR, bare), Side("Kitaru", kitarus, FLOOR)]
            samples = interleave(sides, rounds=scope.rounds, times=5)
        tables += [
            samples.table(
                f"{name}/{size}",
                title=title,
                column=f"{size:,}",
                figure=name,
                unit="ms",
                at=size,
            )
            for name, title in QUESTIONS.items()
        ]
    return tables
