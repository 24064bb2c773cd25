"""Artifacts of 1 kB to 100 MB: saved by a checkpoint and loaded again, beside a file.

Saving is a checkpoint's whole call: what is saved is on disk when it returns. Loading is the value
from its reference. The floor writes as many bytes into a new file, syncs it and reads it.
"""

from __future__ import annotations

import os
import time
from typing import Any

import kitaru
from benchmarks.rounds import Side, interleave
from benchmarks.scope import Scope
from benchmarks.worker import Worker
from kitaru import KitaruClient

SIZES = {"1 kB": 1000, "100 kB": 100_000, "10 MB": 10_000_000, "100 MB": 100_000_000}
QUICK = ("100 kB", "10 MB")
#: The largest are not measured more often than that: each leaves its bytes on the disk.
MOST_ROUNDS = 3
LARGE = 50_000_000
FLOOR = "a file, synced"

_values: dict[int, bytes] = {}


@kitaru.checkpoint
def save(size: int) -> int:
    """Saves one value."""
    kitaru.save("large", _values[size])
    return size


@kitaru.flow
def saving(size: int) -> float:
    """How long the checkpoint took."""
    begun = time.perf_counter()
    save(size)
    return time.perf_counter() - begun


def artifact(size: int) -> dict[str, float]:
    """Save a value, then load it."""
    if size not in _values:
        _values[size] = os.urandom(size)
    handle = saving.run(size)
    saved = handle.wait()
    (ref,) = KitaruClient().artifacts.list(handle.exec_id, name="large")
    begun = time.perf_counter()
    value = ref.load()
    loaded = time.perf_counter() - begun
    assert value == _values[size]
    return {"save": saved, "load": loaded}


def run(scope: Scope) -> list[dict[str, Any]]:
    """Every size."""
    tables = []
    path = str(scope.folder / "file")
    for name in QUICK if scope.quick else SIZES:
        size = SIZES[name]
        with Worker("floor") as floor, Worker("artifacts", home=scope.place(f"{size}")) as ours:

            def bare(size: int = size, floor: Worker = floor) -> Any:
                return floor.run("artifact", path=path, size=size)

            def kitarus(size: int = size, ours: Worker = ours) -> Any:
                return ours.run("artifact", size=size)

            rounds = min(scope.rounds, MOST_ROUNDS) if size > LARGE else scope.rounds
            sides = [Side(FLOOR, bare), Side("Kitaru", kitarus, FLOOR)]
            samples = interleave(sides, rounds=rounds, times=10 if size < LARGE // 10 else 1)
        for figure, title in (("save", "Saving"), ("load", "Loading")):
            tables.append(
                samples.table(
                    f"{figure}/{size}",
                    title=title,
                    column=name,
                    figure=lambda figures, figure=figure: 1000 * figures[figure],
                    unit="ms",
                    at=size,
                )
            )
    return tables
