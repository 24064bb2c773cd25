"""The system's clock is set while processes drive executions and others look for work.

A small library shifts what the wall clock tells, in all processes at the same moment. What a clock
has to do with are leases, sleeps, pauses, time limits and what is shown of times: nothing that
lives is driven twice, every sleep ends once its time has come, and nothing ends before it began.
"""

from __future__ import annotations

import contextlib
import json
import mmap
import os
import shutil
import struct
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from unittest import mock

import kitaru
from kitaru import KitaruClient, checkpoint, flow
from tests import support
from tests.chaos import history
from tests.chaos.history import History
from tests.chaos.trial import Scope, Skipped, Trial
from tests.flows import Witness, effect, pass_gate, returned

SOURCE = Path(__file__).with_name("native") / "clock.c"
HOUR, DAY = 3600.0, 86_400.0
JUMPS = (2 * HOUR, -2 * HOUR, -DAY, 1.0)
COPIES, WORKERS = 2, 2
STEPS = 4


@checkpoint
def slow(number: int) -> str:
    effect()
    time.sleep(0.03)
    return returned(f"slow {number}")


@checkpoint(retries=1, retry_delay=0.2)
def fails_once() -> str:
    call = kitaru.current_checkpoint()
    assert call is not None
    if call.attempt == 1:
        raise ValueError("again")
    effect()
    return returned("tried again")


@checkpoint(timeout=60)
def limited(gate: str) -> str:
    effect()
    pass_gate(gate)
    return returned("in time")


@flow
def keeps_time(gate: str) -> list[str]:
    """Checkpoints, a repetition, a time limit, and sleeps for which no process is held."""
    seen = Witness()
    values = [seen.got("slow", slow(number)) for number in range(STEPS)]
    values.append(seen.got("fails_once", fails_once()))
    values.append(seen.got("limited", limited(gate)))
    kitaru.sleep(0.1, timeout=0)
    kitaru.sleep(HOUR, timeout=0)
    return [*values, seen.got("slow", slow(STEPS))]


class WallClock:
    """The clock of the processes that are started `under` it."""

    def __init__(self, home: Path) -> None:
        compiler = shutil.which("gcc")
        if compiler is None or not sys.platform.startswith("linux"):
            raise Skipped("needs Linux and gcc")
        self._library, self._file = home / "clock.so", home / "ahead"
        options = ["-shared", "-fPIC", "-O2", "-o", str(self._library), str(SOURCE)]
        subprocess.run([compiler, *options], check=True)
        self._file.write_bytes(struct.pack("q", 0))
        with self._file.open("r+b") as file:
            self._mapped = mmap.mmap(file.fileno(), 8)

    @contextlib.contextmanager
    def under(self) -> Iterator[None]:
        """What is started in here has this clock, and all that it starts."""
        environment = {"LD_PRELOAD": str(self._library), "CLOCK_AHEAD": str(self._file)}
        with mock.patch.dict(os.environ, environment):
            yield

    def jump(self, seconds: float) -> None:
        """Set it, from where it is."""
        (ahead,) = struct.unpack("q", self._mapped)
        self._mapped[:] = struct.pack("q", ahead + round(seconds * 1_000_000))

    def now_us(self) -> int:
        """What it tells."""
        return time.time_ns() // 1000 + int(struct.unpack("q", self._mapped)[0])


class Round:
    """Executions in one home, through one jump of the clock."""

    def __init__(self, home: Path, wall: WallClock, *, gate: str) -> None:
        self._home = home
        self._wall = wall
        self._gate = gate
        with wall.under():
            inputs = json.dumps({"gate": gate})
            arguments = ["tests.chaos.clocks:keeps_time", inputs, str(COPIES)]
            self._process = support.spawn(home, "-m", "tests.support", *arguments)
        assert self._process.stdout is not None
        lines = [self._process.stdout.readline().strip() for _ in range(COPIES)]
        self.exec_ids = sorted(lines)
        self._await_effects(COPIES * (STEPS + 2))

    def _await_effects(self, count: int) -> None:
        def is_time() -> bool:
            return sum(len(support.effects(self._home, each)) for each in self.exec_ids) >= count

        support.until(is_time, f"{count} checkpoints have run")

    def jump(self, seconds: float) -> None:
        """Let runners try to take each over at the moment of a jump; all are driven then."""
        start = f"start-{self._gate}"
        with self._wall.under(), mock.patch.dict(os.environ, {"KITARU_TESTS_START_GATE": start}):
            runners = [support.start_runner(self._home, "resume", each) for each in self.exec_ids]
        support.until(lambda: len([*self._home.glob(f"at-{start}-*")]) == COPIES, "they are ready")
        self._wall.jump(seconds)
        (self._home / f"gate-{start}").touch()
        for runner, exec_id in zip(runners, self.exec_ids, strict=True):
            support.until(
                lambda runner=runner, exec_id=exec_id: (  # type: ignore[misc]
                    runner.poll() is not None
                    or support.effects(self._home, exec_id).count("limited") > 1
                ),
                "the runner is refused, or drives",
            )
            support.kill(runner)
        (self._home / f"gate-{self._gate}").touch()

    def end(self) -> list[float]:
        """Turn the clock on to the end of each sleep; how long it took until each was driven on."""
        late = []
        while waiting := self._resting():
            if (due := min(waiting)) > self._wall.now_us():
                self._wall.jump((due - self._wall.now_us()) / 1_000_000)
            began = time.monotonic()
            support.until(lambda due=due: due not in self._due(), "the sleep has ended")  # type: ignore[misc]
            late.append(time.monotonic() - began)
        support.rest(self._process)
        return late

    def _resting(self) -> list[int]:
        """When the sleeps end that are left, if any; waits until one is, or all have ended."""

        def rests() -> bool:
            return "running" not in self._statuses().values() or bool(self._due())

        support.until(rests, "all have ended, or one sleeps")
        return self._due()

    def _statuses(self) -> dict[str, str]:
        return dict(support.query(self._home, "SELECT exec_id, status FROM executions"))

    def _due(self) -> list[int]:
        rows = support.query(
            self._home,
            "SELECT due_at FROM calls JOIN executions ON id = execution "
            "WHERE executions.status = 'waiting' AND calls.status = 'running' AND due_at NOT NULL",
        )
        return [due for (due,) in rows]


def check(home: Path, exec_ids: list[str]) -> None:
    """Each ran each checkpoint once, completed, and has no time that runs backwards."""
    calls = [*(f"slow#{n}" if n > 1 else "slow" for n in range(1, STEPS + 2))]
    expected = Counter([*calls, "fails_once", "limited"])
    executions = KitaruClient(home=home).executions
    for exec_id in exec_ids:
        execution = executions.get(exec_id)
        assert execution.status == "completed", f"{execution.status}: {execution.failure}"
        assert Counter(support.effects(home, exec_id)) == expected, "a checkpoint ran twice"
        timed = [execution, *execution.checkpoints]
        timed += [attempt for call in execution.checkpoints for attempt in call.attempts]  # type: ignore[misc]
        for each in timed:
            assert each.started_at is not None
            assert each.ended_at is not None
            assert each.started_at <= each.ended_at, each
        assert all(span.seconds >= 0 for span in executions.timeline(exec_id).spans)
    shown = executions.statistics(metrics=["a:duration:min", "b:queue_time:min", "c:wait_time:min"])
    assert all(value >= 0 for value in shown.groups[0].metrics.values())


def run(home: Path, *, rounds: int) -> str:
    """Let the clock jump in the middle of executions, in one way after the other."""
    wall = WallClock(home)
    History(home).begin()
    with wall.under():
        workers = [support.spawn(home, "-m", "kitaru.cli", "worker") for _ in range(WORKERS)]
    late: list[float] = []
    exec_ids: list[str] = []
    try:
        for number in range(rounds):
            current = Round(home, wall, gate=str(number))
            before = KitaruClient(home=home).executions.list(limit=200)
            current.jump(JUMPS[number % len(JUMPS)])
            late += current.end()
            exec_ids += current.exec_ids
            after = [each.exec_id for each in KitaruClient(home=home).executions.list(limit=200)]
            assert [each.exec_id for each in before if each.exec_id in after] == [
                each for each in after if each in {known.exec_id for known in before}
            ]
    finally:
        for worker in workers:
            support.kill(worker)
    check(home, exec_ids)
    noted = history.check(home)
    return (
        f"{rounds} jumps under {COPIES} drives and {WORKERS} workers, {noted}, 0 driven twice, "
        f"0 sleeps lost, the latest driven on {max(late):.1f} s after its end"
    )


def _trial(scope: Scope) -> str:
    return run(scope.home, rounds=scope.times(len(JUMPS)))


TRIALS = (Trial(name="clocks", run=_trial),)
