"""What may be done to an execution in which status, and what it does then."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from kitaru import KitaruClient, clock, config, launch
from kitaru.errors import (
    FailureOrigin,
    KitaruExecutionError,
    KitaruStateError,
    KitaruUsageError,
    KitaruUserCodeError,
)
from kitaru.heart import heart
from kitaru.models import (
    MOVES,
    PUBLIC_ACTIONS,
    CallStatus,
    Execution,
    ExecutionStatus,
    legal_actions,
)
from kitaru.store import executions, waits
from tests import drives
from tests.support import QuickClock, TurnedClock, dump, runner_pid, until

pytestmark = pytest.mark.usefixtures("home")

FILE = """
import os
from pathlib import Path
from kitaru import checkpoint, flow, wait

HERE = Path(__file__).parent

@checkpoint
def step(what: str) -> str:
    with open(HERE / "ran", "a") as file:
        file.write(what + " ")
    while what == "block" and not (HERE / "open").exists():
        pass
    if what == "fail" and not (HERE / "open").exists():
        raise ConnectionError("closed")
    return what

@flow
def agent(what: str) -> str:
    step("first")
    step(what)
    if what == "wait":
        wait(name="approve", timeout=0)
    return what
"""


class File:
    """A flow in a file, driven by runner processes."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.client = KitaruClient()
        (folder / "life_file.py").write_text(FILE)

    def run(self, what: str) -> Execution:
        return self.client.executions.run(
            "life_file.py:agent", {"what": what}, root=str(self.folder)
        )

    def in_status(self, status: ExecutionStatus) -> Execution:
        """A fresh execution that is in this status and stays in it."""
        if status is ExecutionStatus.PENDING:
            return self._pending()
        if status is ExecutionStatus.CANCELLED:
            return self.client.executions.cancel(drives.left(self.run("wait").exec_id).exec_id)
        what = {"running": "block", "waiting": "wait", "completed": "end", "failed": "fail"}[status]
        exec_id = self.run(what).exec_id
        if status is not ExecutionStatus.RUNNING:
            assert drives.left(exec_id).status is status
            return self.client.executions.get(exec_id)
        until(lambda: "block" in self.ran(), "it runs")
        get = self.client.executions.get
        until(lambda: get(exec_id).checkpoints[-1].status is CallStatus.RUNNING, "it shows")
        return get(exec_id)

    def _pending(self) -> Execution:
        done = drives.left(self.run("end").exec_id)
        with drives.store().write() as conn:
            new = executions.NewExecution(
                exec_id="kr-pending000000000",
                flow_id=done.flow_id,
                flow_name=done.flow_name,
                inputs=b"{}",
                spec=done.frozen_execution_spec,
            )
            executions.create(conn, new)
        return self.client.executions.get("kr-pending000000000")

    def act(self, action: str, exec_id: str) -> Execution:
        acting: dict[str, Callable[[], Execution]] = {
            "input": lambda: self.client.executions.input(exec_id, wait="approve", value=True),
            "abort": lambda: self.client.executions.abort_wait(exec_id, wait="approve"),
            "cancel": lambda: self.client.executions.cancel(exec_id),
            "resume": lambda: self.client.executions.resume(exec_id),
            "retry": lambda: self.client.executions.retry(exec_id),
            "replay": lambda: self.client.executions.replay(exec_id, "first"),
        }
        return acting[action]()

    def ran(self) -> str:
        path = self.folder / "ran"
        return path.read_text() if path.exists() else ""


@pytest.mark.parametrize("status", ExecutionStatus)
def test_actions_that_are_not_legal_say_so_and_change_nothing(
    home: Path, tmp_path: Path, status: ExecutionStatus
):
    file = File(tmp_path)
    execution = file.in_status(status)
    illegal = [a for a in PUBLIC_ACTIONS if status not in MOVES[a]]
    # A running one whose driver is alive goes on by itself.
    illegal += ["resume"] if status is ExecutionStatus.RUNNING else []
    before = dump(home)
    del before["leases"]  # its driver renews it

    for action in illegal:
        with pytest.raises(KitaruStateError) as caught:
            file.act(action, execution.exec_id)
        message = str(caught.value)
        assert execution.exec_id in message
        if action in MOVES and status not in MOVES[action]:
            assert f"it is {status}" in message
            assert f"legal now: {', '.join(legal_actions(status)) or 'none'}" in message

    after = dump(home)
    del after["leases"]
    assert after == before
    (tmp_path / "open").touch()
    drives.left(execution.exec_id)


LEGAL = [(action, status) for action in PUBLIC_ACTIONS for status in MOVES[action]]


@pytest.mark.parametrize(("action", "status"), [pair for pair in LEGAL if pair[0] != "replay"])
def test_legal_actions_lead_where_the_table_says(
    tmp_path: Path, action: str, status: ExecutionStatus
):
    file = File(tmp_path)
    execution = file.in_status(status)
    if (action, status) == ("resume", ExecutionStatus.RUNNING):
        os.kill(runner_pid(file.client.home.path, execution.exec_id), signal.SIGKILL)
        assert drives.left(execution.exec_id).stalled
    if (action, status) == ("resume", ExecutionStatus.WAITING):
        file.act("input", execution.exec_id)
    if action != "cancel":  # opened first, it might have ended before it is cancelled
        (tmp_path / "open").touch()

    file.act(action, execution.exec_id)
    (tmp_path / "open").touch()

    target = MOVES[action][status] or status
    ends = ExecutionStatus.COMPLETED if target is ExecutionStatus.RUNNING else target
    assert drives.left(execution.exec_id).status is ends


# --- retry ----------------------------------------------------------------------------------------


def names(**more: Any) -> dict[str, Any]:
    return {"ran": [], "door": [], **more}


FAN_OUT = """
@checkpoint
def part(n):
    ran.append(n)
    if n == 2 and not door:
        raise ConnectionError("closed")
    return n

@flow
def agent():
    part(0)
    parts = part.map([1, 2, 3]).result()
    return [*parts, part(4)]
"""


def test_retry_runs_the_failed_call_again_and_neither_earlier_ones_nor_its_siblings():
    shared = names()
    agent = drives.load(FAN_OUT, **shared)
    handle = agent.run()
    error = drives.error_of(handle)
    assert isinstance(error, KitaruUserCodeError)
    assert (error.exec_id, error.status) == (handle.exec_id, "failed")
    assert sorted(shared["ran"]) == [0, 1, 2, 3]
    shared["ran"].clear()
    shared["door"].append("open")

    assert drives.again("retry", agent, handle.exec_id).wait(20) == [1, 2, 3, 4]

    assert shared["ran"] == [2, 4]
    execution = KitaruClient().executions.get(handle.exec_id)
    assert execution.failure is None
    attempts = {call.call_id: call.attempts for call in execution.checkpoints}
    assert {call: len(tries) for call, tries in attempts.items()} == {
        "part": 1,
        "part#2": 1,
        "part#3": 2,
        "part#4": 1,
        "part#5": 1,
    }
    old, new = attempts["part#3"]
    assert (old.status, new.status) == (CallStatus.FAILED, CallStatus.COMPLETED)
    assert old.failure is not None
    assert old.failure.message == "ConnectionError: closed"
    assert [old.attempt_id, new.attempt_id] == [f"{handle.exec_id}/part#3@{n}" for n in (1, 2)]


CAUGHT = """
@checkpoint
def risky():
    ran.append("risky")
    raise ConnectionError("closed")

@checkpoint
def other(what):
    ran.append(what)
    if not door:
        raise ValueError("not yet")
    return what

@flow
def agent():
    try:
        risky()
        way = "main"
    except ConnectionError as error:
        way = f"side ({error})"
    return other(way)
"""


def test_a_failure_the_flow_went_on_from_is_history_and_not_run_again():
    shared = names()
    agent = drives.load(CAUGHT, **shared)
    handle = agent.run()
    drives.error_of(handle)
    shared["ran"].clear()
    shared["door"].append("open")

    assert drives.again("retry", agent, handle.exec_id).wait(20) == "side (closed)"

    assert shared["ran"] == ["side (closed)"]
    risky = KitaruClient().executions.get(handle.exec_id).checkpoints[0]
    assert (risky.status, len(risky.attempts)) == (CallStatus.FAILED, 1)


def test_retry_of_a_failed_flow_body_runs_no_checkpoint_again():
    source = "@checkpoint\ndef step():\n    ran.append(1)\n@flow\ndef agent():\n    step()\n    "
    shared = names()
    handle = drives.load(source + "raise LookupError('body')", **shared).run()
    assert "LookupError: body" in str(drives.error_of(handle))

    fixed = drives.load(source + "return 'done'", **shared)
    assert drives.again("retry", fixed, handle.exec_id).wait(20) == "done"
    assert shared["ran"] == [1]


UNRECORDABLE = """
class Odd(Exception):
    pass

@checkpoint
def odd():
    ran.append(1)
    if len(ran) < 3:
        raise Odd(object())
    return "fine"

@flow(retries=RETRIES)
def agent():
    return odd()
"""


@pytest.mark.parametrize("retries", [1, 2])
def test_retries_of_a_flow_also_repeat_errors_that_cannot_be_recorded_exactly(retries: int):
    shared = names()
    source = UNRECORDABLE.replace("RETRIES", str(retries))
    with clock.use(QuickClock()):
        handle = drives.load(source, **shared).run()
        if retries == 2:
            assert handle.wait(20) == "fine"
        else:
            error = drives.error_of(handle)
            assert isinstance(error, KitaruUserCodeError)
            assert error.failure_origin is FailureOrigin.USER_CODE
    assert len(shared["ran"]) == retries + 1


# --- resume ---------------------------------------------------------------------------------------

WAITING = """
@flow
def agent():
    return kitaru.wait(name="approve", schema=int, timeout=TIMEOUT)
"""


def test_resume_before_the_answer_is_refused_with_the_command_that_answers(home: Path):
    agent = drives.load(WAITING.replace("TIMEOUT", "0"))
    handle = agent.run()
    drives.error_of(handle)
    before = dump(home)

    for resume in (KitaruClient().executions.resume, lambda e: drives.again("resume", agent, e)):
        with pytest.raises(KitaruStateError) as caught:
            resume(handle.exec_id)
        assert f"kitaru executions input {handle.exec_id} --wait approve" in str(caught.value)

    assert dump(home) == before


@pytest.mark.parametrize("answered", [False, True])
def test_resume_while_a_driver_polls_is_refused(
    answered: bool, monkeypatch: pytest.MonkeyPatch, turned: TurnedClock
):
    for pause in ("FIRST_POLL_SECONDS", "POLL_SECONDS"):
        monkeypatch.setattr(config, pause, 20 if answered else 0.02)
    agent = drives.load(WAITING.replace("TIMEOUT", "600"))
    handle = agent.run()
    pending = KitaruClient().executions.pending_waits
    until(lambda: pending(handle.exec_id), "it asks")
    if answered:
        until(lambda: 20 in turned.waits, "nobody looks for long")
        with drives.store().write() as conn:  # as another process does: this one would hear of it
            waits.answer(conn, handle._execution, 1, value=b"3")

    with pytest.raises(KitaruStateError, match="alive" if answered else "no answer yet"):
        KitaruClient().executions.resume(handle.exec_id)

    KitaruClient().executions.cancel(handle.exec_id)
    handle._driver.ledger.interrupt.set()
    assert isinstance(drives.error_of(handle), KitaruExecutionError)
    heart._changed.set()  # it must not sleep on into other tests
    until(lambda: heart._thread is None, "the heart has nothing to look after")
    heart._changed.clear()


def test_changed_source_is_told_while_and_after_the_resume():
    handle = drives.load(WAITING.replace("TIMEOUT", "0")).run()
    drives.error_of(handle)
    drives.answer(handle.exec_id, "approve", 3)
    changed = WAITING.replace("TIMEOUT", "0").replace("return kitaru", "return 10 * kitaru")

    drives.again("resume", drives.load(changed), handle.exec_id).wait(20)

    client = KitaruClient()
    execution = client.executions.get(handle.exec_id)
    assert execution.result == 30
    assert execution.status_reason == "The flow's source has changed since this execution started."
    lines = client.executions.logs(handle.exec_id, source="runner")
    assert "source has changed" in lines[-1].message
    assert "source has changed" not in lines[0].message


@pytest.mark.parametrize("action", ["resume", "retry", "replay"])
def test_code_that_cannot_be_found_again_leaves_the_execution_as_it_was(home: Path, action: str):
    # A flow that is made by `exec` is in no file.
    source = WAITING if action == "resume" else FAN_OUT
    handle = drives.load(source.replace("TIMEOUT", "0"), **names()).run()
    drives.error_of(handle)
    if action == "resume":
        drives.answer(handle.exec_id, "approve", 3)
    before = dump(home)
    client = KitaruClient()
    acting = {
        "resume": lambda: client.executions.resume(handle.exec_id),
        "retry": lambda: client.executions.retry(handle.exec_id),
        "replay": lambda: client.executions.replay(handle.exec_id, "part#1"),
    }

    with pytest.raises(KitaruUsageError) as caught:
        acting[action]()

    assert f"Cannot {action} execution {handle.exec_id}" in str(caught.value)
    assert "put it in a .py file" in str(caught.value)
    assert dump(home) == before


def test_another_flow_of_the_same_target_is_refused(home: Path):
    handle = drives.load(FAN_OUT, **names()).run()
    drives.error_of(handle)
    before = dump(home)

    other = drives.load(FAN_OUT.replace("agent", "other"), **names())

    with pytest.raises(KitaruUsageError, match="of flow 'agent', not of 'other'"):
        launch.retry(drives.store(), other.definition, handle.exec_id)

    assert dump(home) == before
