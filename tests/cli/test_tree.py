"""Promises that every command keeps, whoever adds it: help, examples, JSON, its row in the docs.

A new command needs nothing here; what it lacks is named, with where to put it.
"""

from __future__ import annotations

import inspect
import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from kitaru.cli import kitaru as root
from kitaru.cli.command import Command, path_of
from tests.support import ROOT

from .conftest import Cli

WIDTH = 80


def walk(command: click.Command, path: str) -> Iterator[tuple[str, click.Command]]:
    yield path, command
    if isinstance(command, click.Group):
        for name, each in command.commands.items():
            yield from walk(each, f"{path} {name}")


TREE = dict(walk(root, "kitaru"))
GROUPS = {path: each for path, each in TREE.items() if isinstance(each, click.Group)}
LEAVES = {path: each for path, each in TREE.items() if path not in GROUPS}


def help_of(command: click.Command) -> str:
    return inspect.cleandoc(command.help or "")


def examples(command: click.Command) -> list[str]:
    """The lines of a command's `Example:` block, which `\\b` keeps as they are."""
    block = help_of(command).partition("\b\nExample:\n")[2].split("\n\n")[0]
    return [line.strip() for line in block.splitlines()]


@pytest.mark.parametrize("path", TREE)
def test_it_says_what_it_does_and_shows_an_example(path: str):
    command = TREE[path]
    sentence = help_of(command).partition("\n\n")[0].strip()
    assert sentence, f"{path} has no docstring"
    assert sentence.endswith("."), f"the docstring of {path} does not begin with a sentence"
    assert any(line.startswith(path) for line in examples(command)), (
        f"{path} has no `\\b Example:` block that shows it"
    )


@pytest.mark.parametrize("path", TREE)
def test_every_parameter_has_help(path: str):
    where = "give it help=, or its name a line in ARGUMENTS of kitaru/cli/parameters.py"
    for parameter in TREE[path].params:
        assert getattr(parameter, "help", None), f"{path}: {parameter.name}: {where}"


@pytest.mark.parametrize("path", LEAVES)
def test_it_takes_o_json(path: str):
    command = LEAVES[path]
    assert isinstance(command, Command), f"{path} is not made with cls=Command or a Group's command"
    assert any({"-o", "--output"} <= {*each.opts} for each in command.params)


@pytest.mark.parametrize("path", TREE)
def test_its_examples_are_command_lines(path: str, monkeypatch: pytest.MonkeyPatch):
    parsed: list[str] = []
    monkeypatch.setattr(Command, "invoke", lambda self, ctx: parsed.append(path_of(ctx)))
    for line in examples(TREE[path]):
        program, *args = shlex.split(line)
        assert program == "kitaru", line
        root.main(args, prog_name="kitaru", standalone_mode=False)  # raises where it is none
        assert parsed, f"{line} runs no command"


@pytest.mark.parametrize("path", TREE)
def test_its_help_fits_the_terminal(path: str, cli: Cli, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("COLUMNS", str(WIDTH))
    shown = cli.good(*path.split()[1:], "--help")
    assert shown.startswith(f"Usage: {path} ")
    assert max(map(len, shown.splitlines())) <= WIDTH


#: Its options may have any name.
TAKES_ANY = {"kitaru secrets set"}


@pytest.mark.parametrize("path", sorted(TREE.keys() - TAKES_ANY))
def test_an_unknown_option_is_told_with_the_nearest(path: str, cli: Cli):
    result = cli(*path.split()[1:], "--helpp")
    assert (result.code, result.out) == (2, "")
    assert "--help" in result.err.partition("Did you mean")[2]


@pytest.mark.parametrize("path", GROUPS)
def test_an_unknown_command_is_told_with_the_nearest(path: str, cli: Cli):
    name = next(iter(GROUPS[path].commands))
    result = cli(*path.split()[1:], f"{name}x")
    assert (result.code, result.out) == (2, "")
    assert f"Did you mean '{name}'?" in result.err


# --- the table in the docs ------------------------------------------------------------------------

DOCUMENT = Path("docs/cli.md")


def rows() -> list[tuple[str, str]]:
    """The commands of the table, each with the whole text of its cell."""
    table = (ROOT / DOCUMENT).read_text(encoding="utf-8").partition("\n\n`--help`")[0]
    found = []
    for cell in re.findall(r"^\| ((?:\\\||[^|])+) \|", table, re.MULTILINE):
        words = cell.replace("`", " ").replace("\\|", "|").split()
        if words[0] != "kitaru":
            continue  # the heading, or options that several commands share
        length = max(
            (n for n in range(1, len(words) + 1) if " ".join(words[:n]) in TREE), default=1
        )
        found.append((" ".join(words[:length]), cell))
    return found


def test_the_table_has_every_command_and_no_other():
    shown = {path for path, _ in rows()}
    missing, wrong = LEAVES.keys() - shown, shown - LEAVES.keys()
    assert not missing, f"{DOCUMENT}: the table has no row for {', '.join(sorted(missing))}"
    assert not wrong, f"{DOCUMENT}: the table has rows that are no commands: {', '.join(wrong)}"


@pytest.mark.parametrize(("path", "cell"), rows())
def test_a_row_names_options_that_there_are(path: str, cell: str):
    known = {option for each in LEAVES[path].params for option in (*each.opts, "--help")}
    assert {*re.findall(r"--[a-z][a-z-]*", cell)} <= known
