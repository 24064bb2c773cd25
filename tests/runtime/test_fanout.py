"""Submitted and mapped checkpoints: order, concurrency, ids and failed branches."""

from __future__ import annotations

import threading
from typing import Any

import pytest

import kitaru
from kitaru import KitaruClient, checkpoint, flow
from kitaru.models import CallStatus
from tests.drives import error_of


@pytest.fixture(autouse=True)
def fresh(home: object) -> None:
    """Every test here has a store of its own."""


def run(body: Any) -> Any:
    """What a flow with this body gives."""
    return flow(name="body")(body).run().wait(30)


def calls(handle: Any) -> tuple[kitaru.CheckpointCall, ...]:
    return KitaruClient().executions.get(handle.exec_id).checkpoints


def caught(call: Any) -> tuple[str, tuple[Any, ...]]:
    """What an `except Exception` in a flow sees of a failing call."""
    try:
        call()
    except Exception as exc:
        return type(exc).__qualname__, exc.args
    raise AssertionError("it did not fail")


@checkpoint
def timing_out() -> None:
    raise TimeoutError("its own")


def test_submitted_calls_run_at_the_same_time_and_keep_their_order():
    meeting = threading.Barrier(3, timeout=20)

    @checkpoint
    def meet(n: int) -> int:
        meeting.wait()
        return n * n

    @flow
    def meeting_flow() -> list[int]:
        futures = [meet.submit(n) for n in (3, 1, 2)]
        return [future.result() for future in futures]

    handle = meeting_flow.run()
    assert handle.wait(20) == [9, 1, 4]
    assert [call.call_id for call in calls(handle)] == ["meet", "meet#2", "meet#3"]


def test_call_ids_and_parents_do_not_depend_on_which_call_ends_first():
    second_done = threading.Event()

    @checkpoint
    def step(n: int) -> int:
        if n == 1:
            second_done.wait(20)
        elif n == 2:
            second_done.set()
        return n

    @flow
    def fan() -> int:
        step(0)
        return sum(step.map([1, 2]).result()) + step(3)

    handle = fan.run()
    assert handle.wait(20) == 6
    assert [(call.call_id, call.parent_call_ids) for call in calls(handle)] == [
        ("step", ()),
        ("step#2", ("step",)),
        ("step#3", ("step",)),
        ("step#4", ("step#2", "step#3")),
    ]


@checkpoint
def odd(n: int) -> int:
    if n % 2 == 0:
        raise ValueError(n)
    return n


def test_a_failed_branch_leaves_the_results_of_its_siblings():
    def body() -> Any:
        group = odd.map(iter([1, 2, 3, 4]))
        kinds = [type(each).__name__ for each in group.results(return_exceptions=True)]
        return kinds, caught(group.result), len(group), [f.done() for f in group], group[2].result()

    kinds, failure, *rest = run(body)
    assert kinds == ["int", "ValueError", "int", "ValueError"]
    assert failure == ("ValueError", (2,))
    assert rest == [4, [True] * 4, 3]


def test_an_empty_map_is_an_empty_list():
    assert run(lambda: odd.map([]).result()) == []


def test_futures_tell_whether_they_are_done_and_time_out():
    gate = threading.Event()

    @checkpoint
    def gated() -> int:
        gate.wait(20)
        return 1

    def body() -> Any:
        future = gated.submit()
        waiting = (
            future.done(),
            caught(lambda: future.result(0)),
            caught(lambda: future.exception(0.0)),
        )
        gate.set()
        return waiting, future.exception(), future.result(20), future.done()

    (done, first, second), *ended = run(body)
    assert (done, first[0], second[0]) == (False, "TimeoutError", "TimeoutError")
    assert "'gated' has not ended" in first[1][0]
    assert ended == [None, 1, True]


def test_a_future_gives_the_exception_it_failed_with_and_counts_as_seen():
    def body() -> Any:
        even, own = odd.submit(2), timing_out.submit()
        return repr(even.exception()), repr(own.exception(20))

    assert run(body) == ("ValueError(2)", "TimeoutError('its own')")


def test_a_submitted_call_that_failed_unseen_fails_the_flow():
    @flow
    def careless() -> int:
        odd.submit(2)
        return odd(1)

    handle = careless.run()
    error = error_of(handle)
    assert isinstance(error.__cause__, ValueError)
    assert [call.status for call in calls(handle)] == [CallStatus.FAILED, CallStatus.COMPLETED]


def test_a_flow_whose_body_failed_ends_when_its_submitted_calls_have():
    gate = threading.Event()

    @checkpoint
    def late() -> str:
        gate.wait(20)
        return "recorded"

    @flow
    def hasty() -> None:
        late.submit()
        gate.set()
        raise ValueError("body")

    handle = hasty.run()
    assert str(error_of(handle).__cause__) == "body"
    assert [call.status for call in calls(handle)] == [CallStatus.COMPLETED]
