"""Resuming a flow with many recorded checkpoints: from the call of `resume` to its next line.

The flow makes its checkpoints and then asks again and again without holding a process, so that one
record serves all rounds. The floor reads and decodes as many rows of the same payload.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping, Sequence
from typing import Any

import kitaru
from benchmarks.rounds import Figures, Side, interleave, spread
from benchmarks.scope import Scope
from benchmarks.worker import Worker
from kitaru import KitaruClient, config, launch
from kitaru.handle import drive_here
from kitaru.store import open_store

RECORDED = (10, 100, 1000, 10_000)
QUICK = (1000,)
PATIENCE_SECONDS = 60
FLOOR = "reading the rows, bare SQLite"

_reached: list[float] = []


@kitaru.checkpoint
def step(number: int) -> str:
    """A checkpoint that does nothing worth mentioning."""
    return f"result {number}"


@kitaru.flow
def long(recorded: int) -> None:
    """Many checkpoints, then a question after the other."""
    for number in range(recorded):
        step(number)
    while kitaru.wait(name="go", schema=bool, timeout=0):
        _reached.append(time.perf_counter())


def fill(recorded: int) -> str:
    """An execution that has so many checkpoints behind it, and asks."""
    handle = long.run(recorded)
    _let_go(handle.exec_id)
    return handle.exec_id


def go_on(exec_id: str) -> dict[str, float]:
    """Answer it, and drive it on in this process."""
    client, store = KitaruClient(), open_store(config.find_home())
    (asked,) = client.executions.pending_waits(exec_id)
    client.executions.input(exec_id, wait=asked.name, value=True)
    _reached.clear()
    begun = time.perf_counter()
    lease = launch.resume(store, long.definition, exec_id)
    handle = drive_here(store, long.definition, lease, interactive=False)
    # Looking whether it has come so far would take the interpreter away from it.
    ended = threading.Event()
    handle.on_end(ended.set)
    assert ended.wait(PATIENCE_SECONDS)
    _let_go(exec_id)
    return {"seconds": _reached[0] - begun}


def _let_go(exec_id: str) -> None:
    executions = KitaruClient().executions
    while executions.continues(exec_id):
        time.sleep(0.001)


def run(scope: Scope) -> list[dict[str, Any]]:
    """Every length of record."""
    tables: list[dict[str, Any]] = []
    each: dict[int, Sequence[Figures | None]] = {}
    home = scope.place("home")
    for recorded in QUICK if scope.quick else RECORDED:
        with Worker("resume", home=home, durability="normal") as filling:
            exec_id = filling.run("fill", recorded=recorded)
        path = str(scope.folder / f"bare-{recorded}.db")
        with (
            Worker("floor") as floor,
            Worker("resume", home=home) as ours,
            scope.peer_sides("resume", floor=FLOOR) as peers,
        ):

            def bare(path: str = path, recorded: int = recorded, floor: Worker = floor) -> Any:
                return floor.run("read_rows", path=path, recorded=recorded)

            def kitarus(exec_id: str = exec_id, ours: Worker = ours) -> Any:
                return ours.run("go_on", exec_id=exec_id)

            sides = [Side(FLOOR, bare), Side("Kitaru", kitarus, FLOOR), *peers(recorded=recorded)]
            samples = interleave(sides, rounds=scope.rounds, times=3)
        each[recorded] = samples.rounds["Kitaru"]
        for key, title, unit, factor in (
            ("resume", "From the call of resume to the flow's next line", "ms", 1e3),
            ("each", "The same, for each recorded checkpoint", "µs", 1e6 / recorded),
        ):
            tables.append(
                samples.table(
                    f"{key}/{recorded}",
                    title=title,
                    column=f"{recorded:,} recorded",
                    figure=lambda figures, factor=factor: factor * figures["seconds"],
                    unit=unit,
                    at=recorded,
                )
            )
    return tables if scope.quick else [*tables, _growth(each)]


def _growth(each: Mapping[int, Sequence[Figures | None]]) -> dict[str, Any]:
    """The time for each checkpoint of the longest record, against that of a tenth as many."""
    some, many = RECORDED[-2:]
    values = {
        recorded: [1e6 * round_["seconds"] / recorded for round_ in each[recorded] if round_]
        for recorded in (some, many)
    }
    ratios = [a / b for a, b in zip(values[many], values[some], strict=True)]
    told = {**spread(values[many]), "floor": f"each of {some:,}", "ratio": spread(ratios)}
    return {
        "key": "growth",
        "title": "How that grows",
        "column": f"each of {many:,} against each of {some:,}",
        "unit": "µs",
        "better": "less",
        "at": None,
        "sides": {"Kitaru": told},
        "left_out": {},
    }
