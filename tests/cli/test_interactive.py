"""Open questions gone through at a real terminal: each is shown, asked until decided, summed up."""

from __future__ import annotations

import json
import os
import shlex
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel

import kitaru
from kitaru.models import Execution
from tests.cli.conftest import Cli
from tests.cli.test_schemas import check
from tests.support import until
from tests.terminals import Terminal

INPUT = [sys.executable, "-m", "kitaru.cli", "executions", "input", "--interactive"]
ACTION = "Action [c=continue, a=abort, s=skip, q=quit]: "


class Release(BaseModel):
    version: str
    count: int = 1


@kitaru.checkpoint
def look(topic: str) -> str:
    kitaru.save("sources", {"topic": topic, "api_key": "sk-1"}, type="context")
    return f"notes \x1b about {topic}" + "x" * 300


@kitaru.flow
def releases(topic: str) -> Any:
    look(topic)
    return kitaru.wait(
        name="release", question="Which\x1b[2J one?", schema=Release, timeout=0, metadata={"n": 1}
    )


@kitaru.flow
def approves() -> Any:
    return kitaru.wait(name="approve", timeout=0)


@kitaru.flow
def asks_for_text() -> Any:
    return kitaru.wait(name="text", schema=str, timeout=0)


@kitaru.flow
def asks_twice() -> Any:
    return kitaru.wait(name="one", schema=int, timeout=0), kitaru.wait(name="two", timeout=0)


def waiting(flow: Any, **inputs: Any) -> Execution:
    """An execution that waits, let go by its driver."""
    exec_id = flow.run(**inputs).exec_id
    executions = kitaru.KitaruClient().executions
    until(lambda: executions.pending_waits(exec_id) and not executions.continues(exec_id), "let go")
    return executions.get(exec_id)


@pytest.fixture
def at(home: Path) -> Iterator[Callable[..., Terminal]]:
    """Starts the command at a terminal."""
    opened: list[Terminal] = []

    def start(*args: str, **options: Any) -> Terminal:
        opened.append(Terminal([*INPUT, *args], **options))
        return opened[-1]

    yield start
    for terminal in opened:
        terminal.close()


def ends(terminal: Terminal, code: int = 0) -> str:
    shown = terminal.all()
    assert terminal.process.returncode == code, shown
    assert "Traceback" not in shown
    return shown.replace("\r\n", "\n")


def test_a_line_that_the_terminal_has_cut_is_no_answer(at):
    exec_id = waiting(asks_for_text).exec_id
    terminal = at(exec_id)
    terminal.expect(ACTION)
    terminal.type("c\n")
    terminal.expect("(text) > ")
    terminal.type("x" * 3000)
    terminal.type("x" * 3000 + "\n")
    terminal.expect("and this one was cut there")
    terminal.expect("(text) > ", times=2)
    terminal.type("short\n")
    ends(terminal)
    kitaru.KitaruClient().executions.resume(exec_id)
    until(lambda: kitaru.KitaruClient().executions.get(exec_id).result == "short", "the result")


def test_further_lines_of_a_pasted_answer_decide_nothing_about_the_next_question(at):
    first, second = waiting(asks_for_text), waiting(approves)
    terminal = at()
    terminal.expect(ACTION)
    terminal.type("c\n")
    terminal.expect("(text) > ")
    terminal.type("Dear all,\n\na\ny\n")
    terminal.expect("[2/2]")
    terminal.expect(ACTION, times=2)
    terminal.type("q\n")
    assert "1 answered, 1 left open" in ends(terminal)
    assert first.refresh().pending_wait is None
    assert second.refresh().status == "waiting"


def test_a_question_is_shown_with_its_context_and_answered_field_by_field(at):
    execution = waiting(releases, topic="dogs")
    exec_id = execution.exec_id
    terminal = at(exec_id[:9])
    terminal.expect(ACTION)
    shown = terminal.shown.replace("\r\n", "\n")
    for line in (
        "[1/1]",
        f"Execution: {exec_id}",
        "Flow: releases",
        "Status: waiting",
        "Wait name: release",
        f"Wait ID: {exec_id}/release",
        "Question: Which\\x1b[2J one?",
        'Metadata: {"n": 1}',
        f'{exec_id}/look/sources (context): {{"topic":"dogs","api_key":"[redacted]"}}',
        f"{exec_id}/look (result): notes \\x1b about dogsxxx",
        "All of one: kitaru artifacts get ID",
    ):
        assert line in shown
    assert "… (3" in shown
    assert '"title": "Release"' in shown
    assert "\x1b" not in shown
    terminal.type("x\n")
    terminal.expect("Type c, a, s or q.")
    terminal.type("c\n")
    terminal.expect("Version (text) > ")
    terminal.type("v1\n")
    terminal.expect("Count (whole number) [1] > ")
    terminal.type("many\n")
    terminal.expect("Invalid input: type a whole number.")
    terminal.type("3\n")
    assert f"Continue it with: kitaru executions resume {exec_id}" in ends(terminal)
    assert execution.refresh().pending_wait is None


def test_a_sweep_goes_from_the_oldest_to_the_newest_and_sums_up(at):
    first, second, third = (waiting(approves) for _ in range(3))
    terminal = at()
    terminal.expect("[1/3]")
    terminal.expect(first.exec_id)
    terminal.expect(ACTION)
    terminal.type("skip\n")
    terminal.expect("[2/3]")
    terminal.expect(f"Execution: {second.exec_id}")
    terminal.expect(ACTION, times=2)
    terminal.type("a\n")
    terminal.expect(f"This cancels execution {second.exec_id}. [y/N]: ")
    terminal.type("\n")
    terminal.expect(ACTION, times=3)
    assert second.refresh().status == "waiting"
    terminal.type("a\n")
    terminal.expect("[y/N]: ", times=2)
    terminal.type("y\n")
    terminal.expect("[3/3]")
    terminal.expect(ACTION, times=4)
    terminal.type("q\n")
    assert "Open questions: 1 aborted, 1 skipped, 1 left open.\n" in ends(terminal)
    states = [each.refresh().status for each in (first, second, third)]
    assert states == ["waiting", "cancelled", "waiting"]


def test_an_answered_execution_can_be_resumed_on_the_way(at, cli: Cli):
    exec_id = cli.waiting()
    terminal = at()
    terminal.expect(ACTION)
    terminal.type("c\ny\n")
    terminal.expect("Next [r=resume it, Enter=leave it]: ")
    terminal.type("r\n")
    shown = ends(terminal)
    assert f"Resumed execution: {exec_id}" in shown
    assert shown.endswith("Open questions: 1 answered.\n")
    cli.until(exec_id, "completed")


def test_a_question_that_is_answered_elsewhere_meanwhile_is_left(at):
    first, second = waiting(approves), waiting(approves)
    terminal = at()
    terminal.expect(ACTION)
    terminal.type("c\n")
    terminal.expect("[y/n] > ")
    terminal.type("y")  # half typed: it must not get to the next question
    first._actions().input(first.exec_id, wait="approve", value=False)  # type: ignore[attr-defined]
    terminal.expect(f"{first.exec_id}/approve is not open any more: it was closed elsewhere.")
    terminal.expect(f"Execution: {second.exec_id}")
    terminal.expect(ACTION, times=2)
    terminal.type("s\n")
    assert "1 skipped, 1 closed elsewhere." in ends(terminal)


def test_a_second_question_of_the_same_execution_is_told(at):
    execution = waiting(asks_twice)
    terminal = at(execution.exec_id)
    terminal.expect(ACTION)
    terminal.type("c\n")
    terminal.expect("(whole number) > ")
    terminal.type(":abort\n")
    terminal.expect("[y/N]: ")
    terminal.type("n\n")
    terminal.expect(ACTION, times=2)
    terminal.type("c\n7\n")
    assert "Open questions: 1 answered." in ends(terminal)


@pytest.mark.parametrize("code", [0, 130])
def test_ctrl_c_and_ctrl_d_end_with_what_was_done(at, code: int):
    first, _ = waiting(approves), waiting(approves)
    terminal = at()
    terminal.expect(ACTION)
    terminal.type("s\n")
    terminal.expect(ACTION, times=2)
    terminal.type("c\n")
    terminal.expect("[y/n] > ")
    if code:
        terminal.process.send_signal(signal.SIGINT)  # the terminal is not its controlling one
    else:
        terminal.type("\x04")
    assert "\nOpen questions: 1 skipped, 1 left open.\n" in ends(terminal, code)
    assert first.refresh().status == "waiting"


def test_json_is_all_that_standard_output_has(at, tmp_path: Path):
    execution = waiting(approves)
    path = tmp_path / "out.json"
    shell = f"{shlex.join(INPUT)} -o json > {shlex.quote(str(path))}"
    terminal = Terminal(["bash", "-c", shell])
    terminal.expect(ACTION)
    terminal.type("c\nn\n\n")
    ends(terminal)
    terminal.close()
    document = json.loads(path.read_text())
    check(document, "executions.input")
    assert document == {
        "command": "executions.input",
        "items": [
            {
                "exec_id": execution.exec_id,
                "wait": "approve",
                "action": "answered",
                "status": "waiting",
                "continues_by_itself": False,
            }
        ],
        "count": 1,
    }


def test_where_nothing_waits_nothing_is_asked(at, cli: Cli):
    assert ends(at()) == "No execution waits for an answer.\n"
    exec_id = waiting(approves).exec_id
    assert "has no open wait 'other'. Open: approve." in ends(at(exec_id, "--wait", "other"), 1)
    assert cli("executions", "cancel", exec_id).code == 0
    assert "it is cancelled" in ends(at(exec_id), 1)


@pytest.mark.parametrize(
    "args",
    [
        ("--interactive",),
        ("kr-1", "--interactive"),
        ("--interactive", "--wait", "approve"),
        ("kr-1", "--interactive", "--value", "1"),
        ("kr-1", "--interactive", "--abort"),
        ("--value", "1"),
        ("--abort",),
    ],
)
def test_without_a_terminal_or_with_other_ways_to_answer_it_is_no_command_line(cli: Cli, args):
    with open(os.devnull) as nobody, pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "stdin", nobody)
        result = cli("executions", "input", *args)
    assert (result.code, result.out) == (2, "")
    if args == ("--interactive",):
        assert "Give --value JSON." in result.err
