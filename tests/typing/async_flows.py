"""What a type checker infers of `async def` flows and checkpoints; checked by both, never run."""

# pyright: strict

import asyncio
from typing import assert_type

import kitaru
from kitaru import CheckpointFuture, CheckpointGroup, FlowHandle, checkpoint, flow


class Notes:
    pass


@checkpoint
async def research(topic: str, depth: int = 1) -> Notes:
    return Notes()


@checkpoint(retries=2, timeout=1, type="llm_call")
async def draft(notes: Notes, *, words: int) -> str:
    return ""


@checkpoint()
async def store(text: str) -> None: ...


@checkpoint
def count(text: str) -> int:
    return 0


@flow
async def agent(topic: str, words: int = 100) -> str:
    notes = assert_type(await research(topic), Notes)
    assert_type(await draft(notes, words=words), str)
    await store("x")
    assert_type(count("x"), int)

    future = assert_type(draft.submit(notes, words=3), CheckpointFuture[str])
    assert_type(await future, str)
    assert_type(await count.submit("x"), int)

    group = assert_type(research.map(["a", "b"], max_workers=2), CheckpointGroup[Notes])
    assert_type(await group, list[Notes])
    assert_type(await count.map("ab"), list[int])
    assert_type(group.results(return_exceptions=True), list[Notes | Exception])
    assert_type(await research.product("ab", [1, 2]), list[Notes])

    both = await asyncio.gather(research("a"), draft(notes, words=1))
    assert_type(both, tuple[Notes, str])
    mixed = await asyncio.gather(future, count.submit("x"))
    assert_type(mixed, tuple[str, int])
    async with asyncio.TaskGroup() as tasks:
        task = assert_type(tasks.create_task(research("a")), asyncio.Task[Notes])
    assert_type(task.result(), Notes)

    child = assert_type(nightly.run("x", tries=2), FlowHandle[list[Notes]])
    assert_type(await child, list[Notes])

    await kitaru.sleep(1)
    return ""


@flow(retries=1, tags=["nightly"])
async def nightly(topic: str, *, tries: int) -> list[Notes]:
    return []


@flow()
async def plain() -> None: ...


def start() -> None:
    handle = assert_type(agent.run("x", words=2), FlowHandle[str])
    assert_type(handle.wait(timeout=1), str)
    assert_type(handle.get(), str)
    assert_type(nightly.run("x", tries=1), FlowHandle[list[Notes]])
    assert_type(plain.run(), FlowHandle[None])
    assert_type(agent.with_options(tags=["a"]).run(topic="x"), FlowHandle[str])
    assert_type(nightly.with_options(cache=True).run("x", tries=1).wait(), list[Notes])
    assert_type(agent.replay("kr-1", from_="draft"), FlowHandle[str])


async def start_from_async_code() -> None:
    assert_type(await agent.run("x"), str)
