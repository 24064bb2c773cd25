"""Flows that ask models which tell what they were sent, and code that lets keys out."""

from __future__ import annotations

import logging
import os
from typing import Any

import kitaru
from kitaru import checkpoint, flow

OPENAI, ANTHROPIC = "openai/gpt-5-nano", "anthropic/claude-haiku-4-5"
ROUTER = "openrouter/openai/gpt-5-nano"
#: What is asked, so that the server knows what to do.
REFUSE, FAIL, BREAK, PLAIN, KEEP = "refuse", "fail", "break off", "plain", "keep"


def _refused(prompt: str, **options: Any) -> None:
    try:
        kitaru.llm(prompt, retries=0, **options)
    except kitaru.KitaruLLMError as exc:
        logging.getLogger("leaky").warning("refused", exc_info=True)
        print(exc, repr(exc.__context__))


@checkpoint
def events(model: str) -> str:
    """Each of them, inside a checkpoint."""
    for prompt in (REFUSE, FAIL):
        _refused(prompt, model=model)
    _refused(BREAK, model=model, stream=True)
    kitaru.llm(PLAIN, model=model)
    return kitaru.llm(PLAIN, model=model, stream=True)


@checkpoint
async def awaited(model: str) -> str:
    """The same where code is async."""
    try:
        await kitaru.llm_async(REFUSE, model=model, retries=0)
    except kitaru.KitaruLLMError:
        logging.getLogger("leaky").exception("refused")
    return await kitaru.llm_async(PLAIN, model=model, stream=True)


@checkpoint
def by_sdk() -> None:
    """The provider's own SDK, whose error nobody catches."""
    from openai import OpenAI

    with OpenAI(max_retries=0) as client:
        client.chat.completions.create(
            model="gpt-5-nano", messages=[{"role": "user", "content": REFUSE}]
        )


@checkpoint
def raises() -> None:
    """Keys in an exception and its cause."""
    try:
        raise KeyError(os.environ["ANTHROPIC_API_KEY"])
    except KeyError as exc:
        raise RuntimeError(f"with {os.environ['OPENAI_API_KEY']}") from exc


@checkpoint(runtime="isolated")
def apart() -> None:
    """In a process of its own, whose standard error is its driver's."""
    logging.basicConfig(level=logging.DEBUG)
    _refused(REFUSE, model=OPENAI)
    os.write(2, f"past Python: {os.environ['OPENAI_API_KEY']}\n".encode())
    kitaru.llm(PLAIN, model=OPENAI, stream=True)


@flow
def leak(way: str, model: str = OPENAI) -> str:
    """Let something out."""
    if way == "events":
        _refused(REFUSE, model=model)
        return events(model)
    if way == "awaited":
        return str(awaited(model))
    if way == "body":
        return kitaru.llm(FAIL, model=model, retries=0)
    {"by_sdk": by_sdk, "raises": raises, "apart": apart}[way]()
    return way


@flow
def keeps() -> str:
    """An answer that holds a key is a value like any other."""
    return kitaru.llm(KEEP, model=OPENAI, stream=True)
