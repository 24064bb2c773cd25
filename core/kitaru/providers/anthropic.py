"""What Anthropic's Messages speak."""

from __future__ import annotations

import json
from typing import Any

from kitaru.providers.answer import Answer, Ask
from kitaru.usage import Tokens

CLIENT = "Anthropic"
STREAMED: dict[str, Any] = {"stream": True}
#: It must be told how long an answer may be.
MAX_TOKENS = 8192
_TOOL = "answer"


def create(client: Any) -> Any:
    """The call that asks."""
    return client.messages.create


def request(ask: Ask, provider: str) -> dict[str, Any]:
    """The arguments of the call."""
    systems = [] if ask.system is None else [ask.system]
    messages = []
    for message in ask.messages:
        if message.get("role") == "system":  # none of the roles it knows
            systems.append(message["content"])
        else:
            messages.append(message)
    found: dict[str, Any] = {
        "model": ask.model,
        "messages": messages,
        "max_tokens": ask.max_tokens or MAX_TOKENS,
    }
    if systems:
        found["system"] = _together(systems)
    if ask.temperature is not None:
        found["temperature"] = ask.temperature
    if ask.schema is not None:
        found["tools"] = [_tool(ask.schema)]
        found["tool_choice"] = {"type": "tool", "name": _TOOL}
    return found


def _together(systems: list[Any]) -> Any:
    if all(isinstance(each, str) for each in systems):
        return "\n\n".join(systems)
    return [
        block
        for each in systems
        for block in ([{"type": "text", "text": each}] if isinstance(each, str) else each)
    ]


def _tool(schema: type[Any]) -> dict[str, Any]:
    """A tool whose input is the answer: the one form every model and SDK release knows."""
    return {
        "name": _TOOL,
        "description": f"Give the answer as {schema.__name__}.",
        "input_schema": schema.model_json_schema(),
    }


def read(response: Any, ask: Ask, answer: Answer) -> None:
    """Take in an answer."""
    _count(response, answer)
    for block in response.content:
        if block.type == "text" and ask.schema is None:
            answer.text += block.text
        elif block.type == "tool_use" and ask.schema is not None:
            answer.text = json.dumps(block.input)
    _finish(response.stop_reason, answer)


def piece(event: Any, ask: Ask, answer: Answer) -> str:
    """Take in an event of an answer; returns the text that came with it."""
    if event.type == "message_start":
        _count(event.message, answer)
    elif event.type == "message_delta":
        # Its counts are of the whole answer, and leave out what has not changed since the start.
        _use(event.usage, answer)
        _finish(event.delta.stop_reason, answer)
    elif event.type == "content_block_delta":
        wanted = "text_delta" if ask.schema is None else "input_json_delta"
        if event.delta.type == wanted:
            text = event.delta.text if ask.schema is None else event.delta.partial_json
            answer.text += text
            return str(text)
    return ""


def _count(message: Any, answer: Answer) -> None:
    answer.model = message.model
    _use(message.usage, answer)


def _use(usage: Any, answer: Answer) -> None:
    told = {key: value for key, value in usage.model_dump().items() if value is not None}
    answer.tokens = Tokens.of({**answer.tokens.raw, **told})


def _finish(reason: str | None, answer: Answer) -> None:
    if reason is not None:
        answer.finish_reason = reason
        answer.is_cut = reason == "max_tokens"
        if reason == "refusal":
            answer.refusal = answer.text or "no reason is given"
