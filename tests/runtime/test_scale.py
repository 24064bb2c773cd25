"""Many at once: calls of one flow, executions of one process; figures: `benchmarks/scale.py`."""

from __future__ import annotations

import asyncio
import threading
from pathlib import Path

import kitaru
from kitaru import KitaruClient, checkpoint, flow
from tests import drives
from tests.support import query, until

MANY = 200


def commits() -> list[str]:
    """The transactions that are committed from now on."""
    seen: list[str] = []
    drives.store()._writer.set_trace_callback(
        lambda sql: seen.append(sql) if sql == "COMMIT" else None
    )
    return seen


def test_many_calls_on_threads_run_at_once_and_share_commits(home: Path) -> None:
    all_run = threading.Barrier(MANY + 1)

    @checkpoint
    def meet(number: int) -> int:
        all_run.wait(60)
        return number

    @flow
    def many() -> list[int]:
        return meet.map(range(MANY), max_workers=MANY).result()

    seen, store = commits(), drives.store()
    handle = many.run()
    until(lambda: all_run.n_waiting == MANY, "all run")
    with store._lock:  # who comes first waits here, and the others gather behind it
        all_run.wait(60)
        until(lambda: len(store.line) >= MANY - 1, "all are ready together")
    assert handle.wait(60) == list(range(MANY))
    assert len(seen) < MANY / 2


def test_calls_in_tasks_that_end_together_share_commits(home: Path) -> None:
    begun = 0

    @checkpoint
    async def meet(number: int) -> int:
        nonlocal begun
        begun += 1
        while begun < MANY:
            await asyncio.sleep(0)
        return number

    @flow
    async def many() -> list[int]:
        return list(await asyncio.gather(*(meet(number) for number in range(MANY))))

    seen, store = commits(), drives.store()
    handle = many.run()
    until(lambda: begun > 0, "they run")
    with store._lock:  # who comes first waits here, and the others gather behind it
        until(lambda: begun == MANY, "all run")
    assert handle.wait(60) == list(range(MANY))
    assert len(seen) < MANY / 2


def test_many_calls_in_tasks_run_at_once(home: Path) -> None:
    running: set[int] = set()

    @checkpoint
    async def meet(number: int) -> int:
        running.add(number)
        while len(running) < MANY:
            await asyncio.sleep(0)
        return number

    @flow
    async def many() -> list[int]:
        return list(await asyncio.gather(*(meet(number) for number in range(MANY))))

    assert many.run().wait(60) == list(range(MANY))


def test_many_executions_run_at_once_and_renew_in_one_commit(home: Path) -> None:
    ends, began = threading.Event(), threading.Semaphore(0)

    @checkpoint
    def held(number: int) -> int:
        began.release()
        assert ends.wait(60)
        return number

    @flow
    def once(number: int) -> int:
        return held(number)

    handles = [once.run(number) for number in range(MANY)]
    for _ in handles:
        assert began.acquire(timeout=60)
    shown = "SELECT count(*) FROM calls WHERE status = 'running'"
    until(lambda: query(home, shown) == [(MANY,)], "every call is shown as running")
    seen = commits()
    for handle in handles:
        handle._driver._renewed = 0.0  # each lease is to be renewed now
    before = query(home, "SELECT min(expires_at) FROM leases")
    until(lambda: query(home, "SELECT min(expires_at) FROM leases") != before, "all are renewed")
    assert len(seen) < MANY / 10
    ends.set()
    assert [handle.wait(60) for handle in handles] == list(range(MANY))


def test_many_executions_wait_at_once_and_each_gets_its_answer(home: Path) -> None:
    @flow
    def asks(number: int) -> int:
        return number + kitaru.wait(name="more", schema=int, timeout=60)

    client = KitaruClient()
    handles = [asks.run(number) for number in range(MANY // 2)]
    for number, handle in enumerate(handles):
        until(lambda handle=handle: handle.status == "waiting", "it waits")
        client.executions.input(handle.exec_id, wait="more", value=number)
    assert [handle.wait(60) for handle in handles] == [2 * number for number in range(MANY // 2)]
