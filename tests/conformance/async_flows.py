"""The conformance suite's flows that are coroutines, one per behaviour.

Where it matters which of several calls ends first, one waits for the other's record, so that each
run comes out alike.
"""

from __future__ import annotations

import asyncio
from typing import Any

import anyio

import kitaru
from kitaru import checkpoint, flow
from tests.conformance.flows import add, attempt, double, halve, has_ended, home
from tests.flows import effect

#: Without a static type: what is awaited is no number yet.
NUMBER: Any = int


@checkpoint
async def fetch(number: int) -> int:
    effect()
    print(f"fetching {number}")
    await asyncio.sleep(0)
    print(f"fetched {number}")
    return number + 1


@checkpoint
async def fetch_once_ended(number: int, call_id: str) -> int:
    effect()
    await once_ended(call_id)
    return number + 1


@checkpoint
async def fetch_even(number: int) -> int:
    effect()
    await asyncio.sleep(0)
    if number % 2:
        raise ValueError(f"{number} is odd")
    return number + 1


@checkpoint
async def fetch_once_mended(number: int, call_id: str) -> int:
    effect()
    await once_ended(call_id)
    if not (home() / "mended").exists():
        raise ConnectionError("not mended yet")
    return number + 1


@checkpoint
async def hang_until_mended(number: int) -> int:
    effect()
    if not (home() / "mended").exists():
        await asyncio.Event().wait()
    return number + 1


@checkpoint
async def hang(number: int) -> int:
    effect()
    await asyncio.Event().wait()
    return number


@checkpoint(timeout=0.1, retries=1, retry_delay=0)
async def fetch_in_time_at_second_try(number: int) -> int:
    effect()
    if attempt() < 2:
        await asyncio.Event().wait()
    return number + 1


@checkpoint
async def fetch_at_second_try(number: int, call_id: str) -> int:
    effect()
    await once_ended(call_id)
    if attempt() < 2:
        raise ConnectionError("not yet")
    return number + 1


async def once_ended(call_id: str) -> None:
    """Wait until another call of the execution has its end on record."""
    with anyio.fail_after(60):
        while call_id and not has_ended(call_id):
            await asyncio.sleep(0.001)


async def fetch_twice(number: int) -> int:
    """A branch of two calls; the second needs the first."""
    return await fetch(10 * await fetch(number))


@flow
async def gathers(numbers: list[int]) -> list[int]:
    """Checkpoints beside each other, then one that needs them all."""
    fetched = await asyncio.gather(*map(fetch, numbers))
    return [*fetched, await fetch(sum(fetched))]


@flow
async def gathers_branches(numbers: list[int]) -> list[int]:
    """Branches of several calls, then a call that needs them all."""
    fetched = await asyncio.gather(*map(fetch_twice, numbers))
    return [*fetched, await fetch(sum(fetched))]


@flow
async def groups(numbers: list[int]) -> list[int]:
    """A task group whose tasks start tasks."""

    async def branch(number: int) -> int:
        async with asyncio.TaskGroup() as inner:
            tasks = [inner.create_task(fetch_twice(number + more)) for more in (0, 1)]
        return await fetch(sum(task.result() for task in tasks))

    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(branch(number)) for number in numbers]
    return [task.result() for task in tasks]


@flow
async def starts_soon(numbers: list[int]) -> list[int]:
    """The same with anyio's task group."""
    fetched: dict[int, int] = {}

    async def branch(number: int) -> None:
        fetched[number] = await fetch_twice(number)

    async with anyio.create_task_group() as group:
        for number in numbers:
            group.start_soon(branch, number)
    return [fetched[number] for number in numbers]


@flow
async def takes_as_completed(numbers: list[int]) -> list[int]:
    """Results in the order in which calls ended, from the last to the first; each has a sequel."""
    calls = [
        fetch_once_ended(number, f"fetch_once_ended#{place + 1}" if place < len(numbers) else "")
        for place, number in enumerate(numbers, 1)
    ]
    return [await fetch(10 * await each) for each in asyncio.as_completed(calls)]


@flow
async def races(number: int) -> int:
    """The first result wins, what is slower is cancelled."""
    tasks = [asyncio.create_task(hang(number)), asyncio.create_task(fetch(number))]
    done, slower = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    for task in slower:
        task.cancel()
    await asyncio.gather(*slower, return_exceptions=True)
    return await fetch(10 * done.pop().result())


@flow
async def catches_in_branches(numbers: list[int]) -> list[str]:
    """Failures that branches expect, and go on after."""

    async def branch(number: int) -> str:
        try:
            return str(await fetch_even(number))
        except ValueError as exc:
            return f"{exc}, {await fetch(number)}"

    return await asyncio.gather(*map(branch, numbers))


@flow
async def catches_what_is_gathered(numbers: list[int]) -> list[str]:
    """Failures that are gathered with the results."""
    fetched = await asyncio.gather(*map(fetch_even, numbers), return_exceptions=True)
    return [*map(str, fetched), str(await fetch(0))]


@flow
async def branch_is_mended(number: int) -> list[int]:
    """A branch that fails the flow when the other has ended, until somebody mends it."""

    async def fails() -> int:
        return await fetch_once_mended(number, "fetch#1.2")

    return await asyncio.gather(fetch_twice(number), fails())


@flow
async def group_is_mended(number: int) -> list[int]:
    """A branch whose failure cancels the other and fails the flow, until somebody mends it."""
    async with asyncio.TaskGroup() as group:
        other = group.create_task(hang_until_mended(number))
        fails = group.create_task(fetch_once_mended(number, ""))
    return [other.result(), fails.result()]


@flow
async def submits_awaited(number: int) -> list[int]:
    """Futures of plain checkpoints and of coroutines, awaited."""
    first, second = add.submit(number, 1), fetch.submit(number)
    third = await fetch(number)
    print("between")
    return [await first, await second, third, add(await first, await second)]


@flow
async def maps_awaited(numbers: list[int]) -> list[int]:
    """Fan-outs, awaited."""
    doubled = await double.map(numbers, max_workers=2)
    fetched = await fetch.map(doubled)
    return [*fetched, *await add.product(numbers[:1], doubled)]


@flow
async def catches_a_future(number: int) -> str:
    """A submitted call that fails, and one that nobody awaits."""
    failing, _ = halve.submit(number), add.submit(number, 1)
    try:
        return str(await failing)
    except ValueError as exc:
        return f"{exc}, {await fetch(number)}"


@flow
async def asks_twice(timeout: float) -> list[int]:
    """Two branches that ask."""

    async def branch(name: str) -> int:
        return await fetch(await kitaru.wait(name=name, schema=NUMBER, timeout=timeout))

    return await asyncio.gather(branch("left"), branch("right"))


@flow
async def asks_beside(number: int) -> list[int]:
    """A branch that asks and another that works."""

    async def asks() -> int:
        return await fetch(await kitaru.wait(name="number", schema=NUMBER, timeout=0))

    async def works() -> int:
        return await fetch(await fetch_twice(number))

    return await asyncio.gather(asks(), works())


@flow
async def sleeps_beside(number: int) -> list[Any]:
    """A branch that sleeps and another that works."""

    async def sleeps() -> int:
        await kitaru.sleep(0.02, timeout=0)
        return await fetch(number)

    return await asyncio.gather(sleeps(), fetch_twice(number))


@flow
async def is_late_awaited(number: int) -> int:
    """A coroutine that is over its time at first."""
    return await fetch(await fetch_in_time_at_second_try(number))


@flow(retries=1)
async def drives_again_awaited(number: int) -> list[int]:
    """A branch's failure that the flow's own retries mend."""
    first = await fetch(number)
    return await asyncio.gather(fetch_at_second_try(first, "fetch#2"), fetch(number))


@flow
async def tells_in_branches(numbers: list[int]) -> list[int]:
    """Lines of branches that run beside each other."""

    async def branch(number: int) -> int:
        print(f"{number} begins")
        fetched = await fetch(number)
        print(f"{number} goes on")
        fetched = await fetch(10 * fetched)
        print(f"{number} ends")
        return fetched

    print("begin")
    return await asyncio.gather(*map(branch, numbers))


@flow
async def shares(numbers: list[int]) -> list[int]:
    """Branches that act on what they all know."""
    seen: list[int] = []

    async def branch(number: int) -> int:
        seen.append(number)
        await fetch(number)
        return await fetch(10 * len(seen))

    return await asyncio.gather(*map(branch, numbers))
