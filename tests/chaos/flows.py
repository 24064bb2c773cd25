"""More flows to kill: tasks beside each other, and a flow with children."""

from __future__ import annotations

import asyncio
import hashlib

import kitaru
from kitaru import checkpoint, flow
from tests.flows import Witness, effect, returned, steps


@checkpoint
async def leap(item: str) -> list[str]:
    """Its value tells its own call, which has the number of its task in it."""
    effect()
    print(f"leap {item}")
    await asyncio.sleep(0)
    call = kitaru.current_checkpoint()
    assert call is not None
    return returned([call.call_id, hashlib.sha256(item.encode()).hexdigest()])


@flow
async def tasks(rounds: int = 8, width: int = 4) -> list[str]:
    """Tasks beside each other, each with one checkpoint after the other."""
    saw = Witness()

    async def task(place: int) -> str:
        value = str(place)
        for _ in range(rounds):
            value = saw.given(await leap(value))[1]
        return value

    return list(await asyncio.gather(*map(task, range(width))))


@flow
def child(length: int, value: str) -> str:
    """One checkpoint after the other."""
    return steps(length, value, Witness())


@flow
def parent(children: int = 3, length: int = 8) -> list[str]:
    """Children beside each other, between checkpoints."""
    saw = Witness()
    first = steps(2, "", saw)
    handles = [child.run(length, f"{number}{first}") for number in range(children)]
    values = [handle.wait() for handle in handles]
    return [*values, steps(2, values[-1], saw)]
