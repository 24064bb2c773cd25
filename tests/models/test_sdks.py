"""The providers' SDKs as they are installed here: what they send, answer and raise is understood.

They run with the current releases and with the oldest ones that are promised (`dev lowest`).
The server is on loopback; nothing else is reached.
"""

from __future__ import annotations

import asyncio
import datetime
import email.utils
import gc
import importlib
import json
import os
import re
import socket
import subprocess
import sys
import threading
import tomllib
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel

import kitaru
from examples.model_server import KEY, ModelServer, Reply, Request
from kitaru import KitaruClient, config
from kitaru.model_aliases import resolve
from kitaru.providers import Answer, Ask, Failed, ask, ask_async, asking, find_access
from tests.support import ROOT

MODELS = {
    "openai": "openai/gpt-5-nano",
    "anthropic": "anthropic/claude-opus-4-1",
    "ollama": "ollama/llama3",
    "openrouter": "openrouter/openai/gpt-5-nano",
}
#: Whether this is the environment of `dev lowest`.
LOWEST = Path(sys.prefix).name == ".lowest"
SAID = "Dogs keep us company,\nand cats let us keep theirs."


class Pet(BaseModel):
    """An answer in parts."""

    name: str
    legs: int


PET = Pet(name="Rex", legs=4)


@pytest.fixture(scope="module")
def shared() -> Iterator[ModelServer]:
    with ModelServer(lambda _: Reply()) as server:
        yield server


@pytest.fixture
def server(shared: ModelServer, monkeypatch: pytest.MonkeyPatch) -> ModelServer:
    """A server whose answer a test sets, and to which the SDKs go."""
    for name, value in shared.settings().items():
        monkeypatch.setenv(name, value)
    shared.requests.clear()
    return shared


# --- answers --------------------------------------------------------------------------------------


@kitaru.flow
def ask_model(model: str, stream: bool, in_parts: bool) -> str | Pet:
    """Asks in the flow's body."""
    schema: Any = Pet if in_parts else None
    question = [{"role": "user", "content": "Tell me of dogs."}]
    return kitaru.llm(
        question,
        model=model,
        system="Be short.",
        temperature=0.5,
        max_tokens=100,
        schema=schema,
        stream=stream,
    )


@kitaru.flow
async def ask_model_async(model: str, stream: bool, in_parts: bool) -> str | Pet:
    """Asks in an async flow."""
    schema: Any = Pet if in_parts else None
    question = [{"role": "user", "content": "Tell me of dogs."}]
    return await kitaru.llm_async(
        question,
        model=model,
        system="Be short.",
        temperature=0.5,
        max_tokens=100,
        schema=schema,
        stream=stream,
    )


@pytest.mark.parametrize("flow", [ask_model, ask_model_async], ids=["sync", "async"])
@pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
@pytest.mark.parametrize("in_parts", [False, True], ids=["text", "schema"])
@pytest.mark.parametrize("provider", MODELS)
def test_an_answer_and_its_record_are_what_the_provider_told(
    provider: str, in_parts: bool, stream: bool, flow: Any, home: Path, server: ModelServer
) -> None:
    server.answer = lambda request: Reply(
        PET.model_dump_json() if in_parts else SAID,
        input_tokens=120,
        output_tokens=30,
        cached_tokens=100,
        reasoning_tokens=20,
        cost=0.0125 if provider == "openrouter" else None,
    )
    handle = flow.run(MODELS[provider], stream, in_parts)
    assert handle.wait() == (PET if in_parts else SAID)
    (request,) = server.requests
    assert_sent(request, provider, in_parts=in_parts, stream=stream)
    (call,) = KitaruClient().executions.get(handle.exec_id).checkpoints
    (record,) = call.llm_usage_records
    assert record["provider"] == provider
    assert record["resolved_model"] == MODELS[provider]
    assert record["model"].startswith(MODELS[provider].partition("/")[2])
    assert record["status"] == "completed"
    assert record["finish_reason"] == ("end_turn" if provider == "anthropic" else "stop")
    used = record["usage"]
    assert (used["input_tokens"], used["output_tokens"], used["total_tokens"]) == (120, 30, 150)
    assert used["cached_input_tokens"] == 100
    assert used["reasoning_tokens"] == (None if provider == "anthropic" else 20)
    cost = record["cost"]
    if provider == "openrouter":
        assert (cost["actual_cost_usd"], cost["source"]) == (0.0125, "provider_reported")
    elif provider == "ollama":
        assert (cost["display_cost_usd"], cost["source"]) == (None, "none")
    else:
        assert cost["source"] == "calculator", record["warnings"]
        assert 0 < cost["estimated_cost_usd"] < 0.01


def assert_sent(request: Request, provider: str, *, in_parts: bool, stream: bool) -> None:
    """What a provider's interface asks for is what it was sent."""
    body = request.body
    assert body["model"] == MODELS[provider].partition("/")[2]
    assert request.is_streamed is stream
    assert body["temperature"] == 0.5
    assert body["max_completion_tokens" if provider == "openai" else "max_tokens"] == 100
    if provider == "anthropic":
        assert body["system"] == "Be short."
        assert [each["role"] for each in body["messages"]] == ["user"]
        # The SDK's newer releases send a key as a token.
        sent = {request.headers.get("x-api-key"), request.headers.get("authorization")}
        assert sent & {KEY, f"Bearer {KEY}"}
    else:
        assert [each["role"] for each in body["messages"]] == ["system", "user"]
        key = "ollama" if provider == "ollama" else KEY
        assert request.headers["authorization"] == f"Bearer {key}"
        assert body.get("stream_options") == ({"include_usage": True} if stream else None)
    assert body.get("usage") == ({"include": True} if provider == "openrouter" else None)
    if in_parts:
        told = json.dumps(body["output_config" if provider == "anthropic" else "response_format"])
        assert '"legs": {' in told
        assert '"required": ["name", "legs"]' in told


@pytest.mark.parametrize("provider", ["openai", "anthropic"])
def test_streamed_text_is_in_the_log_line_by_line(
    provider: str, home: Path, server: ModelServer
) -> None:
    server.answer = lambda _: Reply(SAID)
    handle = ask_model.run(MODELS[provider], True, False)
    handle.wait()
    logs = KitaruClient().executions.logs(handle.exec_id)
    assert [each.message for each in logs] == SAID.splitlines()


def test_an_answer_that_was_cut_off_says_so(home: Path, server: ModelServer) -> None:
    for provider, finish in (("openai", "length"), ("anthropic", "max_tokens")):
        server.answer = lambda _, finish=finish: Reply("Dogs are", finish=finish)
        handle = ask_model.run(MODELS[provider], False, False)
        assert handle.wait() == "Dogs are"
        (call,) = KitaruClient().executions.get(handle.exec_id).checkpoints
        assert "cut off" in call.llm_usage_records[0]["warnings"][0]


# --- what goes wrong ------------------------------------------------------------------------------


def failure(
    provider: str, *, is_async: bool, stream: bool = False, said: list[str] | None = None
) -> Failed:
    """What becomes of one request that fails; `said` gathers what came before."""
    model = resolve(MODELS[provider])
    access = find_access(model, home=config.find_home())
    question = Ask(model.name, ({"role": "user", "content": "Tell me of dogs."},))
    listener = [].append if said is None else said.append
    given: Any = {"listener": listener if stream else None}

    def once() -> None:
        if is_async:
            asyncio.run(ask_async(access, question, Answer(), **given))
        else:
            ask(access, question, Answer(), **given)

    with pytest.raises(Failed) as found:
        once()
    assert found.value.__cause__ is None
    assert access.key == "ollama" or access.key not in str(found.value)
    return found.value


EACH = pytest.mark.parametrize("provider", MODELS)
#: Each provider, and where code is async each SDK.
BOTH = pytest.mark.parametrize(
    ("provider", "is_async"),
    [*((name, False) for name in MODELS), ("openai", True), ("anthropic", True)],
)


@BOTH
def test_a_refusal_is_told_with_its_status_and_whether_to_come_back(
    provider: str, is_async: bool, home: Path, server: ModelServer
) -> None:
    told = {}
    for status in (401, 429, 500) if is_async else (400, 401, 404, 408, 429, 500, 503):
        server.answer = lambda _, status=status: Reply(f"number {status}", status=status)
        found = failure(provider, is_async=is_async)
        assert found.status_code == status
        assert found.reason == f"HTTP {status}: number {status}"
        told[status] = found.is_transient
    passing = (408, 429, 500, 503)
    assert told == {status: status in passing for status in told}
    assert len(server.requests) == len(told), "an SDK has repeated a request by itself"


@EACH
def test_who_is_asked_to_wait_is_told_how_long(
    provider: str, home: Path, server: ModelServer
) -> None:
    in_two_minutes = datetime.datetime.now(datetime.UTC) + datetime.timedelta(seconds=120)
    date = email.utils.format_datetime(in_two_minutes, usegmt=True)
    long_ago = "Wed, 21 Oct 2015 07:28:00 GMT"
    found = {}
    for headers in (
        {"Retry-After": "7"},
        {"Retry-After": "0.5"},
        {"retry-after-ms": "250", "Retry-After": "1"},
        {"Retry-After": date},
        {"Retry-After": long_ago},
        {"Retry-After": "soon"},
        {},
    ):
        server.answer = lambda _, headers=headers: Reply(status=429, headers=headers)
        found[json.dumps(headers)] = failure(provider, is_async=False).retry_after
    *first, dated, past, unreadable, none = found.values()
    assert first == [7.0, 0.5, 0.25]
    assert dated is not None
    assert 0 < dated <= 120
    assert (past, unreadable, none) == (0.0, None, None)


@EACH
def test_what_the_provider_says_of_repeating_counts(
    provider: str, home: Path, server: ModelServer
) -> None:
    answers = {"false": Reply(status=500), "true": Reply(status=400)}
    for should, reply in answers.items():
        reply.headers = {"x-should-retry": should}
        server.answer = lambda _, reply=reply: reply
        assert failure(provider, is_async=False).is_transient is (should == "true")


def test_who_is_out_of_money_is_not_asked_to_come_back(home: Path, server: ModelServer) -> None:
    server.answer = lambda _: Reply("Pay first.", status=429, code="insufficient_quota")
    found = failure("openai", is_async=False)
    assert (found.status_code, found.is_transient) == (429, False)


@BOTH
def test_a_stream_that_breaks_off_is_told_with_what_came_before(
    provider: str, is_async: bool, home: Path, server: ModelServer
) -> None:
    server.answer = lambda _: Reply(SAID, breaks_after=4)
    said: list[str] = []
    found = failure(provider, is_async=is_async, stream=True, said=said)
    assert SAID.startswith("".join(said))
    assert said
    assert (found.is_transient, found.status_code) == (True, None)
    assert re.match(r"the answer broke off \(\w+\)|it cannot be reached", found.reason)


@BOTH
def test_an_answer_that_never_comes_can_be_asked_for_again(
    provider: str, is_async: bool, home: Path, server: ModelServer
) -> None:
    server.answer = lambda _: Reply(SAID, breaks_after=0)
    found = failure(provider, is_async=is_async)
    assert (found.is_transient, found.status_code) == (True, None)


@BOTH
def test_a_refused_connection_names_the_setting_of_the_address(
    provider: str, is_async: bool, home: Path, server: ModelServer, monkeypatch
) -> None:
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))  # it is never listened on
        setting = "OLLAMA_HOST" if provider == "ollama" else f"{provider.upper()}_BASE_URL"
        monkeypatch.setenv(setting, f"http://127.0.0.1:{nobody.getsockname()[1]}")
        found = failure(provider, is_async=is_async)
    assert found.is_transient
    assert re.fullmatch(
        rf"it cannot be reached \(\w+\); {setting} says where it is", found.reason
    ), found.reason


@BOTH
def test_a_timeout_of_the_sdk_can_be_asked_again(
    provider: str, is_async: bool, home: Path, server: ModelServer, monkeypatch
) -> None:
    options = asking._options
    monkeypatch.setattr(asking, "_options", lambda access: {**options(access), "timeout": 0.05})
    monkeypatch.setattr(asking, "_clients", {})
    over = threading.Event()
    server.answer = lambda _: Reply(SAID, hold=over)
    try:
        found = failure(provider, is_async=is_async)
    finally:
        over.set()
        for client in asking._clients.values():
            client.close()
    assert (found.reason, found.is_transient) == ("it did not answer in time", True)


# --- connections ----------------------------------------------------------------------------------


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
@pytest.mark.parametrize("provider", ["openai", "anthropic"])
def test_an_async_client_is_shared_by_its_loop_and_closed_with_it(
    provider: str, stream: bool, home: Path, server: ModelServer
) -> None:
    server.answer = lambda _: Reply(SAID)
    model = resolve(MODELS[provider])
    access = find_access(model, home=config.find_home())
    question = Ask(model.name, ({"role": "user", "content": "Tell me of dogs."},))
    listener: Any = [].append if stream else None

    async def twice() -> tuple[Any, weakref.ref[Any]]:
        for _ in range(2):
            await ask_async(access, question, Answer(), listener=listener)
        loop = asyncio.get_running_loop()
        ((client, _),) = asking._async_clients[loop].values()
        assert not client.is_closed()
        return client, weakref.ref(loop)

    client, loop = asyncio.run(twice())
    assert client.is_closed()
    gc.collect()
    assert loop() is None, "a client holds the loop it was made on"


def test_a_clients_connection_is_used_again(home: Path, server: ModelServer) -> None:
    server.answer = lambda _: Reply(SAID)
    model = resolve(MODELS["openai"])
    access = find_access(model, home=config.find_home())
    question = Ask(model.name, ({"role": "user", "content": "Tell me of dogs."},))
    for _ in range(2):
        ask(access, question, Answer(), listener=None)
    assert asking._client(access, importlib.import_module("openai")) is asking._clients[access]


# --- what is installed ----------------------------------------------------------------------------


@pytest.mark.skipif(not LOWEST, reason="`python3 dev lowest` runs it")
def test_here_are_the_oldest_releases_that_are_promised() -> None:
    from importlib.metadata import version

    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = extras["optional-dependencies"]
    promised = [*extras["openai"], *extras["anthropic"], *extras["prices"]]
    assert len(promised) == 3
    for each in promised:
        name, _, bound = each.partition(">=")
        assert version(name).split(".")[: bound.count(".") + 1] == bound.split(".")


WITHOUT = """
import sys
for name in sys.argv[1].split():
    sys.modules[name] = None
import kitaru
from kitaru import KitaruClient

@kitaru.flow
def agent(model: str) -> str:
    return kitaru.llm("Tell me of dogs.", model=model)

for model in sys.argv[2:]:
    handle = agent.run(model)
    try:
        print(handle.wait())
    except kitaru.KitaruError as exc:
        print(exc)
    else:
        (call,) = KitaruClient().executions.get(handle.exec_id).checkpoints
        print(call.llm_usage_records[0]["cost"], call.llm_usage_records[0]["warnings"])
"""


def without(modules: str, *models: str, home: Path) -> str:
    """What is printed where these modules cannot be imported."""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", WITHOUT, modules, *models],
        cwd=ROOT,
        env={**os.environ, "KITARU_HOME": str(home)},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_without_an_sdk_the_line_that_installs_it_is_told(
    unchecked_home: Path, server: ModelServer
) -> None:
    models = [*MODELS.values()]
    told = without("openai anthropic", *models, home=unchecked_home)
    assert told.count("pip install 'kitaru-mcp[openai]'") == 3
    assert told.count("pip install 'kitaru-mcp[anthropic]'") == 1
    assert not server.requests


def test_without_the_package_of_prices_there_is_no_estimate(
    unchecked_home: Path, server: ModelServer
) -> None:
    server.answer = lambda _: Reply("Dogs.")
    answer, cost = without("genai_prices", MODELS["openai"], home=unchecked_home).splitlines()
    assert answer == "Dogs."
    assert "'display_cost_usd': None" in cost
    assert "'source': 'none'" in cost
    assert cost.endswith(" []")
