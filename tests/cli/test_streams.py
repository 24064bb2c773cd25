"""The streams of the process: cut off, closed, narrow, of few characters; and Ctrl-C anywhere."""

from __future__ import annotations

import os
import re
import shlex
import signal
import subprocess
import sys
from pathlib import Path

import pytest

import kitaru
from tests.support import until
from tests.terminals import Terminal

from .conftest import SECONDS

COMMAND = f"{shlex.quote(sys.executable)} -m kitaru"
LINES = 3000


@kitaru.checkpoint
def speaks() -> str:
    for number in range(LINES):
        print(f"line {number} of many, long enough to fill what a pipe holds")
    return "ü" * 30


@kitaru.flow(name="größe")
def talkative() -> str:
    return speaks()


@pytest.fixture
def exec_id(home: Path) -> str:
    handle = talkative.run()
    handle.wait()
    return handle.exec_id


def bash(line: str, **env: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["bash", "-c", line.replace("kitaru ", f"{COMMAND} ")],
        env=os.environ | env,
        capture_output=True,
        text=True,
        errors="replace",
        timeout=SECONDS,
    )


@pytest.mark.parametrize("output", ["text", "json"])
def test_a_reader_that_has_seen_enough_ends_it_quietly(exec_id: str, output: str):
    ended = bash(f"kitaru executions logs {exec_id} -o {output} | head -1; echo ${{PIPESTATUS[@]}}")
    first, status = ended.stdout.splitlines()
    assert first.startswith("line 0" if output == "text" else "{")
    assert status in ("1 0", "0 0")
    assert ended.stderr == ""


def test_a_terminal_of_few_characters_gets_escapes(exec_id: str):
    few = {"PYTHONIOENCODING": "ascii", "LC_ALL": "C", "PYTHONUTF8": "0"}
    shown = bash(f"kitaru executions get {exec_id}", **few)
    assert (shown.returncode, shown.stderr) == (0, "")
    assert "Flow: gr\\xf6\\xdfe" in shown.stdout
    refused = bash("kitaru executions get ö", **few)
    assert refused.returncode == 2  # such an argument is no text there
    assert "Traceback" not in refused.stderr
    for columns in (34, 120):
        wide = {**few, "COLUMNS": str(columns)}
        terminal = Terminal(
            [*shlex.split(COMMAND), "executions", "list"], columns=columns, env=wide
        )
        try:
            text = terminal.all()
        finally:
            terminal.close()
        assert terminal.process.returncode == 0
        assert exec_id in text
        assert "Traceback" not in text
        assert text.isascii()
        assert "gr\\xf6\\xdf" in text
        lines = re.sub(r"\x1b\[[0-9;]*m", "", text).splitlines()
        assert max(map(len, lines)) <= columns


@pytest.mark.parametrize("columns", [1, 10])
def test_a_tiny_terminal_is_no_trouble(exec_id: str, columns: int):
    for args in (["executions", "list"], ["executions", "get", exec_id], ["--help"]):
        terminal = Terminal(
            [*shlex.split(COMMAND), *args], columns=columns, env={"COLUMNS": str(columns)}
        )
        try:
            text = terminal.all()
        finally:
            terminal.close()
        assert (terminal.process.returncode, "Traceback" in text) == (0, False), text


def test_without_colours_there_are_none(exec_id: str):
    terminal = Terminal([*shlex.split(COMMAND), "executions", "list"], env={"NO_COLOR": "1"})
    try:
        text = terminal.all()
    finally:
        terminal.close()
    assert exec_id in text
    assert not re.search(r"\x1b\[[0-9;]*3[0-9]m", text)


@pytest.mark.parametrize("closed", ["<&-", ">&-", "<&- >&- 2>&-"])
def test_closed_streams_are_no_trouble(exec_id: str, closed: str):
    for line, code in (
        ("executions list", 0),
        ("executions list -o json", 0),
        ("executions get kr-zzzz", 1),
        ("executions bogus", 2),
    ):
        ended = bash(f"kitaru {line} {closed}")
        assert (ended.returncode, "Traceback" in ended.stderr) == (code, False), ended.stderr
        assert not (">&- " in closed and ended.stdout)
    assert kitaru.KitaruClient().executions.get(exec_id).status == "completed"


#: Ctrl-C, at the moment when a module is looked for.
INTERRUPTING = """
import os, signal, sys
class Interrupting:
    @staticmethod
    def find_spec(name, path=None, target=None):
        if name == os.environ["INTERRUPT_AT"]:
            os.kill(os.getpid(), signal.SIGINT)
sys.meta_path.insert(0, Interrupting)
"""


@pytest.mark.parametrize(
    ("line", "module"),
    [
        ("executions list", "click"),
        ("executions list", "kitaru.cli.stacks"),
        ("executions list", "kitaru.store"),
        ("executions list", "kitaru.cli.views"),
        ("executions get latest -o json", "kitaru.render"),
        ("executions statistics", "kitaru.client"),
        ("executions logs latest", "kitaru.render"),
        ("artifacts list latest", "kitaru.cli.views"),
        ("status", "kitaru.client.about"),
        ("--help", "kitaru.cli"),
    ],
)
def test_ctrl_c_at_any_moment_exits_with_130_quietly(
    exec_id: str, tmp_path: Path, line: str, module: str
):
    (tmp_path / "sitecustomize.py").write_text(INTERRUPTING)
    ended = bash(f"kitaru {line}", PYTHONPATH=str(tmp_path), INTERRUPT_AT=module)
    assert (ended.returncode, ended.stdout, ended.stderr.strip()) == (130, "", "")


def test_ctrl_c_while_a_class_is_made_exits_with_130_quietly(exec_id: str, tmp_path: Path):
    (tmp_path / "sitecustomize.py").write_text(
        "import dataclasses, os, signal\n"
        "def interrupted(*_): os.kill(os.getpid(), signal.SIGINT)\n"
        "dataclasses.Field.__set_name__ = interrupted\n"
    )
    ended = bash("kitaru executions list", PYTHONPATH=str(tmp_path))
    assert (ended.returncode, ended.stdout, ended.stderr.strip()) == (130, "", "")


def test_ctrl_c_at_a_pipe_that_nobody_reads_exits_with_130(exec_id: str):
    stuck = subprocess.Popen(
        [*shlex.split(COMMAND), "executions", "logs", exec_id],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert stuck.stdout is not None
    stuck.stdout.read(1)  # it prints, more than a pipe holds
    until(lambda: _sleeps(stuck.pid), "it waits for the reader")
    stuck.send_signal(signal.SIGINT)
    _, told = stuck.communicate(timeout=SECONDS)
    assert (stuck.returncode, b"Traceback" in told) == (130, False), told


def _sleeps(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/wchan").read_text().startswith(("pipe", "anon_pipe"))
    except OSError:
        return False
