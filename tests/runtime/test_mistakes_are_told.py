"""What a new user gets wrong, and what a person sees: each mistake is told, none is taken."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable
from typing import Any

import pytest

import kitaru
from kitaru import KitaruClient, checkpoint, flow, inputs, render
from kitaru.cli import views
from kitaru.errors import KitaruContextError, KitaruExecutionError, KitaruUsageError
from kitaru.models import Execution
from tests.support import until

pytestmark = pytest.mark.usefixtures("home")


@checkpoint
def keep(value: int, api_key: str = "sk-live-1") -> int:
    return value


@checkpoint
async def look(value: int) -> int:
    return value


@checkpoint
def add(left: int, right: int) -> int:
    return left + right


@flow
async def unguarded(kind: str) -> str:
    if kind == "wait":
        allowed: Any = kitaru.wait(name="approve")
    else:
        allowed = look(0)
    return "published" if allowed else "rejected"


@flow
async def as_tasks() -> list[int]:
    first = asyncio.create_task(look(1))
    second, third = await asyncio.gather(look(2), look(3))
    return [await first, second, third]


@flow
async def asks_two() -> list[Any]:
    return await asyncio.gather(
        kitaru.wait_async(name="legal", question="May we?", timeout=0),
        kitaru.wait_async(name="api_key", question="Which?", schema=str, timeout=0),
    )


@flow
def sleeps() -> None:
    kitaru.sleep(3600, timeout=0)


@flow
def asks() -> bool:
    return kitaru.wait(name="approve", timeout=0)


@flow
def has_child() -> bool:
    return asks.run().wait()


@flow
def secretive(topic: str, password: str = "hunter2") -> str:
    return topic


@flow
def fans_out(kind: str) -> Any:
    given: Any = None
    return keep.map(given) if kind == "map" else add.product([1], given)


@flow
def misuses() -> int:
    return keep(1, 2, 3)  # type: ignore[call-arg, arg-type]


@checkpoint
async def miss(key: str) -> str:
    raise KeyError(key)


@flow
async def misses_in_a_group() -> None:
    async with asyncio.TaskGroup() as group:
        for key in "abcde":
            group.create_task(miss(key))


class Tools:
    @checkpoint
    def method(self, value: int) -> int:
        return value


@flow
def calls_a_method() -> int:
    made: Any = Tools()
    return made.method(1)  # type: ignore[no-any-return]


def waiting(exec_id: str, count: int = 0) -> Execution:
    """An execution that waits, once its process has let go."""
    executions = KitaruClient().executions

    def left() -> Execution | None:
        found = executions.get(exec_id)
        is_left = found.status == "waiting" and not executions.continues(exec_id)
        return found if is_left and len(found.pending_waits) >= count else None

    return until(left, "it waits and is let go")


@pytest.mark.parametrize("kind", ["wait", "checkpoint"])
def test_a_call_that_is_not_awaited_is_no_condition(kind: str) -> None:
    with pytest.raises(KitaruExecutionError, match=r"used as a condition .* write `await …`"):
        unguarded.run(kind).wait()


def test_the_failure_of_a_task_group_names_what_its_first_tasks_raised() -> None:
    handle = misses_in_a_group.run()
    with pytest.raises(kitaru.KitaruUserCodeError, match=r"\): KeyError: 'a'"):
        handle.wait()
    failure = KitaruClient().executions.get(handle.exec_id).failure
    assert failure is not None
    assert failure.message.count("KeyError") <= 3


def test_a_call_is_a_coroutine_to_tasks_and_to_gather() -> None:
    assert as_tasks.run().wait() == [1, 2, 3]


def test_all_open_questions_of_an_execution_are_shown() -> None:
    found = waiting(asks_two.run().exec_id, 2)
    assert [wait.name for wait in found.pending_waits] == ["legal", "api_key"]
    assert found.pending_wait == found.pending_waits[0]
    assert found.status_reason == "Waiting for legal, api_key."
    text = views.execution(found, continues=True)
    assert "Pending wait: legal, api_key\n" in text
    assert "Wait question: May we?; Which?\n" in text
    shown = render.full(found)
    assert [wait["name"] for wait in shown["pending_waits"]] == ["legal", "api_key"]
    assert shown["pending_wait"] == shown["pending_waits"][0]
    assert render.summary(found)["pending_wait"] == shown["pending_wait"]


def test_a_person_sees_what_an_execution_without_a_question_waits_for() -> None:
    assert "Reason: Sleeping until 20" in views.execution(
        waiting(sleeps.run().exec_id), continues=True
    )
    parent = waiting(has_child.run().exec_id)
    text = views.execution(parent, continues=True)
    assert f"Reason: Waiting for child execution {parent.children[0]}." in text


def test_an_answered_question_is_no_longer_what_is_waited_for() -> None:
    handle = asks.run()
    waiting(handle.exec_id, 1)
    found = KitaruClient().executions.input(handle.exec_id, wait="approve", value=True)
    text = views.execution(found, continues=False)
    assert "Pending wait: none\n" in text
    assert "Reason: Wait approve was answered." in text
    with pytest.raises(kitaru.KitaruStateError, match=r"Wait approve was answered\. Continue it"):
        handle.wait()


@pytest.mark.parametrize(
    ("made", "reason"),
    [(sleeps, "it sleeps until 20"), (has_child, "its child kr-.* waits: its wait 'approve'")],
)
def test_an_answer_to_what_asks_nothing_is_told_what_it_waits_for(
    made: kitaru.Flow[[], Any], reason: str
) -> None:
    exec_id = waiting(made.run().exec_id).exec_id
    with pytest.raises(kitaru.KitaruStateError, match=rf"{exec_id} has no open wait: {reason}"):
        KitaruClient().executions.input(exec_id, wait="approve", value=True)


def test_defaults_of_secrets_are_not_in_messages() -> None:
    with pytest.raises(KitaruUsageError, match=r"password: 'str' = '\[redacted\]'"):
        secretive.run()  # type: ignore[call-arg]
    with pytest.raises(KitaruExecutionError) as caught:
        misuses.run().wait()
    assert "sk-live-1" not in str(caught.value)
    assert inputs.bind(secretive.definition.fn, ("x",), {}, name="f")["password"] == "hunter2"


def test_a_method_that_was_made_a_checkpoint_says_what_to_do() -> None:
    with pytest.raises(KitaruExecutionError, match=r"'value'. A checkpoint is no method"):
        calls_a_method.run().wait()


@pytest.mark.parametrize("kind", ["map", "product"])
def test_what_cannot_be_gone_through_is_refused_by_the_checkpoints_name(kind: str) -> None:
    with pytest.raises(KitaruExecutionError, match=r"Checkpoint '(keep|add)': None cannot be gone"):
        fans_out.run(kind).wait()


@pytest.mark.parametrize("submit", [keep.map, add.product])
def test_outside_a_flow_nothing_is_taken_from_the_items(submit: Callable[..., Any]) -> None:
    items = itertools.count()
    with pytest.raises(KitaruContextError, match=r"inside a running @flow only"):
        submit(items)
    assert next(items) == 0


def test_arguments_of_a_wrong_kind_are_refused_by_name() -> None:
    executions = KitaruClient().executions
    exec_id = secretive.run("x").exec_id
    wrong: Any = [1]
    with pytest.raises(KitaruUsageError, match=r"overrides is \[1\]; give a dict"):
        executions.replay(exec_id, "keep", wrong)
    with pytest.raises(KitaruUsageError, match=r"overrides is \[1\]; give a dict"):
        secretive.replay(exec_id, "keep", wrong)
    with pytest.raises(KitaruUsageError, match=r"flow is \[1\]; give its name"):
        executions.list(flow=wrong)
    with pytest.raises(KitaruUsageError, match=r"stack is \[1\]; give its name"):
        executions.latest(stack=wrong)
    with pytest.raises(KitaruUsageError, match=r"home is \[1\]; name a folder"):
        KitaruClient(home=wrong)
