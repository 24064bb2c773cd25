"""From a kill to going on: how soon after `resume` a flow is at its next line.

A driver is killed as by `kill -9` in the middle of its flow. Then it is resumed, by a client that
is up already and by the command `kitaru executions resume`; both start a new process that drives.
The floor is a Python process that does nothing.
"""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import kitaru
from benchmarks.rounds import Side, interleave
from benchmarks.scope import Scope
from benchmarks.worker import ROOT, Worker, environment
from kitaru import KitaruClient

RECORDED = 10
FLOOR = "a Python process that does nothing"


@kitaru.checkpoint
def step(number: int) -> str:
    """A checkpoint that does nothing worth mentioning."""
    return f"result {number}"


@kitaru.checkpoint
def hold(place: str) -> None:
    """Lasts for ever the first time, and no time when it runs again."""
    begun = Path(place, "begun")
    if not begun.exists():
        begun.touch()
        time.sleep(3600)


@kitaru.flow
def interrupted(place: str, recorded: int) -> None:
    """Some steps, a line that notes the time, and a step in which its driver dies."""
    for number in range(recorded):
        step(number)
    _note(Path(place, "resumed" if Path(place, "begun").exists() else "first"))
    hold(place)


def _note(file: Path) -> None:
    part = file.with_suffix(".part")
    part.write_text(repr(time.time()))
    part.rename(file)


def begin(place: str) -> str:
    """Drive it to the step in which it stays."""
    Path(place).mkdir()
    handle = interrupted.run(place, RECORDED)
    while not Path(place, "begun").exists():
        time.sleep(0.001)
    time.sleep(0.05)  # a call that lasts is recorded as running a little later
    return handle.exec_id


def resume(exec_id: str) -> None:
    """Resume it in a process of its own."""
    KitaruClient().executions.resume(exec_id)


def look(exec_id: str) -> str:
    """Its status."""
    return KitaruClient().executions.summary(exec_id).status


class Store:
    """Where drivers are killed, and a client that is up.

    Args:
        home: the store's folder.
        places: where its flows note how far they came.
        client: a worker that looks at it, and asks for a resume.
    """

    def __init__(self, home: Path, places: Path, client: Worker) -> None:
        self._home, self._places, self._client = home, places, client
        self._variables = environment(KITARU_HOME=str(home), KITARU_DURABILITY="full")

    def timed(self, resume: Callable[[str], object]) -> dict[str, float]:
        """Kill a driver, and see when its flow is at its next line after `resume`."""
        place = self._places / str(time.monotonic_ns())
        driver = Worker("crash", home=self._home)
        exec_id = driver.run("begin", place=str(place))
        driver.kill()
        begun = time.time()
        resume(exec_id)
        while not (reached := place / "resumed").exists():
            time.sleep(0.001)
        while self._client.run("look", exec_id=exec_id) != "completed":
            time.sleep(0.001)
        return {"seconds": float(reached.read_text()) - begun}

    def by_client(self, exec_id: str) -> None:
        """Resume it from a process that is up."""
        self._client.run("resume", exec_id=exec_id)

    def by_command(self, exec_id: str) -> None:
        """Resume it from the command line."""
        self._spawn("-m", "kitaru.cli", "executions", "resume", exec_id)

    def nothing(self) -> dict[str, float]:
        """A process that does nothing."""
        begun = time.perf_counter()
        self._spawn("-c", "pass")
        return {"seconds": time.perf_counter() - begun}

    def _spawn(self, *arguments: str) -> None:
        command = [sys.executable, *arguments]
        subprocess.run(command, cwd=ROOT, env=self._variables, check=True, capture_output=True)


def run(scope: Scope) -> list[dict[str, Any]]:
    """By a client, by the command, and the floor."""
    home, places = scope.place("home"), scope.place("places")
    with Worker("crash", home=home) as client:
        store = Store(home, places, client)
        sides = [
            Side(FLOOR, store.nothing),
            Side("Kitaru, by a client", lambda: store.timed(store.by_client), FLOOR),
            Side("Kitaru, by the command", lambda: store.timed(store.by_command), FLOOR),
        ]
        samples = interleave(sides, rounds=scope.rounds, warm=False)
    return [
        samples.table(
            "resumed",
            title="From the call of resume to the flow's next line, after kill -9",
            column="time",
            figure=lambda figures: 1000 * figures["seconds"],
            unit="ms",
        )
    ]
