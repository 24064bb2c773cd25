"""The prompt of a wait in a terminal: a real one, with a real process behind it."""

from __future__ import annotations

import os
import pty
import select
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from kitaru import KitaruClient
from tests.support import ROOT, until

SCRIPT = """
import sys, typing, kitaru
SCHEMAS = {"bool": bool, "null": None, "two": bool}
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


class Terminal:
    """A process at a terminal of its own: what it shows so far, and what is typed there."""

    def __init__(self, script: Path, kind: str) -> None:
        self.shown = ""
        self._master, slave = pty.openpty()
        self.process = subprocess.Popen(
            [sys.executable, str(script), kind],
            env=os.environ | {"PYTHONPATH": f"{ROOT / 'core'}{os.pathsep}{ROOT}"},
            stdin=slave,
            stdout=slave,
            stderr=slave,
            start_new_session=True,
        )
        os.close(slave)
        self._poll = select.poll()
        self._poll.register(self._master, select.POLLIN)

    def type(self, text: str) -> None:
        os.write(self._master, text.encode())

    def reads(self, text: str, *, times: int = 1) -> bool:
        """Whether the text has been shown so often."""
        if self._poll.poll(10):
            try:
                self.shown += os.read(self._master, 65536).decode()
            except OSError:  # the process has closed its side
                return self.shown.count(text) >= times
        return self.shown.count(text) >= times

    def expect(self, text: str, *, times: int = 1) -> None:
        until(lambda: self.reads(text, times=times), f"{text!r} in {self.shown!r}")

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        os.close(self._master)


@pytest.fixture
def script(home: Path) -> Path:
    path = home.parent / "asks.py"
    path.write_text(SCRIPT)
    return path


@pytest.fixture
def terminal(script: Path, request: pytest.FixtureRequest) -> Iterator[Terminal]:
    opened = Terminal(script, getattr(request, "param", "bool"))
    yield opened
    opened.close()


def test_the_question_is_asked_right_there_until_an_answer_fits(terminal: Terminal):
    terminal.expect("> ")
    assert "Waiting for input.\r\n" in terminal.shown
    assert 'Expected JSON schema: {"type": "boolean"}\r\n' in terminal.shown
    terminal.type("maybe\n")
    terminal.expect("Invalid input: Expecting value: line 1 column 1 (char 0). Type JSON, such")
    terminal.expect("> ", times=2)
    terminal.type("\n")
    terminal.expect("Invalid input: ", times=2)
    terminal.expect("not of type 'boolean'")
    terminal.type("true\n")
    terminal.expect("got True")
    assert terminal.process.wait(30) == 0


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
    assert "Waiting for confirmation." in terminal.shown
    terminal.type("\n")
    terminal.expect("got None")


@pytest.mark.parametrize("terminal", ["two"], indirect=True)
def test_questions_follow_each_other_in_one_terminal(terminal: Terminal):
    terminal.expect("> ")
    terminal.type("true\n")
    terminal.expect("Question: Again?")
    terminal.expect("> ", times=2)
    terminal.type("false\n")
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
