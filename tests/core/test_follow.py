"""Following the lines of an execution while it runs."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import pytest

import kitaru
from kitaru import KitaruClient, checkpoint, flow
from kitaru.errors import KitaruNotFoundError, KitaruUsageError

pytestmark = pytest.mark.usefixtures("home")

_gate = threading.Event()


@checkpoint
def step(number: int) -> int:
    print("step", number)
    if number == 2:
        assert _gate.wait(20)
    return number


@flow
def stepping(steps: int) -> int:
    for number in range(1, steps + 1):
        step(number)
    return steps


@pytest.fixture(autouse=True)
def closed_gate() -> Any:
    _gate.clear()
    yield
    _gate.set()


def test_lines_are_yielded_as_they_are_stored_and_the_last_when_it_has_ended():
    handle = stepping.run(3)
    lines = KitaruClient().executions.logs(handle.exec_id, follow=True)
    assert next(lines).message == "step 1"
    assert next(lines).message == "step 2"  # while the step is still at the gate
    _gate.set()
    assert [line.message for line in lines] == ["step 3"]
    assert handle.wait(20) == 3


def test_following_a_finished_execution_gives_the_same_lines_as_reading():
    _gate.set()
    handle = stepping.run(3)
    handle.wait(20)
    logs = KitaruClient().executions.logs
    assert list(logs(handle.exec_id, follow=True)) == logs(handle.exec_id)


def test_a_followed_checkpoint_source_and_limit_are_the_only_ones_shown():
    _gate.set()
    handle = stepping.run(3)
    handle.wait(20)
    logs = KitaruClient().executions.logs
    assert [e.message for e in logs(handle.exec_id, "step#2", follow=True)] == ["step 2"]
    assert [e.message for e in logs(handle.exec_id, "step", limit=2, follow=True)] == [
        "step 1",
        "step 2",
    ]
    assert "Started" in next(logs(handle.exec_id, source="runner", follow=True)).message


def test_following_what_does_not_exist_fails_at_the_call():
    with pytest.raises(KitaruNotFoundError):
        KitaruClient().executions.logs("kr-nothing", follow=True)
    with pytest.raises(KitaruUsageError, match="source"):
        KitaruClient().executions.logs("kr-nothing", source="nowhere", follow=True)  # type: ignore[call-overload]


def test_following_a_checkpoint_that_was_never_called_says_so_at_the_end_and_names_the_nearest():
    _gate.set()
    handle = stepping.run(1)
    with pytest.raises(KitaruNotFoundError, match=r"not called a checkpoint 'stpe'. Nearest: step"):
        list(KitaruClient().executions.logs(handle.exec_id, "stpe", follow=True))


def test_an_execution_another_process_drives_can_be_followed(tmp_path: Path):
    (tmp_path / "talking.py").write_text(
        "import kitaru\n"
        "@kitaru.checkpoint\n"
        "def talk(word: str) -> str:\n"
        "    print(word)\n"
        "    return word\n"
        "@kitaru.flow\n"
        "def talking() -> None:\n"
        "    talk('before')\n"
        "    kitaru.wait(name='go', schema=None)\n"
        "    talk('after')\n"
    )
    executions = kitaru.KitaruClient().executions
    started = executions.run("talking.py:talking", root=str(tmp_path))
    lines = executions.logs(started.exec_id, follow=True)
    assert next(lines).message == "before"
    while not executions.pending_waits(started.exec_id):
        pass
    executions.input(started.exec_id, wait="go", value=None)
    assert [line.message for line in lines] == ["after"]
