"""Async flows that cancel their own calls, and async flows that are cancelled or stopped."""

from __future__ import annotations

import asyncio
import threading
from pathlib import Path
from typing import Any

import anyio
import pytest

import kitaru
from kitaru import KitaruClient, checkpoint, flow
from kitaru.models import ExecutionStatus
from kitaru.tasks import TaskCalls
from tests.drives import again, answer, error_of, get, left
from tests.support import query, until


@pytest.fixture(autouse=True)
def fresh(home: Any) -> Any:
    """Every test here has a store of its own."""
    return home


ran: list[str] = []


@pytest.fixture(autouse=True)
def nothing_ran() -> None:
    ran.clear()


@checkpoint
async def endless(name: str = "endless") -> str:
    ran.append(f"{name} begun")
    try:
        await asyncio.Event().wait()
    finally:
        await asyncio.sleep(0)
        ran.append(f"{name} cleaned up")
    return "never"


@checkpoint
async def quick(name: str) -> str:
    ran.append(name)
    return name


def journal(home: Path) -> dict[str, str]:
    return dict(query(home, "SELECT call_id, status FROM calls"))


async def go() -> None:
    """Let go of the execution here, once."""
    await kitaru.wait(name="go", schema=None, timeout=0)


def gone_on(flow_: Any, handle: Any) -> Any:
    """The result after `go` was answered, in another drive."""
    left(handle.exec_id)
    answer(handle.exec_id, "go", None)
    return again("resume", flow_, handle.exec_id).wait(30)


async def by_wait_for() -> str:
    try:
        return await asyncio.wait_for(endless(), 0.02)
    except TimeoutError:
        return "late"


async def by_timeout() -> str:
    try:
        async with asyncio.timeout(0.02):
            return await endless()
    except TimeoutError:
        return "late"


async def by_move_on() -> str:
    with anyio.move_on_after(0.02):
        return await endless()
    return "late"


async def by_fail_after() -> str:
    try:
        with anyio.fail_after(0.02):
            return await endless()
    except TimeoutError:
        return "late"


async def by_task() -> str:
    task = asyncio.create_task(endless())
    while not ran:
        await asyncio.sleep(0.001)
    task.cancel()
    await asyncio.wait([task])
    return "late" if task.cancelled() else "not cancelled"


async def by_first_completed() -> str:
    tasks = {asyncio.create_task(endless()), asyncio.create_task(quick("winner"))}
    done, rest = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    for task in rest:
        task.cancel()
    await asyncio.wait(rest)
    return {"winner": "late"}[done.pop().result()]


async def by_task_group() -> str:
    try:
        async with asyncio.TaskGroup() as group:
            group.create_task(endless())
            await quick("before")
            raise LookupError
    except* LookupError:
        pass
    return "late"


async def by_anyio_group() -> str:
    async with anyio.create_task_group() as group:
        group.start_soon(endless, "endless")
        await quick("before")
        group.cancel_scope.cancel()
    return "late"


async def by_future() -> str:
    future = endless.submit()
    await quick("beside")
    assert future.cancel()
    try:
        return await future
    except asyncio.CancelledError:
        return "late" if future.cancelled() else "not cancelled"


WAYS = [
    *(by_wait_for, by_timeout, by_move_on, by_fail_after, by_first_completed),
    *(by_task_group, by_anyio_group, by_future),
]


@pytest.mark.parametrize("way", WAYS)
def test_a_cancelled_call_is_recorded_cleans_up_and_does_not_run_on_resume(way, home):
    @flow
    async def cancelling() -> str:
        result = await way()
        await go()
        return result + await quick("!")

    handle = cancelling.run()
    left(handle.exec_id)
    assert journal(home)["endless"] == "cancelled"
    assert "endless cleaned up" in ran
    ran.clear()
    assert gone_on(cancelling, handle) == "late!"
    assert ran == ["!"]


def test_a_call_cancelled_by_its_task_is_seen_so_by_who_awaits_the_task(home):
    @flow
    async def cancelling() -> str:
        return await by_task()

    assert cancelling.run().wait(20) == "late"
    assert journal(home) == {"endless": "cancelled"}


def test_a_settled_cancellation_stays_and_an_unsettled_one_is_open_on_retry(home):
    broken = [True]

    @checkpoint
    async def slow_once() -> str:
        ran.append("slow_once")
        if broken:
            await asyncio.Event().wait()
        return "in time"

    @flow
    async def retried() -> list[str]:
        first = await by_timeout()
        await quick("fallback")
        async with asyncio.TaskGroup() as group:
            other = group.create_task(slow_once())
            if broken:
                while "slow_once" not in ran:
                    await asyncio.sleep(0.001)
                raise ValueError
        return [first, other.result()]

    handle = retried.run()
    error_of(handle)
    assert journal(home) == {
        **{"endless": "cancelled", "quick": "completed"},
        "slow_once": "cancelled",
    }
    broken.clear()
    ran.clear()
    assert again("retry", retried, handle.exec_id).wait(20) == ["late", "in time"]
    assert ran == ["slow_once"]


@pytest.mark.parametrize("scope", ["asyncio", "anyio"])
def test_a_call_that_is_cancelled_while_its_commit_is_under_way_counts_as_cancelled(
    scope, home, monkeypatch
):
    committing, cancelled = threading.Event(), threading.Event()
    put = TaskCalls.put

    def slow_put(self: Any, conn: Any, record: Any, **more: Any) -> Any:
        if record.call_id == "quick" and record.status == "completed":
            committing.set()
            assert cancelled.wait(20)
        return put(self, conn, record, **more)

    monkeypatch.setattr(TaskCalls, "put", slow_put)

    async def by_asyncio() -> None:
        task = asyncio.create_task(quick("too late"))
        await asyncio.sleep(0)
        while not committing.is_set():
            await asyncio.sleep(0.001)
        task.cancel()
        await asyncio.sleep(0)
        cancelled.set()
        await asyncio.wait([task])
        assert task.cancelled()

    async def by_anyio() -> None:
        with anyio.CancelScope() as inner:
            async with anyio.create_task_group() as group:

                async def cancel() -> None:
                    while not committing.is_set():
                        await asyncio.sleep(0.001)
                    inner.cancel()
                    asyncio.get_running_loop().call_later(0.01, cancelled.set)

                group.start_soon(cancel)
                await quick("too late")
        assert inner.cancelled_caught

    @flow
    async def cancelling() -> str:
        await (by_asyncio() if scope == "asyncio" else by_anyio())
        await go()
        return "done"

    handle = cancelling.run()
    left(handle.exec_id)
    assert journal(home)["quick"] == "cancelled"
    assert gone_on(cancelling, handle) == "done"
    assert ran == ["too late"]


def test_shielded_cleanup_of_a_checkpoint_is_not_cancelled_a_second_time():
    @checkpoint
    async def careful() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            with anyio.CancelScope(shield=True):
                await asyncio.sleep(0.01)
                ran.append("cleaned up")

    @flow
    async def cancelling() -> str:
        with anyio.move_on_after(0.01):
            await careful()
        return "done"

    assert cancelling.run().wait(20) == "done"
    assert ran == ["cleaned up"]


def test_a_durable_call_in_a_shielded_cleanup_of_the_flow_is_made():
    @flow
    async def cleaning() -> str:
        with anyio.move_on_after(0.01):
            try:
                await endless()
            finally:
                with anyio.CancelScope(shield=True):
                    await quick("shielded")
                    await quick("again")
        return "done"

    assert cleaning.run().wait(20) == "done"
    assert ran[-2:] == ["shielded", "again"]


def test_a_cancelled_pause_between_two_attempts_keeps_the_attempts():
    @checkpoint(retries=5, retry_delay=60)
    async def flaky() -> None:
        raise ValueError

    @flow
    async def cancelling() -> str:
        with anyio.move_on_after(0.05):
            await flaky()
        return "done"

    handle = cancelling.run()
    assert handle.wait(20) == "done"
    (call,) = get(handle).checkpoints
    assert (str(call.status), [str(each.status) for each in call.attempts]) == (
        "cancelled",
        ["failed"],
    )


def test_futures_are_cancelled_before_they_start_while_they_run_and_not_after(home):
    @flow
    async def cancelling() -> list[Any]:
        group = endless.map(["a", "b"], max_workers=1)
        ended = quick.submit("c")
        await ended
        while "a begun" not in ran:
            await asyncio.sleep(0.001)
        told = [group[1].cancel(), group[0].cancel(), ended.cancel()]
        for future in group:
            with pytest.raises(asyncio.CancelledError):
                await future
        return told

    assert cancelling.run().wait(20) == [True, True, False]
    assert sorted(ran) == ["a begun", "a cleaned up", "c"]
    assert journal(home) == {
        **{"endless": "cancelled", "endless#2": "cancelled"},
        "quick": "completed",
    }


def test_a_cancel_request_reaches_the_coroutine_at_once_and_later_calls_end_the_flow():
    @flow
    async def stubborn() -> str:
        try:
            await asyncio.gather(endless("a"), endless("b"))
        except BaseException:
            ran.append("swallowed")
        return await quick("never")

    handle = stubborn.run()
    until(lambda: len(ran) == 2, "both run")
    KitaruClient().executions.cancel(handle.exec_id)
    error_of(handle)
    assert handle.status == "cancelled"
    assert sorted(ran[2:4]) == ["a cleaned up", "b cleaned up"]
    assert ran[4:] == ["swallowed"]


@pytest.mark.parametrize("how", ["cancel", "stop"])
def test_a_flow_that_awaits_something_of_its_own_is_reached_too(how):
    begun = threading.Event()

    @flow(retries=2)
    async def idle() -> str:
        try:
            begun.set()
            await asyncio.Event().wait()
        finally:
            ran.append("cleaned up")
        return "never"

    handle = idle.run()
    assert begun.wait(20)
    if how == "cancel":
        KitaruClient().executions.cancel(handle.exec_id)
    else:
        handle._driver.stop()
    status = {"cancel": ExecutionStatus.CANCELLED, "stop": ExecutionStatus.RUNNING}[how]
    assert left(handle.exec_id).status is status
    assert ran == ["cleaned up"]


def test_a_stopped_flow_runs_what_was_under_way_again_and_nothing_else():
    @flow
    async def stopped() -> str:
        await quick("once")
        return await endless()

    handle = stopped.run()
    until(lambda: "endless begun" in ran, "it runs")
    handle._driver.stop()
    assert left(handle.exec_id).status == "running"
    assert ran == ["once", "endless begun", "endless cleaned up"]
    other = again("resume", stopped, handle.exec_id)
    until(lambda: ran.count("endless begun") == 2, "it runs again")
    KitaruClient().executions.cancel(handle.exec_id)
    error_of(other)
    assert ran.count("once") == 1
