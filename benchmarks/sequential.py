"""Steps one after the other: what a durable step costs, and a whole execution with its ends.

The floor writes a row of the same payload in one commit for each step. Inside the flow is from
before its first step to behind its last; the whole execution is from `run` to its result.
"""

from __future__ import annotations

import time
from typing import Any

import kitaru
from benchmarks.rounds import Side, interleave, spread
from benchmarks.scope import Scope
from benchmarks.worker import Worker
from kitaru import config
from kitaru.store import open_store

STEPS = (1, 10, 100, 1000)
QUICK = (1000,)
FULL, NORMAL = "bare SQLite, FULL", "bare SQLite, NORMAL"
OURS = {"Kitaru, FULL": "full", "Kitaru, NORMAL": "normal"}


@kitaru.checkpoint
def step(number: int) -> str:
    """A checkpoint that does nothing worth mentioning."""
    return f"result {number}"


_marks: list[float] = []


@kitaru.flow
def sequential(steps: int) -> int:
    """Short checkpoints, one after the other."""
    _marks.append(time.perf_counter())
    for number in range(steps):
        step(number)
    _marks.append(time.perf_counter())
    return steps


def execute(steps: int) -> dict[str, float]:
    """One execution in this process."""
    _marks.clear()
    begun = time.perf_counter()
    sequential.run(steps).wait()
    ended = time.perf_counter()
    return {"seconds": ended - begun, "inside": _marks[1] - _marks[0]}


def commits(steps: int) -> int:
    """How many transactions one execution commits."""
    seen: list[str] = []
    writer = open_store(config.find_home())._writer
    writer.set_trace_callback(lambda sql: seen.append(sql) if sql == "COMMIT" else None)
    sequential.run(steps).wait()
    writer.set_trace_callback(None)
    return len(seen)


def run(scope: Scope) -> list[dict[str, Any]]:
    """Every number of steps, at both levels."""
    tables = []
    with (
        Worker("floor") as floor,
        Worker("sequential", home=scope.place("full")) as full,
        Worker("sequential", home=scope.place("normal"), durability="normal") as normal,
        scope.peer_sides("sequential", floor=FULL) as peers,
    ):
        for steps in QUICK if scope.quick else STEPS:

            def bare(level: str, steps: int = steps) -> Any:
                path = str(scope.folder / f"{level}.db")
                return lambda: floor.run("sequential", path=path, steps=steps, durability=level)

            def ours(worker: Worker, steps: int = steps) -> Any:
                return lambda: worker.run("execute", steps=steps)

            sides = [
                Side(FULL, bare("full")),
                Side(NORMAL, bare("normal")),
                Side("Kitaru, FULL", ours(full), FULL),
                Side("Kitaru, NORMAL", ours(normal), NORMAL),
                *peers(steps=steps),
            ]
            times = max(1, min(20, 200 // steps))
            samples = interleave(sides, rounds=scope.rounds, times=times)
            tables += _tables(samples, steps)
        tables.append(_commits(full, normal))
    return tables


def _tables(samples: Any, steps: int) -> list[dict[str, Any]]:
    column = f"{steps:,} step{'s' if steps > 1 else ''}"
    return [
        samples.table(
            f"step/{steps}",
            title="Time per step, inside the flow",
            column=column,
            figure=lambda figures: 1000 * figures["inside"] / steps,
            unit="ms",
            at=steps,
        ),
        samples.table(
            f"whole/{steps}",
            title="The whole execution, from its start to its result",
            column=column,
            figure=lambda figures: 1000 * figures["seconds"],
            unit="ms",
            at=steps,
        ),
    ]


def _commits(full: Worker, normal: Worker) -> dict[str, Any]:
    counted = {
        name: spread([worker.run("commits", steps=1)])
        for name, worker in zip(OURS, (full, normal), strict=True)
    }
    where = {"key": "commits/1", "title": "Commits of a whole execution", "column": "1 step"}
    return {**where, "unit": "", "better": "less", "at": 1, "sides": counted, "left_out": {}}
