"""Async flows driven again: the same branches and call ids, at whatever speed tasks go."""

from __future__ import annotations

import asyncio
import gc
from typing import Any

import pytest

import kitaru
from kitaru import checkpoint, flow
from kitaru.errors import KitaruDivergenceError
from tests.drives import again, answer, error_of, get, left, load
from tests.support import query, until


@pytest.fixture(autouse=True)
def fresh(home: Any) -> Any:
    """Every test here has a store of its own."""
    return home


def gone_on(flow_: Any, handle: Any) -> Any:
    """The result after `go` was answered, in another drive."""
    left(handle.exec_id)
    answer(handle.exec_id, "go", None)
    return again("resume", flow_, handle.exec_id).wait(30)


async def go() -> None:
    """Let go of the execution here, once."""
    await kitaru.wait(name="go", schema=None, timeout=0)


class Pace:
    """A checkpoint whose calls end in the order that the flow lets them."""

    def __init__(self) -> None:
        self.ran: list[str] = []
        self.ends: dict[str, asyncio.Event] = {}

        @checkpoint
        async def step(name: str) -> str:
            self.ran.append(name)
            await self.ends.setdefault(name, asyncio.Event()).wait()
            return name

        self.step = step

    def end(self, name: str) -> None:
        self.ends.setdefault(name, asyncio.Event()).set()


def test_the_first_that_ended_is_the_first_again_although_all_are_recorded():
    pace, seen = Pace(), []

    @flow
    async def racing() -> list[str]:
        order = []
        tasks = [asyncio.create_task(pace.step(name)) for name in "abc"]
        rest = {*tasks}
        for let in "cab":
            pace.end(let)
            ended, rest = await asyncio.wait(rest, return_when=asyncio.FIRST_COMPLETED)
            order += [task.result() for task in ended]
        seen.append(order)
        await go()
        return order

    handle = racing.run()
    assert gone_on(racing, handle) == ["c", "a", "b"]
    assert seen == [["c", "a", "b"], ["c", "a", "b"]]
    assert sorted(pace.ran) == ["a", "b", "c"]


def test_as_completed_gives_the_recorded_order():
    pace = Pace()

    @flow
    async def racing() -> list[str]:
        order = []
        pace.end("c")
        for coming in asyncio.as_completed([pace.step(name) for name in "abc"]):
            order.append(await coming)
            pace.end("b" if "b" not in order else "a")
        await go()
        return order

    assert gone_on(racing, racing.run()) == ["c", "b", "a"]
    assert len(pace.ran) == 3


def test_branches_keep_their_call_ids_whichever_is_faster(home):
    pace = Pace()

    @flow
    async def two() -> list[str]:
        async def branch(first: str, second: str) -> str:
            return await pace.step(first) + await pace.step(second)

        tasks = [asyncio.create_task(branch("a", "b")), asyncio.create_task(branch("c", "d"))]
        for name in [*"cdab"]:
            while name not in pace.ran:
                await asyncio.sleep(0)
            pace.end(name)
        result = await asyncio.gather(*tasks)
        await go()
        return result

    handle = two.run()
    assert gone_on(two, handle) == ["ab", "cd"]
    assert [*query(home, "SELECT call_id FROM calls WHERE kind = 'checkpoint' ORDER BY 1")] == [
        *(("step#1.1",), ("step#1.2",), ("step#2.1",), ("step#2.2",)),
    ]
    assert pace.ran == ["a", "c", "d", "b"]


def test_a_result_reaches_its_task_only_when_all_that_the_one_before_set_off_has_come_to_rest():
    """Both end at once; what the first one's task does in many rounds of the loop comes first."""
    pace, told = Pace(), []

    @flow
    async def orderly() -> list[str]:
        lines: list[str] = []

        async def branch(name: str) -> None:
            await pace.step(name)
            for _ in range(20):
                await asyncio.sleep(0)
                lines.append(name)

        pace.end("a")
        pace.end("b")
        await asyncio.gather(branch("a"), branch("b"))
        told.append(lines)
        await go()
        return lines

    gone_on(orderly, orderly.run())
    assert told[0] == told[1]
    assert told[0] in ([*"a" * 20, *"b" * 20], [*"b" * 20, *"a" * 20])


def test_a_stopped_drive_goes_on_with_what_is_recorded_and_runs_the_rest_again():
    pace = Pace()

    @flow
    async def halved() -> list[str]:
        return await asyncio.gather(*[pace.step(name) for name in "ab"])

    pace.end("a")
    handle = halved.run()
    until(lambda: [str(c.status) for c in get(handle).checkpoints] == ["completed", "running"], "a")
    handle._driver.stop()
    assert left(handle.exec_id).status == "running"
    pace.end("b")
    assert again("resume", halved, handle.exec_id).wait(20) == ["a", "b"]
    assert pace.ran == ["a", "b", "b"]


NOISY = """
@checkpoint
async def step(name: str) -> str:
    return name

@flow
async def changing() -> list[str]:
    got = [await coming for coming in asyncio.as_completed([{calls}])]
    await kitaru.wait(name="go", schema=None, timeout=0)
    return got
"""


@pytest.mark.filterwarnings("ignore:coroutine 'step:RuntimeWarning")  # calls before the refused one
@pytest.mark.parametrize("calls", ["step('x')", "step('a'), step('b'), step('c')", "step('a')"])
def test_code_that_calls_otherwise_diverges(calls, monkeypatch):
    monkeypatch.setattr("kitaru.config.TURN_SECONDS", 0.01)
    first = load(NOISY.format(calls="step('a'), step('b')"), asyncio=asyncio)
    handle = first.run()
    left(handle.exec_id)
    answer(handle.exec_id, "go", None)
    other = load(NOISY.format(calls=calls), asyncio=asyncio)
    assert isinstance(error_of(again("resume", other, handle.exec_id)), KitaruDivergenceError)
    gc.collect()


def test_a_branch_that_no_longer_makes_a_call_diverges_at_the_end(monkeypatch):
    monkeypatch.setattr("kitaru.config.TURN_SECONDS", 0.01)
    source = """
    @checkpoint
    async def step(name: str) -> str:
        return name

    async def branch(*names: str) -> None:
        for name in names:
            await step(name)

    @flow
    async def changing() -> None:
        await asyncio.gather(branch({calls}), branch("b", "c", "d"))
        await kitaru.wait(name="go", schema=None, timeout=0)
    """
    handle = load(source.format(calls="'a'"), asyncio=asyncio).run()
    left(handle.exec_id)
    answer(handle.exec_id, "go", None)
    error = error_of(
        again("resume", load(source.format(calls=""), asyncio=asyncio), handle.exec_id)
    )
    assert isinstance(error, KitaruDivergenceError)
    assert "of task 1" in str(error)


def test_submitted_calls_are_taken_from_the_record_whatever_their_order():
    pace = Pace()

    @flow
    async def fan() -> list[str]:
        futures = [pace.step.submit(f"{n}") for n in range(20)]
        for name in reversed(range(20)):
            pace.end(f"{name}")
        result = [await future for future in futures]
        await go()
        return result

    assert gone_on(fan, fan.run()) == [f"{n}" for n in range(20)]
    assert len(pace.ran) == 20


def test_a_failed_call_fails_again_on_resume_and_runs_again_on_retry():
    ran: list[str] = []
    broken = [True]

    @checkpoint
    async def handled() -> None:
        ran.append("handled")
        raise LookupError

    @checkpoint
    async def last() -> str:
        ran.append("last")
        if broken:
            raise ValueError
        return "mended"

    @flow
    async def mending() -> str:
        with pytest.raises(LookupError):
            await handled()
        await go()
        return await last()

    handle = mending.run()
    with pytest.raises(kitaru.KitaruUserCodeError):
        gone_on(mending, handle)
    broken.clear()
    assert again("retry", mending, handle.exec_id).wait(20) == "mended"
    assert ran == ["handled", "last", "last"]


def test_a_replay_of_a_flow_that_took_the_first_takes_the_same_one():
    pace = Pace()

    @checkpoint
    async def used(name: str) -> str:
        return name.upper()

    @flow
    async def racing() -> str:
        tasks = [asyncio.create_task(pace.step(name)) for name in "ab"]
        pace.end("b")
        ended, rest = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        pace.end("a")
        await asyncio.wait(rest)
        return await used(ended.pop().result())

    handle = racing.run()
    assert handle.wait(20) == "B"
    assert racing.replay(handle.exec_id, from_="used").wait(20) == "B"
    assert len(pace.ran) == 2
