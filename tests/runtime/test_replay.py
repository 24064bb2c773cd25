"""Replay: a new execution that reuses a record up to a call, with values and inputs replaced."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel

from kitaru import KitaruClient, config
from kitaru.errors import (
    FailureOrigin,
    KitaruExecutionError,
    KitaruStateError,
    KitaruUsageError,
)
from kitaru.models import CallStatus, ExecutionStatus
from tests import drives
from tests.drives import PIPELINE, Original, get
from tests.support import dump, query, until

pytestmark = pytest.mark.usefixtures("home")

DOGS = "published draft from [notes about dogs]"
CATS = "published draft from [notes about cats]"
NEW = "published draft from [new]"

#: from_, new topic, overrides, what runs again, the result
TABLE: list[tuple[str, str | None, dict[str, str], str, str]] = [
    ("research", None, {}, "research draft publish", DOGS),
    ("research", "cats", {}, "research draft publish", CATS),
    ("draft", None, {}, "draft publish", DOGS),
    ("draft", "cats", {}, "draft publish", DOGS),
    ("publish", "cats", {}, "publish", DOGS),
    ("draft", None, {"research": "new"}, "draft publish", NEW),
    ("publish", None, {"research": "new"}, "draft publish", NEW),
    ("publish", None, {"research": "notes about dogs"}, "publish", DOGS),
    ("publish", None, {"draft": "new"}, "publish", "published new"),
    ("draft", None, {"draft": "new"}, "publish", "published new"),
    ("research", None, {"draft": "new"}, "research publish", "published new"),
    ("draft", None, {"publish": "new"}, "draft", "new"),
    ("publish", None, {"research": "new", "draft": "newer"}, "publish", "published newer"),
    ("research", None, {"research": "1", "draft": "2", "publish": "3"}, "", "3"),
]


@pytest.mark.parametrize(("from_", "topic", "overrides", "again", "result"), TABLE)
def test_what_runs_again(
    from_: str, topic: str | None, overrides: dict[str, str], again: str, result: str
):
    inputs = {"topic": topic} if topic else {}
    original = Original().finished()
    before = get(original.handle)

    keys = {f"checkpoint.{name}": value for name, value in overrides.items()}
    handle = original.replay(from_, keys, **inputs)

    assert (handle.wait(20), original.ran) == (result, again.split())
    replay = get(handle)
    assert (replay.exec_id == original.exec_id, replay.original_exec_id) == (False, before.exec_id)
    assert replay.inputs == {"topic": "dogs", **inputs}
    for call in replay.checkpoints:
        assert call.status is CallStatus.COMPLETED
        source = None if call.name in again else f"{original.exec_id}/{call.call_id}"
        assert call.original_call_id == source
        assert call.metadata == ({"overridden": True} if call.name in overrides else {})
        value = overrides.get(call.name)
        assert value is None or call.artifacts[0].load() == value
    assert get(original.handle) == before


def test_a_call_of_a_fan_out_is_named_by_its_number():
    source = """
    @checkpoint
    def part(n: int) -> int:
        ran.append(n)
        return n * 10

    @flow
    def agent(topic: str) -> list[int]:
        return part.map([1, 2, 3]).result()
    """
    original = Original(source).finished()

    with pytest.raises(KitaruStateError, match="part#1, part#2, part#3"):
        original.replay("part")
    with pytest.raises(KitaruStateError, match="part#1, part#2, part#3"):
        original.replay("part#2", {"checkpoint.part": 1})

    assert original.replay("part#2").wait(20) == [10, 20, 30]
    assert sorted(original.ran) == [2, 3]
    original.ran.clear()
    handle = original.replay("part#1", {"checkpoint.part#1": 0, "checkpoint.part#3": 7})
    assert (handle.wait(20), original.ran) == ([0, 20, 7], [2])


class Verdict(BaseModel):
    good: bool
    grade: int = 1


TYPED = """
@checkpoint
def judge() -> RETURNS:
    ran.append("judge")
    return FIRST

@flow
def agent(topic: str) -> object:
    try:
        value = judge()
    except Exception as error:
        value = f"swallowed {error}"
    return [type(value).__name__, repr(value)]
"""


@pytest.mark.parametrize(
    ("returns", "first", "override", "value"),
    [
        ("int | None", "1", None, None),
        ("int", "1", 0, 0),
        ("bool", "True", False, False),
        ("list[int]", "[1]", [], []),
        (
            "Verdict",
            "Verdict(good=True)",
            Verdict(good=False, grade=3),
            Verdict(good=False, grade=3),
        ),
        ("Verdict", "Verdict(good=True)", {"good": False}, Verdict(good=False)),
        ("tuple[int, ...]", "(1,)", [1, 2], (1, 2)),
        ("set[str]", "{'a'}", {"b"}, {"b"}),
        ("object", "1", {"any": (1, 2)}, {"any": (1, 2)}),
    ],
)
def test_an_override_reaches_the_flow_as_the_declared_type(
    returns: str, first: str, override: Any, value: Any
):
    source = TYPED.replace("RETURNS", returns).replace("FIRST", first)
    original = Original(source, names={"Verdict": Verdict}).finished()

    handle = original.replay("judge", {"checkpoint.judge": override})

    assert handle.wait(20) == [type(value).__name__, repr(value)]


@pytest.mark.parametrize(
    ("returns", "override"),
    [("int", "many"), ("str", None), ("Verdict", {"good": "perhaps"}), ("int", Verdict(good=True))],
)
def test_an_override_that_does_not_fit_fails_the_replay_past_any_except(
    returns: str, override: Any
):
    first = {"int": "1", "str": "'a'", "Verdict": "Verdict(good=True)"}[returns]
    source = TYPED.replace("RETURNS", returns).replace("FIRST", first)
    original = Original(source, names={"Verdict": Verdict}).finished()

    handle = original.replay("judge", {"checkpoint.judge": override})
    error = drives.error_of(handle)

    assert isinstance(error, KitaruExecutionError)
    assert "judge" in str(error)
    assert error.failure_origin is FailureOrigin.RUNTIME
    assert get(handle).status is ExecutionStatus.FAILED
    assert original.ran == []


def test_an_override_that_is_never_reached_is_told():
    source = PIPELINE.replace(
        "(research(topic)))", "(research(topic))) if topic == 'dogs' else '-'"
    )
    original = Original(source).finished()

    handle = original.replay("research", {"checkpoint.draft": "new"}, topic="cats")

    assert handle.wait(20) == "-"
    assert "'draft'" in (get(handle).status_reason or "")


@pytest.mark.parametrize(
    ("from_", "overrides", "error", "says"),
    [
        ("", {}, KitaruUsageError, "from_"),
        ("  ", {}, KitaruUsageError, "from_"),
        ("drft", {}, KitaruStateError, "Nearest: draft"),
        ("draft", {"wait.approve": True}, KitaruUsageError, "wait.approve"),
        ("draft", {"research": "x"}, KitaruUsageError, "'research'"),
        ("draft", {"checkpoint.": "x"}, KitaruUsageError, "'checkpoint.'"),
        ("draft", {"checkpoint.resarch": "x"}, KitaruStateError, "Nearest: research"),
    ],
)
@pytest.mark.parametrize("by", ["flow", "client"])
def test_a_replay_that_cannot_be_planned_starts_nothing(
    home: Path, from_: str, overrides: Any, error: type[Exception], says: str, by: str
):
    original = Original().finished()
    before = dump(home)

    replay = original.flow.replay if by == "flow" else KitaruClient().executions.replay
    with pytest.raises(error) as caught:
        replay(original.exec_id, from_, overrides)

    assert says in str(caught.value)
    assert dump(home) == before


def test_an_ambiguous_name_is_refused_with_selectors_that_each_name_one_call():
    original = Original(
        """
        import asyncio

        @checkpoint
        async def fetch(n: int) -> int:
            return n

        @flow
        async def agent(topic: str) -> int:
            await asyncio.create_task(branch())
            return await fetch(2)

        async def branch() -> int:
            return await fetch(1)
        """
    )
    original.handle.wait(20)
    with pytest.raises(KitaruStateError, match=r"name one: fetch#1\.1, fetch#1\.$"):
        original.replay("fetch")
    for selector in ("fetch#1.1", "fetch#1"):
        assert original.replay(selector).wait(20) == 2


def test_inputs_the_flow_does_not_have_or_lacks_are_refused(home: Path):
    original = Original().finished()
    before = dump(home)

    with pytest.raises(KitaruUsageError, match=r"no input 'tpoic'; it has: topic"):
        original.replay("draft", tpoic="cats")
    original.flow = original.load(
        PIPELINE.replace(
            "topic: str) -> str:\n    return pub", "topic: str, tone: str) -> str:\n    return pub"
        )
    )
    with pytest.raises(KitaruUsageError, match="needs input 'tone'"):
        original.replay("draft")
    assert dump(home) == before

    assert original.replay("draft", tone="dry").wait(20)


def test_an_input_that_came_later_has_its_default():
    original = Original().finished()
    original.flow = original.load(
        PIPELINE.replace("agent(topic: str)", "agent(topic: str, end: str = '!')").replace(
            "draft(research(topic))", "draft(research(topic)) + end"
        )
    )

    assert original.replay("publish").wait(20) == "published draft from [notes about dogs]!"


WAITING = """
@checkpoint
def step(value: object) -> object:
    ran.append(value)
    return value

@flow
def agent(topic: str) -> object:
    first = kitaru.wait(name="first", schema=int, question=f"about {topic}")
    middle = step(first)
    second = kitaru.wait(name="second", schema=int, timeout=0)
    return step(second)
"""


def test_waits_before_the_start_keep_their_answers_and_later_ones_are_asked():
    original = Original(WAITING)
    drives.answer(original.exec_id, "first", 1)
    with pytest.raises(KitaruStateError):
        original.handle.wait(20)
    assert get(original.handle).status is ExecutionStatus.WAITING

    # From a waiting execution, also with an input that its first question mentioned.
    handle = original.replay("step", topic="cats")
    with pytest.raises(KitaruStateError, match="second"):
        handle.wait(20)
    drives.answer(handle.exec_id, "second", 2)

    assert drives.again("resume", original.flow, handle.exec_id).wait(20) == 2
    assert original.ran == [1, 1, 2]
    again = original.replay("first")
    drives.answer(again.exec_id, "first", 5)
    assert drives.error_of(again)
    assert original.ran[-1] == 5


def test_running_executions_are_refused_and_all_others_replayed():
    go = threading.Event()
    source = PIPELINE.replace('ran.append("publish")', 'go.wait(20); ran.append("publish"); door()')
    original = Original(source, names={"go": go, "door": lambda: None})
    until(lambda: original.ran == ["research", "draft"], "publish runs")
    with pytest.raises(KitaruStateError) as caught:
        original.replay("draft")
    assert "it is running" in str(caught.value)
    assert original.exec_id in str(caught.value)
    client = KitaruClient()
    client.executions.cancel(original.exec_id)
    go.set()
    with pytest.raises(KitaruExecutionError):
        original.handle.wait(20)
    assert get(original.handle).status is ExecutionStatus.CANCELLED
    assert original.replay("publish").wait(20) == "published draft from [notes about dogs]"

    broken = Original(PIPELINE.replace('ran.append("publish")', "1 / 0"))
    drives.error_of(broken.handle)
    broken.flow = broken.load(PIPELINE)
    broken.ran.clear()
    assert broken.replay("publish").wait(20) == "published draft from [notes about dogs]"
    assert broken.ran == ["publish"]


def test_a_replay_of_a_replay():
    original = Original().finished()
    second = original.replay("draft", {"checkpoint.research": "new"})
    second.wait(20)
    original.ran.clear()

    third = original.flow.replay(second.exec_id, "publish")

    assert (third.wait(20), original.ran) == ("published draft from [new]", ["publish"])
    assert get(third).original_exec_id == second.exec_id
    ids = [call.original_call_id for call in get(third).checkpoints]
    assert ids == [f"{second.exec_id}/research", f"{second.exec_id}/draft", None]


@pytest.mark.parametrize("size", [10, config.INLINE_BYTES + 1, 2 * config.CHUNK_BYTES + 1])
@pytest.mark.parametrize("overrides", [{}, {"checkpoint.publish": "x"}])
def test_artifacts_of_reused_calls_are_listed_and_loaded(size: int, overrides: dict[str, str]):
    source = PIPELINE.replace(
        "    return f\"draft from", "    kitaru.save('big', notes * size, type='context')\n"
        "    return notes * size\n    return f\"draft from"
    ).replace('f"notes about {topic}"', "topic[:1]")  # fmt: skip
    original = Original(source, names={"size": size}).finished()
    if overrides:  # behind an override, calls are copied one by one
        overrides["checkpoint.research"] = "d"

    handle = original.replay("publish", overrides)
    handle.wait(20)

    assert "draft" not in original.ran
    client = KitaruClient()
    refs = client.artifacts.list(handle.exec_id, producing_call="draft")
    assert [(ref.name, ref.size, ref.load()) for ref in refs] == [
        (ref.name, ref.size, ref.load())
        for ref in client.artifacts.list(original.exec_id, producing_call="draft")
    ]
    assert [ref.load() for ref in refs] == ["d" * size] * 2


TRYING = """
@checkpoint(retries=1, retry_delay=60)
def tries() -> str:
    ran.append("tries")
    if ran == ["tries"]:
        kitaru.save("half", "x" * size)
        raise ValueError("not yet")
    return "done"

@flow
def agent(topic: str) -> str:
    future = tries.submit()
    kitaru.wait(name="go", timeout=0)
    return future.result()
"""


@pytest.mark.parametrize("size", [10, config.INLINE_BYTES + 1])
def test_what_a_call_without_an_outcome_has_saved_is_not_taken_over(home: Path, size: int):
    original = Original(TRYING, names={"size": size})
    client = KitaruClient()
    until(lambda: client.artifacts.list(original.exec_id), "the first attempt has ended")
    until(lambda: client.executions.pending_waits(original.exec_id), "it asks")
    client.executions.cancel(original.exec_id)
    drives.error_of(original.handle)

    handle = original.replay("go")
    drives.answer(handle.exec_id, "go", True)
    assert drives.left(handle.exec_id).status in ("waiting", "completed")

    assert original.ran == ["tries", "tries"]
    assert [ref.name for ref in client.artifacts.list(handle.exec_id)] == ["tries"]
    assert query(home, "SELECT owner FROM chunks WHERE owner LIKE 'artifact:2:%'") == []
