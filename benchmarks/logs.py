"""Lines of logs: how fast they are captured, and how fast and how closely they are followed.

A checkpoint prints lines, beside the same loop that prints into a file. For following, lines are
written as a driver does, some in each commit, beside those of another execution, and the command
`kitaru executions logs --follow` follows them into a pipe; the floor of that reads the same lines
once without `--follow`. Both count the start of the process. The lag is from just before a line's
commit to its arrival, at a fixed rate.
"""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import kitaru
from benchmarks.rounds import Side, interleave, spread
from benchmarks.scope import Scope
from benchmarks.worker import ROOT, Worker, environment
from kitaru import clock, codec, config, ids
from kitaru.store import Store, executions, leases, logs
from kitaru.store.logs import LogRecord

PRINTED = 20_000
LINES, BATCH = 60_000, 200
RATE, SECONDS = 10_000, 3
#: Lines of another execution that are in the store already.
OTHERS = 100_000
FILE, ONCE = "print into a file", "read once"

_COMMAND = [sys.executable, "-m", "kitaru.cli", "executions", "logs"]
_TEXT = "the quick agent reads every page and writes one short answer"


@kitaru.checkpoint
def speak(lines: int) -> float:
    """Prints lines; how long that took."""
    begun = time.perf_counter()
    for number in range(lines):
        print(f"line {number} of a long story")
    return time.perf_counter() - begun


@kitaru.flow
def speaking(lines: int) -> float:
    """From the first line to when all are recorded."""
    begun = time.perf_counter()
    speak(lines)
    return time.perf_counter() - begun


def capture(lines: int) -> dict[str, float]:
    """One execution whose checkpoint prints."""
    return {"seconds": speaking.run(lines).wait()}


class Talker:
    """A running execution whose driver writes lines."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self.exec_id = ids.new_execution_id()
        new = executions.NewExecution(
            exec_id=self.exec_id, flow_id="fl-1", flow_name="talk", inputs=codec.encode({}), spec={}
        )
        with store.write() as conn:
            self._row = executions.at(conn, executions.create(conn, new))
            executions.advance(conn, self._row, "start")
            leases.take(conn, execution=self._row.id, exec_id=self.exec_id, runner="rn-1")

    def write(self, count: int) -> None:
        """Lines in one commit; each says when it was written."""
        records = [LogRecord(clock.now_us(), "INFO", f"{time.time()} {_TEXT}", "step")] * count
        with self._store.write() as conn:
            logs.add(conn, self._row.id, records)

    def talk(self, lines: int, *, rate: int | None = None) -> None:
        """Lines in many commits, as fast as it goes or so many a second; then the end."""
        begun = time.perf_counter()
        for number in range(lines // BATCH):
            if rate is not None:
                time.sleep(max(0.0, begun + number * BATCH / rate - time.perf_counter()))
            self.write(BATCH)
        with self._store.write() as conn:
            executions.set_outcome(conn, self._row.id, result=codec.encode(None))
            executions.advance(conn, executions.at(conn, self._row.id), "complete")


def _read(home: Path, exec_id: str, *options: str) -> tuple[float, list[float]]:
    """How long a process took to give all lines, and how old each was when it arrived."""
    begun = time.perf_counter()
    variables = environment(KITARU_HOME=str(home))
    process = subprocess.Popen(
        [*_COMMAND, exec_id, *options], stdout=subprocess.PIPE, env=variables, cwd=ROOT
    )
    assert process.stdout is not None
    ages = [
        time.time() - float(line.partition(b" ")[0])
        for line in process.stdout
        if not line.startswith(b"[")
    ]
    assert process.wait() == 0
    return time.perf_counter() - begun, ages


def _follow(
    home: Path, talker: Talker, lines: int, *, rate: int | None = None
) -> tuple[float, list[float]]:
    writer = threading.Thread(target=talker.talk, args=(lines,), kwargs={"rate": rate})
    writer.start()
    took, ages = _read(home, talker.exec_id, "--follow")
    writer.join()
    assert len(ages) == lines, f"{len(ages)} of {lines} lines came"
    return took, ages


@contextmanager
def _store(home: Path) -> Iterator[Store]:
    store = Store(config.find_home(str(home)), durability="normal")
    try:
        Talker(store).write(OTHERS)
        yield store
    finally:
        store.close()


def _captured(scope: Scope) -> dict[str, Any]:
    path = str(scope.folder / "lines")
    with Worker("floor") as floor, Worker("logs", home=scope.place("captured")) as ours:
        sides = [
            Side(FILE, lambda: floor.run("speak", path=path, lines=PRINTED)),
            Side("Kitaru, captured", lambda: ours.run("capture", lines=PRINTED), FILE),
        ]
        samples = interleave(sides, rounds=scope.rounds)
    return samples.table(
        "captured",
        title="Lines per second",
        column="captured from a checkpoint",
        figure=lambda figures: PRINTED / figures["seconds"],
        unit="/s",
        better="more",
    )


def _followed(scope: Scope) -> list[dict[str, Any]]:
    home = scope.place("followed")
    with _store(home) as store:
        talkers: list[Talker] = []

        def follow() -> dict[str, float]:
            talkers.append(Talker(store))
            return {"seconds": _follow(home, talkers[-1], LINES)[0]}

        def once() -> dict[str, float]:
            return {"seconds": _read(home, talkers[-1].exec_id)[0]}

        talkers.append(Talker(store))
        talkers[-1].talk(LINES)
        sides = [Side(ONCE, once), Side("Kitaru, followed", follow, ONCE)]
        samples = interleave(sides, rounds=min(scope.rounds, 5), warm=False)
        _, ages = _follow(home, Talker(store), RATE * SECONDS, rate=RATE)
    # What was written while the process started is told late by that.
    lags = sorted(1000 * age for age in ages[RATE:])
    rate = samples.table(
        "followed",
        title="Lines per second",
        column="followed by the command",
        figure=lambda figures: LINES / figures["seconds"],
        unit="/s",
        better="more",
    )
    columns = {
        "lag": ("median, and all lines", spread(lags)),
        "lag/p99": ("99th in a hundred", spread([lags[len(lags) * 99 // 100]])),
    }
    lag = [
        {
            "key": key,
            "title": f"How far behind the follower is at {RATE:,} lines per second",
            "column": column,
            "unit": "ms",
            "better": "less",
            "at": None,
            "sides": {"Kitaru, followed": told},
            "left_out": {},
        }
        for key, (column, told) in columns.items()
    ]
    return [rate, *lag]


def run(scope: Scope) -> list[dict[str, Any]]:
    """Captured, and followed."""
    captured = _captured(scope)
    return [captured] if scope.quick else [captured, *_followed(scope)]
