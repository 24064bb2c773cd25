"""Answers on a terminal: coloured, as wide as there is room, and plain everywhere else."""

from __future__ import annotations

import re
import sys

import pytest
from rich.cells import cell_len

import kitaru
from tests.cli.conftest import Cli
from tests.support import ROOT
from tests.terminals import Terminal

KITARU = [sys.executable, "-m", "kitaru.cli"]
GREEN = "\x1b[32m"


def shown(*args: str, columns: int = 120, **env: str) -> str:
    terminal = Terminal([*KITARU, *args], columns=columns, env=env)
    try:
        return terminal.all()
    finally:
        terminal.close()


def plain(text: str) -> list[str]:
    return re.sub(r"\x1b\[[0-9;]*m", "", text).splitlines()


def test_a_status_has_its_colour_on_a_terminal_and_none_elsewhere(cli: Cli):
    exec_id = cli.completed(topic="dogs")

    assert f"{GREEN}completed" in shown("executions", "list")
    assert "completed" in shown("executions", "list", NO_COLOR="1")
    assert GREEN not in shown("executions", "list", NO_COLOR="1")
    assert "\x1b" not in cli.good("executions", "list")
    assert exec_id in cli.good("executions", "list")


@pytest.mark.parametrize("columns", [30, 50, 80, 200])
def test_a_table_fits_the_terminal_and_its_ids_stay_whole(cli: Cli, columns: int):
    exec_id = cli.completed(topic="dogs")

    lines = plain(shown("executions", "list", columns=columns))

    assert max(map(len, lines)) <= columns
    assert any(line.startswith(exec_id) for line in lines)
    assert ("No room for:" in "".join(lines)) is (columns < 100)


def test_an_upgrade_of_the_store_has_a_bar_on_a_terminal(cli: Cli):
    (cli.home / "kitaru.db").write_bytes((ROOT / "tests/data/store-v3.db").read_bytes())

    assert "Upgrading the store" in shown("executions", "list")
    assert "Upgrading the store" not in shown("executions", "list")


def test_an_upgrade_says_nothing_in_a_pipe(cli: Cli):
    (cli.home / "kitaru.db").write_bytes((ROOT / "tests/data/store-v3.db").read_bytes())

    assert cli.good("executions", "list").startswith("Kitaru executions")


def test_a_damaged_store_is_told_by_the_command_on_a_terminal_too(cli: Cli):
    (cli.home / "kitaru.db").write_bytes(b"rubbish" * 1000)

    assert "unusable" in shown("doctor") or "damaged" in shown("doctor")
    assert "is damaged" in shown("executions", "list")


def test_wide_characters_keep_the_columns_of_a_plain_table_in_line(cli: Cli):
    for name in ("日本 🎉", "plain"):
        kitaru.flow(lambda: None, name=name).run().wait()
    lines = cli.good("executions", "list").splitlines()
    places = {cell_len(line[: line.index("completed")]) for line in lines[3:]}
    assert len(places) == 1, lines


def test_a_listing_on_eighty_columns_has_the_minute_of_the_start(cli: Cli):
    cli.completed(topic="dogs")
    title, headings, row, *_ = plain(shown("executions", "list", columns=80))
    assert re.search(r"20\d\d-\d\d-\d\d \d\d:\d\d", row), row
    assert max(map(len, (title, headings, row))) <= 80
