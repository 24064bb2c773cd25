"""Cancellation: at once for what nobody runs, at the next durable call for what somebody does."""

from __future__ import annotations

import json
import os
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import kitaru
from kitaru import KitaruClient, launch
from kitaru.errors import KitaruExecutionError, KitaruStateError, KitaruUserCodeError
from kitaru.ledger import Ledger
from kitaru.models import CallStatus, Execution, ExecutionStatus
from tests import drives
from tests.support import is_running, query, spawn, until

pytestmark = pytest.mark.usefixtures("home")


def cancel(handle: drives.Handle) -> Execution:
    return KitaruClient().executions.cancel(handle.exec_id)


def get(handle: drives.Handle) -> Execution:
    return KitaruClient().executions.get(handle.exec_id)


def is_cancelled(handle: drives.Handle) -> bool:
    """Whether a run ends as cancelled, with the error that says so."""
    error = drives.error_of(handle)
    assert isinstance(error, KitaruExecutionError)
    assert not isinstance(error, KitaruUserCodeError)
    assert (error.exec_id, error.status) == (handle.exec_id, "cancelled")
    execution = get(handle)
    assert execution.ended_at is not None
    assert execution.failure is None
    return execution.status is ExecutionStatus.CANCELLED


STEPS = """
@checkpoint
def step(n):
    ran.append(n)
    inside.set()
    go.wait(20)
    return n

@flow
def agent():
    try:
        return BODY
    except EXCEPT:
        return step(99)
"""


class Steps:
    """A flow whose checkpoints wait to be let go on."""

    def __init__(self, body: str = "step(1) + step(2)", *, swallow: str = "Exception") -> None:
        self.ran: list[int] = []
        self.inside, self.go = threading.Event(), threading.Event()
        source = STEPS.replace("BODY", body).replace("EXCEPT", swallow)
        self.flow = drives.load(source, ran=self.ran, inside=self.inside, go=self.go)
        self.handle = self.flow.run()
        assert self.inside.wait(20)


@pytest.mark.parametrize("swallow", ["Exception", "BaseException"])
def test_a_running_call_ends_and_is_recorded_and_no_other_starts(swallow: str):
    steps = Steps(swallow=swallow)

    assert cancel(steps.handle).status is ExecutionStatus.RUNNING
    assert cancel(steps.handle).status is ExecutionStatus.RUNNING  # asking twice is no error
    steps.go.set()

    assert is_cancelled(steps.handle)
    (call,) = get(steps.handle).checkpoints
    assert (call.status, call.artifacts[0].load()) == (CallStatus.COMPLETED, 1)
    assert steps.ran == [1]


def test_submitted_calls_that_run_end_and_those_in_the_queue_do_not_start():
    steps = Steps("step.map(range(40)).result()")
    until(lambda: len(steps.ran) == 16, "all workers are busy")

    cancel(steps.handle)
    until(lambda: steps.handle._driver.ledger.cancelled, "its driver has seen it")
    steps.go.set()

    assert is_cancelled(steps.handle)
    assert len(steps.ran) == 16
    assert sum(call.status is CallStatus.COMPLETED for call in get(steps.handle).checkpoints) == 16


def test_cancelling_the_last_call_wins_over_its_result():
    steps = Steps("step(1)")

    cancel(steps.handle)
    steps.go.set()

    assert is_cancelled(steps.handle)
    assert get(steps.handle).result is None


def test_a_pause_between_attempts_ends_at_once():
    source = """
    @checkpoint(retries=5, retry_delay=600)
    def step():
        ran.append(1)
        raise ConnectionError("closed")

    @flow
    def agent():
        step()
    """
    ran: list[int] = []
    handle = drives.load(source, ran=ran).run()
    calls: Callable[[], Any] = lambda: get(handle).checkpoints  # noqa: E731
    until(lambda: calls() and len(calls()[0].attempts) == 1, "the first attempt is recorded")

    cancel(handle)

    assert is_cancelled(handle)
    assert ran == [1]


def test_a_pause_between_runs_of_a_flow_ends_at_once():
    ran: list[int] = []
    source = "@flow(retries=5)\ndef agent():\n    ran.append(1)\n    1 / 0"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("kitaru.config.RETRY_DELAY_SECONDS", 600)
        handle = drives.load(source, ran=ran).run()
    until(lambda: ran, "it has failed once")

    cancel(handle)

    assert is_cancelled(handle)
    assert ran == [1]


WAITING = "@flow\ndef agent():\n    return kitaru.wait(name='approve', timeout=TIMEOUT)"


@pytest.mark.parametrize("action", ["cancel", "abort_wait"])
@pytest.mark.parametrize("timeout", ["0", "600"])
def test_a_wait_ends_at_once_whether_it_is_polled_or_not(action: str, timeout: str):
    handle = drives.load(WAITING.replace("TIMEOUT", timeout)).run()
    client = KitaruClient().executions
    until(lambda: client.pending_waits(handle.exec_id), "it asks")
    if timeout == "0":
        drives.left(handle.exec_id)

    if action == "cancel":
        execution = client.cancel(handle.exec_id)
    else:
        execution = client.abort_wait(handle.exec_id, wait="approve")

    assert execution.status is ExecutionStatus.CANCELLED
    assert execution.pending_wait is None
    assert is_cancelled(handle)
    for refused in (
        lambda: client.input(handle.exec_id, wait="approve", value=True),
        lambda: client.abort_wait(handle.exec_id, wait="approve"),
        lambda: client.cancel(handle.exec_id),
        lambda: client.resume(handle.exec_id),
    ):
        with pytest.raises(KitaruStateError, match="it is cancelled"):
            refused()


def test_an_abandoned_execution_is_cancelled_at_once():
    steps = Steps()
    steps.handle._driver.stop()
    steps.go.set()
    assert drives.left(steps.handle.exec_id).stalled

    assert cancel(steps.handle).status is ExecutionStatus.CANCELLED


STUBBORN = """
import subprocess, sys
from pathlib import Path
from kitaru import checkpoint, flow

@checkpoint
def stubborn():
    child = subprocess.Popen([sys.executable, "-c", "while True: input()"], stdin=subprocess.PIPE)
    Path(__file__).with_name("child").write_text(str(child.pid) + " ")
    while True:
        pass

@flow
def agent():
    stubborn()
"""

#: A runner whose patience is short.
RUNNER = """
from kitaru import config, runner
config.CANCEL_GRACE_SECONDS = 0.1
runner.main()
"""


@pytest.mark.skipif(sys.platform == "win32", reason="process groups are POSIX's")
def test_a_runner_whose_checkpoint_ignores_it_ends_itself_and_what_it_started(
    home: Path, tmp_path: Path
):
    (tmp_path / "stubborn.py").write_text(STUBBORN)
    process = spawn(home, "-c", RUNNER, start_new_session=True)
    request = {"action": "run", "target": "stubborn.py:agent", "root": str(tmp_path), "args": {}}
    assert process.stdin is not None
    assert process.stdout is not None
    with process.stdin as stdin:
        stdin.write(json.dumps(request))
    with process.stdout as stdout:
        exec_id = json.loads(stdout.readline())["exec_id"]
    child = tmp_path / "child"
    until(lambda: child.exists() and child.read_text().endswith(" "), "it has started its child")

    KitaruClient().executions.cancel(exec_id)

    process.wait(20)
    execution = KitaruClient().executions.get(exec_id)
    assert execution.status is ExecutionStatus.CANCELLED
    assert "its runner was ended" in (execution.status_reason or "")
    until(lambda: not is_running(int(child.read_text())), "its child is ended")
    with pytest.raises(OSError, match="No such process"):
        os.kill(process.pid, 0)
    assert query(home, "SELECT runner FROM leases") == [(None,)]


def test_a_cancel_seen_by_another_client_is_the_same(home: Path):
    steps = Steps()
    KitaruClient(home=home).executions.cancel(steps.handle.exec_id[:9])
    steps.go.set()

    assert is_cancelled(steps.handle)
    assert kitaru.KitaruClient().executions.list(status="cancelled")[0].exec_id == (
        steps.handle.exec_id
    )


def test_a_cancellation_in_the_last_moment_wins_over_the_result() -> None:
    store = drives.store()
    lease = launch.start(store, drives.load("@flow\ndef empty():\n    pass").definition, {})
    KitaruClient().executions.cancel(lease.exec_id)
    assert Ledger(store, lease, {}).finish("complete", result=b"1") == "cancel"
    execution = KitaruClient().executions.get(lease.exec_id)
    assert (execution.status, execution.result) == ("cancelled", None)
