"""Whatever runs is told to stop, at any moment: it ends soon, and nothing is lost.

Scripts, runners, workers and servers get SIGTERM or SIGINT while they are busy. What was under way
is finished or handed back: no checkpoint has run twice when the execution has been resumed, and
its result and journal are those of an undisturbed run. A second Ctrl-C ends a script at once.
"""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import time
from collections import Counter, defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

from kitaru import KitaruClient
from tests import support
from tests.chaos import drivers
from tests.chaos.history import History, check, now
from tests.chaos.trial import Trial
from tests.mcp.serving import Bare, Place, bare

#: How long an end may take.
MOST_SECONDS = 2.0
FLOWS: tuple[tuple[str, dict[str, Any]], ...] = (
    ("chain", {"length": 60}),
    ("fan", {"rounds": 8, "width": 8}),
    ("asks", {"length": 12, "timeout": 60.0}),
)
SIGNALS = (signal.SIGTERM, signal.SIGINT)


class Stops:
    """Stops processes that work on one home, and sees what becomes of their executions."""

    def __init__(self, home: Path, rng: random.Random) -> None:
        self.home = home
        self.rng = rng
        self.longest: dict[str, float] = defaultdict(float)
        self.stopped: Counter[str] = Counter()
        self._history = History(home).begin()
        self._executions = KitaruClient(home=home).executions
        self._expected = {flow: self._undisturbed(flow, inputs) for flow, inputs in FLOWS}

    def _undisturbed(self, flow: str, inputs: dict[str, Any]) -> list[Any]:
        driver = drivers.start(self.home, f"tests.flows:{flow}", **inputs)
        (exec_id,) = driver.started()
        support.see_through(self.home, exec_id)
        driver.ended()
        return self._outcome(exec_id)

    def _outcome(self, exec_id: str) -> list[Any]:
        return [self._executions.get(exec_id).result, support.journal(self.home, exec_id)]

    # --- who is stopped ----------------------------------------------------------------------

    def script(self) -> None:
        """A script whose flow runs in its own process."""
        flow, inputs = self.rng.choice(FLOWS)
        process, exec_id = support.start(self.home, flow, **inputs)
        self._let_run(exec_id)
        number = self._end("script", process)
        assert process.returncode in (0, -number), process.returncode
        support.kill(process)
        self._check_handed_back(exec_id, flow)

    def runner(self) -> None:
        """A client's runner."""
        flow, inputs = self.rng.choice(FLOWS)
        started = self._executions.run(f"tests.flows:{flow}", inputs, root=str(support.ROOT))
        self._let_run(started.exec_id)
        pid, began = support.runner_pid(self.home, started.exec_id), time.monotonic()
        if support.is_running(pid):
            os.kill(pid, self.rng.choice(SIGNALS))
        support.until(lambda: not support.is_running(pid), "the runner has ended")
        self._note("runner", began)
        self._check_handed_back(started.exec_id, flow)

    def worker(self) -> None:
        """`kitaru worker` with executions to take up; its runners go on."""
        flow, inputs = FLOWS[0]
        driver = drivers.start(self.home, f"tests.flows:{flow}", copies=2, **inputs)
        exec_ids = driver.started()
        driver.kill()
        worker = support.spawn(self.home, "-m", "kitaru.cli", "worker")
        assert worker.stdout is not None
        if self.rng.random() < 0.7:
            assert worker.stdout.readline().startswith("Resumed")
        else:
            time.sleep(self.rng.uniform(0, 0.4))
        number = self._end("worker", worker)
        # By the signal itself where it came before the worker was there.
        assert worker.returncode in (0 if number == signal.SIGTERM else 130, -number)
        support.kill(worker)
        for exec_id in exec_ids:
            self._check_handed_back(exec_id, flow, killed=True)

    def server(self) -> None:
        """A busy `kitaru-mcp`; what it has answered is so, and the runners it started go on."""
        place = Place(self.home, self.home / "project")
        place.project.mkdir(exist_ok=True)
        with bare(place, "--flow-root", str(support.ROOT)) as server:
            flow, inputs = FLOWS[0]
            for _ in range(2):
                server.tool("kitaru_executions_run", target=f"tests.flows:{flow}", args=inputs)
                server.tool("kitaru_executions_list", limit=5)
            time.sleep(self.rng.uniform(0, 1.0))
            self._end("server", server.process)
            assert server.process.returncode == 0
            told = self._told(server)
        for exec_id in told:
            self._history.note("created", exec_id)
            self._check_handed_back(exec_id, flow)

    def hasty(self) -> None:
        """A script in a long checkpoint, and a second Ctrl-C."""
        process, exec_id = support.start(self.home, "gate")
        support.until(lambda: "gated" in support.effects(self.home, exec_id), "it is at its gate")
        process.send_signal(signal.SIGINT)
        time.sleep(self.rng.uniform(0.05, 0.5))
        began = time.monotonic()
        process.send_signal(signal.SIGINT)
        process.wait(support.DEADLINE_SECONDS)
        self._note("hasty", began, most=MOST_SECONDS / 2)
        assert process.returncode == -signal.SIGINT, process.returncode
        support.kill(process)
        assert self._executions.get(exec_id).stalled
        self._executions.cancel(exec_id)
        self._history.note("cancelled", exec_id)

    # --- how, and what came of it ------------------------------------------------------------

    def _let_run(self, exec_id: str) -> None:
        self._history.note("created", exec_id)
        wanted = self.rng.randint(1, 40)
        support.until(
            lambda: (
                len(support.effects(self.home, exec_id)) >= wanted
                or self._executions.get(exec_id).status != "running"
            ),
            "it makes progress",
        )
        time.sleep(self.rng.uniform(0, 0.004))

    def _end(self, who: str, process: subprocess.Popen[Any]) -> int:
        number, began = self.rng.choice(SIGNALS), time.monotonic()
        process.send_signal(number)
        process.wait(support.DEADLINE_SECONDS)
        self._note(who, began)
        return int(number)

    def _note(self, who: str, began: float, *, most: float = MOST_SECONDS) -> None:
        seconds = time.monotonic() - began
        assert seconds <= most, f"{who}: it took {seconds:.1f} s to end"
        self.stopped[who] += 1
        self.longest[who] = max(self.longest[who], seconds)

    @staticmethod
    def _told(server: Bare) -> list[str]:
        """The executions that a server said it had started, before it ended."""
        assert server.process.stdout is not None
        answers = [json.loads(line) for line in server.process.stdout.read().splitlines()]
        found = [answer.get("result", {}).get("structuredContent", {}) for answer in answers]
        return [data["exec_id"] for data in found if "exec_id" in data]

    def _check_handed_back(self, exec_id: str, flow: str, *, killed: bool = False) -> None:
        """See an execution through, which somebody else drives or nobody does."""
        driven = support.runner_pid(self.home, exec_id)
        support.until(
            lambda: not support.is_running(driven) or driven == os.getpid(), "its driver has ended"
        )
        since = now()
        found = self._executions.get(exec_id)
        self._history.note("seen", exec_id, found.status, since=since)
        if not found.status.is_finished:
            assert killed or self._is_free(exec_id), "its lease was kept"
            for asked in self._executions.pending_waits(exec_id):
                value = f"answer to {asked.name}"
                self._executions.input(exec_id, wait=asked.name, value=value)
                self._history.note("answered", f"{exec_id}/{asked.name}", value)
            driver = drivers.resume(self.home, exec_id)
            driver.started()
            support.see_through(self.home, exec_id)
            driver.ended()
        assert self._outcome(exec_id) == self._expected[flow]
        again = {
            call: runs
            for call, runs in Counter(support.effects(self.home, exec_id)).items()
            if runs > 1
        }
        assert len(again) <= killed, f"ran again after an orderly end: {again}"

    def _is_free(self, exec_id: str) -> bool:
        sql = "SELECT runner FROM leases JOIN executions ON id = execution WHERE exec_id = ?"
        return support.query(self.home, sql, exec_id) == [(None,)]


KINDS: tuple[Callable[[Stops], None], ...] = (
    Stops.script,
    Stops.runner,
    Stops.script,
    Stops.runner,
    Stops.server,
    Stops.worker,
    Stops.hasty,
)


def run(home: Path, *, rounds: int, rng: random.Random) -> str:
    """Stop this many processes, of each kind in turn."""
    stops = Stops(home, rng)
    for number in range(rounds):
        KINDS[number % len(KINDS)](stops)
    assert support.is_sound(home)
    told = ", ".join(
        f"{count} {who} (at most {stops.longest[who]:.2f} s)"
        for who, count in stops.stopped.items()
    )
    return f"stopped: {told}; 0 lost, 0 repeated; {check(home)}"


TRIALS = (
    Trial(
        name="stop",
        run=lambda scope: run(scope.home, rounds=scope.times(42), rng=scope.rng),
        alone=True,
    ),
)
