"""What Anthropic's Messages speak."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from kitaru.errors import KitaruUsageError
from kitaru.providers.answer import Answer, Ask, text_of
from kitaru.usage import Tokens

CLIENT = "Anthropic"
STREAMED: dict[str, Any] = {"stream": True}
#: It must be told how long an answer may be.
MAX_TOKENS = 16_384
_WITH_TEMPERATURE = "2023-06-01"
_CUT = ("max_tokens", "model_context_window_exceeded")


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
        # Its newer versions know no temperature, nor do the SDKs that speak them; who asks for one
        # asks the version that has it.
        found["extra_body"] = {"temperature": ask.temperature}
        found["extra_headers"] = {"anthropic-version": _WITH_TEMPERATURE}
    if ask.schema is not None:
        found["output_config"] = {"format": _format(ask.schema)}
    return found


def _together(systems: list[Any]) -> Any:
    if all(isinstance(each, str) for each in systems):
        return "\n\n".join(systems)
    return [
        block
        for each in systems
        for block in ([{"type": "text", "text": each}] if isinstance(each, str) else each)
    ]


def _format(schema: type[Any]) -> dict[str, Any]:
    from anthropic import transform_schema

    found = schema.model_json_schema()
    for name in _open_mappings(found):
        raise KitaruUsageError(
            f"kitaru.llm(): {name!r} of {schema.__name__} is a dict with keys of any name, which "
            "the answers of Anthropic's models cannot have; make it a list of objects."
        )
    return {"type": "json_schema", "schema": transform_schema(found)}


def _open_mappings(schema: Any, name: str = "a field") -> Iterator[str]:
    """Where a JSON Schema lets objects have any keys; the SDK would turn these into empty ones."""
    if isinstance(schema, dict):
        if schema.get("additionalProperties") and "properties" not in schema:
            yield name
        for key, part in schema.items():
            if key != "properties":
                yield from _open_mappings(part, name)
        for field, part in schema.get("properties", {}).items():
            yield from _open_mappings(part, field)
    elif isinstance(schema, list):
        for part in schema:
            yield from _open_mappings(part, name)


def read(response: Any, ask: Ask, answer: Answer) -> None:
    """Take in an answer."""
    _count(response, answer)
    blocks = [block for block in response.content if block.type == "text"]
    answer.text = "".join(text_of(block.text) for block in blocks)
    _finish(response.stop_reason, answer)


def piece(event: Any, ask: Ask, answer: Answer) -> str:
    """Take in an event of an answer; returns the text that came with it."""
    if event.type == "message_start":
        _count(event.message, answer)
    elif event.type == "message_delta":
        # Its counts are of the whole answer, and leave out what has not changed since the start.
        _use(event.usage, answer)
        _finish(event.delta.stop_reason, answer)
    elif event.type == "content_block_delta" and event.delta.type == "text_delta":
        text = text_of(event.delta.text)
        answer.text += text
        return text
    return ""


def _count(message: Any, answer: Answer) -> None:
    answer.model = text_of(message.model) or None
    _use(message.usage, answer)


def _use(usage: Any, answer: Answer) -> None:
    if usage is None:  # whoever imitates it may not count
        return
    told = {
        key: value for key, value in usage.model_dump(warnings=False).items() if value is not None
    }
    answer.tokens = Tokens.of({**answer.tokens.raw, **told})


def _finish(reason: str | None, answer: Answer) -> None:
    if reason is not None:
        answer.finish_reason = reason
        answer.is_cut = reason in _CUT
        if reason == "refusal":
            answer.refusal = answer.text or "no reason is given"
