"""Answers to open questions: what counts as one, whose it is, and what is said of a misfit."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any, Literal, cast

import pytest

import kitaru
from kitaru import FlowHandle, flow
from kitaru.client import Executions
from kitaru_mcp.desk import Call, Desk
from kitaru_mcp.policy import Policy
from kitaru_mcp.replies import MAX_ERROR
from kitaru_mcp.tools import TOOLS, steering
from tests.mcp.serving import Place, Served, served
from tests.support import until

CHOICES = Literal[
    "postpone until the next release", "publish at once and tell everybody", "reject for good"
]


@flow
def asking(schema: str) -> Any:
    schemas: dict[str, Any] = {"maybe": str | None, "choice": CHOICES, "go": None, "text": str}
    return kitaru.wait(name=f"{schema} it", schema=schemas[schema], timeout=0)


@flow
def driven() -> Any:
    return kitaru.wait(name="approve", schema=bool, timeout=60)


@flow
def oddly() -> Any:
    return kitaru.wait(name="it's $(odd)", schema=bool, timeout=0)


@flow
def sleeping() -> None:
    kitaru.sleep(3600, timeout=0)


@pytest.fixture(autouse=True)
def home(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KITARU_HOME", str(place.home))


def let_go(place: Place, handle: FlowHandle) -> str:
    """The id of an execution once it waits and nobody drives it."""
    executions = place.client.executions
    until(
        lambda: (
            executions.get(handle.exec_id).pending_waits
            and not executions.continues(handle.exec_id)
        ),
        "it has let go",
    )
    return handle.exec_id


def test_an_answer_that_was_left_out_is_no_null(server: Served, place: Place) -> None:
    exec_id = let_go(place, asking.run("maybe"))
    refusal = server.refusal("kitaru_executions_input", exec_id=exec_id, wait="maybe it")
    assert refusal.startswith("bad_argument: 'maybe it' needs a value. Nothing was answered")
    assert place.client.executions.get(exec_id).pending_waits
    server.call("kitaru_executions_input", exec_id=exec_id, wait="maybe it", value=None)
    assert not place.client.executions.get(exec_id).pending_waits


def test_a_go_ahead_needs_no_value(server: Served, place: Place) -> None:
    exec_id = let_go(place, asking.run("go"))
    server.call("kitaru_executions_input", exec_id=exec_id, wait="go it")
    assert not place.client.executions.get(exec_id).pending_waits


def test_a_misfit_says_what_is_wrong_with_it_and_what_to_do(server: Served, place: Place) -> None:
    exec_id = let_go(place, asking.run("choice"))
    refusal = server.refusal(
        "kitaru_executions_input", exec_id=exec_id, wait="choice it", value="x" * 5000
    )
    assert len(refusal) <= MAX_ERROR
    assert "is not one of" in refusal
    assert refusal.endswith("The wait is still open; answer with JSON that fits.")


def test_the_command_that_resumes_finds_the_store_from_anywhere(
    place: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    exec_id = let_go(place, asking.run("go"))
    with served(place, "--home", str(place.home)) as server:
        reply = server.call("kitaru_executions_input", exec_id=exec_id, wait="go it", value=None)
    line = reply["execution"]["next"][0].removeprefix("in a shell: ").replace(" resume ", " get ")
    monkeypatch.delenv("KITARU_HOME")
    environment = os.environ | {"PYTHONPATH": place.environment["PYTHONPATH"]}
    command = line.replace("kitaru ", f"{shlex.quote(sys.executable)} -m kitaru.cli ", 1)
    done = subprocess.run(
        command, shell=True, cwd=tmp_path, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert exec_id in done.stdout


@pytest.mark.parametrize("text", ["true", "True"])
def test_an_answer_may_come_as_text(server: Served, place: Place, text: str) -> None:
    exec_id = let_go(place, oddly.run())
    server.call("kitaru_executions_input", exec_id=exec_id, wait="it's $(odd)", value=text)
    assert not place.client.executions.get(exec_id).pending_waits


def test_waiting_is_not_suggested_where_it_would_end_at_once(server: Served, place: Place) -> None:
    handle = sleeping.run()
    executions = place.client.executions
    until(lambda: executions.get(handle.exec_id).status == "waiting", "it sleeps")
    until(lambda: not executions.continues(handle.exec_id), "it has let go")
    shown = server.call("kitaru_executions_wait", exec_id=handle.exec_id)
    assert (shown["settled"], shown["next"]) == (True, [])
    assert shown["waits_for"].startswith("it sleeps until")


def test_a_prompt_names_commands_where_the_tools_are_not_offered(place: Place) -> None:
    let_go(place, oddly.run())
    with served(place, "--read-only") as careful:
        text = careful.ask("get_prompt", "review_waits").messages[0].content.text
    assert "`kitaru executions input` in a shell" in text
    assert "kitaru_executions_input" not in text


def test_what_is_answered_is_shown_though_it_waits_no_longer(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    handle = driven.run()
    executions = place.client.executions
    until(lambda: executions.get(handle.exec_id).pending_waits, "it waits")
    answer = Executions.input

    def answer_and_be_overtaken(self: Executions, exec_id: str, **given: Any) -> Any:
        found = answer(self, exec_id, **given)
        assert handle.wait() is True
        return found

    monkeypatch.setattr(Executions, "input", answer_and_be_overtaken)
    desk = Desk(home=None, policy=Policy(False, ()), offered={tool.name for tool in TOOLS})
    call = Call(desk, cast(Any, None), cast(Any, None))
    reply = steering.answer.fn(call, exec_id="latest:waiting", wait="approve", value="true")
    assert reply["execution"]["exec_id"] == handle.exec_id
    assert reply["execution"]["result"] is True


def test_a_command_that_is_named_can_be_pasted_into_a_shell(place: Place) -> None:
    exec_id = let_go(place, oddly.run())
    with pytest.raises(kitaru.KitaruStateError) as caught:
        place.client.executions.resume(exec_id)
    line = re.search("`?(kitaru executions input .*)", str(caught.value))
    assert line
    assert shlex.split(line[1])[:6][-1] == "it's $(odd)"
