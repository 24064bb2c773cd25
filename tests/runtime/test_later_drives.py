"""Drives that do not go as the one before: what was called off, replayed, retried or left over."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Any

import pytest

import kitaru
from kitaru import KitaruClient, checkpoint, flow
from kitaru.journal import Journal
from kitaru.models import CallStatus, ExecutionStatus
from kitaru.store import due
from kitaru.store.journal import CallRecord
from tests.drives import Made, again, answer, error_of, left, store
from tests.support import query


@pytest.fixture(autouse=True)
def fresh(home: Any) -> Any:
    """Every test here has a store of its own."""
    return home


async def go() -> None:
    """Let go of the execution here, once."""
    await kitaru.wait(name="go", schema=None, timeout=0)


def gone_on(flow_: Any, handle: Any) -> Any:
    """The result after `go` was answered, in another drive."""
    left(handle.exec_id)
    answer(handle.exec_id, "go", None)
    return again("resume", flow_, handle.exec_id).wait(30)


def orders(home: Any, execution: int) -> list[int]:
    """The places of an execution's ended calls."""
    sql = "SELECT ended_order FROM calls WHERE ended_order > 0 AND execution = ? ORDER BY 1"
    return [order for (order,) in query(home, sql.replace("?", str(execution)))]


def test_calls_a_replay_reuses_and_calls_it_makes_never_share_a_place(home):
    @checkpoint
    async def step(name: str) -> str:
        return name

    @flow
    async def racing() -> list[str]:
        first = await step("first")
        both = await asyncio.gather(step("a"), step("b"))
        last = await asyncio.gather(step("c"), step("d"))
        await go()
        return [first, *both, *last]

    handle = racing.run()
    assert gone_on(racing, handle) == ["first", "a", "b", "c", "d"]
    overrides = {"checkpoint.step#1": "other"}
    replay = racing.replay(handle.exec_id, from_="step#4", overrides=overrides)
    left(replay.exec_id)
    assert orders(home, 2) == [1, 2, 3, 4, 5]
    assert gone_on(racing, replay) == ["other", "a", "b", "c", "d"]
    assert orders(home, 2) == [1, 2, 3, 4, 5, 6]


def test_calls_a_replay_reuses_end_in_the_order_of_the_original():
    ends = {name: asyncio.Event() for name in "abc"}

    @checkpoint
    async def start() -> int:
        return 1

    @checkpoint
    async def step(name: str) -> str:
        await ends[name].wait()
        return name

    @checkpoint
    async def last() -> int:
        return 1

    @flow
    async def racing() -> list[str]:
        await start()
        order: list[str] = []
        rest = {asyncio.create_task(step(name)) for name in "abc"}
        for let in "cab":
            ends[let].set()
            ended, rest = await asyncio.wait(rest, return_when=asyncio.FIRST_COMPLETED)
            order += [task.result() for task in ended]
        await last()
        return order

    handle = racing.run()
    assert handle.wait(30) == ["c", "a", "b"]
    replay = racing.replay(handle.exec_id, from_="last", overrides={"checkpoint.start": 2})
    assert replay.wait(30) == ["c", "a", "b"]


def test_a_replay_makes_a_call_again_that_its_original_called_off():
    @checkpoint
    async def start() -> int:
        return 1

    @checkpoint
    async def slow() -> str:
        await asyncio.Event().wait()
        return "in time"

    @checkpoint
    async def last() -> int:
        return 3

    @flow
    async def limited() -> list[Any]:
        first = await start()
        try:
            came = await asyncio.wait_for(slow(), 0.01)
        except TimeoutError:
            came = "late"
        return [first, came, await last()]

    handle = limited.run()
    assert handle.wait(30) == [1, "late", 3]
    replay = limited.replay(handle.exec_id, from_="last", overrides={"checkpoint.start": 7})
    assert replay.wait(30) == [7, "late", 3]


def test_a_submitted_call_that_is_called_off_at_once_keeps_its_record(home):
    @checkpoint
    def plain() -> int:
        return 1

    @checkpoint
    async def coroutine() -> int:
        return 2

    @flow
    async def calling_off() -> list[Any]:
        futures = [plain.submit(), coroutine.submit()]
        told = [future.cancel() for future in futures]
        await go()
        return [*told, *(future.cancelled() for future in futures), await coroutine()]

    handle = calling_off.run()
    left(handle.exec_id)
    recorded = "SELECT * FROM calls WHERE status = 'cancelled'"
    before = query(home, recorded)
    assert gone_on(calling_off, handle) == [True, True, True, True, 2]
    assert len(before) == 2
    assert query(home, recorded) == before


def test_a_sleep_that_a_retry_opens_again_is_due_when_it_was():
    fails = [True]

    @checkpoint
    async def step() -> int:
        await asyncio.sleep(0)
        if fails:
            raise ValueError("not yet")
        return 1

    @flow
    async def resting() -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(kitaru.sleep(3600, timeout=0))
            await step()

    handle = resting.run()
    error_of(handle)
    fails.clear()
    again("retry", resting, handle.exec_id)
    assert left(handle.exec_id).status is ExecutionStatus.WAITING
    with store().snapshot() as conn:
        assert due.next_at(conn) is not None


def test_a_question_that_is_open_when_its_flow_ends_is_asked_no_more():
    @checkpoint
    async def step() -> int:
        return 1

    @flow
    async def ending() -> int:
        asked = asyncio.create_task(kitaru.wait(name="approve"))
        while (
            not (value := await step()) or KitaruClient().executions.latest().pending_wait is None
        ):
            await asyncio.sleep(0)
        assert not asked.done()
        return value

    handle = ending.run()
    assert handle.wait(30) == 1
    assert KitaruClient().executions.pending_waits(handle.exec_id) == []


def test_what_only_a_later_drive_tells_is_in_the_log_and_the_rest_once():
    fails = [True]

    @checkpoint
    def step() -> int:
        if fails:
            raise ValueError("not yet")
        return 1

    @flow
    def telling() -> int:
        print("start")
        try:
            value = step()
            print("good")
            return value
        finally:
            print("end")

    handle = telling.run()
    error_of(handle)
    fails.clear()
    assert again("retry", telling, handle.exec_id).wait(30) == 1
    told = [line.message for line in KitaruClient().executions.logs(handle.exec_id)]
    assert sorted(told) == ["end", "good", "start"]


def test_checkpoints_of_one_factory_do_not_share_what_they_cache():
    def adding(more: int) -> Any:
        @checkpoint(cache=True)
        def add(number: int) -> int:
            return number + more

        return add

    one, hundred = adding(1), adding(100)

    @flow
    def summing() -> list[int]:
        return [one(1), hundred(1), one(1)]

    assert summing.run().wait(30) == [2, 101, 2]


def test_a_call_made_after_another_is_numbered_after_it_though_a_crash_left_a_gap_before():
    def row(seq: int, lane: str, call_id: str) -> CallRecord:
        done = CallStatus.COMPLETED
        return CallRecord(seq, lane, 1, call_id, "checkpoint", done, b"", "", ended_order=seq)

    journal = Journal("kr-x", [row(1, "", "start"), row(4, "1", "step#1.1")])
    branch = journal.root.branch()
    made = [
        journal.begin(lane, Made(name)).seq
        for lane, name in ((journal.root, "start"), (branch, "step"), (branch, "next"))
    ]
    assert made == [1, 4, 5]


@dataclass
class Counted:
    """A value that notes when it is copied."""

    number: int

    def __deepcopy__(self, memo: Any) -> Counted:
        copied.append(self.number)
        return Counted(self.number)


copied: list[int] = []


def test_the_arguments_of_recorded_calls_are_not_copied_again():
    @checkpoint
    def number_of(counted: Counted) -> int:
        return counted.number

    @flow
    def numbers() -> list[int]:
        found = [number_of(Counted(number)) for number in (1, 2)]
        kitaru.wait(name="go", schema=None, timeout=0)
        return [*found, number_of(Counted(3))]

    copied.clear()
    handle = numbers.run()

    assert gone_on(numbers, handle) == [1, 2, 3]
    assert copied == [1, 1, 2, 2, 3, 3]  # when the call is made, and for its attempt
