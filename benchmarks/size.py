"""Bytes of the store for each small checkpoint, with everything that is kept about it.

It is the difference of two stores, of a short run and of a long one, each moved out of its WAL; so
what a store and an execution cost at the least is not in it. The floor is the bare table of steps.
"""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

from benchmarks.rounds import Side, interleave
from benchmarks.scope import Scope
from benchmarks.worker import Worker

SHORT, LONG = 500, 2500
#: Peers make the difference themselves, and some of them slowly.
FOR_PEERS = 100
FLOOR = "bare SQLite"


def _length(path: Path) -> int:
    """A database's size when nothing of it is in its WAL any more."""
    with closing(sqlite3.connect(path)) as conn:
        conn.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
    return path.stat().st_size


def run(scope: Scope) -> list[dict[str, Any]]:
    """The bytes are the same in each round, so there is only one."""

    def bare() -> dict[str, float]:
        found = []
        for steps in (SHORT, LONG):
            path = scope.folder / f"bare-{steps}.db"
            with Worker("floor") as worker:
                worker.run("sequential", path=str(path), steps=steps, durability="normal")
            found.append(_length(path))
        return {"bytes": (found[1] - found[0]) / (LONG - SHORT)}

    def kitarus() -> dict[str, float]:
        found = []
        for steps in (SHORT, LONG):
            home = scope.place(f"home-{steps}")
            with Worker("sequential", home=home, durability="normal") as worker:
                worker.run("execute", steps=steps)
            found.append(_length(home / "kitaru.db"))
        return {"bytes": (found[1] - found[0]) / (LONG - SHORT)}

    with scope.peer_sides("size", floor=FLOOR) as peers:
        sides = [Side(FLOOR, bare), Side("Kitaru", kitarus, FLOOR), *peers(steps=FOR_PEERS)]
        samples = interleave(sides, rounds=1, warm=False)
    return [
        samples.table(
            "bytes", title="Bytes for each small step", column="bytes", figure="bytes", unit="B"
        )
    ]
