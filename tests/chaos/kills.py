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
from tests.chaos import drivers
from tests.chaos.history import History, check, now
from tests.chaos.trial import Scope, Trial

#: The longest until a kill at any moment of a start: of a driver that is forked, and of a runner.
EARLY_SECONDS = (0.06, 0.3)
LATE_SECONDS = 0.003


@dataclass(frozen=True)
class Scenario:
    """A flow to kill, and how many of its checkpoints run at the same time.

    Calls of tasks are numbered as they come, which differs from run to run.
    """

    name: str
    target: str
    inputs: dict[str, Any] = field(default_factory=dict)
    in_flight: int = 1
    has_tasks: bool = False


SCENARIOS = (
    Scenario("chain", "tests.flows:chain", {"length": 50}),
    Scenario("fan", "tests.flows:fan", {"rounds": 6, "width": 8}, in_flight=8),
    Scenario("asks", "tests.flows:asks", {"length": 10, "timeout": 0.0}),
    Scenario("polls", "tests.flows:asks", {"length": 10, "timeout": 60.0}),
    Scenario(
        "tasks", "tests.chaos.flows:tasks", {"rounds": 10, "width": 4}, in_flight=4, has_tasks=True
    ),
    Scenario("family", "tests.chaos.flows:parent", {"children": 3, "length": 12}, in_flight=3),
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
            f"{self.executions} executions, {self.runs} checkpoint runs, {self.repeated} repeated, "
            "0 lost"
        )


class KillLoop:
    """Kills executions of one scenario, all in one home."""

    def __init__(self, home: Path, scenario: Scenario, *, rng: random.Random) -> None:
        self.home = home
        self.scenario = scenario
        self.rng = rng
        self.tally = Tally()
        self._history = History(home).begin()
        self._drivers: list[drivers.Driver] = []
        self._runners: list[subprocess.Popen[str]] = []
        driver = drivers.start(home, scenario.target, **scenario.inputs)
        (exec_id,) = driver.started()
        support.see_through(home, exec_id)
        driver.ended()
        self._expected = self._outcome(exec_id)

    @property
    def _client(self) -> KitaruClient:
        return KitaruClient(home=self.home)

    def _get(self, exec_id: str) -> Execution:
        since = now()
        execution = self._client.executions.get(exec_id)
        self._history.note("seen", exec_id, execution.status, since=since)
        return execution

    def _asks(self, exec_id: str) -> bool:
        return bool(self._client.executions.pending_waits(exec_id))

    def _answer(self, exec_id: str) -> None:
        (asked,) = self._client.executions.pending_waits(exec_id)
        value = f"answer to {asked.name}"
        self._client.executions.input(exec_id, wait=asked.name, value=value)
        self._history.note("answered", f"{exec_id}/{asked.name}", value)

    def run(self, *, kills: int) -> Tally:
        """Kill until there were this many; the last execution is left to complete."""
        while self.tally.kills < kills:
            self._kill_one_execution(kills)
        check(self.home)
        assert support.is_sound(self.home)
        return self.tally

    def _kill_one_execution(self, kills: int) -> None:
        driver = drivers.start(self.home, self.scenario.target, **self.scenario.inputs)
        self._drivers.append(driver)
        (exec_id,) = driver.started()
        self._history.note("created", exec_id)
        try:
            killed = self._kill_until_over(exec_id, driver.pid, most=kills - self.tally.kills)
        finally:
            for driver in self._drivers:
                driver.kill()
            for runner in self._runners:
                support.kill(runner)
            self._drivers.clear()
            self._runners.clear()
        self._check_outcome(exec_id, killed)

    def _kill_until_over(self, exec_id: str, first: int, *, most: int) -> int:
        killed, pid, longest = 0, first, 0.0
        seen: dict[str, Any] = {}
        while True:
            last = killed >= most
            early = longest > 0 and not last and self.rng.random() < 0.15
            self._let_run(exec_id, pid, early=longest if early else 0.0, last=last)
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
                pid, longest = self._resume(exec_id)

    def _is_over(self, exec_id: str) -> bool:
        return self._get(exec_id).status.is_finished

    def _let_run(self, exec_id: str, pid: int, *, early: float, last: bool) -> None:
        """Wait for a moment to kill at, or until the process has no more to do."""
        if early:
            time.sleep(self.rng.uniform(0, early))
            return
        wanted = len(self._effects(exec_id)) + self.rng.randint(1, 6)
        if last:
            wanted = 1_000_000

        def is_time() -> bool:
            return (
                len(self._effects(exec_id)) >= wanted
                or not support.is_running(pid)
                or self._asks(exec_id)
            )

        support.until(is_time, f"{exec_id} makes progress")
        if self._asks(exec_id) and self.rng.random() < 0.5:
            self._answer(exec_id)
            time.sleep(self.rng.uniform(0, 10 * LATE_SECONDS))
        time.sleep(self.rng.uniform(0, LATE_SECONDS))

    def _resume(self, exec_id: str) -> tuple[int, float]:
        """Continue in a fork, as a client does or with a bare runner.

        Returns:
            The process that drives, and how long its start takes at most.
        """
        how = self.rng.random()
        if how < 0.05:
            self._client.executions.resume(exec_id)
            return support.runner_pid(self.home, exec_id), EARLY_SECONDS[1]
        # Nobody but the driver has the file open then: it has to recover the log of the dead one.
        support.forget(self.home)
        if how < 0.1:
            runner = support.start_runner(self.home, "resume", exec_id)
            self._runners.append(runner)
            return runner.pid, EARLY_SECONDS[1]
        driver = drivers.resume(self.home, exec_id)
        self._drivers.append(driver)
        return driver.pid, EARLY_SECONDS[0]

    def _family(self, exec_id: str) -> list[str]:
        """An execution and its children."""
        sql = "SELECT exec_id FROM executions WHERE ? IN (exec_id, parent_exec_id) ORDER BY id"
        return [row[0] for row in support.query(self.home, sql, exec_id)]

    def _effects(self, exec_id: str) -> list[tuple[str, str]]:
        """The runs of checkpoints: whose and which."""
        return [
            (each, call)
            for each in self._family(exec_id)
            for call in support.effects(self.home, each)
        ]

    def _check_after_kill(self, exec_id: str, seen: dict[str, Any]) -> dict[str, Any]:
        dead = not support.is_running(support.runner_pid(self.home, exec_id))
        # Read before the record: the driver may live on and do more between the two looks.
        effects = self._effects(exec_id)
        family = [self._get(each) for each in self._family(exec_id)]
        for each in family if dead else ():
            stalled = each.status == "running"
            assert each.stalled == stalled, f"{each.exec_id}: {each.status}, not stalled"
        recorded = {
            (each.exec_id, call.call_id): call
            for each in family
            for call in each.checkpoints
            if call.ended_at
        }
        for call_id, call in seen.items():
            assert recorded.get(call_id) == call, f"{call_id} was recorded and has changed"
        unrecorded = set(effects) - set(recorded)
        assert len(unrecorded) <= self.scenario.in_flight, unrecorded
        return recorded

    def _check_outcome(self, exec_id: str, kills: int) -> None:
        assert self._outcome(exec_id) == self._expected
        runs = self._effects(exec_id)
        calls = {
            (each, call.call_id): call
            for each in self._family(exec_id)
            for call in self._get(each).checkpoints
            if call.checkpoint_type not in ("wait", "flow")
        }
        assert set(runs) == set(calls)
        repeated = len(runs) - len(set(runs))
        assert repeated <= kills * self.scenario.in_flight, runs
        for (each, call_id), call in calls.items():
            assert call.attempts[-1].status == "completed", call
            lines = self._client.executions.logs(each, checkpoint=call_id)
            assert lines, f"{call_id} lost its line"
        self.tally.executions += 1
        self.tally.kills += kills
        self.tally.runs += len(runs)
        self.tally.repeated += repeated

    def _outcome(self, exec_id: str) -> list[dict[str, Any]]:
        """What is compared, of an execution and its children."""
        return [self._outcome_of(self._get(each)) for each in self._family(exec_id)]

    def _outcome_of(self, execution: Execution) -> dict[str, Any]:
        assert execution.status == "completed", f"{execution.status}: {execution.failure}"
        assert not execution.stalled
        self._history.note("result", execution.exec_id, execution.result)
        artifacts = [(a.name, a.producing_call, a.load()) for a in execution.artifacts]
        sql = (
            "SELECT call_id, waits.status, hex(answer) FROM waits "
            "JOIN executions ON id = execution WHERE exec_id = ?"
        )
        return {
            "result": execution.result,
            "journal": self._journal(execution.exec_id),
            "artifacts": artifacts,
            "answers": json.dumps(support.query(self.home, sql, execution.exec_id)),
        }

    def _journal(self, exec_id: str) -> list[tuple[Any, ...]]:
        calls = support.journal(self.home, exec_id)
        if not self.scenario.has_tasks:
            return calls
        return sorted(
            (*call[1:8], sorted(json.loads(call[8] or "[]")), *call[9:]) for call in calls
        )


def _trial(scenario: Scenario, kills: int) -> Trial:
    def run(scope: Scope) -> str:
        return str(KillLoop(scope.home, scenario, rng=scope.rng).run(kills=scope.times(kills)))

    return Trial(name=f"kill-{scenario.name}", run=run)


#: Five hundred and more, a share for each scenario.
TRIALS = tuple(_trial(scenario, 84) for scenario in SCENARIOS)
