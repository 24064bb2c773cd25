"""`kitaru executions timeline`: bars in the terminal, pictures in files."""

from __future__ import annotations

import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from kitaru import flow
from tests.cli.conftest import Cli
from tests.cli.test_logs import asks, talked
from tests.drives import left
from tests.terminals import Terminal

TIMELINE = [sys.executable, "-m", "kitaru.cli", "executions", "timeline"]


def test_bars_stand_beside_their_names_and_lengths(cli: Cli):
    handle = asks.run(timeout=0.0)
    left(handle.exec_id)
    head, about, bar, scale, legend = cli.good("executions", "timeline", "latest").splitlines()
    assert head == "asks"
    assert re.fullmatch(rf"  {handle.exec_id} · waiting · \S+ from 2026-.*Z", about)
    assert re.fullmatch(r"  left  +░+  waiting, .*s", bar)
    assert scale.split()[0] == "0"
    assert legend.strip() == "░ wait"
    assert max(map(len, (about, bar, scale, legend))) <= 80


def test_without_calls_it_says_so(cli: Cli):
    handle = flow(lambda: None, name="empty").run()
    handle.wait(60)
    assert "Nothing has been called yet." in cli.good("executions", "timeline", handle.exec_id)


def test_it_is_ascii_where_the_encoding_is(home: Path):
    shown = subprocess.run(
        [*TIMELINE, talked()],
        env=os.environ | {"LC_ALL": "C", "PYTHONIOENCODING": "ascii", "PYTHONUTF8": "0"},
        capture_output=True,
        check=True,
    ).stdout.decode("ascii")
    assert re.search(r"^  say  +#+ ", shown, re.MULTILINE)
    assert "\\x" not in shown
    assert "\\u" not in shown


@pytest.mark.parametrize("columns", [20, 60, 150])
def test_it_is_as_wide_as_the_terminal_and_has_colours(cli: Cli, columns: int):
    handle = asks.run(timeout=0.0)
    left(handle.exec_id)
    terminal = Terminal([*TIMELINE, handle.exec_id], columns=columns)
    shown = terminal.all()
    terminal.close()
    assert "\x1b[35m░" in shown
    (bar,) = [line for line in shown.splitlines() if "waiting," in line]
    plain = re.sub(r"\x1b\[[0-9;]*m", "", bar)
    assert columns - 2 <= len(plain) <= max(columns, 40)


def test_json_has_the_spans(cli: Cli):
    item = cli.json("executions", "timeline", talked()).item
    assert item["status"] == "completed"
    assert [span["call_id"] for span in item["spans"]] == ["say", "say#2"]
    assert {"kind", "attempt", "offset", "seconds", "started_at"} <= item["spans"][0].keys()


def test_a_picture_is_written_and_named(cli: Cli, tmp_path: Path):
    file = tmp_path / "picture.svg"
    exec_id = talked()
    said = cli.good("executions", "timeline", exec_id, "--svg", str(file))
    assert said == f"Drew the timeline of execution {exec_id}: {file}\n"
    assert file.read_text().startswith("<svg")
    assert cli.json("executions", "timeline", exec_id, "--svg", str(file), "--force").item[
        "file"
    ] == str(file)


def test_what_cannot_be_drawn_is_refused(cli: Cli, tmp_path: Path):
    exec_id = talked()
    both = cli("executions", "timeline", exec_id, "--svg", "a", "--png", "b")
    assert both.code == 2
    nowhere = cli("executions", "timeline", exec_id, "--svg", str(tmp_path / "no" / "file.svg"))
    assert (nowhere.code, nowhere.out) == (1, "")
    assert cli("executions", "timeline", "kr-zzz").code == 1
    if importlib.util.find_spec("matplotlib") is None:
        refused = cli("executions", "timeline", exec_id, "--png", str(tmp_path / "a.png"))
        assert "kitaru-mcp[plot]" in refused.err
        assert not (tmp_path / "a.png").exists()


def test_a_file_that_is_there_is_replaced_only_when_told_to(cli: Cli, tmp_path: Path):
    exec_id = cli.completed(topic="dogs")
    file = tmp_path / "there.svg"
    file.write_text("mine")

    refused = cli("executions", "timeline", exec_id, "--svg", str(file))
    assert (refused.code, file.read_text()) == (1, "mine")
    cli.good("executions", "timeline", exec_id, "--svg", str(file), "--force")
    assert file.read_text().startswith("<svg")
