"""What is on record is what the models' server has told, whatever becomes of a program.

Programs are drawn: questions in a flow's body, in checkpoints, side by side and in async code, to
providers that refuse, fail and break off; checkpoints that fail after they have paid, or are over
their time; flows that fail and are retried, that are cancelled while a request is under way, or
whose driver stops then and that are resumed; second runs from the cache, and replays from the
middle.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import itertools
import math
import threading
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

import kitaru
from examples.model_server import Reply, Request
from kitaru import KitaruClient, retry
from kitaru.usage_summary import FLAT_KEYS, flat
from tests import drives
from tests.models.conftest import Models
from tests.support import TurnedClock, until

MODELS = ("openai/gpt-5-nano", "anthropic/claude-haiku-4-5", "openrouter/openai/gpt-5-nano")
#: How a request fails: refused with a status, or broken off after so many pieces.
Fate: TypeAlias = Literal["429", "500"] | int
LATE_SECONDS = 0.02


@dataclass(frozen=True)
class Ask:
    """A question, and what becomes of its first requests."""

    model: str
    is_streamed: bool
    fates: tuple[Fate, ...]


@dataclass(frozen=True)
class Body:
    """A question in the flow's body."""

    ask: Ask


@dataclass(frozen=True)
class Step:
    """Questions in a checkpoint, whose first attempts fail after them."""

    asks: tuple[Ask, ...]
    failures: int


@dataclass(frozen=True)
class Beside:
    """Questions side by side."""

    asks: tuple[Ask, ...]


@dataclass(frozen=True)
class Sdk:
    """A question through a provider's own SDK; `again` records the same response twice."""

    model: str
    again: bool


@dataclass(frozen=True)
class Late:
    """A question whose checkpoint is over its time before the answer comes."""

    ask: Ask


Block: TypeAlias = Body | Step | Beside | Sdk | Late


@dataclass(frozen=True)
class Program:
    """A flow, how it ends, and what is done with it then."""

    blocks: tuple[Block, ...]
    is_async: bool
    end: Literal["completes", "fails", "is cancelled", "is stopped"]
    last: Ask
    cache: bool
    replays_from: int | None


ASKS = st.builds(
    Ask,
    st.sampled_from(MODELS),
    st.booleans(),
    st.lists(st.sampled_from(("429", "500")) | st.integers(0, 9), max_size=2).map(tuple),
)
SEVERAL = st.lists(ASKS, min_size=1, max_size=3).map(tuple)
PROGRAMS = st.builds(
    Program,
    st.lists(
        st.one_of(
            st.builds(Body, ASKS),
            st.builds(Step, SEVERAL, st.integers(0, 2)),
            st.builds(Beside, SEVERAL),
            st.builds(Sdk, st.sampled_from(MODELS[:2]), st.booleans()),
            st.builds(Late, ASKS),
        ),
        max_size=4,
    ).map(tuple),
    st.booleans(),
    st.sampled_from(("completes", "fails", "is cancelled", "is stopped")),
    ASKS,
    st.booleans(),
    st.none() | st.integers(0, 5),
)


@dataclass
class Server:
    """The models of one program: what they answer, by the prompt."""

    models: Models
    number: int
    left: dict[str, list[Reply]] = field(default_factory=dict)
    #: Prompts that are never answered, and what is waited for first.
    broken: dict[str, threading.Event] = field(default_factory=dict)
    costs: dict[int, float] = field(default_factory=dict)
    requests: int = 0
    tokens: tuple[int, int] = (0, 0)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def __post_init__(self) -> None:
        self.requests, self.tokens = len(self.models.requests), self.models.tokens
        self.models.reply = self._reply

    def plan(self, prompt: str, *replies: Reply) -> None:
        """What is answered to the first requests with a prompt."""
        with self._lock:
            self.left.setdefault(prompt, [*replies])

    def _reply(self, request: Request) -> Reply:
        with self._lock:
            left = self.left.get(request.prompt)
            reply = left.pop(0) if left else Reply()
            if request.prompt in self.broken:
                return Reply(hold=self.broken[request.prompt], breaks_after=0)
        if reply.status == 200:
            reply.text = "A word. " * (1 + request.number % 3)
            reply.cached_tokens = request.number % 2
            if "/" in request.model:
                reply.cost = 0.001 * (1 + request.number % 7)
                self.costs[request.number] = reply.cost
        return reply

    def told(self) -> tuple[int, int]:
        """The tokens it has told of."""
        return (
            self.models.tokens[0] - self.tokens[0],
            self.models.tokens[1] - self.tokens[1],
        )

    def cost(self) -> float:
        """The money it has told of."""
        with self.models.server.lock:
            served = self.models.server.served[:]
        return math.fsum(
            self.costs.get(each.request.number, 0.0) for each in served if each.output_tokens
        )


def _failing(fate: Fate) -> Reply:
    if isinstance(fate, int):
        return Reply(breaks_after=fate)
    return Reply(status=int(fate), headers={"Retry-After": "0"})


class Run:
    """A program as a flow, with the events that its parts wait for."""

    def __init__(self, program: Program, server: Server) -> None:
        self.program, self.server = program, server
        self.name = f"program-{server.number}"
        self.stopped = threading.Event()
        self._tried = Counter[str]()
        self._checkpoints: dict[str, Any] = {}
        body = self._async_flow if program.is_async else self._flow
        self.flow = kitaru.flow(name=self.name, cache=program.cache)(body)

    def _arguments(self, name: str, ask: Ask) -> dict[str, Any]:
        self.server.plan(self._prompt(name), *map(_failing, ask.fates))
        options = {"model": ask.model, "stream": ask.is_streamed, "retries": len(ask.fates)}
        return {"prompt_or_messages": self._prompt(name), "name": name, **options}

    def _prompt(self, name: str) -> str:
        return f"{name} of {self.name}"

    def _ask(self, name: str, ask: Ask) -> str:
        return kitaru.llm(**self._arguments(name, ask))

    async def _ask_async(self, name: str, ask: Ask) -> str:
        found: str = await kitaru.llm_async(**self._arguments(name, ask))
        return found

    def _fail(self, name: str, failures: int) -> None:
        self._tried[name] += 1
        if self._tried[name] <= failures:
            raise ValueError("after the bill")

    def _asks(self, name: str, asks: tuple[Ask, ...], failures: int, **options: Any) -> Any:
        """A checkpoint with some questions; the same one for each drive."""

        def step() -> list[str]:
            found = [self._ask(f"{name}-{place}", ask) for place, ask in enumerate(asks)]
            self._fail(name, failures)
            return found

        async def step_async() -> list[str]:
            found = [
                await self._ask_async(f"{name}-{place}", ask) for place, ask in enumerate(asks)
            ]
            self._fail(name, failures)
            return found

        if name not in self._checkpoints:
            work: Any = step_async if self.program.is_async else step
            # A cache knows a checkpoint by its name and code, not by what is around it.
            named = f"{name}-{self.server.number}"
            made = kitaru.checkpoint(name=named, retry_delay=0, **options)(work)
            self._checkpoints[name] = made
        return self._checkpoints[name]

    def _sdk(self, name: str, block: Sdk) -> Any:
        def step() -> str:
            from anthropic import Anthropic
            from openai import OpenAI

            model = block.model.partition("/")[2]
            message: Any = {"role": "user", "content": self._prompt(name)}
            asked: dict[str, Any] = {"model": model, "messages": [message], "max_tokens": 99}
            if block.model == MODELS[0]:
                with OpenAI(max_retries=0) as client:
                    response: Any = client.chat.completions.create(**asked)
            else:
                with Anthropic(max_retries=0) as client_of_anthropic:
                    response = client_of_anthropic.messages.create(**asked)
            for _ in range(1 + block.again):
                kitaru.record_llm_usage(response)
            return name

        named = f"{name}-{self.server.number}"
        return self._checkpoints.setdefault(name, kitaru.checkpoint(name=named)(step))

    def _late(self, name: str, ask: Ask) -> Any:
        """A checkpoint that its time is over for; and what lets its answer come."""
        plain = Ask(ask.model, ask.is_streamed, ())
        go = threading.Event()
        if self.program.is_async:
            # Whoever awaits it is gone, maybe while it is told: it is told to nobody.
            self.server.broken.setdefault(self._prompt(f"{name}-0"), go)
        else:
            self.server.plan(self._prompt(f"{name}-0"), Reply(hold=go))
        return self._asks(name, (plain,), 0, timeout=LATE_SECONDS), go

    def _held(self) -> tuple[str, Ask]:
        """The question that is under way when the execution is cancelled."""
        cut = 0 if self.program.is_async else None
        self.server.plan(self._prompt("held"), Reply(hold=self.stopped, breaks_after=cut))
        return "held", Ask(self.program.last.model, self.program.last.is_streamed, ())

    def _stopped(self) -> tuple[Ask, ...]:
        """The questions of a checkpoint that is stopped at its second, which is made again."""
        last = self.program.last
        return last, Ask(last.model, last.is_streamed, (0, 0))

    def _flow(self) -> None:
        for number, block in enumerate(self.program.blocks):
            name = f"block-{number}"
            match block:
                case Body(ask):
                    self._ask(name, ask)
                case Step(asks, failures):
                    self._asks(name, asks, failures, retries=failures)()
                case Beside(asks):
                    submitted = [
                        self._asks(f"{name}-{place}", (ask,), 0).submit()
                        for place, ask in enumerate(asks)
                    ]
                    for each in submitted:
                        each.result()
                case Sdk():
                    self._sdk(name, block)()
                case Late(ask):
                    step, go = self._late(name, ask)
                    with contextlib.suppress(Exception):
                        step()
                    go.set()
        if self.program.end == "fails":
            self._asks("lost", (self.program.last,), 1)()
        if self.program.end == "is cancelled":
            self._ask(*self._held())
        if self.program.end == "is stopped":
            self._asks("stopped", self._stopped(), 0)()

    async def _async_flow(self) -> None:
        for number, block in enumerate(self.program.blocks):
            name = f"block-{number}"
            match block:
                case Body(ask):
                    await self._ask_async(name, ask)
                case Step(asks, failures):
                    await self._asks(name, asks, failures, retries=failures)()
                case Beside(asks):
                    named = [(f"{name}-{place}", ask) for place, ask in enumerate(asks)]
                    await asyncio.gather(*itertools.starmap(self._ask_async, named))
                case Sdk():
                    self._sdk(name, block)()
                case Late(ask):
                    step, go = self._late(name, ask)
                    with contextlib.suppress(Exception):
                        await step()
                    go.set()
        if self.program.end == "fails":
            await self._asks("lost", (self.program.last,), 1)()
        if self.program.end == "is cancelled":
            await self._ask_async(*self._held())
        if self.program.end == "is stopped":
            await self._asks("stopped", self._stopped(), 0)()

    def _until_asked(self, name: str) -> None:
        models = self.server.models
        until(lambda: self._prompt(name) in models.prompts, "its request is sent")

    def executions(self) -> Iterator[str]:
        """Run it, and do with it what is to be done; gives each execution."""
        if self.program.end == "is stopped":
            self.server.broken[self._prompt("stopped-1")] = self.stopped
        handle = self.flow.run()
        if self.program.end == "is cancelled":
            self._until_asked("held")
            KitaruClient().executions.cancel(handle.exec_id)
            self.stopped.set()
            drives.error_of(handle)
            drives.left(handle.exec_id)
            yield handle.exec_id
            return
        if self.program.end == "is stopped":
            self._until_asked("stopped-1")
            handle._driver.stop()
            self.stopped.set()
            assert handle._driver.ended.wait(60)
            del self.server.broken[self._prompt("stopped-1")]
            # Where no answer came before it was stopped, it has failed.
            action: Literal["resume", "retry"]
            action = "resume" if drives.left(handle.exec_id).stalled else "retry"
            handle = drives.again(action, self.flow, handle.exec_id)
        if self.program.end == "fails":
            drives.error_of(handle)
            handle = drives.again("retry", self.flow, handle.exec_id)
        handle.wait()
        yield handle.exec_id
        if self.program.cache:
            second = self.flow.run()
            second.wait()
            yield second.exec_id
        calls = KitaruClient().executions.get(handle.exec_id).checkpoints
        if self.program.replays_from is not None and calls:
            from_ = calls[self.program.replays_from % len(calls)].call_id
            third = self.flow.replay(handle.exec_id, from_)
            third.wait()
            yield third.exec_id


COUNTS = (
    "incurred_input_tokens",
    "incurred_output_tokens",
    "incurred_total_tokens",
    "reused_total_tokens",
    "total_tokens",
    "incurred_usage_record_count",
    "actual_cost_usd",
)


def summed(exec_ids: list[str]) -> Counter[str]:
    """What the executions have on record, each in its summary and in its flat numbers."""
    found = Counter[str]()
    for exec_id in exec_ids:
        execution = KitaruClient().executions.get(exec_id)
        summary = execution.llm_usage_summary
        if summary is None:
            assert not [key for key in execution.metadata if key in FLAT_KEYS.values()]
            continue
        assert flat(summary).items() <= execution.metadata.items()
        found.update({name: summary[name] for name in COUNTS})
        records = [each for call in execution.checkpoints for each in call.llm_usage_records]
        assert summary["total_tokens"] == sum(
            each["usage"]["total_tokens"] or 0 for each in records
        )
        found["requests"] += sum(each["cache_status"] == "executed" for each in records)
    return found


def check(run: Run, exec_ids: list[str]) -> None:
    """Records and server agree, and so do the statistics."""
    server = run.server
    found = summed(exec_ids)
    told = server.told()
    assert (found["incurred_input_tokens"], found["incurred_output_tokens"]) == told
    assert found["incurred_total_tokens"] == sum(told)
    assert found["total_tokens"] == sum(told) + found["reused_total_tokens"]
    assert found["actual_cost_usd"] == pytest.approx(server.cost())
    sent = len(server.models.requests) - server.requests
    # What is cancelled may have been recorded before it was sent.
    recorded = found["requests"]
    assert recorded >= sent if run.program.is_async else recorded == sent
    metrics = [f"{name}:metadata:{FLAT_KEYS[name]}:sum" for name in COUNTS]
    groups = KitaruClient().executions.statistics(group_by=["flow"], metrics=metrics).groups
    (group,) = [each.metrics for each in groups if run.name in each.keys.values()]
    assert {name: group[name] or 0 for name in COUNTS} == pytest.approx(
        {name: found[name] for name in COUNTS}
    )


def nobody_is_left() -> bool:
    """Whether no thread is under way that was left behind by its checkpoint."""
    return not any(each.name.startswith("kitaru-block") for each in threading.enumerate())


@pytest.fixture
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """No pause lasts longer than it is asked to."""

    def pause(self: Any, attempt: int, *, asked: float | None = None) -> float:
        return asked or 0.0

    monkeypatch.setattr(retry.RetryPolicy, "pause", pause)


NUMBERS = itertools.count(1)


#: Fewer than elsewhere: each of them makes some ten requests.
EXAMPLES = settings().max_examples // 6


@settings(
    max_examples=EXAMPLES,
    # A smaller program is sought for minutes: each is read as it is.
    phases=(Phase.explicit, Phase.reuse, Phase.generate),
    report_multiple_bugs=False,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(program=PROGRAMS)
def test_what_is_on_record_is_what_the_server_told(models: Models, at_once: None, program: Program):
    run = Run(program, Server(models, next(NUMBERS)))
    exec_ids = [*run.executions()]
    until(nobody_is_left, "late answers have come")
    check(run, exec_ids)
    assert KitaruClient().store.examine(repair=True) == []
    check(run, exec_ids)


@pytest.mark.parametrize("retries", [0, 1])
def test_what_a_thread_tells_after_its_checkpoint_has_ended_is_counted(
    models: Models, at_once: None, retries: int
):
    go, tries = threading.Event(), itertools.count()
    threads: list[threading.Thread] = []

    def late() -> None:
        assert go.wait(60)
        kitaru.record_llm_usage(input_tokens=5)

    @kitaru.checkpoint(retries=retries)
    def leaves_a_thread() -> str:
        if next(tries) < retries:
            raise ValueError("once")
        kitaru.record_llm_usage(input_tokens=2)
        bound = contextvars.copy_context()
        threads.append(threading.Thread(target=bound.run, args=(late,)))
        threads[0].start()
        return "done"

    handle = kitaru.flow(name="leaving")(lambda: leaves_a_thread()).run()
    assert handle.wait() == "done"
    go.set()
    threads[0].join(60)
    (call,) = (found := KitaruClient().executions.get(handle.exec_id)).checkpoints
    assert [each["usage"]["input_tokens"] for each in call.llm_usage_records] == [2, 5]
    assert found.metadata["kitaru_llm_total_tokens_v1"] == 7


def test_what_a_late_attempt_has_used_stays_when_the_next_one_ends(
    models: Models, at_once: None, turned: TurnedClock
):
    first, second = threading.Event(), threading.Event()
    holds = iter([first, second])
    models.reply = lambda request: Reply("answer", hold=next(holds))

    @kitaru.checkpoint(retries=1, timeout=5, retry_delay=0)
    def slow() -> str:
        return kitaru.llm("x", model=MODELS[0])

    handle = kitaru.flow(name="slow")(lambda: slow()).run()
    until(lambda: len(models.requests) == 1, "it asks")
    turned.turn(6)
    until(lambda: len(models.requests) == 2, "it is tried again")
    first.set()

    def records() -> int:
        found = KitaruClient().executions.get(handle.exec_id).llm_usage_summary
        return found["usage_record_count"] if found else 0

    until(lambda: records() == 1, "the late answer is counted")
    second.set()
    assert handle.wait() == "answer"
    found = KitaruClient().executions.get(handle.exec_id)
    assert records() == 2
    assert found.metadata["kitaru_llm_total_tokens_v1"] == sum(models.tokens)
