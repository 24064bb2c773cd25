"""What one durable checkpoint costs, beside a bare SQLite insert-and-commit.

Both run in the same process, in turn, round by round; the figure to quote is the ratio of the
medians. The bare side writes one row with the same payload to a WAL file at the same
`synchronous` level, one commit each, and does nothing else.
"""

from __future__ import annotations

import os
import sqlite3
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import kitaru

STEPS = 300
ROUNDS = 7


@kitaru.checkpoint
def step(number: int) -> str:
    """A checkpoint that does nothing worth mentioning."""
    return f"result {number}"


_marks: list[float] = []


@kitaru.flow
def sequential(steps: int) -> int:
    """A flow of many short checkpoints, one after the other."""
    _marks.append(time.perf_counter())
    for number in range(steps):
        step(number)
    _marks.append(time.perf_counter())
    return steps


def bare(folder: Path, synchronous: str) -> float:
    """Seconds per insert-and-commit of plain sqlite3."""
    conn = sqlite3.connect(folder / "bare.db", isolation_level=None)
    conn.execute("PRAGMA journal_mode=WAL")
    conn.execute(f"PRAGMA synchronous={synchronous}")
    conn.execute("CREATE TABLE IF NOT EXISTS steps (id INTEGER PRIMARY KEY, name TEXT, value TEXT)")
    begun = time.perf_counter()
    for number in range(STEPS):
        conn.execute("BEGIN IMMEDIATE")
        conn.execute(
            "INSERT INTO steps (name, value) VALUES (?, ?)", ("step", f'"result {number}"')
        )
        conn.execute("COMMIT")
    spent = time.perf_counter() - begun
    conn.close()
    return spent / STEPS


def durable() -> float:
    """Seconds per checkpoint, inside the flow."""
    _marks.clear()
    sequential.run(STEPS).wait()
    return (_marks[1] - _marks[0]) / STEPS


def measure(synchronous: str) -> dict[str, Any]:
    """Both sides at one `synchronous` level, in milliseconds per step."""
    ours: list[float] = []
    floor: list[float] = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        os.environ["KITARU_HOME"] = str(folder / "home")
        os.environ["KITARU_DURABILITY"] = synchronous
        durable()
        for _ in range(ROUNDS):
            floor.append(bare(folder, synchronous) * 1000)
            ours.append(durable() * 1000)
    return {
        "synchronous": synchronous,
        "steps": STEPS,
        "rounds": ROUNDS,
        "bare_ms": [round(f(floor), 3) for f in (min, statistics.median, max)],
        "kitaru_ms": [round(f(ours), 3) for f in (min, statistics.median, max)],
        "ratio": round(statistics.median(ours) / statistics.median(floor), 2),
    }


def main() -> list[dict[str, Any]]:
    """Measure at both levels and print a table."""
    rows = [measure(level) for level in ("full", "normal")]
    print("one durable checkpoint against one bare insert-and-commit (ms: min / median / max)")
    for row in rows:
        low, middle, high = row["bare_ms"]
        print(f"  {row['synchronous']:7} bare   {low:.3f} / {middle:.3f} / {high:.3f}")
        low, middle, high = row["kitaru_ms"]
        print(f"  {'':7} kitaru {low:.3f} / {middle:.3f} / {high:.3f}   ratio {row['ratio']:.2f}")
    return rows


if __name__ == "__main__":
    main()
