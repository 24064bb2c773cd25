"""The process's edge: exit codes, what goes to which stream, pipes, Ctrl-C, start-up, help."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from kitaru import clock
from kitaru.cli import kitaru as root
from kitaru.version import VERSION

from .conftest import FLOWS, SECONDS

COMMAND = [sys.executable, "-m", "kitaru.cli"]


def process(*args: str, **env: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*COMMAND, *args],
        env=os.environ | env,
        capture_output=True,
        text=True,
        timeout=SECONDS,
    )


@pytest.mark.parametrize(
    "line",
    [
        ["bogus"],
        ["executions", "bogus"],
        ["executions", "get"],
        ["executions", "get", "kr-1", "--bogus"],
        ["executions", "get", "kr-1", "-o", "yaml"],
        ["executions", "list", "--limit", "many"],
        ["executions", "list", "--limit", "0"],
        ["executions", "list", "--status", "bogus"],
        ["executions", "list", "--since", "yesterday"],
        ["executions", "list", "--since", "2026-11-20"],
        ["executions", "list", "--until", "2026-11-20T10:00"],
        ["executions", "list", "--until", "99999999999d"],
        ["executions", "list", "--until", "9" * 5000 + "d"],
        ["executions", "logs", "kr-1", "--source", "bogus"],
        ["executions", "logs", "kr-1", "--limit", "0"],
        ["executions", "input", "kr-1"],
        ["executions", "input", "kr-1", "--value", "true", "--abort"],
        ["executions", "input", "kr-1", "--value", "yes"],
        ["executions", "input", "kr-1", "--value", "NaN"],
        ["executions", "input", "kr-1", "--value", "[" * 100_000],
        ["executions", "input", "kr-1", "--value", "9" * 5000],
        ["executions", "run", "a:b", "--args", "[]"],
        ["executions", "run", "a:b", "--args", "{"],
        ["executions", "replay", "kr-1"],
        ["executions", "replay", "kr-1", "--from", "a", "--overrides", "1"],
        ["executions", "get", "kr-\udcff"],
    ],
    ids=lambda line: " ".join(line)[:60].encode("ascii", "replace").decode(),
)
def test_a_command_line_that_cannot_be_right_exits_with_2(cli, line):
    result = cli(*line)
    assert (result.code, result.out) == (2, "")
    assert "Error: " in result.err
    if "-o" not in line:
        refused = cli.json(*line)
        assert refused.code == 2
        assert refused.error["type"] == "KitaruUsageError"
        assert refused.error["message"]
    assert not (cli.home / "kitaru.db").exists()


def test_a_json_usage_error_names_its_command(cli):
    error = json.loads(cli.json("executions", "list", "--limit", "0").err)
    assert error["command"] == "executions.list"
    assert json.loads(cli.json("bogus").err)["command"] == "kitaru"


def test_version_and_bare_command(cli):
    assert cli.good("--version") == f"kitaru {VERSION}\n"
    bare = cli()
    assert (bare.code, bare.out) == (2, "")
    assert "executions" in bare.err


def test_stdout_carries_data_only_while_the_flow_prints(home):
    started = process("executions", "run", f"{FLOWS}:agent", "-o", "json")
    assert (started.returncode, started.stderr) == (0, "")
    assert json.loads(started.stdout)["command"] == "executions.run"
    refused = process("executions", "run", f"{FLOWS}:nothing", "-o", "json")
    assert (refused.returncode, refused.stdout) == (1, "")
    assert json.loads(refused.stderr)["error"]["type"] == "KitaruUsageError"
    usage = process("executions", "run")
    assert (usage.returncode, usage.stdout) == (2, "")


def test_a_terminal_that_cannot_show_a_character_gets_its_code(home):
    good = process(
        *("executions", "run", f"{FLOWS}:pipeline", "--args", '{"topic": "ü"}', "-o", "json"),
        PYTHONIOENCODING="ascii",
    )
    exec_id = json.loads(good.stdout)["item"]["exec_id"]
    shown = process("executions", "get", exec_id, "-o", "json", PYTHONIOENCODING="ascii")
    assert json.loads(shown.stdout)["item"]["inputs"]["topic"] == "ü"


def test_a_closed_pipe_ends_a_command_quietly(cli):
    exec_id = cli.completed(topic="dogs")
    for args in (["executions", "get", exec_id], ["--help"]):
        read, write = os.pipe()
        os.close(read)
        ended = subprocess.run(
            [*COMMAND, *args], stdout=write, stderr=subprocess.PIPE, timeout=SECONDS
        )
        os.close(write)
        assert (ended.returncode, ended.stderr) == (1, b"")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is always full")
def test_an_answer_that_cannot_be_written_is_an_error(home):
    with open("/dev/full", "w") as full:
        ended = subprocess.run(
            [*COMMAND, "executions", "list"],
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            timeout=SECONDS,
        )
    assert ended.returncode == 1
    assert ended.stderr.startswith("Error: The system refused: ")
    assert "Traceback" not in ended.stderr


def test_a_working_directory_that_is_gone_is_an_error(cli, tmp_path, monkeypatch):
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    refused = cli.json("init")
    assert refused.code == 1
    assert refused.error["type"] == "KitaruBackendError"


def test_ctrl_c_exits_with_130_quietly(home, tmp_path):
    gate = tmp_path / "gate"
    os.mkfifo(gate)
    (tmp_path / "slow.py").write_text(
        "import os, pathlib\n"
        f"pathlib.Path({str(tmp_path / 'new')!r}).write_text(str(os.getpid()))\n"
        f"os.rename({str(tmp_path / 'new')!r}, {str(tmp_path / 'pid')!r})\n"
        f"pathlib.Path({str(gate)!r}).read_text()\n"
    )
    running = subprocess.Popen(
        [*COMMAND, "executions", "run", f"{tmp_path / 'slow.py'}:flow"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    deadline = clock.monotonic() + SECONDS
    while not (tmp_path / "pid").exists() and clock.monotonic() < deadline:
        threading.Event().wait(0.02)
    running.send_signal(signal.SIGINT)
    assert running.communicate(timeout=SECONDS) == (b"", b"")
    assert running.returncode == 130
    os.kill(int((tmp_path / "pid").read_text()), signal.SIGKILL)


def test_help_imports_nothing_heavy(home, tmp_path):
    code = (
        "import sys; from kitaru.cli import main; main(['--help']); "
        "main(['executions', 'list', '--help']); print(*sys.modules)"
    )
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=SECONDS
    )
    loaded = set(result.stdout.splitlines()[-1].split())
    heavy = {"sqlite3", "sqlite_utils", "pydantic", "jsonschema", "platformdirs", "anyio", "mcp"}
    assert not loaded & (heavy | {"kitaru.client", "kitaru.store", "kitaru.render", "asyncio"})


def commands(command: click.Command, path: str) -> Iterator[tuple[str, click.Command]]:
    yield path, command
    if isinstance(command, click.Group):
        for name, each in command.commands.items():
            yield from commands(each, f"{path} {name}")


TREE = dict(commands(root, "kitaru"))


def test_the_tree_has_every_command():
    leaves = {path for path, command in TREE.items() if not isinstance(command, click.Group)}
    executions = "get list statistics logs input run resume retry replay cancel".split()
    executions += "delete prune export import".split()
    assert leaves == {
        *(f"kitaru executions {name}" for name in executions),
        "kitaru artifacts list",
        "kitaru artifacts get",
        "kitaru artifacts export",
        *(f"kitaru stack {name}" for name in "list current create use delete".split()),
        "kitaru mcp install",
        "kitaru worker",
        "kitaru status",
        "kitaru info",
        "kitaru init",
        "kitaru backup",
        "kitaru doctor",
    }


@pytest.mark.parametrize("path", TREE)
def test_every_command_and_option_has_help_and_every_command_an_example(path):
    command = TREE[path]
    assert command.help
    example = command.help.partition("Example:\n")[2]
    assert example.strip().startswith(path)
    for option in command.params:
        assert isinstance(option, click.Argument) or option.help, option.name  # type: ignore[attr-defined]
    is_leaf = not isinstance(command, click.Group)
    assert is_leaf is any("--output" in option.opts for option in command.params)
