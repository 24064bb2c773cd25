"""What a type checker infers of plain flows and checkpoints; checked by both, never run."""

# pyright: strict

from typing import assert_type

import kitaru
from kitaru import CheckpointFuture, CheckpointGroup, FlowHandle, checkpoint, flow


class Notes:
    pass


@checkpoint
def research(topic: str, depth: int = 1) -> Notes:
    return Notes()


@checkpoint(retries=2, type="llm_call", retry_on=(TimeoutError, OSError), runtime="isolated")
def draft(notes: Notes, *, words: int) -> str:
    return ""


@checkpoint(name="tags", cache=True, serializer="pickle", timeout=1.5, retry_on=ValueError)
def tag(text: str) -> list[str] | None:
    return None


@checkpoint()
def store(text: str) -> None: ...


@checkpoint
def longest(*texts: str) -> str:
    return max(texts)


@flow
def agent(topic: str, words: int = 100) -> str:
    notes = assert_type(research(topic), Notes)
    assert_type(research(topic=topic, depth=2), Notes)
    assert_type(draft(notes, words=words), str)
    assert_type(tag("x"), list[str] | None)
    assert_type(longest("a", "b"), str)
    store("x")

    future = assert_type(draft.submit(notes, words=3), CheckpointFuture[str])
    assert_type(future.result(), str)
    assert_type(future.result(timeout=1), str)
    assert_type(future.exception(), BaseException | None)
    assert_type(future.cancel(), bool)

    group = assert_type(research.map(["a", "b"], max_workers=2), CheckpointGroup[Notes])
    assert_type(group.result(), list[Notes])
    assert_type(group.results(), list[Notes])
    assert_type(group.results(return_exceptions=True), list[Notes | Exception])
    assert_type(group[0], CheckpointFuture[Notes])
    assert_type([each.result() for each in group], list[Notes])
    assert_type(longest.map("abc").result(), list[str])
    assert_type(research.product("ab", [1, 2]), CheckpointGroup[Notes])

    child = assert_type(nightly.run("x", tries=2), FlowHandle[list[Notes]])
    assert_type(child.wait(), list[Notes])

    kitaru.sleep(1)
    return ""


@flow(name="nightly", retries=1, cache=True, stack="local", timeout=60, tags=["nightly"])
def nightly(topic: str, *, tries: int) -> list[Notes]:
    return []


@flow()
def plain() -> None: ...


def start() -> None:
    handle = assert_type(agent.run("x"), FlowHandle[str])
    assert_type(agent.run(topic="x", words=1), FlowHandle[str])
    assert_type(handle.wait(), str)
    assert_type(handle.wait(timeout=1), str)
    assert_type(handle.get(), str)
    assert_type(handle.exec_id, str)
    assert_type(nightly.run("x", tries=1), FlowHandle[list[Notes]])
    assert_type(plain.run(), FlowHandle[None])

    optioned = agent.with_options(retries=1, cache=True, stack="local", timeout=1, tags=["a"])
    assert_type(optioned.run(topic="x", words=1), FlowHandle[str])
    assert_type(nightly.with_options(tags=["b"]).run("x", tries=1).wait(), list[Notes])

    again = agent.replay(handle.exec_id, from_="draft", overrides={"checkpoint.tag": 1}, topic="y")
    assert_type(again, FlowHandle[str])

    any_result: list[FlowHandle[object]] = [handle, again, plain.run()]
    assert any_result


async def start_from_async_code() -> None:
    assert_type(await agent.run("x"), str)
    assert_type(await nightly.run("x", tries=1), list[Notes])
