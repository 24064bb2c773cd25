"""Providers that send what is no answer, or half of one: always told, and nothing is lost."""

from __future__ import annotations

import http.server
import json
import threading
from collections.abc import Iterator
from typing import Any

import pytest

import kitaru
from examples.model_server import Reply
from kitaru import config
from tests.models.conftest import KEY, Models
from tests.models.test_llm import BOTH, CLAUDE, GPT, ran

_MESSAGE = {"index": 0, "message": {"role": "assistant", "content": "x"}, "finish_reason": "stop"}
_CHAT = {"id": "1", "object": "chat.completion", "created": 0, "model": "m", "choices": [_MESSAGE]}


class _Odd(http.server.BaseHTTPRequestHandler):
    body: bytes = b""
    kind = "application/json"

    def log_message(self, format: str, *args: Any) -> None:
        pass

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(200)
        self.send_header("Content-Type", self.kind)
        self.send_header("Content-Length", str(len(self.body)))
        self.end_headers()
        self.wfile.write(self.body)


@pytest.fixture
def odd(models: Models, monkeypatch: pytest.MonkeyPatch) -> Iterator[type[_Odd]]:
    """A server that sends whatever the test wants."""

    class Handler(_Odd):
        pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    address = f"http://127.0.0.1:{server.server_address[1]}"
    monkeypatch.setenv("OPENAI_BASE_URL", address)
    monkeypatch.setenv("ANTHROPIC_BASE_URL", address)
    yield Handler
    server.shutdown()
    server.server_close()


@BOTH
@pytest.mark.parametrize(
    ("kind", "body"),
    [
        ("text/html", "<html>Welcome to the proxy</html>"),
        ("application/json", "{}"),
        ("application/json", "[]"),
        ("application/json", '"x"'),
        ("application/json", '{"choices": [], "content": null, "usage": null}'),
    ],
)
def test_what_is_no_answer_is_told_as_that(odd: type[_Odd], model: str, kind: str, body: str):
    odd.kind, odd.body = kind, body.encode()
    found = ran(lambda: kitaru.llm("x", model=model))
    assert found.failure is not None
    assert "what it has sent is no answer of a model" in found.failure.message
    assert len(found.checkpoints[0].attempts) == 1


def test_a_key_that_a_provider_gives_as_a_name_is_masked_and_a_long_name_is_cut(odd: type[_Odd]):
    counts = {"prompt_tokens": 1, "completion_tokens": 2, "total_tokens": 3, KEY: 4}
    odd.body = json.dumps({**_CHAT, "model": KEY + "x" * 10_000, "usage": counts}).encode()
    found = ran(lambda: kitaru.llm("x", model=GPT))
    (record,) = found.checkpoints[0].llm_usage_records
    assert KEY not in json.dumps(found.to_dict())
    assert len(record["model"]) <= config.MAX_NAME
    assert record["usage"]["total_tokens"] == 3


def test_an_answer_without_counts_is_an_answer_whose_tokens_nobody_knows(odd: type[_Odd]):
    odd.body = json.dumps(_CHAT).encode()
    found = ran(lambda: kitaru.llm("x", model=GPT))
    assert found.result == "x"
    assert found.llm_usage_summary is not None
    assert found.llm_usage_summary["total_tokens"] == 0
    assert found.llm_usage_summary["records_without_cost_count"] == 1
    (record,) = found.checkpoints[0].llm_usage_records
    assert record["usage"]["total_tokens"] is None


@BOTH
def test_what_never_came_to_a_provider_is_not_counted(
    models: Models, monkeypatch: pytest.MonkeyPatch, model: str
):
    models.server.close()
    found = ran(lambda: kitaru.llm("x", model=model, retries=0))
    assert found.failure is not None
    assert "it cannot be reached (ConnectError)" in found.failure.message
    (record,) = found.checkpoints[0].llm_usage_records
    assert (record["status"], record["billing_effect"]) == ("failed", "not_incurred")


@BOTH
@pytest.mark.parametrize(("stream", "pieces"), [(False, 0), (True, 0), (True, 3)])
def test_what_breaks_off_may_be_charged_for_and_has_what_was_told_by_then(
    models: Models, model: str, stream: bool, pieces: int
):
    models.reply = lambda request: Reply("a text of some words", breaks_after=pieces)
    found = ran(lambda: kitaru.llm("x", model=model, stream=stream, retries=0))
    assert found.failure is not None
    (record,) = found.checkpoints[0].llm_usage_records
    assert (record["status"], record["billing_effect"]) == ("interrupted", "unknown")
    assert (record["usage"]["total_tokens"] or 0) == sum(models.tokens)
    if model == CLAUDE and pieces:  # it tells what went in before all else
        assert record["usage"]["input_tokens"] == models.tokens[0] > 0


@BOTH
def test_a_stream_that_just_stops_is_no_whole_answer(odd: type[_Odd], model: str):
    odd.kind = "text/event-stream"
    chat = {"id": "1", "object": "chat.completion.chunk", "created": 0, "model": "m"}
    piece = {"index": 0, "delta": {"content": "half"}, "finish_reason": None}
    delta = {"type": "text_delta", "text": "half"}
    event = {"type": "content_block_delta", "index": 0, "delta": delta}
    odd.body = (
        f"data: {json.dumps({**chat, 'choices': [piece]})}\n\ndata: [DONE]\n\n"
        if model == GPT
        else f"event: content_block_delta\ndata: {json.dumps(event)}\n\n"
    ).encode()
    found = ran(lambda: kitaru.llm("x", model=model, stream=True, retries=0))
    assert found.failure is not None
    assert "the answer broke off before its end" in found.failure.message
    assert found.failure.exception_type == "kitaru.errors.KitaruLLMTransientError"


@pytest.mark.parametrize(
    ("model", "body"),
    [
        (GPT, {**_CHAT, "model": 5}),
        (GPT, {**_CHAT, "choices": [{**_MESSAGE, "message": {"role": "a", "content": ["x"]}}]}),
        (GPT, {**_CHAT, "choices": [{**_MESSAGE, "message": {"role": "a", "refusal": [1]}}]}),
        (CLAUDE, {"model": [1], "content": [], "usage": None, "stop_reason": "end_turn"}),
    ],
)
def test_what_is_no_text_is_no_answer_but_may_be_charged_for(
    odd: type[_Odd], model: str, body: dict[str, Any]
):
    odd.body = json.dumps(body).encode()
    found = ran(lambda: kitaru.llm("x", model=model))
    assert found.failure is not None
    assert "what it has sent is no answer of a model" in found.failure.message
    assert found.checkpoints[0].llm_usage_records[0]["billing_effect"] == "unknown"


def test_anthropics_answer_without_counts_is_an_answer_too(odd: type[_Odd]):
    content = [{"type": "text", "text": "x"}]
    told = {"model": "m", "content": content, "usage": None, "stop_reason": "end_turn"}
    odd.body = json.dumps(told).encode()
    assert ran(lambda: kitaru.llm("x", model=CLAUDE)).result == "x"


@pytest.mark.parametrize("count", [-5, 10**400, 1.7e308])
def test_counts_that_cannot_be_right_are_none(odd: type[_Odd], count: float):
    usage = {"prompt_tokens": count, "completion_tokens": 3, "cost": count}
    odd.body = json.dumps({**_CHAT, "usage": usage}).encode()
    found = ran(lambda: kitaru.llm("x", model=GPT) + kitaru.llm("y", model=GPT))
    assert found.failure is None, found.failure
    assert found.llm_usage_summary is not None
    assert found.llm_usage_summary["total_tokens"] == 6
    assert found.llm_usage_summary["display_cost_usd"] == 0
    assert len(kitaru.KitaruClient().executions.list()) == 1


@BOTH
@pytest.mark.parametrize("key", ["sk-with-a-line-end-behind\r\n", "sk-with\na-line-end-inside"])
def test_a_keys_line_end_is_cut_off_or_told_at_once(
    models: Models, monkeypatch: pytest.MonkeyPatch, model: str, key: str
):
    for name in ("OPENAI_API_KEY", "ANTHROPIC_API_KEY"):
        monkeypatch.setenv(name, key)
    found = ran(lambda: kitaru.llm("x", model=model))
    if key.strip().isprintable():
        assert found.result == "re: x"
        return
    assert found.failure is not None
    assert "it was never asked: the key or the address cannot be right" in found.failure.message
    (record,) = found.checkpoints[0].llm_usage_records
    assert record["billing_effect"] == "not_incurred"


def test_an_address_without_a_scheme_is_told_with_its_variable(
    models: Models, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("OPENAI_BASE_URL", "127.0.0.1:9")
    found = ran(lambda: kitaru.llm("x", model=GPT))
    assert found.failure is not None
    assert "OPENAI_BASE_URL says where it is" in found.failure.message
    assert len(found.checkpoints[0].attempts) == 1


@pytest.mark.parametrize("address", ["http://[::1", "127.0.0.1:99999", "localhost:port"])
def test_an_address_of_ollama_that_is_none_is_told(
    models: Models, monkeypatch: pytest.MonkeyPatch, address: str
):
    monkeypatch.setenv("OLLAMA_HOST", address)
    found = ran(lambda: kitaru.llm("x", model="ollama/llama3"))
    assert found.failure is not None
    assert "KitaruUsageError: OLLAMA_HOST is no address" in found.failure.message
