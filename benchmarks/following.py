"""How fast `kitaru executions logs --follow` is, and how far behind: a real process, a real store.

Lines are written as a driver does, some in each commit, beside those of another execution, and the
CLI follows them into a pipe. The first figure is lines per second when they are written without a
pause, beside reading the same lines once without `--follow`, both with the start of the process;
the second is the lag from just before a line's commit to its arrival, at a fixed rate.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from typing import Any

from kitaru import clock, codec, config, ids
from kitaru.store import Store, executions, leases, logs
from kitaru.store.logs import LogRecord

LINES, BATCH, ROUNDS = 60_000, 200, 5
RATE, SECONDS = 10_000, 3
#: Lines of another execution that are in the store already.
OTHERS = 100_000

_COMMAND = [sys.executable, "-m", "kitaru.cli", "executions", "logs"]
_TEXT = "the quick agent reads every page and writes one short answer"


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


def _read(exec_id: str, *options: str) -> tuple[float, list[float]]:
    """How long a process took to give all lines, and how old each was when it arrived."""
    begun = time.perf_counter()
    process = subprocess.Popen([*_COMMAND, exec_id, *options], stdout=subprocess.PIPE)
    assert process.stdout is not None
    ages = [
        time.time() - float(line.partition(b" ")[0])
        for line in process.stdout
        if not line.startswith(b"[")
    ]
    assert process.wait() == 0
    return time.perf_counter() - begun, ages


def _follow(talker: Talker, lines: int, *, rate: int | None = None) -> tuple[float, list[float]]:
    writer = threading.Thread(target=talker.talk, args=(lines,), kwargs={"rate": rate})
    writer.start()
    took, ages = _read(talker.exec_id, "--follow")
    writer.join()
    assert len(ages) == lines, f"{len(ages)} of {lines} lines came"
    return took, ages


def main() -> dict[str, Any]:
    """Measure round by round, and print both figures."""
    follows: list[float] = []
    reads: list[float] = []
    with tempfile.TemporaryDirectory() as folder:
        os.environ["KITARU_HOME"] = folder
        store = Store(config.find_home(folder), durability="normal")
        Talker(store).write(OTHERS)
        for _ in range(ROUNDS):
            talker = Talker(store)
            follows.append(LINES / _follow(talker, LINES)[0])
            reads.append(LINES / _read(talker.exec_id)[0])
        _, ages = _follow(Talker(store), RATE * SECONDS, rate=RATE)
        store.close()
    # What was written while the process started is told late by that.
    lags = sorted(1000 * age for age in ages[RATE:])
    low, high = statistics.median(lags), lags[int(0.99 * len(lags))]
    follow, read = statistics.median(follows), statistics.median(reads)
    print(f"lines per second: follow {follow:,.0f}, read once {read:,.0f}: {follow / read:.2f}")
    print(f"lag at {RATE:,} lines/s (ms): median {low:.0f}, p99 {high:.0f}, max {lags[-1]:.0f}")
    return {
        "follow_per_second": round(follow),
        "read_per_second": round(read),
        "ratio": round(follow / read, 2),
        "lag_ms": [round(value, 1) for value in (low, high, lags[-1])],
    }


if __name__ == "__main__":
    main()
