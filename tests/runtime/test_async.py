"""Async flows: awaited checkpoints, branches, futures, and what each call may and may not do."""

from __future__ import annotations

import asyncio
import contextvars
import gc
import logging
import os
import resource
import threading
from pathlib import Path
from typing import Any

import anyio
import pytest

import kitaru
from kitaru import KitaruClient, checkpoint, flow
from tests.drives import again, error_of, get
from tests.support import query


@pytest.fixture(autouse=True)
def fresh(home: Any) -> Any:
    """Every test here has a store of its own."""
    return home


def run(body: Any) -> Any:
    """What an async flow with this body gives."""
    return flow(name="body")(body).run().wait(30)


def calls(handle: Any) -> list[tuple[str, str]]:
    return [(call.call_id, str(call.status)) for call in get(handle).checkpoints]


def journal(home: Path, handle: Any) -> list[tuple[str, str]]:
    """All durable calls, waits too."""
    sql = "SELECT call_id, calls.status FROM calls JOIN executions ON id = execution "
    return query(home, f"{sql} WHERE exec_id = ? ORDER BY seq", handle.exec_id)


@checkpoint
async def double(n: int) -> int:
    await asyncio.sleep(0)
    return 2 * n


@checkpoint
def plain(n: int) -> int:
    return n + 1


@checkpoint
async def failing(n: int) -> int:
    raise ValueError(n)


async def branch(n: int) -> int:
    return await double(await double(n))


def test_calls_in_gather_task_groups_and_nested_tasks_are_numbered_by_task():
    async def nested(n: int) -> int:
        async with asyncio.TaskGroup() as group:
            inner = [group.create_task(branch(n)), group.create_task(branch(n + 1))]
        return sum(task.result() for task in inner) + await double(0)

    @flow
    async def numbered() -> list[int]:
        first = await asyncio.gather(double(1), branch(2), nested(3))
        async with anyio.create_task_group() as group:
            group.start_soon(double, 5)
            group.start_soon(branch, 6)
        return [*first, await double(7)]

    handle = numbered.run()
    assert handle.wait(20) == [2, 8, 28, 14]
    assert sorted(call_id for call_id, _ in calls(handle)) == sorted(
        [
            *("double", "double#2", "double#3"),
            *("double#2.1", "double#2.2"),
            *("double#3.1", "double#3.1.1", "double#3.1.2", "double#3.2.1", "double#3.2.2"),
            *("double#5.1", "double#5.2"),
        ]
    )


def test_a_call_after_branches_has_their_last_calls_as_parents():
    @flow
    async def joined() -> int:
        await asyncio.gather(branch(1), branch(2))
        return await double(3)

    handle = joined.run()
    handle.wait(20)
    (last,) = [call for call in get(handle).checkpoints if call.call_id == "double"]
    assert last.parent_call_ids == ("double#1.2", "double#2.2")


def test_plain_checkpoints_are_called_directly_and_submitted_beside_the_loop():
    inside, looped = threading.Event(), threading.Event()

    @checkpoint
    def beside() -> str:
        inside.set()
        assert looped.wait(20)
        return threading.current_thread().name

    async def body() -> Any:
        future = beside.submit()
        while not inside.is_set():
            await asyncio.sleep(0.001)
        value = plain(1), await double(1)
        looped.set()  # the loop went on while it ran
        return [*value, await future != threading.current_thread().name]

    assert run(body) == [2, 2, True]


def test_futures_and_groups_are_awaited_and_gathered():
    async def body() -> Any:
        first, second = double.submit(1), plain.submit(1)
        mapped = double.map([1, 2, 3], max_workers=1)
        both = await asyncio.gather(first, second)
        product = await plain.map([5, 6])
        return [*both, await mapped, product, first.result(), first.exception(), first.done()]

    assert run(body) == [2, 2, [2, 4, 6], [6, 7], 2, None, True]


@pytest.mark.filterwarnings("error")
def test_a_call_that_is_not_awaited_is_named_in_the_warning_and_does_not_run():
    @flow
    async def forgetful() -> int:
        with pytest.warns(RuntimeWarning, match="coroutine 'double' was never awaited"):
            double(1)  # dropped at once
        return await double(2)

    handle = forgetful.run()
    assert handle.wait(20) == 4
    assert calls(handle) == [("double#2", "completed")]


def test_waiting_for_a_future_without_await_is_refused():
    async def body() -> str:
        future = double.submit(1)
        with pytest.raises(kitaru.KitaruUsageError, match="`await` it"):
            future.result()
        await future
        return "refused"

    assert run(body) == "refused"


def test_submitted_calls_share_sixteen_places_and_maps_have_their_own():
    running: set[int] = set()
    most: list[int] = []

    @checkpoint
    async def counted(n: int) -> None:
        running.add(n)
        most.append(len(running))
        await asyncio.sleep(0.005)
        running.discard(n)

    async def body() -> tuple[int, int]:
        for future in [counted.submit(n) for n in range(40)]:
            await future
        shared = max(most)
        most.clear()
        await counted.map(range(6), max_workers=2)
        return shared, max(most)

    assert run(body) == (16, 2)


def test_a_future_that_failed_and_was_never_awaited_fails_the_flow_and_keeps_the_others():
    @flow
    async def careless() -> int:
        failing.submit(1)
        double.submit(2)
        return await double(3)

    handle = careless.run()
    assert "ValueError: 1" in str(error_of(handle))
    statuses = [("failing", "failed"), ("double", "completed"), ("double#2", "completed")]
    assert calls(handle) == statuses


def test_a_failure_in_a_task_group_fails_the_flow_with_the_failure_in_its_message(home):
    @flow
    async def grouped() -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(failing(7))
            group.create_task(kitaru.wait(name="never"))

    handle = grouped.run()
    error = error_of(handle)
    assert isinstance(error, kitaru.KitaruUserCodeError)
    assert "ExceptionGroup" in str(error)
    failure = get(handle).failure
    assert failure is not None
    assert "ValueError: 7" in (failure.traceback or "")
    assert journal(home, handle) == [("failing", "failed"), ("never", "cancelled")]


@pytest.mark.parametrize("exc", [SystemExit(3), KeyboardInterrupt(), asyncio.CancelledError()])
def test_whatever_a_coroutine_raises_by_itself_is_a_failed_call(exc):
    @checkpoint
    async def leaving() -> None:
        raise exc

    async def body() -> str:
        try:
            await leaving()
        except kitaru.KitaruUserCodeError as error:
            return str(error)
        return "no error"

    assert type(exc).__name__ in run(body)


def test_a_coroutine_is_retried_after_its_pause_and_cancelled_at_its_time_limit():
    tries: list[str] = []

    @checkpoint(retries=2, retry_delay=0.01, timeout=0.05)
    async def slow() -> str:
        try:
            tries.append("begun")
            if len(tries) < 3:
                await asyncio.Event().wait()
        except asyncio.CancelledError:
            tries.append("cancelled")
            raise
        return "in time"

    @checkpoint(timeout=0.01)
    async def late() -> None:
        await asyncio.Event().wait()

    @flow
    async def limited() -> str:
        with pytest.raises(TimeoutError, match="it was cancelled"):
            await late()
        return await slow()

    handle = limited.run()
    assert handle.wait(20) == "in time"
    assert tries == ["begun", "cancelled", "begun"]
    statuses = [[str(try_.status) for try_ in call.attempts] for call in get(handle).checkpoints]
    assert statuses == [["failed"], ["failed", "completed"]]


def test_a_value_that_cannot_be_recorded_fails_the_call_without_a_retry():
    tried: list[int] = []

    @checkpoint(retries=3, retry_delay=0.01)
    async def strange() -> object:
        tried.append(1)
        return object()

    async def body() -> int:
        with pytest.raises(kitaru.KitaruSerializationError):
            await strange()
        with pytest.raises(kitaru.KitaruSerializationError):
            double(object())  # type: ignore[arg-type]
        return len(tried)

    assert run(body) == 1


def test_context_variables_that_a_checkpoint_sets_stay_in_it():
    mood = contextvars.ContextVar("mood", default="calm")

    @checkpoint
    async def moody() -> str:
        before = mood.get()
        mood.set("angry")
        await asyncio.sleep(0)
        return before

    async def body() -> list[str]:
        mood.set("glad")
        return [await moody(), await moody.submit(), mood.get()]

    assert run(body) == ["glad", "glad", "glad"]


def test_lines_of_concurrent_coroutines_go_to_their_own_calls_unmixed():
    meeting = [asyncio.Event(), asyncio.Event()]

    @checkpoint
    async def telling(n: int) -> None:
        print(f"begun {n}", end=" ")
        meeting[n].set()
        await meeting[1 - n].wait()
        logging.getLogger("told").warning("logged %d", n)
        kitaru.log(n=n)
        kitaru.save(f"saved {n}", n)
        print(f"ended {n}")

    @flow
    async def told() -> None:
        await asyncio.gather(telling(0), telling(1))

    handle = told.run()
    handle.wait(20)
    logs = KitaruClient().executions.logs(handle.exec_id)
    entries = sorted((entry.checkpoint_name or "", entry.message) for entry in logs)
    assert entries == [
        *(("telling", "begun 0 ended 0"), ("telling", "begun 1 ended 1")),
        *(("telling", "logged 0"), ("telling", "logged 1")),
    ]
    assert [call.metadata for call in get(handle).checkpoints] == [{"n": 0}, {"n": 1}]
    saved = {(each.name, each.producing_call) for each in get(handle).artifacts}
    assert {("saved 0", "telling"), ("saved 1", "telling#2")} <= saved


def test_durable_calls_from_threads_callbacks_other_loops_and_checkpoints_are_refused():
    @checkpoint
    async def inner() -> str:
        with pytest.raises(kitaru.KitaruContextError, match="not inside checkpoint 'inner'"):
            await double(1)
        with pytest.raises(kitaru.KitaruContextError):
            kitaru.wait(name="x")
        return "refused"

    async def body() -> list[str]:
        told: list[str] = []

        def elsewhere() -> None:
            with pytest.raises(kitaru.KitaruContextError) as refused:
                double(1)
            told.append(str(refused.value))

        async def foreign() -> None:
            elsewhere()

        await asyncio.to_thread(elsewhere)
        await asyncio.to_thread(lambda: asyncio.run(foreign()))
        called = asyncio.Event()
        asyncio.get_running_loop().call_soon(lambda: (elsewhere(), called.set()))
        await called.wait()
        return [*told, await inner()]

    *told, inner_told = run(body)
    assert inner_told == "refused"
    assert len(told) == 3
    assert all("outside of the flow's tasks" in each for each in told)


def test_async_checkpoints_run_to_their_end_in_plain_flows():
    @flow
    def sync() -> list[Any]:
        return [double(1), double.submit(2).result(), double.map([3, 4]).result()]

    assert sync.run().wait(20) == [2, 4, [6, 8]]


def test_a_plain_flow_may_run_a_loop_of_its_own():
    async def helper() -> int:
        return plain(1) + await asyncio.sleep(0, 1)

    @flow
    def looped() -> int:
        return asyncio.run(helper())

    assert looped.run().wait(20) == 3


def test_an_async_checkpoint_called_in_a_loop_that_a_plain_flow_runs_says_what_to_do():
    async def helper() -> Any:
        return double(1)

    @flow
    def looped() -> Any:
        return asyncio.run(helper())

    handle = looped.run()
    assert "async def" in str(error_of(handle))
    assert calls(handle) == []


def test_many_handles_are_awaited_at_once_in_a_program_of_the_users_own():
    @flow
    async def small(n: int) -> int:
        return await double(n)

    @flow
    async def broken() -> None:
        await failing(1)

    async def program() -> Any:
        handles = [small.run(n) for n in range(10)]
        with pytest.raises(kitaru.KitaruUserCodeError):
            await broken.run()
        return await asyncio.gather(*handles)

    assert asyncio.run(program()) == [2 * n for n in range(10)]


def test_many_async_flows_run_at_once(home):
    count, meeting = 200, threading.Barrier(200, timeout=60)

    @flow
    async def crowded(n: int) -> int:
        await asyncio.to_thread(meeting.wait) if n < 0 else meeting.wait()
        return await double(n)

    handles = [crowded.run(n) for n in range(count)]
    assert [handle.wait(60) for handle in handles] == [2 * n for n in range(count)]
    assert query(home, "SELECT count(*) FROM calls") == [(count,)]


def test_tasks_of_a_flow_that_is_over_make_no_noise(capfd):
    @flow
    async def left() -> str:
        async def lane() -> None:
            await kitaru.wait(name="never", timeout=0)

        lost = asyncio.create_task(lane())
        grouped = asyncio.create_task(asyncio.wait_for(lane(), 60))
        await asyncio.gather(lane(), lost, grouped)
        return "never"

    gc.collect()  # what earlier tests have left makes its noise now
    capfd.readouterr()
    handle = left.run()
    with pytest.raises(kitaru.KitaruStateError):
        handle.wait(20)
    gc.collect()
    assert capfd.readouterr().err == ""


def test_without_file_descriptors_a_flow_says_so_and_can_be_resumed():
    @flow
    async def hungry() -> int:
        return await double(1)

    hungry.run().wait(20)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    lowest = os.dup(0)
    os.close(lowest)
    resource.setrlimit(resource.RLIMIT_NOFILE, (lowest + 2, hard))
    try:
        handle = hungry.run()
        error = error_of(handle)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert type(error) is kitaru.KitaruRuntimeError
    assert "No event loop" in str(error)
    assert again("resume", hungry, handle.exec_id).wait(20) == 2
