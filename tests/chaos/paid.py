"""Kill whoever asks models, between and inside its requests, until each flow has ended well.

The models are a server in this process, which nobody kills: what it was asked and has told is
compared with what the store has on record. No answer that was recorded is asked for again; each
kill costs at most the answers that were on their way; nothing is counted that was not served.
"""

from __future__ import annotations

import os
import random
import threading
import time
from collections import Counter
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from examples.model_server import ModelServer, Reply, Request
from kitaru import KitaruClient
from kitaru.usage_summary import FLAT_KEYS
from tests import support
from tests.chaos import drivers, paid_flows
from tests.chaos.trial import Scope, Trial

#: The longest a model thinks, and until a kill after a request was seen, or a write.
THINKS_SECONDS = 0.02
LATE_SECONDS = 0.05
WRITTEN_SECONDS = 0.004
#: What a request is known by in a record: its number, added to this, is the tokens it took.
FIRST_TOKENS = 1_000


@dataclass(frozen=True)
class Scenario:
    """A flow, and how many of its requests may be under way at a time.

    `share` are its kills of a hundred."""

    name: str
    flow: str
    share: int = 14
    in_flight: int = 1
    inputs: dict[str, Any] = field(default_factory=dict)


SCENARIOS = (
    Scenario("body", "body"),
    Scenario("checkpoints", "steps"),
    Scenario("streamed body", "body", inputs={"stream": True}),
    Scenario("streamed checkpoints", "steps", inputs={"stream": True}),
    Scenario("busy", "mixed", in_flight=2),
    Scenario("tasks", "tasks", in_flight=paid_flows.WIDTH),
    Scenario("own SDK", "told"),
    # What its process tells is written by its driver: one answer more may be on its way.
    Scenario("isolated", "isolated", share=2, in_flight=2),
)


@dataclass(frozen=True)
class Kill:
    """The requests that had come by then, and the calls that were recorded as completed."""

    requests: int
    completed: frozenset[str]


@dataclass(frozen=True)
class Asked:
    """A request: its number, the prompt's parts, and what was answered."""

    number: int
    prompt: str
    status: int

    @property
    def call(self) -> str:
        """The call it belongs to."""
        return self.prompt.split()[1]


def check_repeats(asked: Iterable[Asked], kills: list[Kill]) -> int:
    """No answer on record was asked for again, others once more for each kill; how many were."""
    repeated = 0
    known: dict[str, list[Asked]] = {}
    for each in asked:
        before = known.setdefault(each.prompt, [])
        behind = [kill for kill in kills if kill.requests <= each.number]
        for kill in behind:
            assert each.call not in kill.completed, f"{each.prompt!r} was on record already"
        hits = sum(any(old.number < kill.requests for old in before) for kill in behind)
        answered = sum(old.status == 200 for old in before)
        assert answered <= hits, f"{each.prompt!r} was asked again after {hits} kills"
        repeated += answered > 0
        before.append(each)
    return repeated


def check_usage(
    asked: Iterable[Asked], recorded: list[int], kills: list[Kill], *, in_flight: int
) -> Counter[int]:
    """What is on record was served, once; how many answers each kill has cost, by its number."""
    served = {each.number for each in asked if each.status == 200}
    assert len(recorded) == len(set(recorded)), f"counted twice: {sorted(recorded)}"
    assert set(recorded) <= served, f"never served: {sorted(set(recorded) - served)}"
    lost = sorted(served - set(recorded))
    by_kill = Counter(sum(kill.requests <= number for kill in kills) for number in lost)
    assert len(kills) not in by_kill, f"lost without a kill: {lost}, {kills}"
    assert all(count <= in_flight for count in by_kill.values()), f"more were lost: {by_kill}"
    return by_kill


@dataclass
class Tally:
    """What was done and found."""

    kills: int = 0
    between: int = 0
    executions: int = 0
    requests: int = 0
    repeated: int = 0
    lost: int = 0

    def __str__(self) -> str:
        return (
            f"{self.kills} kills ({self.between} between requests), {self.executions} executions, "
            f"{self.requests} requests, 0 of them for an answer on record, {self.repeated} "
            f"repeated; {self.lost} answers not counted that a kill met on their way, all others "
            "counted once"
        )


class Models:
    """Models that think for a while, refuse each question of a busy flow once, and answer."""

    def __init__(self, rng: random.Random) -> None:
        self._rng = rng
        self._refused: set[str] = set()
        self.server = ModelServer(self._answer)

    def _answer(self, request: Request) -> Reply:
        time.sleep(self._rng.uniform(0, THINKS_SECONDS))
        token, _, place = request.prompt.split()
        if token.startswith("busy") and request.prompt not in self._refused:
            self._refused.add(request.prompt)
            return Reply(status=429, headers={"Retry-After": "0.001"})
        text, tokens = paid_flows.answer(token, place), FIRST_TOKENS + request.number
        return Reply(text, input_tokens=tokens, output_tokens=1)

    def asked(self, token: str) -> list[Asked]:
        """What a flow has asked, and was answered."""
        with self.server.lock:
            served = {each.request.number: each.status for each in self.server.served}
            requests = [*self.server.requests]
        return [
            Asked(each.number, each.prompt, served[each.number])
            for each in requests
            if each.prompt.split()[0] == token
        ]

    @staticmethod
    def is_left() -> bool:
        """Whether nobody is connected, so that all that was sent has been heard."""
        return not any("process_request" in thread.name for thread in threading.enumerate())


class KillLoop:
    """Kills executions of one scenario."""

    def __init__(self, home: Path, scenario: Scenario, models: Models, rng: random.Random) -> None:
        self._home = home
        self._scenario = scenario
        self._models = models
        self._rng = rng

    def run(self, tally: Tally, kills: int) -> None:
        """Kill so often, in as many executions as it takes."""
        until = tally.kills + kills
        while tally.kills < until:
            self._run_one(tally, most=until - tally.kills)

    def _run_one(self, tally: Tally, *, most: int) -> None:
        token = f"{self._scenario.name.partition(' ')[0]}-{self._rng.randrange(1 << 40):x}"
        target = f"tests.chaos.paid_flows:{self._scenario.flow}"
        driver = drivers.start(self._home, target, token=token, **self._scenario.inputs)
        (exec_id,) = driver.started()
        kills: list[Kill] = []
        while len(kills) < most and self._let_run(driver):
            self._kill(driver)
            kills.append(self._seen(exec_id))
            driver = drivers.resume(self._home, exec_id)
            if not driver.started():
                break
        if driver.is_running():
            driver.ended()
        self._check(exec_id, token, kills, tally)
        tally.executions += 1
        tally.kills += len(kills)

    def _let_run(self, driver: drivers.Driver) -> bool:
        """Wait for a moment to kill at; whether there is one."""
        server = self._models.server
        wanted = len(server.requests) + self._rng.randint(1, 3)
        support.until(lambda: len(server.requests) >= wanted or not driver.is_running(), "it asks")
        if self._rng.random() < 0.5:
            before = self._written()
            support.until(
                lambda: self._written() != before or not driver.is_running(), "it is recorded"
            )
            time.sleep(self._rng.uniform(0, WRITTEN_SECONDS))
        else:
            time.sleep(self._rng.uniform(0, LATE_SECONDS))
        return driver.is_running()

    def _written(self) -> int:
        """When anything was written into the store."""
        try:
            return (self._home / "kitaru.db-wal").stat().st_mtime_ns
        except FileNotFoundError:
            return 0

    def _kill(self, driver: drivers.Driver) -> None:
        orphans = _children(driver.pid)
        driver.kill()
        for pid in orphans:
            support.until(lambda each=pid: not support.is_running(each), "its own processes end")
        support.until(self._models.is_left, "all that was asked has been heard")

    def _seen(self, exec_id: str) -> Kill:
        sql = (
            "SELECT call_id FROM calls JOIN executions ON id = execution "
            "WHERE exec_id = ? AND calls.status = 'completed'"
        )
        rows = support.query(self._home, sql, exec_id)
        return Kill(len(self._models.server.requests), frozenset(row[0] for row in rows))

    def _check(self, exec_id: str, token: str, kills: list[Kill], tally: Tally) -> None:
        found = KitaruClient(home=self._home).executions.get(exec_id)
        assert found.status == "completed", f"{found.status}: {found.failure}"
        assert found.result == paid_flows.expected(token), "the answers are others"
        asked = self._models.asked(token)
        records = [
            record
            for call in found.checkpoints
            for record in call.llm_usage_records
            if record["billing_effect"] == "incurred"
        ]
        told = [record["usage"]["input_tokens"] - FIRST_TOKENS for record in records]
        tally.requests += len(asked)
        tally.repeated += check_repeats(asked, kills)
        in_flight = self._scenario.in_flight
        lost = check_usage(asked, told, kills, in_flight=in_flight)
        tally.lost += sum(lost.values())
        tally.between += len(kills) - len(lost)
        summary = found.llm_usage_summary
        assert summary is not None
        total = sum(record["usage"]["total_tokens"] for record in records)
        assert total == sum(number + FIRST_TOKENS + 1 for number in told)
        for name in ("total_tokens", "incurred_total_tokens"):
            assert summary[name] == found.metadata[FLAT_KEYS[name]] == total, summary
        assert summary["usage_record_count"] >= len(records)
        assert summary["reused_usage_record_count"] == 0


def _children(pid: int) -> list[int]:
    """The processes that a process has started."""
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            if int(path.read_text().rpartition(")")[2].split()[1]) == pid:
                found.append(int(path.parent.name))
    return found


def run(home: Path, *, kills: int, rng: random.Random) -> str:
    """Kill so often in all, a share of it in each scenario."""
    tally, shares = Tally(), sum(each.share for each in SCENARIOS)
    models = Models(rng)
    # No power is cut here.
    os.environ |= {**models.server.settings(), "KITARU_DURABILITY": "normal"}
    drivers.load_also("openai", "anthropic", "kitaru.conversation", "tests.chaos.paid_flows")
    for scenario in SCENARIOS:
        share = -(-kills * scenario.share // shares)
        KillLoop(home, scenario, models, rng).run(tally, share)
    models.server.close()
    assert support.is_sound(home)
    return str(tally)


def _trial(scope: Scope) -> str:
    return run(scope.home, kills=scope.times(100), rng=scope.rng)


TRIALS = (Trial(name="models", run=_trial),)
