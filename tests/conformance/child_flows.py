"""The conformance suite's flows that run flows, one per behaviour."""

from __future__ import annotations

import asyncio

import kitaru
from kitaru import KitaruError, flow
from tests.conformance.async_flows import NUMBER, fetch
from tests.conformance.flows import add, double, halve, halve_at_second_try, halve_once_mended


@flow
def part(number: int) -> int:
    """A child."""
    print(f"part {number}")
    return add(double(number), 1)


@flow
async def part_awaited(number: int) -> int:
    """A child that is a coroutine."""
    return await fetch(await fetch(number))


@flow
def failing_part(number: int) -> int:
    """A child that fails."""
    return halve(add(number, 0))


@flow
def mended_part(number: int) -> int:
    """A child that fails until somebody mends what it needs."""
    return add(halve_once_mended(number), 1)


@flow
def part_at_second_try(number: int) -> int:
    """A child that fails once."""
    return add(halve_at_second_try(number), 1)


@flow
def asking_part(number: int) -> int:
    """A child that asks."""
    return add(number, kitaru.wait(name="more", schema=int, timeout=0))


@flow
def delegates(number: int) -> int:
    """A child between checkpoints."""
    return add(part.run(add(number, 1)).wait(), 1)


@flow
def fans_out(numbers: list[int]) -> list[int]:
    """Children beside each other and beside the flow."""
    handles = [part.run(number) for number in numbers]
    beside = add(0, 1)
    return [*(handle.wait() for handle in handles), beside]


@flow
def leaves_children(number: int) -> int:
    """A child that nobody waits for: the flow ends after it."""
    part.run(number)
    return add(number, 1)


@flow
def catches_a_child(number: int) -> str:
    """A child's failure that the flow expects."""
    try:
        return str(failing_part.run(number).wait())
    except KitaruError as exc:
        return f"{type(exc).__name__}, {add(number, 1)}"


@flow
def child_is_mended(number: int) -> int:
    """A child that fails the flow, until somebody mends what it needs."""
    return add(mended_part.run(add(number, 0)).wait(), 1)


@flow
def child_fails(number: int) -> int:
    """A child that fails the flow whenever it is tried."""
    return add(failing_part.run(number).wait(), 1)


@flow(retries=1)
def drives_child_again(number: int) -> int:
    """A child's failure that the flow's own retries mend."""
    return add(part_at_second_try.run(number).wait(), 1)


@flow
def child_asks(number: int) -> int:
    """A child that waits for an answer, and its parent with it."""
    return add(asking_part.run(number).wait(), 1)


@flow
async def awaits_children(numbers: list[int]) -> list[int]:
    """Children of a coroutine, in branches."""

    async def branch(number: int) -> int:
        return await fetch(await part_awaited.run(await fetch(number)))

    return await asyncio.gather(*map(branch, numbers), part.run(0))


@flow
async def awaits_asking_child(number: int) -> list[int]:
    """A child that waits for an answer while a branch of its parent asks too."""

    async def asks() -> int:
        return await fetch(await kitaru.wait(name="number", schema=NUMBER, timeout=0))

    return await asyncio.gather(asking_part.run(number), asks())
