"""Questions, pauses and children of async flows: several at once, withdrawn, and let go of."""

from __future__ import annotations

import asyncio
import threading
from functools import partial
from pathlib import Path
from typing import Any

import anyio
import pytest

import kitaru
from kitaru import KitaruClient, KitaruStateError, checkpoint, flow
from tests.drives import again, answer, error_of, get, left
from tests.support import query, until


@pytest.fixture(autouse=True)
def fresh(home: Any) -> Any:
    """Every test here has a store of its own."""
    return home


def asked(handle: Any) -> list[str]:
    return sorted(each.name for each in KitaruClient().executions.pending_waits(handle.exec_id))


def journal(home: Path) -> dict[str, str]:
    return dict(query(home, "SELECT call_id, status FROM calls"))


@checkpoint
async def note(text: str) -> str:
    return text


def questions(timeout: float) -> Any:
    @flow
    async def three() -> list[str]:
        async def branch(question: Any) -> str:
            return await note(await question)

        asking = [kitaru.wait(name=name, schema=str, timeout=timeout) for name in "abc"]
        return await asyncio.gather(*map(branch, asking))

    return three


@pytest.mark.parametrize("order", ["abc", "bca", "cba"])
def test_questions_of_several_branches_are_answered_in_any_order_while_polled(order):
    handle = questions(600).run()
    until(lambda: asked(handle) == [*"abc"], "all are asked")
    for name in order:
        assert handle.status == "waiting"
        answer(handle.exec_id, name, name.upper())
    assert handle.wait(20) == [*"ABC"]


@pytest.mark.parametrize("order", ["abc", "cab"])
def test_questions_are_answered_in_any_order_after_letting_go(order):
    three = questions(0)
    handle = three.run()
    for name in order:
        assert left(handle.exec_id).status == "waiting"
        answer(handle.exec_id, name, name.upper())
        handle = again("resume", three, handle.exec_id)
    assert handle.wait(20) == [*"ABC"]


def test_all_answers_given_at_once_are_taken_by_one_drive():
    three = questions(0)
    handle = three.run()
    left(handle.exec_id)
    for name in "bca":
        answer(handle.exec_id, name, name.upper())
    assert again("resume", three, handle.exec_id).wait(20) == [*"ABC"]


def test_a_flow_does_not_let_go_while_a_branch_runs():
    gate, begun = threading.Event(), threading.Event()

    @checkpoint
    async def long() -> str:
        begun.set()
        await asyncio.to_thread(gate.wait)
        return "long"

    @flow
    async def mixed() -> list[str]:
        async def work() -> str:
            await long()
            return await note("after")

        return await asyncio.gather(kitaru.wait(name="ok", schema=str, timeout=0), work())

    handle = mixed.run()
    assert begun.wait(20)
    until(lambda: asked(handle) == ["ok"], "it is asked")
    assert KitaruClient().executions.continues(handle.exec_id)
    gate.set()
    assert left(handle.exec_id).status == "waiting"
    assert [call.call_id for call in get(handle).checkpoints] == ["long#2.1", "note#2.1"]


def test_an_aborted_question_cancels_the_execution_with_its_other_branches():
    begun, cleaned = threading.Event(), threading.Event()

    @checkpoint
    async def long() -> None:
        try:
            begun.set()
            await asyncio.Event().wait()
        finally:
            cleaned.set()

    @flow
    async def aborted() -> None:
        await asyncio.gather(kitaru.wait(name="ok"), long())

    handle = aborted.run()
    assert begun.wait(20)
    until(lambda: asked(handle) == ["ok"], "it is asked")
    KitaruClient().executions.abort_wait(handle.exec_id, wait="ok")
    error_of(handle)
    assert handle.status == "cancelled"
    assert cleaned.wait(20)


def test_a_question_that_a_timeout_cancels_is_withdrawn_and_can_no_longer_be_answered(home):
    @flow
    async def impatient() -> str:
        try:
            async with asyncio.timeout(0.05):
                await kitaru.wait(name="ok")
        except TimeoutError:
            await kitaru.wait(name="go", schema=None, timeout=0)
        return "went on"

    handle = impatient.run()
    left(handle.exec_id)
    assert asked(handle) == ["go"]
    with pytest.raises(kitaru.KitaruStateError, match="no open wait 'ok'"):
        KitaruClient().executions.input(handle.exec_id, wait="ok", value=True)
    answer(handle.exec_id, "go", None)
    assert again("resume", impatient, handle.exec_id).wait(20) == "went on"
    assert journal(home) == {"ok": "cancelled", "go": "completed"}


def test_a_question_that_was_withdrawn_before_the_flow_failed_is_asked_again_on_retry(home):
    broken = [True]

    @flow
    async def retried() -> bool:
        async with asyncio.TaskGroup() as group:
            question = group.create_task(kitaru.wait(name="ok"))
            while broken:
                await asyncio.sleep(0.001)
                if query(home, "SELECT 1 FROM waits WHERE status = 'pending'"):
                    raise ValueError
        return question.result()

    handle = retried.run()
    error_of(handle)
    assert asked(handle) == []
    broken.clear()
    other = again("retry", retried, handle.exec_id)
    answer(handle.exec_id, "ok", True)
    assert other.wait(20) is True


def resumed(flow_: Any, exec_id: str) -> Any:
    """The drive of an execution that can go on; `None` of one that cannot yet."""
    try:
        return again("resume", flow_, exec_id)
    except kitaru.KitaruStateError:
        return None


def test_a_sleep_is_awaited_beside_other_calls_and_goes_on_after_letting_go():
    @flow
    async def sleepy() -> list[Any]:
        return await asyncio.gather(kitaru.sleep(0.05), note("beside"), kitaru.sleep(0.1))

    assert sleepy.run().wait(20) == [None, "beside", None]

    @flow
    async def held() -> str:
        await asyncio.gather(kitaru.sleep(0.2, timeout=0), kitaru.sleep(0.1, timeout=0))
        return await note("rested")

    handle = held.run()
    while (now := left(handle.exec_id)).status == "waiting":
        assert (now.status_reason or "").startswith("Sleeping until")
        handle = until(lambda exec_id=now.exec_id: resumed(held, exec_id), "one is due")
    assert handle.wait(20) == "rested"


def test_children_are_awaited_and_a_cancelled_wait_for_one_leaves_it_running(home):
    gate = threading.Event()

    @checkpoint
    async def gated(n: int) -> int:
        await asyncio.to_thread(gate.wait)
        return n

    @flow
    async def child(n: int) -> int:
        return await gated(n)

    @flow
    async def parent() -> list[Any]:
        handles = [child.run(1), child.run(2)]
        late = None
        with anyio.move_on_after(0.05):
            late = await handles[0]
        gate.set()
        return [late, *await asyncio.gather(*handles)]

    assert parent.run().wait(20) == [None, 1, 2]
    assert query(home, "SELECT count(*) FROM executions") == [(3,)]


@flow
async def tasks(names: list[str]) -> list[object]:
    """Asks each of the names in a task of its own; one that starts with "body" in the body."""

    async def branch(name: str) -> object:
        return await kitaru.wait(name=name, schema=str)

    asking = [
        kitaru.wait(name=name.removeprefix("body "), schema=str)
        if name.startswith("body ")
        else asyncio.create_task(branch(name))
        for name in names
    ]
    return await asyncio.gather(*asking)


def test_the_plain_name_will_do_for_the_only_open_wait_of_that_name_in_a_task():
    executions = KitaruClient().executions
    handle = tasks.run(["ok", "go"])
    until(lambda: asked(handle) == ["go#2.1", "ok#1.1"], "both are asked")
    executions.input(handle.exec_id, wait="go", value="went")
    executions.input(handle.exec_id, wait="ok", value="done")
    assert handle.wait(20) == ["done", "went"]

    handle = tasks.run(["ok"])
    until(lambda: asked(handle), "it is asked")
    assert executions.abort_wait(handle.exec_id, wait="ok").status == "cancelled"


def test_a_plain_name_that_several_tasks_ask_is_refused_with_their_waits():
    executions = KitaruClient().executions
    handle = tasks.run(["ok", "ok"])
    until(lambda: asked(handle) == ["ok#1.1", "ok#2.1"], "both are asked")
    for act in (executions.abort_wait, partial(executions.input, value="x")):
        with pytest.raises(KitaruStateError, match=r"several tasks.*: ok#1\.1, ok#2\.1\."):
            act(handle.exec_id, wait="ok")
    executions.input(handle.exec_id, wait="ok#1.1", value="x")
    executions.input(handle.exec_id, wait="ok", value="y")
    assert handle.wait(20) == ["x", "y"]


def test_a_second_answer_to_the_body_s_wait_is_none_to_a_task_s_of_that_name():
    executions = KitaruClient().executions
    handle = tasks.run(["ok", "body ok"])
    until(lambda: asked(handle) == ["ok", "ok#1.1"], "both are asked")
    executions.input(handle.exec_id, wait="ok", value="body")
    with pytest.raises(KitaruStateError, match=r"no open wait 'ok'. Open: ok#1\.1"):
        executions.input(handle.exec_id, wait="ok", value="again")
    executions.input(handle.exec_id, wait="ok#1.1", value="task")
    assert handle.wait(20) == ["task", "body"]
