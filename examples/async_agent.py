"""An agent as an `async def` flow: tools side by side, a race of models, a loop over tool calls.

    python examples/async_agent.py [QUESTION]

Whatever ran first when it was recorded comes first again when the flow is resumed, so the race has
the same winner. The model here is a stand-in; put yours in `ask`.
"""

from __future__ import annotations

import asyncio
import sys
from dataclasses import dataclass

import kitaru


@dataclass(frozen=True)
class Turn:
    """What the model says: a tool to call, or the answer."""

    tool: str | None
    text: str


@kitaru.checkpoint(type="llm_call", timeout=30, retries=2, retry_on=(TimeoutError, OSError))
async def ask(question: str, known: list[str]) -> Turn:
    if len(known) < 3:
        return Turn("search", f"{question} {len(known)}")
    return Turn(None, f"{question} {known[-1]}")


@kitaru.checkpoint(type="tool_call")
async def search(query: str) -> str:
    await asyncio.sleep(0.01)
    return f"found something on '{query}'"


@kitaru.checkpoint(type="tool_call")
async def mirror(name: str, seconds: float) -> str:
    await asyncio.sleep(seconds)
    return name


async def fastest() -> str:
    """The first mirror that answers; the others are called off."""
    tasks = [asyncio.create_task(mirror(name, s)) for name, s in [("slow", 30), ("quick", 0.01)]]
    done, late = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    for task in late:
        task.cancel()
    await asyncio.gather(*late, return_exceptions=True)
    return done.pop().result()


@kitaru.flow
async def agent(question: str) -> str:
    known = [*await asyncio.gather(search(f"{question} news"), search(f"{question} books"))]
    source = await fastest()
    for _ in range(10):
        turn = await ask(question, known)
        if turn.tool is None:
            return f"{turn.text} (by {source})"
        known.append(await search(turn.text))
    return "gave up"


if __name__ == "__main__":
    handle = agent.run(*sys.argv[1:2] or ["tea"])
    print(handle.wait())
    for call in kitaru.KitaruClient().executions.get(handle.exec_id).checkpoints:
        print(f"{call.call_id}: {call.status}")
