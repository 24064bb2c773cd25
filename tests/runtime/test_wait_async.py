"""What async flows await by type: `kitaru.wait_async`, and `kitaru.sleep` in any flow."""

from __future__ import annotations

import asyncio

import pytest
from pydantic import BaseModel

import kitaru
from kitaru import FlowHandle, KitaruClient, KitaruContextError, KitaruExecutionError, flow
from tests.support import until


@pytest.fixture(autouse=True)
def fresh(home: object) -> None:
    """Every test here has a store of its own."""


class Review(BaseModel):
    approved: bool
    note: str


@flow
async def reviewed() -> str:
    review = await kitaru.wait_async(name="review", question="Good?", schema=Review, timeout=60)
    return f"{type(review).__name__} {review.note}"


@flow
async def asks_twice() -> list[object]:
    typed = kitaru.wait_async(name="go", schema=int)
    untyped = kitaru.wait(name="go", schema=int)
    return [await typed, await untyped]


@flow
def plain() -> None:
    kitaru.wait_async(name="go")


@flow
def sleeps_in_a_coroutine() -> str:
    async def rest() -> str:
        await kitaru.sleep(0.001)
        return "rested"

    return asyncio.run(rest())


def answer(handle: FlowHandle[object], wait: str, value: object) -> None:
    """Answer a wait once it is asked."""
    executions = KitaruClient().executions
    pending = until(lambda: executions.pending_waits(handle.exec_id), "it waits")
    assert pending[0].name == wait
    executions.input(handle.exec_id, wait=wait, value=value)


def test_an_async_flow_awaits_the_answer_as_its_declared_type():
    handle = reviewed.run()
    answer(handle, "review", {"approved": True, "note": "fine"})
    assert handle.wait() == "Review fine"


def test_wait_async_asks_as_wait_does_and_counts_with_it():
    handle = asks_twice.run()
    answer(handle, "go", 1)
    answer(handle, "go#2", 2)
    assert handle.wait() == [1, 2]


def test_a_flow_that_is_no_async_def_is_told_to_use_wait_before_anything_is_asked():
    handle = plain.run()
    with pytest.raises(KitaruExecutionError, match=r"use kitaru\.wait\("):
        handle.wait()
    assert KitaruClient().executions.get(handle.exec_id).checkpoints == ()


def test_outside_a_flow_it_is_refused():
    with pytest.raises(KitaruContextError, match=r"kitaru\.wait_async\(\)"):
        kitaru.wait_async()


def test_a_sleep_of_a_plain_flow_is_over_when_it_is_awaited():
    assert sleeps_in_a_coroutine.run().wait() == "rested"
