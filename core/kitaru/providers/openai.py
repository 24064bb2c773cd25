"""What OpenAI's Chat Completions speak, which Ollama and OpenRouter understand too."""

from __future__ import annotations

import os
import re
from typing import Any

from kitaru.providers.answer import Answer, Ask, text_of
from kitaru.usage import Tokens, is_number

CLIENT = "OpenAI"
STREAMED: dict[str, Any] = {"stream": True, "stream_options": {"include_usage": True}}

#: Of a schema's name, in characters.
_LONGEST_NAME = 64


def create(client: Any) -> Any:
    """The call that asks."""
    return client.chat.completions.create


def request(ask: Ask, provider: str) -> dict[str, Any]:
    """The arguments of the call."""
    system = [] if ask.system is None else [{"role": "system", "content": ask.system}]
    found: dict[str, Any] = {"model": ask.model, "messages": [*system, *ask.messages]}
    if ask.temperature is not None:
        found["temperature"] = ask.temperature
    if ask.max_tokens is not None:
        # OpenAI's newer models take no other name, servers that imitate it know the older one.
        name = "max_completion_tokens" if provider == "openai" else "max_tokens"
        found[name] = ask.max_tokens
    if ask.schema is not None:
        found["response_format"] = _format(ask.schema)
    if provider != "openai":
        found["extra_headers"] = _of_openai_alone()
    if provider == "openrouter":  # it tells what an answer cost when it is asked to
        found["extra_body"] = {"usage": {"include": True}}
    return found


def _of_openai_alone() -> dict[str, Any]:
    """Headers that the SDK takes from the environment for OpenAI, left out for anybody else."""
    import openai

    lines = os.environ.get("OPENAI_CUSTOM_HEADERS", "").splitlines()
    names = [name.strip() for name, colon, _ in (line.partition(":") for line in lines) if colon]
    # An SDK that cannot leave one out does not read the variable.
    omit = getattr(openai, "Omit", None)
    return {name: omit() for name in names} if omit is not None else {}


def _format(schema: type[Any]) -> dict[str, Any]:
    from openai import pydantic_function_tool

    # The SDK makes the strict form of a schema for tools only; it is the same here.
    function: Any = pydantic_function_tool(schema)["function"]
    name = re.sub(r"[^a-zA-Z0-9_-]", "_", function["name"])[:_LONGEST_NAME]
    json_schema = {"name": name, "schema": function["parameters"], "strict": True}
    return {"type": "json_schema", "json_schema": json_schema}


def read(response: Any, ask: Ask, answer: Answer) -> None:
    """Take in an answer."""
    _count(response, answer)
    choice = response.choices[0]
    answer.text = text_of(choice.message.content)
    answer.refusal = text_of(getattr(choice.message, "refusal", None)) or None
    _finish(choice.finish_reason, answer)


def piece(chunk: Any, ask: Ask, answer: Answer) -> str:
    """Take in a piece of an answer; returns its text."""
    _count(chunk, answer)
    for choice in chunk.choices[:1]:
        _finish(choice.finish_reason, answer)
        if refusal := getattr(choice.delta, "refusal", None):
            answer.refusal = (answer.refusal or "") + text_of(refusal)
        if text := text_of(choice.delta.content):
            answer.text += text
            return text
    return ""


def _count(told: Any, answer: Answer) -> None:
    answer.model = text_of(told.model) or answer.model
    if told.usage is not None:
        answer.tokens = Tokens.of(told.usage.model_dump(warnings=False))
        cost = getattr(told.usage, "cost", None)  # OpenRouter's, in dollars
        if cost is not None and is_number(cost):
            answer.cost_usd = float(cost)


def _finish(reason: str | None, answer: Answer) -> None:
    if reason is not None:
        answer.finish_reason = reason
        answer.is_cut = reason == "length"
        if reason == "content_filter":
            answer.refusal = answer.refusal or "its content filter has stopped the answer"
