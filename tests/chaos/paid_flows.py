"""Flows that ask models, for `tests.chaos.paid` to kill: each gives the answers in their order.

A prompt says whose it is: the flow's token, the call it is asked by, and its place.
"""

from __future__ import annotations

import asyncio
import hashlib

import kitaru
from kitaru import checkpoint, flow

LENGTH = 9
WIDTH = 3
MODELS = ("openai/gpt-5-nano", "anthropic/claude-haiku-4-5")


def answer(token: str, place: str) -> str:
    """What a model says to it."""
    return hashlib.sha256(f"{token} {place}".encode()).hexdigest()


def expected(token: str) -> list[str]:
    """What each of the flows gives."""
    return [answer(token, str(place)) for place in range(LENGTH)]


def _model(place: int) -> str:
    return MODELS[place // WIDTH % len(MODELS)]


def _prompt(token: str, place: int) -> str:
    call = kitaru.current_checkpoint()
    name = f"ask-{place}" if call is None else call.call_id
    return f"{token} {name} {place}"


def _ask(token: str, place: int, *, stream: bool) -> str:
    prompt = _prompt(token, place)
    return kitaru.llm(prompt, name=f"ask-{place}", model=_model(place), stream=stream)


@flow
def body(token: str, stream: bool = False) -> list[str]:
    """Each question is a call of its own."""
    return [_ask(token, place, stream=stream) for place in range(LENGTH)]


@checkpoint
def several(token: str, first: int, stream: bool) -> list[str]:
    """Questions one after the other."""
    return [_ask(token, place, stream=stream) for place in range(first, first + WIDTH)]


@flow
def steps(token: str, stream: bool = False) -> list[str]:
    """Questions inside checkpoints."""
    firsts = range(0, LENGTH, WIDTH)
    return [each for first in firsts for each in several(token, first, stream)]


@flow
def mixed(token: str) -> list[str]:
    """Both, in the body by themselves and in checkpoints beside each other."""
    found = [_ask(token, place, stream=place == 1) for place in range(WIDTH)]
    groups = [several.submit(token, first, False) for first in range(WIDTH, LENGTH, WIDTH)]
    return [*found, *(each for group in groups for each in group.result())]


async def _ask_async(token: str, place: int) -> str:
    prompt = _prompt(token, place)
    asked = kitaru.llm_async(prompt, name=f"ask-{place}", model=_model(place), stream=place == 2)
    return await asked


@checkpoint
async def beside(token: str, first: int) -> list[str]:
    """Questions beside each other."""
    return [*await asyncio.gather(*(_ask_async(token, first + each) for each in range(WIDTH)))]


@flow
async def tasks(token: str) -> list[str]:
    """Questions beside each other, in the body and in a checkpoint."""
    found = [*await asyncio.gather(*(_ask_async(token, place) for place in range(WIDTH)))]
    for first in range(WIDTH, LENGTH, WIDTH):
        found += await beside(token, first)
    return found


@checkpoint
def by_sdk(token: str, first: int) -> list[str]:
    """Questions through a provider's own SDK."""
    from openai import OpenAI

    found = []
    with OpenAI(max_retries=0) as client:
        for place in range(first, first + WIDTH):
            response = client.chat.completions.create(
                model="gpt-5-nano",
                messages=[{"role": "user", "content": _prompt(token, place)}],
            )
            kitaru.record_llm_usage(response)
            found.append(response.choices[0].message.content or "")
    return found


@flow
def told(token: str) -> list[str]:
    """What was used is told by the flow's own code."""
    return [each for first in range(0, LENGTH, WIDTH) for each in by_sdk(token, first)]


@checkpoint(runtime="isolated")
def apart(token: str) -> list[str]:
    """Questions in a process of its own, which loads one SDK only."""
    return [
        kitaru.llm(_prompt(token, place), name=f"ask-{place}", model=MODELS[0])
        for place in range(LENGTH)
    ]


@flow
def isolated(token: str) -> list[str]:
    """A checkpoint in a process of its own."""
    return apart(token)
