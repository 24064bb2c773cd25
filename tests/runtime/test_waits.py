"""Waits: what may be asked, what may be answered, and how the execution goes on."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from enum import Enum
from typing import Any, Literal
from uuid import UUID

import pytest
from pydantic import BaseModel, field_validator
from typing_extensions import TypedDict  # pydantic needs this one before Python 3.12

import kitaru
from kitaru import KitaruClient, checkpoint, config, flow
from kitaru.errors import FailureOrigin
from kitaru.models import ExecutionStatus
from tests.drives import again, answer, error_of, left
from tests.support import until


@pytest.fixture(autouse=True)
def fresh(home: object) -> None:
    """Every test here has a store of its own."""


class Size(Enum):
    SMALL = "s"
    LARGE = 3


class Options(TypedDict, total=False):
    dry: bool
    tags: list[str]


@dataclass
class Pair:
    left: int
    right: str = "r"


class Release(BaseModel):
    approve: bool
    version: str
    edits: dict[str, str] = {}

    @field_validator("version")
    @classmethod
    def _counts_up(cls, value: str) -> str:
        if not value.startswith("v"):
            raise ValueError("a version starts with v")
        return value


def asking(schema: Any, **options: Any) -> Any:
    """A flow that asks once and gives what it got."""

    def ask():
        got = kitaru.wait(name="ask", schema=schema, **{"timeout": 20, **options})
        return type(got).__name__, repr(got)

    return flow(ask)


def asked(exec_id: str) -> kitaru.PendingWait:
    """The first question an execution puts, once it does."""
    pending = KitaruClient().executions.pending_waits
    return until(lambda: pending(exec_id), "a question is put")[0]


def give(handle: Any, value: Any, *, wait: str = "ask") -> kitaru.Execution:
    asked(handle.exec_id)
    return KitaruClient().executions.input(handle.exec_id, wait=wait, value=value)


@pytest.mark.parametrize(
    ("schema", "given", "expected"),
    [
        (bool, False, False),
        (int, 3, 3),
        (int, 2**70, 2**70),
        (float, 2, 2.0),
        (str, "ไทย \0 🔬", "ไทย \0 🔬"),
        (list[int], [1, 2], [1, 2]),
        (dict[str, int], {"a": 1}, {"a": 1}),
        (dict[int, str], {"1": "a"}, {1: "a"}),
        (tuple[int, str], [1, "a"], (1, "a")),
        (set[int], [1], {1}),
        (Literal["yes", "no", 3], 3, 3),
        (Size, "s", Size.SMALL),
        (Size, Size.LARGE, Size.LARGE),
        (Options, {"dry": True}, {"dry": True}),
        (Pair, {"left": 1}, Pair(1)),
        (Pair, Pair(1, "x"), Pair(1, "x")),
        (Release, {"approve": True, "version": "v1"}, Release(approve=True, version="v1")),
        (Release, Release(approve=True, version="v1"), Release(approve=True, version="v1")),
        (bool | None, None, None),
        (Pair | None, {"left": 2}, Pair(2)),
        (int | str, "3", "3"),
        (Any, {"any": [1, None]}, {"any": [1, None]}),
        (None, None, None),
        (date, date(2026, 11, 20), date(2026, 11, 20)),
        (UUID, "12345678-1234-5678-1234-567812345678", UUID("12345678" * 4)),
        (Decimal, "1.50", Decimal("1.50")),
    ],
)
def test_an_answer_comes_back_as_the_declared_type(schema, given, expected):
    handle = asking(schema).run()
    give(handle, given)
    assert handle.wait(20) == (type(expected).__name__, repr(expected))


@pytest.mark.parametrize(
    ("schema", "given", "told"),
    [
        (bool, "yes", "is not of type 'boolean'"),
        (bool, 1, "is not of type 'boolean'"),
        (int, 1.5, "is not of type 'integer'"),
        (int, True, "is not of type 'integer'"),
        (list[int], [1, "a"], r"at \$\[1\].*\"a\" is not of type 'integer'"),
        (Literal["a", "b"], "c", "is not one of"),
        (Size, "S", "is not one of"),
        (Pair, {"right": "x"}, "'left' is a required property"),
        (Release, {"approve": 1, "version": "v"}, r"at \$.approve"),
        (None, True, "go-ahead only; answer with null"),
        (float, float("nan"), "no JSON value"),
        (str, object(), "no JSON value"),
        (Any, {"a": float("inf")}, "no JSON value"),
    ],
)
def test_an_answer_that_does_not_fit_is_refused_and_the_question_stays_open(schema, given, told):
    handle = asking(schema).run()
    with pytest.raises(kitaru.KitaruWaitValidationError, match=told) as caught:
        give(handle, given)
    assert "still open" in str(caught.value)
    assert handle.status == "waiting"
    assert asked(handle.exec_id).name == "ask"
    KitaruClient().executions.cancel(handle.exec_id)
    error_of(handle)


def test_an_answer_only_the_type_can_refuse_is_asked_for_again_with_the_reason():
    handle = asking(Release).run()
    give(handle, {"approve": True, "version": "1"})
    get = KitaruClient().executions.get
    until(
        lambda: "refused" in (get(handle.exec_id).status_reason or ""),
        "the answer is refused",
        seconds=20,
    )
    execution = get(handle.exec_id)
    assert execution.status == "waiting"
    assert "a version starts with v" in str(execution.status_reason)
    assert execution.pending_wait is not None
    give(handle, {"approve": True, "version": "v1"})
    assert handle.wait(20)[1] == "Release(approve=True, version='v1', edits={})"


def test_an_answer_the_type_refuses_after_a_resume_is_asked_for_again_too():
    ask = asking(Release, timeout=0)
    handle = ask.run()
    left(handle.exec_id)
    give(handle, {"approve": True, "version": "1"})
    resumed = again("resume", ask, handle.exec_id)
    with pytest.raises(kitaru.KitaruStateError, match="waits for an answer to 'ask'"):
        resumed.wait(20)
    execution = KitaruClient().executions.get(handle.exec_id)
    assert (execution.status, execution.stalled) == ("waiting", False)
    assert "a version starts with v" in str(execution.status_reason)
    give(handle, {"approve": False, "version": "v2"})
    assert "v2" in again("resume", ask, handle.exec_id).wait(20)[1]


def test_a_question_shows_all_it_was_asked_with():
    ask = asking(int, question="How many?", metadata={"topic": "dogs", "n": [1, None]})
    handle = ask.run()
    pending = asked(handle.exec_id)
    assert (pending.name, pending.wait_id) == ("ask", f"{handle.exec_id}/ask")
    assert (pending.question, pending.schema) == ("How many?", {"type": "integer"})
    assert pending.metadata == {"topic": "dogs", "n": [1, None]}
    assert pending.entered_waiting_at.utcoffset() is not None
    assert KitaruClient().executions.get(handle.exec_id).pending_wait == pending
    assert give(handle, 3).pending_wait is None
    handle.wait(20)


def test_an_answer_is_accepted_once():
    ask = asking(bool, timeout=0)
    handle = ask.run()
    left(handle.exec_id)
    give(handle, True)
    with pytest.raises(kitaru.KitaruStateError, match=r"already in.*executions resume"):
        KitaruClient().executions.input(handle.exec_id, wait="ask", value=False)
    assert again("resume", ask, handle.exec_id).wait(20) == ("bool", "True")
    with pytest.raises(kitaru.KitaruStateError, match="it is completed"):
        KitaruClient().executions.input(handle.exec_id, wait="ask", value=False)


def test_an_aborted_wait_cancels_the_execution():
    handle = asking(bool).run()
    asked(handle.exec_id)
    client = KitaruClient()
    aborted = client.executions.abort_wait(handle.exec_id, wait="ask")
    assert (aborted.status, aborted.status_reason) == ("cancelled", "Wait ask was aborted.")
    error = error_of(handle)
    assert isinstance(error, kitaru.KitaruExecutionError)
    assert (error.status, error.failure_origin) == ("cancelled", FailureOrigin.UNKNOWN)
    with pytest.raises(kitaru.KitaruStateError, match="it is cancelled"):
        client.executions.abort_wait(handle.exec_id, wait="ask")
    with pytest.raises(kitaru.KitaruStateError, match="it is cancelled"):
        client.executions.input(handle.exec_id, wait="ask", value=True)


@pytest.mark.parametrize("act", ["input", "abort_wait"])
def test_an_unknown_wait_is_not_found_and_the_open_ones_are_named(act):
    handle = asking(bool).run()
    asked(handle.exec_id)
    more = {"value": True} if act == "input" else {}
    with pytest.raises(kitaru.KitaruNotFoundError, match=r"no open wait 'aks'. Open: ask\."):
        getattr(KitaruClient().executions, act)(handle.exec_id, wait="aks", **more)
    with pytest.raises(kitaru.KitaruUsageError, match="wait's name"):
        getattr(KitaruClient().executions, act)(handle.exec_id, wait=" ", **more)
    give(handle, True, wait=f"{handle.exec_id}/ask")
    handle.wait(20)


def test_waits_of_the_same_name_are_questions_of_their_own():
    @flow
    def rounds() -> list[int]:
        got = [kitaru.wait(name="approve", schema=int, timeout=20) for _ in range(3)]
        return [*got, kitaru.wait(schema=int, timeout=20)]

    handle = rounds.run()
    for number, name in enumerate(["approve", "approve#2", "approve#3", "wait"], 1):
        answer(handle.exec_id, name, number)
    assert handle.wait(20) == [1, 2, 3, 4]
    execution = KitaruClient().executions.get(handle.exec_id)
    assert (execution.checkpoints, execution.artifacts) == ((), ())


def test_an_earlier_wait_cannot_be_answered_again_while_a_later_one_is_open():
    @flow
    def two() -> list[bool]:
        return [kitaru.wait(name=name, timeout=20) for name in ("one", "two")]

    handle = two.run()
    answer(handle.exec_id, "one", True)
    until(lambda: asked(handle.exec_id).name == "two", "the second question is put")
    with pytest.raises(kitaru.KitaruStateError, match=r"'one'.*Open: two\."):
        KitaruClient().executions.input(handle.exec_id, wait="one", value=False)
    answer(handle.exec_id, "two", False)
    assert handle.wait(20) == [True, False]


def test_a_flow_that_lets_go_says_how_to_answer_and_resume():
    ask = asking(bool, timeout=0)
    handle = ask.run()
    with pytest.raises(kitaru.KitaruStateError) as caught:
        handle.wait(20)
    told = str(caught.value)
    assert f"kitaru executions input {handle.exec_id} --wait ask --value" in told
    assert f"kitaru executions resume {handle.exec_id}" in told
    execution = left(handle.exec_id)
    assert (execution.status, execution.stalled) == ("waiting", False)
    with pytest.raises(kitaru.KitaruStateError, match="no answer yet"):
        again("resume", ask, handle.exec_id)
    give(handle, True)
    with pytest.raises(kitaru.KitaruStateError, match=r"Continue it with .*resume"):
        handle.wait(20)
    assert again("resume", ask, handle.exec_id).wait(20) == ("bool", "True")
    assert handle.wait(20) == ("bool", "True")


def test_answered_while_its_driver_polls_the_execution_goes_on_by_itself():
    gate = threading.Event()

    @flow
    def going_on() -> str:
        ok = kitaru.wait(name="ask", timeout=20)
        gate.wait(20)
        return f"got {ok}"

    handle = going_on.run()
    asked(handle.exec_id)
    seen = [handle.status]
    give(handle, True)
    until(lambda: handle.status != "waiting", "the driver goes on")
    seen.append(handle.status)
    gate.set()
    assert handle.wait(20) == "got True"
    assert [*seen, handle.status] == [
        ExecutionStatus.WAITING,
        ExecutionStatus.RUNNING,
        ExecutionStatus.COMPLETED,
    ]


def test_submitted_calls_go_on_beside_a_question():
    @checkpoint
    def beside() -> str:
        until(lambda: kitaru.KitaruClient().executions.pending_waits(exec_id()), "it is asked")
        return "recorded"

    def exec_id() -> str:
        return str(kitaru.current_execution_id())

    @flow
    def both() -> str:
        future = beside.submit()
        kitaru.wait(name="ask", timeout=0)
        return future.result()

    handle = both.run()
    left(handle.exec_id)
    calls = KitaruClient().executions.get(handle.exec_id).checkpoints
    assert [(call.call_id, call.status) for call in calls] == [("beside", "completed")]
    give(handle, True)
    assert again("resume", both, handle.exec_id).wait(20) == "recorded"


def test_a_wait_outside_a_flow_is_refused():
    with pytest.raises(kitaru.KitaruContextError, match=r"kitaru.wait\(\) works inside a running"):
        kitaru.wait(name="ask")


def test_a_wait_inside_a_checkpoint_is_refused():
    @checkpoint
    def asks() -> bool:
        return kitaru.wait(name="ask")

    handle = flow(name="body")(lambda: asks()).run()
    error = error_of(handle)
    assert isinstance(error.__cause__, kitaru.KitaruContextError)
    assert "not inside checkpoint 'asks'" in str(error)


@pytest.mark.parametrize(
    ("options", "told"),
    [
        *[({"timeout": bad}, "timeout") for bad in (-1, float("nan"), True, "5", None)],
        *[({"name": bad}, "name") for bad in ("a#2", "a/b", "", "a\nb", 5)],
        ({"question": 5}, "question"),
        ({"metadata": {"a": {1}}}, "JSON data"),
        ({"metadata": [1]}, "dict"),
        *[
            ({"schema": bad}, "JSON Schema")
            for bad in (threading.Lock, 5, {"type": "boolean"}, "Nowhere", list[threading.Lock])
        ],
    ],
)
def test_a_question_that_cannot_be_right_is_refused_at_the_call(options, told):
    handle = flow(name="body")(lambda: kitaru.wait(**options)).run()
    error = error_of(handle)
    assert isinstance(error.__cause__, kitaru.KitaruUsageError)
    assert told in str(error)
    assert KitaruClient().executions.get(handle.exec_id).checkpoints == ()


@pytest.mark.parametrize("timeout", [1e300, float("inf"), 0.001])
def test_a_timeout_may_be_as_long_or_short_as_one_likes(timeout):
    handle = asking(bool, timeout=timeout).run()
    asked(handle.exec_id)
    KitaruClient().executions.abort_wait(handle.exec_id, wait="ask")
    with pytest.raises(kitaru.KitaruExecutionError, match="is cancelled"):
        handle.wait(20)


def test_an_answer_of_the_same_process_is_heard_of_without_looking_for_it(
    monkeypatch: pytest.MonkeyPatch,
):
    for pause in ("FIRST_POLL_SECONDS", "POLL_SECONDS", "TICK_SECONDS", "REST_SECONDS"):
        monkeypatch.setattr(config, pause, 60.0)
    handle = asking(bool).run()

    give(handle, True)

    until(lambda: handle.status.is_finished, "it goes on at once", seconds=30)
    assert handle.get() == ("bool", "True")
