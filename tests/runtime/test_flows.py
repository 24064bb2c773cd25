"""Flows: how runs are started, followed and ended, and what their failures look like."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel

import kitaru
from kitaru import KitaruClient, checkpoint, clock, flow
from kitaru.errors import FailureOrigin
from kitaru.models import ExecutionStatus
from tests.drives import again, answer, error_of, left
from tests.support import ROOT, QuickClock, until

ran: list[str] = []
gate = threading.Event()


@pytest.fixture(autouse=True)
def fresh(home: Path) -> None:
    ran.clear()
    gate.clear()


class Colour(Enum):
    RED = "red"


@dataclass
class Point:
    x: int
    y: int = 0


class Note(BaseModel):
    title: str
    at: Point
    colours: tuple[Colour, ...] = ()


class TicketError(Exception):
    def __init__(self, ticket: str, *, code: int) -> None:
        super().__init__(f"ticket {ticket}")
        self.code = code


@checkpoint
def work(name: str) -> str:
    ran.append(name)
    return name.upper()


@checkpoint
def refuse(ticket: str) -> str:
    ran.append(ticket)
    raise TicketError(ticket, code=7)


@flow
def gated(answer: int = 42) -> int:
    gate.wait(20)
    return answer


@flow
def approved() -> bool:
    return kitaru.wait(name="approve", timeout=20)


def test_run_returns_at_once_with_an_id_and_a_live_status():
    handle = gated.run()
    assert handle.exec_id.startswith("kr-")
    assert handle.status is ExecutionStatus.RUNNING
    assert handle.exec_id in repr(handle)
    gate.set()
    assert handle.wait(20) == 42
    assert handle.status == "completed"


def test_a_run_that_asks_is_shown_as_waiting_while_its_driver_polls():
    handle = approved.run()
    until(lambda: handle.status == "waiting", "the question is asked")
    answer(handle.exec_id, "approve", True)
    assert handle.wait(20) is True


def test_get_gives_the_result_and_refuses_before_there_is_one():
    handle = gated.run(answer=1)
    with pytest.raises(kitaru.KitaruStateError, match=r"has not finished: it is running.*wait\(\)"):
        handle.get()
    gate.set()
    handle.wait(20)
    assert handle.get() == handle.wait() == 1


def test_wait_with_a_timeout_leaves_the_run_alone():
    handle = gated.run()
    with pytest.raises(TimeoutError, match="still running"):
        handle.wait(timeout=0)
    gate.set()
    assert handle.wait(20) == 42


def test_a_direct_call_is_refused_and_says_how_to_run():
    with pytest.raises(kitaru.KitaruUsageError, match=r"gated\.run\(…\).*handle\.wait\(\)"):
        gated(answer=1)


@flow
def inputs(a: int, /, b: str = "b", *rest: int, c: Any = None, **more: Any) -> list[Any]:
    return [a, b, rest, c, more]


def test_inputs_are_bound_as_in_a_call_and_recorded_with_their_defaults():
    assert inputs.run(1).wait(20) == [1, "b", (), None, {}]
    handle = inputs.run(1, "x", 2, 3, c=4, d=5)
    assert handle.wait(20) == [1, "x", (2, 3), 4, {"d": 5}]
    assert KitaruClient().executions.get(handle.exec_id).inputs["c"] == 4


@pytest.mark.parametrize(("args", "kwargs"), [((1, 2), {}), ((), {"anwser": 1})])
def test_inputs_that_do_not_fit_are_refused_before_an_execution_exists(args, kwargs):
    with pytest.raises(kitaru.KitaruUsageError, match=r"'gated' cannot be run: .* parameters are"):
        gated.run(*args, **kwargs)
    assert KitaruClient().executions.list() == []


def test_inputs_that_cannot_be_recorded_are_refused_before_an_execution_exists():
    with pytest.raises(kitaru.KitaruSerializationError, match=r'inputs\["answer"\]'):
        gated.run(answer=threading.Lock())
    with pytest.raises(kitaru.KitaruSerializationError, match="annotate the parameter"):
        gated.run(answer=Point(1))
    assert KitaruClient().executions.list() == []


@flow
def typed(point: Point, colour: Colour, note: Note | None = None) -> Note:
    return note or Note(title="n", at=point, colours=(colour,))


def test_declared_types_come_in_and_out_exactly():
    expected = Note(title="n", at=Point(1, 2), colours=(Colour.RED,))
    handle = typed.run(Point(1, 2), colour=Colour.RED)
    assert handle.wait(20) == handle.get() == expected
    assert type(handle.get().at) is Point
    assert typed.run(Point(0), Colour.RED, note=expected).wait(20) == expected


def test_what_a_flow_does_to_its_inputs_does_not_reach_the_caller():
    @flow
    def clear(items: list[int]) -> list[int]:
        items.clear()
        return items

    mine = [1]
    handle = clear.run(mine)
    assert handle.wait(20) == []
    assert mine == [1]
    assert KitaruClient().executions.get(handle.exec_id).inputs == {"items": [1]}


def test_a_result_of_an_undeclared_type_fails_and_says_what_to_declare():
    @flow
    def undeclared():
        return Point(1)

    error = error_of(undeclared.run())
    assert isinstance(error, kitaru.KitaruExecutionError)
    assert isinstance(error.__cause__, kitaru.KitaruSerializationError)
    assert "return value with Point" in str(error)
    assert (error.status, error.failure_origin) == ("failed", FailureOrigin.RUNTIME)


def test_options_of_a_run_are_given_without_changing_the_flow():
    nightly = gated.with_options(tags=["nightly", "eu", "nightly"], retries=2)
    gate.set()
    handle = nightly.run()
    handle.wait(20)
    plain = gated.run()
    plain.wait(20)
    get = KitaruClient().executions.get
    assert get(handle.exec_id).tags == ("nightly", "eu")
    assert get(handle.exec_id).frozen_execution_spec["retries"] == 2
    assert (get(plain.exec_id).tags, gated.definition.options) == ((), {})
    assert get(plain.exec_id).flow_id == get(handle.exec_id).flow_id


@pytest.mark.parametrize(
    "options", [{"retries": -1}, {"retries": True}, {"tags": "word"}, {"tags": [""]}, {"tags": [1]}]
)
def test_options_that_cannot_be_right_are_refused(options):
    with pytest.raises(kitaru.KitaruUsageError, match=next(iter(options))):
        gated.with_options(**options)
    with pytest.raises(kitaru.KitaruUsageError, match=next(iter(options))):
        flow(**options)(gated.definition.fn)


def test_a_flow_keeps_its_name_and_doc():
    @flow(name="Täglicher Bericht ☀")
    def daily() -> None:
        """Says what happened."""

    assert daily.name == "Täglicher Bericht ☀"
    assert (daily.__name__, daily.__doc__) == ("daily", "Says what happened.")
    handle = daily.run()
    assert handle.wait(20) is None
    assert KitaruClient().executions.get(handle.exec_id).flow_name == "Täglicher Bericht ☀"


def test_retries_drive_the_flow_again_without_running_recorded_checkpoints():
    @flow(retries=2)
    def unsteady() -> str:
        done = work("a")
        ran.append("body")
        if ran.count("body") < 3:
            raise ValueError("not yet")
        return done

    with clock.use(QuickClock()) as quick:
        assert unsteady.run().wait(20) == "A"
    assert ran == ["a", "body", "body", "body"]
    assert isinstance(quick, QuickClock)
    assert len(quick.pauses) == 2


def test_retries_of_a_flow_run_its_failed_checkpoint_again():
    @checkpoint
    def second_time() -> int:
        ran.append("tried")
        if len(ran) < 2:
            raise OSError("first time")
        return 1

    @flow(retries=1)
    def steady() -> int:
        return second_time()

    with clock.use(QuickClock()):
        handle = steady.run()
        assert handle.wait(20) == 1
    (call,) = KitaruClient().executions.get(handle.exec_id).checkpoints
    assert [attempt.status for attempt in call.attempts] == ["failed", "completed"]


def test_a_failure_leaves_wait_as_the_typed_error_with_its_cause():
    @flow
    def failing(ticket: str) -> str:
        return refuse(ticket)

    handle = failing.run("T-1")
    with pytest.raises(kitaru.KitaruUserCodeError) as caught:
        handle.wait(20)
    error = caught.value
    assert error.exec_id == handle.exec_id
    assert error.status is ExecutionStatus.FAILED
    assert error.failure_origin is FailureOrigin.USER_CODE
    assert f"kitaru executions retry {handle.exec_id}" in str(error)
    assert isinstance(error.__cause__, TicketError)
    assert error.__cause__.code == 7
    with pytest.raises(kitaru.KitaruUserCodeError, match="ticket T-1"):
        handle.get()


def test_a_failure_is_recorded_with_message_type_traceback_and_origin():
    @flow
    def failing() -> str:
        return refuse("T-2")

    handle = failing.run()
    error_of(handle)
    execution = KitaruClient().executions.get(handle.exec_id)
    (call,) = execution.checkpoints
    for failure in (execution.failure, call.failure, call.attempts[0].failure):
        assert failure is not None
        assert failure.message.endswith("TicketError: ticket T-2")
        assert failure.exception_type == f"{TicketError.__module__}.TicketError"
        assert failure.origin is FailureOrigin.USER_CODE
        assert failure.traceback is not None
        assert "in refuse" in failure.traceback
        assert str(Path(kitaru.__file__).parent) not in failure.traceback
    assert execution.failure is not None
    assert "in failing" in str(execution.failure.traceback)
    assert execution.status_reason == execution.failure.message


@pytest.mark.parametrize("place", [lambda fn: fn, checkpoint(name="leave")])
def test_sys_exit_in_a_flow_or_checkpoint_is_a_failure_of_user_code(place):
    leave = place(lambda: sys.exit(3))

    @flow
    def leaving() -> None:
        leave()

    error = error_of(leaving.run())
    assert isinstance(error, kitaru.KitaruUserCodeError)
    assert "SystemExit: 3" in str(error)


def test_two_flows_run_at_once_in_one_process():
    meeting = threading.Barrier(2, timeout=20)

    @flow
    def meet(name: str) -> str:
        meeting.wait()
        return f"{work(name)} in {kitaru.current_execution_id()}"

    first, second = meet.run("a"), meet.run("b")
    assert first.wait(20) == f"A in {first.exec_id}"
    assert second.wait(20) == f"B in {second.exec_id}"
    assert kitaru.current_execution_id() is None


def test_a_flow_made_in_a_function_runs_but_cannot_be_resumed_elsewhere():
    @flow
    def closure() -> bool:
        return kitaru.wait(name="go", timeout=0)

    handle = closure.run()
    left(handle.exec_id)
    answer(handle.exec_id, "go", True)
    with pytest.raises(kitaru.KitaruUsageError, match="inside a function; move it to module level"):
        KitaruClient().executions.resume(handle.exec_id)
    assert handle.status == "waiting"
    assert again("resume", closure, handle.exec_id).wait(20) is True


def script(home: Path, text: str) -> subprocess.Popen[str]:
    path = home.parent / "script.py"
    path.write_text(f"import kitaru, kitaru.exits, sys, threading, time\n{text}")
    return subprocess.Popen(
        [sys.executable, str(path)],
        env=os.environ | {"PYTHONPATH": f"{ROOT / 'core'}{os.pathsep}{ROOT}"},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_a_flow_finishes_after_the_script_has_ended(home: Path):
    text = """
@kitaru.checkpoint
def square(n):
    return n * n
@kitaru.flow
def late():
    while not kitaru.exits.is_leaving():
        time.sleep(0.001)
    return sum(square.map([1, 2, 3]).result())
print(late.run().exec_id)
"""
    out, err = script(home, text).communicate(timeout=60)
    execution = KitaruClient().executions.get(out.strip())
    assert (execution.status, execution.result, err) == ("completed", 14, "")


def test_ctrl_c_in_wait_leaves_the_execution_resumable(home: Path):
    text = """
told = threading.Event()
@kitaru.checkpoint
def slow():
    if __name__ == "__main__":
        while not waits(sys._current_frames()[threading.main_thread().ident]):
            time.sleep(0.001)
        print("started", flush=True)
        told.wait(30)
    return 1
def waits(frame):
    return frame and (frame.f_code.co_name == "_follow" or waits(frame.f_back))
@kitaru.flow
def interrupted():
    return slow() + slow()
if __name__ == "__main__":
    try:
        interrupted.run().wait()
    finally:
        told.set()
"""
    process = script(home, text)
    assert process.stdout is not None
    assert process.stdout.readline() == "started\n"
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert "KeyboardInterrupt" in err
    client = KitaruClient()
    execution = client.executions.latest()
    assert (execution.status, execution.stalled) == ("running", True)
    assert [call.status for call in execution.checkpoints] == ["completed"]
    execution.resume()
    until(lambda: execution.refresh().status == "completed", "the resumed run completes")
    assert execution.refresh().result == 2
