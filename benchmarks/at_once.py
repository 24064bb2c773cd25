"""Executions beside each other: a hundred of ten steps in one process, and several processes.

There are two floors: a row in each commit, and ten rows in each. The processes share one store and
divide the same number of executions among them; so do as many processes that write bare rows.
"""

from __future__ import annotations

import time
from contextlib import ExitStack
from typing import Any

import kitaru
from benchmarks.rounds import Samples, Side, interleave
from benchmarks.scope import Scope
from benchmarks.worker import Worker

EXECUTIONS, STEPS = 100, 10
PROCESSES = (1, 2, 4, 8)
SHARED = 40
ONE, TEN = "bare SQLite, one row a commit", "bare SQLite, ten rows a commit"
OURS = "Kitaru, FULL"
LEVELS = {"FULL": "full", "NORMAL": "normal"}


@kitaru.checkpoint
def step(number: int) -> str:
    """A checkpoint that does nothing worth mentioning."""
    return f"result {number}"


@kitaru.checkpoint
async def step_async(number: int) -> str:
    """The same as a coroutine."""
    return f"result {number}"


@kitaru.flow
def ten(steps: int) -> int:
    """Short checkpoints, one after the other."""
    for number in range(steps):
        step(number)
    return steps


@kitaru.flow
async def ten_async(steps: int) -> int:
    """The same as a coroutine."""
    for number in range(steps):
        await step_async(number)
    return steps


def together(flow: str, executions: int, steps: int) -> dict[str, float]:
    """All executions at once in this process."""
    of = {"sync": ten, "async": ten_async}[flow]
    begun = time.perf_counter()
    handles = [of.run(steps) for _ in range(executions)]
    for handle in handles:
        handle.wait()
    return {"seconds": time.perf_counter() - begun}


def one_by_one(executions: int, steps: int) -> None:
    """Executions one after the other."""
    for _ in range(executions):
        ten.run(steps).wait()


def run(scope: Scope) -> list[dict[str, Any]]:
    """In one process at both levels, then in several."""
    tables = [_in_one(scope, level) for level in (["FULL"] if scope.quick else LEVELS)]
    return tables if scope.quick else [*tables, *_in_several(scope)]


def _in_one(scope: Scope, level: str) -> dict[str, Any]:
    work = {"executions": EXECUTIONS, "steps": STEPS}
    path = str(scope.folder / f"{level}.db")
    bare = {"path": path, "steps": EXECUTIONS * STEPS, "durability": LEVELS[level]}
    home = scope.place(level)
    with (
        Worker("floor") as floor,
        Worker("at_once", home=home, durability=LEVELS[level]) as ours,
        ExitStack() as stack,
    ):
        sides = [
            Side(ONE, lambda: floor.run("sequential", **bare)),
            Side(TEN, lambda: floor.run("sequential", **bare, rows_a_commit=10), ONE),
            Side("Kitaru, threads", lambda: ours.run("together", flow="sync", **work), ONE),
            Side("Kitaru, async", lambda: ours.run("together", flow="async", **work), ONE),
        ]
        if level == "FULL":
            sides += stack.enter_context(scope.peer_sides("at_once", floor=ONE))(**work)
        samples = interleave(sides, rounds=scope.rounds)
    return samples.table(
        f"steps/{level}",
        title=f"Steps per second, {EXECUTIONS} executions of {STEPS} steps at once in one process",
        column=level,
        figure=lambda figures: EXECUTIONS * STEPS / figures["seconds"],
        unit="/s",
        better="more",
    )


def _in_several(scope: Scope) -> list[dict[str, Any]]:
    """Executions per second of one, two, four and eight processes on one store, at FULL."""
    home, path = scope.place("shared"), str(scope.folder / "shared.db")
    most = max(PROCESSES)
    with ExitStack() as stack:
        floor = [stack.enter_context(Worker("floor")) for _ in range(most)]
        ours = [stack.enter_context(Worker("at_once", home=home)) for _ in range(most)]
        floor[0].run("sequential", path=path, steps=1)  # the files are there for the others
        ours[0].run("one_by_one", executions=1, steps=STEPS)

        def side(name: str, count: int) -> Side:
            share = SHARED // count

            def go() -> dict[str, float]:
                begun = time.perf_counter()
                for one in floor[:count] if name == ONE else ours[:count]:
                    if name == ONE:
                        one.post("sequential", path=path, steps=share * STEPS)
                    else:
                        one.post("one_by_one", executions=share, steps=STEPS)
                for one in floor[:count] if name == ONE else ours[:count]:
                    one.take()
                return {"seconds": time.perf_counter() - begun}

            return Side(f"{name}/{count}", go, None if name == ONE else f"{ONE}/{count}")

        sides = [side(name, count) for count in PROCESSES for name in (ONE, OURS)]
        samples = interleave(sides, rounds=scope.rounds)
    return [_several_table(samples, count) for count in PROCESSES]


def _several_table(samples: Samples, count: int) -> dict[str, Any]:
    table = samples.table(
        f"processes/{count}",
        title=f"Executions of {STEPS} steps per second, by processes on one store, FULL",
        column=f"{count} process{'es' if count > 1 else ''}",
        figure=lambda figures: SHARED / figures["seconds"],
        unit="/s",
        better="more",
        at=count,
        names=[f"{ONE}/{count}", f"{OURS}/{count}"],
    )
    floor, ours = table["sides"].values()
    return {**table, "sides": {ONE: floor, OURS: {**ours, "floor": ONE}}}
