"""Asking a model: what a call costs through `kitaru.llm`, and what the bare SDK costs for it.

The model is scripted and in a process of its own; it answers at once, with a short text. The floor
is the provider's SDK, with one client for all calls; beside it stands the same with a bare row that
is committed behind each answer. In a flow each call is durable by itself; in a checkpoint each is
counted durably at once, and the price of the checkpoint belongs to it.
"""

from __future__ import annotations

import importlib
import os
import time
from contextlib import ExitStack
from typing import Any
from unittest import mock

import kitaru
from benchmarks import floor
from benchmarks.rounds import Samples, Side, interleave, spread
from benchmarks.scope import Scope
from benchmarks.worker import Worker
from examples.model_server import ModelServer, Reply, Request

CALLS, QUICK, TOGETHER = 200, 30, 10
MODELS = {"OpenAI": "openai/gpt-5-nano", "Anthropic": "anthropic/claude-haiku-4-5"}
PROMPT = "Say in one line what a durable execution is."
ANSWER = "One that goes on where it was when its process has died."
BARE, WITH_ROWS = "the SDK alone", "the SDK, and a row committed"
OURS = {
    "Kitaru, in a flow": "flow",
    "Kitaru, in a checkpoint each": "each",
    "Kitaru, ten in a checkpoint": "tens",
}

_servers: list[ModelServer] = []


def serve() -> dict[str, str]:
    """Begin to answer; the settings by which the SDKs come here."""

    def answer(_: Request) -> Reply:
        return Reply(ANSWER, input_tokens=12, output_tokens=14)

    _servers.append(ModelServer(answer))
    return _servers[-1].settings()


def close() -> None:
    """Answer no more."""
    _servers.pop().close()


@kitaru.checkpoint
def agent(model: str, calls: int) -> None:
    """Asks, as often as it is told."""
    for _ in range(calls):
        kitaru.llm(PROMPT, model=model)


@kitaru.flow
def asking(how: str, model: str, calls: int) -> dict[str, float]:
    """Asks in one of the three places."""
    begun = _now()
    if how == "flow":
        for _ in range(calls):
            kitaru.llm(PROMPT, model=model)
    else:
        together = 1 if how == "each" else TOGETHER
        for _ in range(0, calls, together):
            agent(model, together)
    return _since(begun)


def ask(how: str, model: str, calls: int, settings: dict[str, str]) -> dict[str, float]:
    """One execution that asks so often."""
    with mock.patch.dict(os.environ, settings):
        return asking.run(how, model, calls).wait()


def bare(
    model: str, calls: int, settings: dict[str, str], path: str | None = None
) -> dict[str, float]:
    """The same through the SDK alone, or with a row in this file for each answer."""
    provider, _, name = model.partition("/")
    sdk = importlib.import_module(provider)
    with mock.patch.dict(os.environ, settings):
        client = sdk.OpenAI() if provider == "openai" else sdk.Anthropic()
    messages: Any = [{"role": "user", "content": PROMPT}]
    options: dict[str, Any] = {} if provider == "openai" else {"max_tokens": 8192}
    with client:
        create = (client.chat.completions if provider == "openai" else client.messages).create
        create(model=name, messages=messages, **options)  # it is connected, as ours stays
        begun = _now()
        for _ in range(calls):
            create(model=name, messages=messages, **options)
            if path is not None:
                floor.sequential(path, steps=1)
        return _since(begun)


def _now() -> tuple[float, float]:
    return time.perf_counter(), time.process_time()


def _since(begun: tuple[float, float]) -> dict[str, float]:
    seconds, processor = _now()
    return {"seconds": seconds - begun[0], "processor": processor - begun[1]}


def run(scope: Scope) -> list[dict[str, Any]]:
    """Both providers, one after the other; quickly only the first."""
    calls = QUICK if scope.quick else CALLS
    with (
        Worker("models") as server,
        Worker("models") as alone,
        Worker("models", home=scope.place("home")) as ours,
        ExitStack() as stack,
    ):
        settings = server.run("serve")
        stack.callback(server.run, "close")
        tables = []
        for provider in [*MODELS][: 1 if scope.quick else None]:
            work = {"model": MODELS[provider], "calls": calls, "settings": settings}

            def with_ours(how: str, work: dict[str, Any] = work) -> Any:
                return lambda: ours.run("ask", how=how, **work)

            def without(path: str | None, work: dict[str, Any] = work) -> Any:
                return lambda: alone.run("bare", path=path, **work)

            sides = [
                Side(BARE, without(None)),
                Side(WITH_ROWS, without(str(scope.folder / "rows.db")), BARE),
                *(Side(name, with_ours(how), BARE) for name, how in OURS.items()),
            ]
            tables += _tables(interleave(sides, rounds=scope.rounds), provider, calls)
        return tables


def _tables(samples: Samples, provider: str, calls: int) -> list[dict[str, Any]]:
    def per_call(figure: str) -> Any:
        return lambda figures: 1000 * figures[figure] / calls

    whole = samples.table(
        f"call/{provider}",
        title="Time per call",
        column=provider,
        figure=per_call("seconds"),
        unit="ms",
    )
    processor = samples.table(
        f"processor/{provider}",
        title="Processor time per call, without the model's",
        column=provider,
        figure=per_call("processor"),
        unit="ms",
    )
    return [whole, _extra(samples, provider, calls), processor]


def _extra(samples: Samples, provider: str, calls: int) -> dict[str, Any]:
    """What is left when a round's floor is taken from each of its figures."""
    sides = {}
    for name in (WITH_ROWS, *OURS):
        pairs = zip(samples.rounds[name], samples.rounds[BARE], strict=True)
        extra = [(ours["seconds"] - bare["seconds"]) for ours, bare in pairs if ours and bare]
        sides[name] = spread([1000 * seconds / calls for seconds in extra])
    where = {"key": f"extra/{provider}", "title": "More than the SDK alone, per call"}
    told = {"column": provider, "unit": "ms", "better": "less", "at": None}
    return {**where, **told, "sides": sides, "left_out": {}}
