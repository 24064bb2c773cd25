"""How soon a flow goes on after its wait was answered: from the call of `input` to its next line.

Its driver holds on to the wait; the answer comes from the same process, or from another that is up.
"""

from __future__ import annotations

import time
from typing import Any

import kitaru
from benchmarks.rounds import Side, interleave
from benchmarks.scope import Scope
from benchmarks.worker import Worker
from kitaru import KitaruClient
from kitaru.handle import FlowHandle

_asked: dict[str, FlowHandle[float]] = {}


@kitaru.flow
def ask() -> float:
    """Asks, and notes when it goes on."""
    kitaru.wait(name="approve", timeout=60)
    return time.time()


def begin() -> str:
    """A flow that waits, driven in this process."""
    handle = ask.run()
    _asked[handle.exec_id] = handle
    executions = KitaruClient().executions
    while not executions.pending_waits(handle.exec_id):
        time.sleep(0.001)
    time.sleep(0.05)  # it has settled down to waiting, as it has for a person's answer
    return handle.exec_id


def answer(exec_id: str) -> float:
    """Answer it; when that was called."""
    begun = time.time()
    KitaruClient().executions.input(exec_id, wait="approve", value=True)
    return begun


def went_on(exec_id: str) -> float:
    """When the flow went on."""
    return _asked.pop(exec_id).wait()


def run(scope: Scope) -> list[dict[str, Any]]:
    """By the same process and by another."""
    home = scope.place("home")
    with Worker("answers", home=home) as driver, Worker("answers", home=home) as other:

        def timed(by: Worker) -> dict[str, float]:
            exec_id = driver.run("begin")
            begun = by.run("answer", exec_id=exec_id)
            return {"seconds": driver.run("went_on", exec_id=exec_id) - begun}

        sides = [
            Side("Kitaru, the same process", lambda: timed(driver)),
            Side("Kitaru, another process", lambda: timed(other)),
        ]
        samples = interleave(sides, rounds=scope.rounds, times=5)
    return [
        samples.table(
            "answer",
            title="From the answer to the flow's next line",
            column="time",
            figure=lambda figures: 1000 * figures["seconds"],
            unit="ms",
        )
    ]
