"""The scripted model: it speaks as the providers do, and what a command that it runs finds."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import anthropic
import openai
import pytest

from examples.model_server import ModelServer, Reply, scripted
from tests.examples.test_patterns import EXAMPLES

SERVER = [sys.executable, str(EXAMPLES / "model_server.py")]
ASK = """
import json, os, urllib.request
body = {"model": "gpt-5-nano", "messages": [{"role": "user", "content": "One line about dogs."}]}
address = os.environ["OPENAI_BASE_URL"] + "/chat/completions"
request = urllib.request.Request(address, json.dumps(body).encode())
print(json.load(urllib.request.urlopen(request))["choices"][0]["message"]["content"])
"""
MESSAGES: Any = [{"role": "user", "content": "What does a.py hold?"}]
GIVEN = {"path": "a.py", "lines": [1, 20]}
TEXT = "It holds a function and a test of that."
SAYS = Reply(TEXT, input_tokens=30, output_tokens=12, cached_tokens=8)
CALLS = Reply(tool={"name": "read_file", "input": GIVEN}, input_tokens=30, output_tokens=12)


class Models:
    """Clients of both SDKs that refuse what is not, field by field, their provider's answer."""

    def __init__(
        self, server: ModelServer, oai: openai.OpenAI, claude: anthropic.Anthropic
    ) -> None:
        self._server = server
        self.openai = oai.chat.completions
        # Where it is in the oldest release that is allowed.
        self.stream: Any = getattr(self.openai, "stream", oai.beta.chat.completions.stream)
        self.anthropic = claude.messages

    def say(self, reply: Reply) -> None:
        """What the next answers are."""
        self._server.answer = lambda request: reply

    def follow(self, rules: Path) -> None:
        """Where the next answers are."""
        self._server.answer = scripted(rules)


@pytest.fixture(scope="module")
def models() -> Iterator[Models]:
    strict: Any = {"api_key": "a key", "max_retries": 0, "_strict_response_validation": True}
    with (
        ModelServer(lambda request: Reply()) as server,
        openai.OpenAI(base_url=f"{server.address}/v1", **strict) as oai,
        anthropic.Anthropic(base_url=server.address, **strict) as claude,
    ):
        yield Models(server, oai, claude)


@pytest.mark.parametrize("is_streamed", [False, True])
def test_openai_s_sdk_finds_the_text_and_the_tokens(models: Models, is_streamed: bool):
    models.say(SAYS)
    said = complete(models, is_streamed)
    (choice,) = said.choices
    assert (choice.message.role, choice.message.content) == ("assistant", TEXT)
    assert choice.finish_reason == "stop"
    assert (said.usage.prompt_tokens, said.usage.completion_tokens) == (30, 12)
    assert said.usage.prompt_tokens_details.cached_tokens == 8


@pytest.mark.parametrize("is_streamed", [False, True])
def test_openai_s_sdk_finds_the_call_of_a_tool(models: Models, is_streamed: bool):
    models.say(CALLS)
    (choice,) = complete(models, is_streamed).choices
    (call,) = choice.message.tool_calls
    assert (call.function.name, json.loads(call.function.arguments)) == ("read_file", GIVEN)
    assert (choice.message.content, choice.finish_reason) == (None, "tool_calls")


@pytest.mark.parametrize("is_streamed", [False, True])
def test_anthropic_s_sdk_finds_the_text_and_the_tokens(models: Models, is_streamed: bool):
    models.say(SAYS)
    said = message(models, is_streamed)
    assert [(block.type, block.text) for block in said.content] == [("text", TEXT)]
    assert (said.role, said.stop_reason, said.usage.output_tokens) == ("assistant", "end_turn", 12)
    assert (said.usage.input_tokens, said.usage.cache_read_input_tokens) == (22, 8)


@pytest.mark.parametrize("is_streamed", [False, True])
def test_anthropic_s_sdk_finds_the_call_of_a_tool_behind_a_text(models: Models, is_streamed: bool):
    models.say(Reply("I look.", tool=CALLS.tool))
    said = message(models, is_streamed)
    text, call = said.content
    assert (text.text, call.name, call.input) == ("I look.", "read_file", GIVEN)
    assert said.stop_reason == "tool_use"


def test_a_tool_that_has_to_be_called_takes_the_scripted_answer(models: Models):
    forced: Any = {"type": "tool", "name": "answer"}
    models.say(Reply('{"kind": "bug"}'))
    said = models.anthropic.create(
        model="claude-haiku-4-5", max_tokens=100, messages=MESSAGES, tool_choice=forced
    )
    (call,) = said.content
    assert (call.type, call.name, call.input) == ("tool_use", "answer", {"kind": "bug"})


def complete(models: Models, is_streamed: bool) -> Any:
    """OpenAI's answer; a streamed one as its SDK puts it together."""
    asked: Any = {"model": "gpt-5-nano", "messages": MESSAGES}
    if not is_streamed:
        return models.openai.create(**asked)
    with models.stream(**asked, stream_options={"include_usage": True}) as stream:
        return stream.get_final_completion()


def message(models: Models, is_streamed: bool) -> Any:
    """Anthropic's answer; a streamed one as its SDK puts it together."""
    asked: Any = {"model": "claude-haiku-4-5", "max_tokens": 100, "messages": MESSAGES}
    if not is_streamed:
        return models.anthropic.create(**asked)
    with models.anthropic.stream(**asked) as stream:
        return stream.get_final_message()


@pytest.mark.parametrize("status", [429, 500])
def test_a_refusal_is_the_sdk_s_own_error(models: Models, status: int):
    models.say(Reply("not now", status=status))
    with pytest.raises(openai.APIStatusError, match="not now") as by_openai:
        complete(models, is_streamed=False)
    with pytest.raises(anthropic.APIStatusError, match="not now") as by_anthropic:
        message(models, is_streamed=False)
    assert by_openai.value.status_code == by_anthropic.value.status_code == status


def test_a_rule_gives_its_answers_one_by_one(models: Models, tmp_path: Path):
    rules = tmp_path / "rules.json"
    rules.write_text('[{"when": "a.py", "answers": ["first", "then"]}]')
    models.follow(rules)
    said = [complete(models, False).choices[0].message.content for _ in range(3)]
    assert said == ["first", "then", "then"]


def test_a_command_finds_all_models_on_the_server_and_gives_its_exit_code(tmp_path: Path):
    log = tmp_path / "requests.jsonl"
    asked = subprocess.run(
        [*SERVER, "--log", str(log), "--", sys.executable, "-c", ASK],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (asked.stdout, asked.stderr) == ("Dogs keep us company.\n", "")
    (line,) = map(json.loads, log.read_text().splitlines())
    assert line == {"model": "gpt-5-nano", "stream": False, "prompt": "One line about dogs."}
    failed = subprocess.run([*SERVER, "--", sys.executable, "-c", "exit(3)"], timeout=60)
    assert failed.returncode == 3


def test_a_request_that_breaks_off_is_none(capfd):
    with ModelServer(lambda request: Reply("never")) as server:
        address = ("127.0.0.1", int(server.address.rpartition(":")[2]))
        with socket.create_connection(address, timeout=60) as asking:
            asking.sendall(b"POST /v1/messages HTTP/1.1\r\nContent-Length: 9\r\n\r\n{")
            asking.shutdown(socket.SHUT_WR)
            assert asking.recv(1) == b""
        assert server.requests == []
    assert capfd.readouterr().err == ""
