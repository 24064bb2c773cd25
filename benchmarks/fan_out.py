"""Steps beside each other: a hundred that sleep for 50 ms, on threads and in async tasks.

The floor is as many plain threads that sleep, and one commit of all their rows.
"""

from __future__ import annotations

import asyncio
import time
from typing import Any

import kitaru
from benchmarks.rounds import Side, interleave
from benchmarks.scope import Scope
from benchmarks.worker import Worker

COUNT, SECONDS = 100, 0.05
FLOOR = "bare threads and one commit"


@kitaru.checkpoint
def nap(seconds: float) -> float:
    """Sleeps on a thread."""
    time.sleep(seconds)
    return seconds


@kitaru.checkpoint
async def nap_async(seconds: float) -> float:
    """Sleeps in a task."""
    await asyncio.sleep(seconds)
    return seconds


_marks: list[float] = []


@kitaru.flow
def threads(count: int, seconds: float) -> float:
    """All calls at once, on a thread each."""
    _marks.append(time.perf_counter())
    total = sum(nap.map([seconds] * count, max_workers=count).result())
    _marks.append(time.perf_counter())
    return total


@kitaru.flow
async def tasks(count: int, seconds: float) -> float:
    """All calls at once, in a task each."""
    _marks.append(time.perf_counter())
    total = sum(await asyncio.gather(*(nap_async(seconds) for _ in range(count))))
    _marks.append(time.perf_counter())
    return total


def execute(flow: str, count: int, seconds: float) -> dict[str, float]:
    """One execution in this process."""
    _marks.clear()
    begun = time.perf_counter()
    {"threads": threads, "tasks": tasks}[flow].run(count, seconds).wait()
    ended = time.perf_counter()
    return {"seconds": ended - begun, "inside": _marks[1] - _marks[0]}


def run(scope: Scope) -> list[dict[str, Any]]:
    """Threads and tasks."""
    work = {"count": COUNT, "seconds": SECONDS}
    with (
        Worker("floor") as floor,
        Worker("fan_out", home=scope.place("home")) as ours,
        scope.peer_sides("fan_out", floor=FLOOR) as peers,
    ):
        sides = [
            Side(FLOOR, lambda: floor.run("fan_out", path=str(scope.folder / "bare.db"), **work)),
            Side("Kitaru, threads", lambda: ours.run("execute", flow="threads", **work), FLOOR),
            Side("Kitaru, async", lambda: ours.run("execute", flow="tasks", **work), FLOOR),
            *peers(**work),
        ]
        samples = interleave(sides, rounds=scope.rounds, times=3)
    title = f"{COUNT} steps of {1000 * SECONDS:.0f} ms at once"
    return [
        samples.table(
            key,
            title=title,
            column=column,
            figure=lambda figures, name=name: 1000 * figures[name],
            unit="ms",
            names=names,
        )
        for key, column, name, names in (
            ("whole", "the whole execution", "seconds", None),
            ("inside", "inside the flow", "inside", [side.name for side in sides[:3]]),
        )
    ]
