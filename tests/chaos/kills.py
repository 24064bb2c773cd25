"""Kill whoever drives an execution, again and again, until it has completed all the same.

After each kill: the execution is seen as stalled at once, nothing that was recorded is lost or
changed, and at most the calls in flight have run without a record. At the end: result, journal
and artifacts are those of an undisturbed run, and each repeated checkpoint is paid for by a kill.
"""

from __future__ import annotations

import json
import random
import subprocess
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from kitaru import KitaruClient
from kitaru.models import Execution
from tests import support
from tests.chaos.trial import Scope, Trial

EARLY_SECONDS = 0.3
LATE_SECONDS = 0.003


@dataclass(frozen=True)
class Scenario:
    """A flow of `tests.flows` to kill, and how many of its checkpoints run at the same time."""

    name: str
    flow: str
    inputs: dict[str, Any] = field(default_factory=dict)
    in_flight: int = 1


SCENARIOS = (
    Scenario("chain", "chain", {"length": 50}),
    Scenario("fan", "fan", {"rounds": 6, "width": 8}, in_flight=8),
    Scenario("asks", "asks", {"length": 10, "timeout": 0.0}),
    Scenario("polls", "asks", {"length": 10, "timeout": 60.0}),
)


@dataclass
class Tally:
    """What a kill loop has done."""

    executions: int = 0
    kills: int = 0
    early_kills: int = 0
    runs: int = 0
    repeated: int = 0

    def __str__(self) -> str:
        return (
            f"{self.kills} kills ({self.early_kills} at any moment of a start), "
            f"{self.executions} executions, {self.runs} checkpoint runs, {self.repeated} repeated"
        )


class KillLoop:
    """Kills executions of one scenario, all in one home."""

    def __init__(self, home: Path, scenario: Scenario, *, rng: random.Random) -> None:
        self.home = home
        self.scenario = scenario
        self.rng = rng
        self.tally = Tally()
        self._started: list[subprocess.Popen[str]] = []
        process, exec_id = support.start(home, scenario.flow, **scenario.inputs)
        support.see_through(home, exec_id)
        support.finish(process)
        self._expected = self._outcome(exec_id)

    @property
    def _client(self) -> KitaruClient:
        return KitaruClient(home=self.home)

    def _get(self, exec_id: str) -> Execution:
        return self._client.executions.get(exec_id)

    def _asks(self, exec_id: str) -> bool:
        return bool(self._client.executions.pending_waits(exec_id))

    def _answer(self, exec_id: str) -> None:
        (asked,) = self._client.executions.pending_waits(exec_id)
        self._client.executions.input(exec_id, wait=asked.name, value=f"answer to {asked.name}")

    def run(self, *, kills: int) -> Tally:
        """Kill until there were this many; the last execution is left to complete."""
        while self.tally.kills < kills:
            self._kill_one_execution(kills)
        return self.tally

    def _kill_one_execution(self, kills: int) -> None:
        process, exec_id = support.start(self.home, self.scenario.flow, **self.scenario.inputs)
        self._started.append(process)
        try:
            killed = self._kill_until_over(exec_id, process.pid, most=kills - self.tally.kills)
        finally:
            for each in self._started:
                support.kill(each)
            self._started.clear()
        self._check_outcome(exec_id, killed)

    def _kill_until_over(self, exec_id: str, first: int, *, most: int) -> int:
        killed, pid = 0, first
        seen: dict[str, Any] = {}
        while True:
            last = killed >= most
            early = pid != first and not last and self.rng.random() < 0.15
            self._let_run(exec_id, pid, early=early, last=last)
            if support.is_running(pid) and not last:
                support.kill_pid(pid)
                killed += 1
                self.tally.early_kills += early
            elif not support.is_running(pid) and not self._is_over(exec_id):
                assert self._get(exec_id).status == "waiting", "a driver left without a reason"
            seen = self._check_after_kill(exec_id, seen)
            if self._is_over(exec_id):
                return killed
            if self._asks(exec_id):
                self._answer(exec_id)
            if not support.is_running(pid):
                pid = self._resume(exec_id)

    def _is_over(self, exec_id: str) -> bool:
        return self._get(exec_id).status.is_finished

    def _let_run(self, exec_id: str, pid: int, *, early: bool, last: bool) -> None:
        """Wait for a moment to kill at, or until the process has no more to do."""
        if early:
            time.sleep(self.rng.uniform(0, EARLY_SECONDS))
            return
        wanted = len(support.effects(self.home, exec_id)) + self.rng.randint(1, 6)
        if last:
            wanted = 1_000_000

        def is_time() -> bool:
            return (
                len(support.effects(self.home, exec_id)) >= wanted
                or not support.is_running(pid)
                or self._asks(exec_id)
            )

        support.until(is_time, f"{exec_id} makes progress")
        if self._asks(exec_id) and self.rng.random() < 0.5:
            self._answer(exec_id)
            time.sleep(self.rng.uniform(0, 10 * LATE_SECONDS))
        time.sleep(self.rng.uniform(0, LATE_SECONDS))

    def _resume(self, exec_id: str) -> int:
        """Continue, as a client does or with a bare runner; returns the process that drives."""
        if self.rng.random() < 0.5:
            self._client.executions.resume(exec_id)
            return support.runner_pid(self.home, exec_id)
        # Nobody but the runner has the file open then: it has to recover the log of the dead one.
        support.forget(self.home)
        process = support.start_runner(self.home, "resume", exec_id)
        self._started.append(process)
        return process.pid

    def _check_after_kill(self, exec_id: str, seen: dict[str, Any]) -> dict[str, Any]:
        dead = not support.is_running(support.runner_pid(self.home, exec_id))
        # Read before the record: the driver may live on and do more between the two looks.
        effects = support.effects(self.home, exec_id)
        execution = self._get(exec_id)
        if dead:
            stalled = execution.status == "running"
            assert execution.stalled == stalled, f"{exec_id}: {execution.status}, not stalled"
        recorded = {call.call_id: call for call in execution.checkpoints if call.ended_at}
        for call_id, call in seen.items():
            assert recorded.get(call_id) == call, f"{call_id} was recorded and has changed"
        unrecorded = set(effects) - set(recorded)
        assert len(unrecorded) <= self.scenario.in_flight, unrecorded
        return recorded

    def _check_outcome(self, exec_id: str, kills: int) -> None:
        assert self._outcome(exec_id) == self._expected
        runs = support.effects(self.home, exec_id)
        calls = self._get(exec_id).checkpoints
        assert set(runs) == {c.call_id for c in calls if c.checkpoint_type != "wait"}
        repeated = len(runs) - len(set(runs))
        assert repeated <= kills * self.scenario.in_flight, runs
        for call in calls:
            assert call.attempts[-1].status == "completed", call
            lines = self._client.executions.logs(exec_id, checkpoint=call.call_id)
            assert call.checkpoint_type == "wait" or lines, f"{call.call_id} lost its line"
        assert support.query(self.home, "PRAGMA integrity_check") == [("ok",)]
        self.tally.executions += 1
        self.tally.kills += kills
        self.tally.runs += len(runs)
        self.tally.repeated += repeated

    def _outcome(self, exec_id: str) -> dict[str, Any]:
        execution = self._get(exec_id)
        assert execution.status == "completed", f"{execution.status}: {execution.failure}"
        assert not execution.stalled
        artifacts = [(a.name, a.producing_call, a.load()) for a in execution.artifacts]
        return {
            "result": execution.result,
            "journal": support.journal(self.home, exec_id),
            "artifacts": artifacts,
            "answers": json.dumps(
                support.query(
                    self.home,
                    "SELECT call_id, waits.status, hex(answer) FROM waits "
                    "JOIN executions ON id = execution WHERE exec_id = ?",
                    exec_id,
                )
            ),
        }


def _trial(scenario: Scenario, kills: int) -> Trial:
    def run(scope: Scope) -> str:
        return str(KillLoop(scope.home, scenario, rng=scope.rng).run(kills=scope.times(kills)))

    return Trial(name=f"kill-{scenario.name}", run=run)


#: Five hundred and more, a share for each scenario.
TRIALS = tuple(_trial(scenario, 126) for scenario in SCENARIOS)
