"""A model that is none: a server on loopback that speaks as OpenAI's and Anthropic's do.

The examples run against it without a key and without a network, through the settings that the
providers' SDKs have for that:

    python examples/model_server.py -- python examples/research_agent.py

It starts the server, sets `OPENAI_BASE_URL`, `ANTHROPIC_BASE_URL` and keys that mean nothing, runs
the command, and ends with it. What it answers is scripted in `model_answers.json`: the first rule
whose `when` stands in the last message gives its `answer`, or the `tool` that is to be called, or
both; of its `answers` each request gets the next one. `--log FILE` keeps a line of JSON of each.
"""

from __future__ import annotations

import argparse
import contextlib
import http.server
import json
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

Dialect = Literal["openai", "anthropic"]
DIALECTS: dict[str, Dialect] = {"/v1/chat/completions": "openai", "/v1/messages": "anthropic"}
ANSWERS = Path(__file__).with_name("model_answers.json")
KEY = "offline-no-key-is-needed"


@dataclass(frozen=True)
class Request:
    """A request as it came; `prompt` is the text of its last message."""

    number: int
    dialect: Dialect
    body: dict[str, Any]
    headers: dict[str, str]
    prompt: str

    @property
    def model(self) -> str:
        """The model that is asked."""
        return str(self.body["model"])

    @property
    def is_streamed(self) -> bool:
        """Whether the answer is to come in pieces."""
        return bool(self.body.get("stream"))

    @property
    def text(self) -> str:
        """All text of the conversation."""
        system = self.body.get("system") or ""
        return " ".join([_text(system), *(_text(each) for each in self.body["messages"])])


@dataclass
class Reply:
    """What to answer.

    `hold` is waited for first; `breaks_after` so many pieces of a streamed answer the connection is
    cut, as it is with 0 before a whole one. Tokens are counted from the text unless they are given.
    """

    text: str = ""
    tool: dict[str, Any] | None = None
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    input_tokens: int | None = None
    output_tokens: int | None = None
    cached_tokens: int = 0
    reasoning_tokens: int = 0
    cost: float | None = None
    finish: str | None = None
    code: str | None = None
    hold: threading.Event | None = None
    breaks_after: int | None = None


@dataclass
class Served:
    """A request, what it was answered, and the tokens its sender has been told of."""

    request: Request
    status: int
    input_tokens: int = 0
    output_tokens: int = 0
    is_whole: bool = False


class ModelServer:
    """The server, on a port of its own until it is closed.

    Args:
        answer: what to say to a request.
        port: where to listen; 0 for any that is free.
    """

    def __init__(self, answer: Callable[[Request], Reply], *, port: int = 0) -> None:
        self.answer = answer
        self.requests: list[Request] = []
        self.served: list[Served] = []
        self.lock = threading.Lock()
        self._http = _Server(("127.0.0.1", port), _Handler)
        self._http.models = self
        threading.Thread(target=self._http.serve_forever, args=(0.01,), daemon=True).start()

    def __enter__(self) -> ModelServer:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def close(self) -> None:
        """Answer nothing more."""
        self._http.shutdown()
        self._http.server_close()

    @property
    def address(self) -> str:
        """Where it is, for Anthropic's SDK; OpenAI's wants `/v1` behind it."""
        return f"http://127.0.0.1:{self._http.server_address[1]}"

    def settings(self, key: str = KEY) -> dict[str, str]:
        """The environment variables by which the SDKs come here."""
        keys = {f"{name}_API_KEY": key for name in ("OPENAI", "ANTHROPIC", "OPENROUTER")}
        openai = {f"{name}_BASE_URL": f"{self.address}/v1" for name in ("OPENAI", "OPENROUTER")}
        return {**keys, **openai, "ANTHROPIC_BASE_URL": self.address, "OLLAMA_HOST": self.address}

    def tokens(self) -> tuple[int, int]:
        """What has gone in and out, in tokens, as it was told to those who asked."""
        with self.lock:
            served = [*self.served]
        return sum(each.input_tokens for each in served), sum(each.output_tokens for each in served)


class _Server(http.server.ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128
    models: ModelServer

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Who asks may be killed at any moment."""
        if not isinstance(sys.exc_info()[1], OSError):
            super().handle_error(request, client_address)


class _Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: _Server

    def log_message(self, format: str, *args: Any) -> None:
        """What was asked is in `served`."""

    def do_POST(self) -> None:
        length = int(self.headers["Content-Length"])
        if len(data := self.rfile.read(length)) < length:
            return self._cut()  # who asks has broken off
        body = json.loads(data)
        path = self.path.partition("?")[0]  # a gateway has an address of its own before theirs
        dialect = next((DIALECTS[end] for end in DIALECTS if path.endswith(end)), None)
        if dialect is None:
            return self._send_json(404, {"error": {"message": f"no such address: {self.path}"}})
        models = self.server.models
        with models.lock:
            headers = {name.lower(): value for name, value in self.headers.items()}
            prompt = _text(body["messages"][-1])
            request = Request(len(models.requests), dialect, body, headers, prompt)
            models.requests.append(request)
        reply = models.answer(request)
        if reply.hold is not None:
            reply.hold.wait(60)
        speaker = (_OpenAI if dialect == "openai" else _Anthropic)(request, reply)
        served = Served(request, reply.status)
        with models.lock:
            models.served.append(served)
        self._answer(reply, speaker, served)

    def _answer(self, reply: Reply, speaker: _Speaker, served: Served) -> None:
        request = served.request
        if reply.status != 200:
            return self._send_json(reply.status, speaker.error(), reply.headers)
        if not request.is_streamed:
            if reply.breaks_after is not None:
                return self._cut()
            # Before it is sent: who asks may look at what was served as soon as it has the answer.
            served.input_tokens, served.output_tokens = speaker.input, speaker.output
            served.is_whole = True
            return self._send_json(200, speaker.whole(), reply.headers)
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        for number, (event, tokens) in enumerate(speaker.pieces()):
            if number == reply.breaks_after:
                return self._cut()
            if tokens is not None:
                served.input_tokens, served.output_tokens = tokens
            self.wfile.write(b"%x\r\n%s\r\n" % (len(event), event))
        served.is_whole = True
        self.wfile.write(b"0\r\n\r\n")

    def _cut(self) -> None:
        """Break off in the middle."""
        self.close_connection = True
        with contextlib.suppress(OSError):
            self.connection.shutdown(socket.SHUT_RDWR)

    def _send_json(self, status: int, data: Any, headers: Mapping[str, str] | None = None) -> None:
        text = json.dumps(data).encode()
        self.send_response(status)
        own = {"Content-Type": "application/json", "Content-Length": str(len(text))}
        for name, value in {**(headers or {}), **own}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(text)


class _Speaker:
    """An answer in the terms of a provider."""

    def __init__(self, request: Request, reply: Reply) -> None:
        self.request, self.reply = request, reply
        given = reply.input_tokens
        self.input = len(request.text) // 4 + 1 if given is None else given
        told = reply.text or json.dumps(reply.tool)
        self.output = len(told) // 4 + 1 if reply.output_tokens is None else reply.output_tokens
        self.model = f"{request.model}-2026-01-01" if "/" not in request.model else request.model

    def error(self) -> dict[str, Any]:
        kind = "rate_limit_error" if self.reply.status == 429 else "api_error"
        message = self.reply.text or f"scripted error {self.reply.status}"
        return {
            "type": "error",
            "error": {"type": kind, "message": message, "code": self.reply.code},
        }

    def whole(self) -> dict[str, Any]:
        raise NotImplementedError

    def pieces(self) -> Iterator[tuple[bytes, tuple[int, int] | None]]:
        """Events, each with the tokens that are known from it on."""
        raise NotImplementedError


class _OpenAI(_Speaker):
    def _usage(self) -> dict[str, Any]:
        cost = {} if self.reply.cost is None else {"cost": self.reply.cost}
        return {
            "prompt_tokens": self.input,
            "completion_tokens": self.output,
            "total_tokens": self.input + self.output,
            "prompt_tokens_details": {"cached_tokens": self.reply.cached_tokens},
            "completion_tokens_details": {"reasoning_tokens": self.reply.reasoning_tokens},
            **cost,
        }

    def _head(self, kind: str) -> dict[str, Any]:
        number = self.request.number
        return {"id": f"chatcmpl-{number}", "object": kind, "created": 0, "model": self.model}

    def whole(self) -> dict[str, Any]:
        said = {"message": self._message(), "finish_reason": self._finish(), "logprobs": None}
        head, usage = self._head("chat.completion"), self._usage()
        return {**head, "choices": [{"index": 0, **said}], "usage": usage}

    def _message(self) -> dict[str, Any]:
        message: dict[str, Any] = {"role": "assistant", "content": self.reply.text, "refusal": None}
        if self.reply.tool is not None:
            name, given = self.reply.tool["name"], json.dumps(self.reply.tool["input"])
            function = {"name": name, "arguments": given}
            call = {"id": f"call_{self.request.number}", "type": "function", "function": function}
            message |= {"content": None, "tool_calls": [call]}
        return message

    def _finish(self) -> str:
        return self.reply.finish or ("stop" if self.reply.tool is None else "tool_calls")

    def pieces(self) -> Iterator[tuple[bytes, tuple[int, int] | None]]:
        head = self._head("chat.completion.chunk")

        def event(delta: dict[str, Any], finish: str | None = None) -> bytes:
            said: Any = {"index": 0, "delta": delta, "finish_reason": finish}
            return f"data: {json.dumps({**head, 'choices': [said]})}\n\n".encode()

        message = self._message()
        for call in message.get("tool_calls", []):
            yield event({**message, "tool_calls": [{"index": 0, **call}]}), None
        role: dict[str, Any] = {"role": "assistant"}  # told once, in the first piece
        for word in _split(message["content"]) if self.reply.tool is None else []:
            yield event({**role, "content": word}), None
            role = {}
        yield event({}, self._finish()), None
        if self.request.body.get("stream_options", {}).get("include_usage"):
            last = json.dumps({**head, "choices": [], "usage": self._usage()})
            yield f"data: {last}\n\n".encode(), (self.input, self.output)
        yield b"data: [DONE]\n\n", None


class _Anthropic(_Speaker):
    def _usage(self, output: int) -> dict[str, Any]:
        cached = self.reply.cached_tokens
        cache = {"cache_read_input_tokens": cached, "cache_creation_input_tokens": 0}
        return {"input_tokens": self.input - cached, "output_tokens": output, **cache}

    def _content(self) -> list[dict[str, Any]]:
        text, tool = self.reply.text, self.reply.tool
        forced = self.request.body.get("tool_choice", {})
        if tool is None and forced.get("type") == "tool":
            with contextlib.suppress(ValueError):  # no JSON: it has not done as it was told
                text, tool = "", {"name": forced["name"], "input": json.loads(text)}
        said = [{"type": "text", "text": text}] if text or tool is None else []
        call = {"type": "tool_use", "id": f"toolu_{self.request.number}"}
        return said if tool is None else [*said, {**call, **tool}]

    def _finish(self) -> str:
        kind = self._content()[-1]["type"]
        return self.reply.finish or ("end_turn" if kind == "text" else "tool_use")

    def whole(self) -> dict[str, Any]:
        head = {"id": f"msg_{self.request.number}", "type": "message", "role": "assistant"}
        said = {"model": self.model, "content": self._content(), "stop_reason": self._finish()}
        return {**head, **said, "stop_sequence": None, "usage": self._usage(self.output)}

    def pieces(self) -> Iterator[tuple[bytes, tuple[int, int] | None]]:
        def event(kind: str, **data: Any) -> bytes:
            return f"event: {kind}\ndata: {json.dumps({'type': kind, **data})}\n\n".encode()

        message = {**self.whole(), "content": [], "stop_reason": None, "usage": self._usage(1)}
        yield event("message_start", message=message), (self.input, 1)
        for index, block in enumerate(self._content()):
            is_text = block["type"] == "text"
            empty: dict[str, Any] = {"text": ""} if is_text else {"input": {}}
            yield event("content_block_start", index=index, content_block={**block, **empty}), None
            kind, name = ("text_delta", "text") if is_text else ("input_json_delta", "partial_json")
            for piece in _split(block["text"] if is_text else json.dumps(block["input"])):
                delta = {"type": kind, name: piece}
                yield event("content_block_delta", index=index, delta=delta), None
            yield event("content_block_stop", index=index), None
        end = {"stop_reason": self._finish(), "stop_sequence": None}
        usage = {"output_tokens": self.output}
        yield event("message_delta", delta=end, usage=usage), (self.input, self.output)
        yield event("message_stop"), None


def _split(text: str) -> list[str]:
    return [text[start : start + 8] for start in range(0, len(text), 8)] or [""]


def _text(message: Any) -> str:
    """The text of a message, of its content, or of one block of that."""
    if isinstance(message, list):
        return " ".join(map(_text, message))
    if isinstance(message, Mapping):
        return _text(message.get("content") or message.get("text") or "")
    return message if isinstance(message, str) else ""


def scripted(path: Path = ANSWERS, *, log: Path | None = None) -> Callable[[Request], Reply]:
    """What a file of rules answers; each request is a line of the log first."""
    rules = json.loads(path.read_text(encoding="utf-8"))
    lock = threading.Lock()

    def answer(request: Request) -> Reply:
        line = {"model": request.model, "stream": request.is_streamed, "prompt": request.prompt}
        if log is not None:
            with lock, log.open("a", encoding="utf-8") as file:
                file.write(json.dumps(line) + "\n")
        for rule in rules:
            if rule["when"] in request.prompt:
                answers = rule.get("answers") or [rule.get("answer", "")]
                with lock:
                    said = answers.pop(0) if len(answers) > 1 else answers[0]
                text = said if isinstance(said, str) else json.dumps(said)
                return Reply(text, tool=rule.get("tool"))
        return Reply(f"I have no answer scripted to: {request.prompt[:80]}")

    return answer


def main(arguments: list[str]) -> int:
    """Run a command whose models are all here, or only serve."""
    parser = argparse.ArgumentParser(description="A scripted model, for a command or to be left on")
    parser.add_argument("--log", type=Path, metavar="FILE", help="append a line per request here")
    parser.add_argument("command", nargs="*", help="what to run with it, behind --")
    options = parser.parse_args(arguments)
    with ModelServer(scripted(log=options.log)) as server:
        if options.command:
            return subprocess.run(options.command, env=os.environ | server.settings()).returncode
        print("\n".join(f"export {name}={value}" for name, value in server.settings().items()))
        print("# Serving until it is interrupted.", flush=True)
        with contextlib.suppress(KeyboardInterrupt):
            threading.Event().wait()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
