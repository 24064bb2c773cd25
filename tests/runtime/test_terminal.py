"""The prompt of a wait in a terminal: a real one, with a real process behind it."""

from __future__ import annotations

import json
import os
import pty
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from kitaru import KitaruClient
from kitaru.context import WaitRequest
from kitaru.terminal import TerminalPrompt, Typed
from tests.support import ROOT, until
from tests.terminals import Terminal

SCRIPT = """
import sys, typing, kitaru
from pydantic import BaseModel, field_validator
class Release(BaseModel):
    version: str
    count: int = 1
    tags: list[str] = []
    @field_validator("version")
    @classmethod
    def counts_up(cls, value):
        if not value.startswith("v"):
            raise ValueError("a version starts with v\\x1b")
        return value
SCHEMAS = {
    "bool": bool, "null": None, "two": bool, "str": str, "release": Release
}
@kitaru.flow
def asks(kind: str) -> str:
    print("a line of the flow")
    question = "Publish\\x1b[31m?"
    got = kitaru.wait(name="approve", question=question, schema=SCHEMAS[kind], timeout=60)
    if kind == "two":
        got = got, kitaru.wait(name="again", question="Again?", timeout=60)
    return f"got {got}"
print(asks.run(sys.argv[1]).wait())
"""


@pytest.fixture
def script(home: Path) -> Path:
    path = home.parent / "asks.py"
    path.write_text(SCRIPT)
    return path


@pytest.fixture
def terminal(script: Path, request: pytest.FixtureRequest) -> Iterator[Terminal]:
    opened = Terminal([sys.executable, str(script), getattr(request, "param", "bool")])
    yield opened
    opened.close()


@pytest.mark.parametrize("terminal", ["str"], indirect=True)
def test_a_line_that_the_terminal_has_cut_is_no_answer(terminal: Terminal):
    terminal.expect("> ")
    terminal.type("x" * 3000)
    terminal.type("x" * 3000 + "\n")
    terminal.expect("and this one was cut there")
    terminal.type("short\n")
    terminal.expect("got short")


def test_the_question_is_asked_right_there_until_an_answer_fits(terminal: Terminal):
    terminal.expect("> ")
    assert "Waiting for input; :abort cancels the execution.\r\n" in terminal.shown
    assert terminal.shown.endswith("[y/n] > ")
    terminal.type("maybe\n")
    terminal.expect("Invalid input: type y or n.")
    terminal.type("\n")
    terminal.expect("Invalid input: type y or n.", times=2)
    terminal.type("y\n")
    terminal.expect("got True")
    assert terminal.process.wait(30) == 0


@pytest.mark.parametrize("terminal", ["release"], indirect=True)
def test_a_model_is_asked_field_by_field(terminal: Terminal):
    terminal.expect("Version (text) > ")
    terminal.type("v1\n")
    terminal.expect("Count (whole number) [1] > ")
    terminal.type("many\n")
    terminal.expect("Invalid input: type a whole number.\r\nCount (whole number) [1] > ")
    terminal.type("\n")
    terminal.expect("Tags 1 (text) [end] > ")
    terminal.type("a\nb c\n\n")  # as pasted
    terminal.expect("got version='v1' count=1 tags=['a', 'b c']")


@pytest.mark.parametrize("terminal", ["release"], indirect=True)
def test_what_the_flows_type_refuses_is_asked_anew_with_the_reason(terminal: Terminal):
    terminal.expect("Version (text) > ")
    terminal.type('{"version": "1"}\n')
    terminal.expect("Refused by the flow's type: 1 validation error for Release")
    terminal.expect("a version starts with v\\x1b")
    terminal.expect("Version (text) > ", times=2)
    assert KitaruClient().executions.latest().status_reason == "Waiting for approve."
    terminal.type('{"version": "v1"}\n')
    terminal.expect("got version='v1' count=1 tags=[]")


@pytest.mark.parametrize("terminal", ["release", "bool", "null"], indirect=True)
def test_a_wait_may_be_aborted_where_it_is_asked(terminal: Terminal):
    terminal.expect("> ")
    terminal.type(" :abort\n")
    terminal.expect("KitaruExecutionError")
    assert terminal.process.wait(30) == 1
    execution = KitaruClient().executions.latest()
    assert (execution.status, execution.status_reason) == ("cancelled", "Wait approve was aborted.")
    assert execution.pending_wait is None


@pytest.mark.parametrize("terminal", ["str"], indirect=True)
def test_a_text_is_typed_plainly(terminal: Terminal):
    terminal.expect("(text) > ")
    terminal.type("ไทย 🔬\n")
    terminal.expect("got ไทย 🔬")


@pytest.mark.parametrize("terminal", ["str"], indirect=True)
def test_bytes_that_are_no_text_are_refused(terminal: Terminal):
    terminal.expect("(text) > ")
    os.write(terminal.master, b"a\xff\n")
    terminal.expect("Invalid input: it holds characters that are no text.")
    terminal.type("a\n")
    terminal.expect("got a")


def test_a_line_sent_without_its_end_holds_nothing_up(monkeypatch: pytest.MonkeyPatch):
    master, slave = pty.openpty()
    request = WaitRequest(
        "ask", b"", "", None, {"type": "string"}, {}, 20.0, lambda data, call: json.loads(data)
    )
    prompt = TerminalPrompt(request, wait="kr-1/ask")
    with os.fdopen(slave) as stdin:
        monkeypatch.setattr(sys, "stdin", stdin)
        assert prompt.poll(0) is None
        os.write(master, b"one \x04")
        assert prompt.poll(20) is None
        os.write(master, b"line\n")
        assert prompt.poll(20) == Typed(b'"one line"')
        prompt.close()
    os.close(master)


def test_a_terminal_that_goes_away_leaves_the_question_open(script: Path):
    terminal = Terminal([sys.executable, str(script), "str"])
    terminal.expect("(text) > ")
    os.close(terminal.master)
    client = KitaruClient()
    execution = client.executions.latest()
    assert client.executions.continues(execution.exec_id)
    client.executions.input(execution.exec_id, wait="approve", value="still here")
    until(lambda: execution.refresh().status == "completed", "it goes on")
    terminal.process.wait(30)


def test_control_characters_of_a_question_are_shown_escaped(terminal: Terminal):
    terminal.expect("Question: Publish\\x1b[31m?\r\n")
    assert "\x1b" not in terminal.shown


def test_the_prompt_is_not_a_line_of_the_flow(terminal: Terminal):
    terminal.expect("> ")
    terminal.type("false\n")
    terminal.expect("got False")
    logs = KitaruClient().executions.logs(KitaruClient().executions.latest().exec_id)
    assert [line.message for line in logs] == ["a line of the flow"]


def test_an_answer_from_elsewhere_continues_too(terminal: Terminal):
    terminal.expect("> ")
    client = KitaruClient()
    execution = client.executions.latest()
    assert execution.status == "waiting"
    client.executions.input(execution.exec_id, wait="approve", value=False)
    terminal.expect("got False")
    assert terminal.process.wait(30) == 0


@pytest.mark.parametrize("terminal", ["null"], indirect=True)
def test_a_go_ahead_needs_only_enter(terminal: Terminal):
    terminal.expect("Press Enter to continue.\r\n> ")
    assert "Waiting for confirmation; :abort cancels" in terminal.shown
    terminal.type("no\n")
    terminal.expect("Press Enter alone to continue, or type :abort.\r\n> ")
    terminal.type("\n")
    terminal.expect("got None")


@pytest.mark.parametrize("terminal", ["two"], indirect=True)
def test_questions_follow_each_other_in_one_terminal(terminal: Terminal):
    terminal.expect("> ")
    terminal.type("y\n")
    terminal.expect("Question: Again?")
    terminal.expect("> ", times=2)
    terminal.type("n\n")
    terminal.expect("got (True, False)")


def test_the_end_of_input_is_no_answer_and_is_told_once(terminal: Terminal):
    terminal.expect("> ")
    terminal.type("\x04")
    client = KitaruClient()
    execution = client.executions.latest()
    line = f"kitaru executions input {execution.exec_id} --wait approve --value"
    terminal.expect(f"No more input here. Answer it elsewhere: {line}")
    assert terminal.process.poll() is None
    assert execution.refresh().status == "waiting"
    client.executions.input(execution.exec_id, wait="approve", value=True)
    terminal.expect("got True")
    assert terminal.shown.count("No more input here") == 1


def test_ctrl_c_at_the_prompt_leaves_the_question_open(terminal: Terminal):
    terminal.expect("> ")
    os.kill(terminal.process.pid, signal.SIGINT)
    terminal.expect("KeyboardInterrupt")
    terminal.process.wait(30)
    client = KitaruClient()
    execution = client.executions.latest()
    assert (execution.status, execution.stalled) == ("waiting", False)
    assert [each.name for each in client.executions.pending_waits(execution.exec_id)] == ["approve"]
    assert not client.executions.continues(execution.exec_id)


def test_without_a_terminal_nothing_is_asked_there(script: Path):
    process = subprocess.Popen(
        [sys.executable, str(script), "bool"],
        env=os.environ | {"PYTHONPATH": f"{ROOT / 'core'}{os.pathsep}{ROOT}"},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        text=True,
    )
    client = KitaruClient()
    until(lambda: client.executions.list(status="waiting"), "the question is put")
    client.executions.input(client.executions.latest().exec_id, wait="approve", value=True)
    assert process.communicate(timeout=30)[0] == "a line of the flow\ngot True\n"
