"""Tests of the history's own check: a true one passes, and each kind of lie is found."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

import kitaru
from tests.chaos.history import FILE, History, check
from tests.drives import answer, left

ME, OTHER = 1, 2
#: Of the execution: its id, its checkpoint, its wait.
E, CALL, WAIT = "kr-e", "kr-e/double", "kr-e/more"
Lines = list[tuple[int, int, int, str, str, Any]]


@kitaru.checkpoint
def double(number: int) -> int:
    return 2 * number


@kitaru.flow
def asks(number: int) -> int:
    more: int = kitaru.wait(name="more", schema=int, timeout=10)
    return double(number) + more


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """The home of a completed execution, and its id."""
    home = tmp_path_factory.mktemp("home", numbered=False)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("KITARU_HOME", str(home))
        handle = asks.run(4)
        answer(handle.exec_id, "more", 3)
        assert handle.wait() == 11
        left(handle.exec_id)
    return home, handle.exec_id


def write(store: tuple[Path, str], lines: Lines) -> Path:
    """Put a history in the home, with the execution's real id."""
    home, exec_id = store
    text = "".join(json.dumps(line) + "\n" for line in lines).replace(E, exec_id)
    (home / FILE).write_text(text)
    return home


TRUE: Lines = [
    (1, 2, OTHER, "created", E, None),
    (2, 3, ME, "took", E, 1),
    (3, 4, OTHER, "seen", E, "running"),
    (4, 5, OTHER, "seen", E, "waiting"),
    (6, 7, OTHER, "answered", WAIT, 3),
    (8, 8, ME, "got", WAIT, {"value": 3, "epoch": 1}),
    (9, 9, ME, "writes", CALL, 1),
    # Another driver has taken over, and the first is still in its write.
    (10, 11, OTHER, "took", E, 2),
    (12, 12, OTHER, "writes", CALL, 2),
    (13, 14, OTHER, "got", CALL, {"value": 8, "epoch": 2}),
    (15, 16, ME, "got", CALL, {"value": 8, "epoch": 1}),
    # What was read while it completed may be told after that.
    (12, 18, OTHER, "seen", E, "completed"),
    (11, 19, ME, "seen", E, "running"),
    (20, 21, ME, "result", E, 11),
]

LIES: dict[str, tuple[str, Lines]] = {
    "an execution is gone": ("does not have", [(1, 2, ME, "created", "kr-lost", None)]),
    "a seen status was not the last": ("does not have", [(1, 2, ME, "seen", E, "cancelled")]),
    "a cancelled one completed": ("does not have", [(1, 2, ME, "cancelled", E, None)]),
    "a value is another": ("does not have", [(1, 2, ME, "got", CALL, {"value": 9, "epoch": 1})]),
    "a value is gone": ("does not have", [(1, 2, ME, "got", E + "/x", {"value": 8, "epoch": 1})]),
    "an answer is another": ("does not have", [(1, 2, ME, "answered", WAIT, 4)]),
    "a result is another": ("does not have", [(1, 2, ME, "result", E, 12)]),
    "an op nobody knows": ("does not have", [(1, 2, ME, "dreamt", E, 12)]),
    "it ran before it was pending": (
        "it was running before",
        [(1, 2, ME, "seen", E, "running"), (3, 4, OTHER, "seen", E, "pending")],
    ),
    "it went on after its end": (
        "it was completed before",
        [(1, 2, ME, "seen", E, "completed"), (3, 4, OTHER, "seen", E, "running")],
    ),
    "a wait took two answers": (
        "took 2 answers",
        [(1, 2, ME, "answered", WAIT, 3), (3, 4, OTHER, "answered", WAIT, 3)],
    ),
    "two have one lease": (
        "two have one lease",
        [(1, 2, ME, "took", E, 1), (3, 4, OTHER, "took", E, 1)],
    ),
    "an overtaken driver writes": (
        "epoch 2 had written",
        [
            (1, 1, ME, "writes", CALL, 2),
            (2, 3, ME, "got", CALL, {"value": 8, "epoch": 2}),
            (4, 4, OTHER, "writes", CALL, 1),
            (5, 6, OTHER, "got", CALL, {"value": 8, "epoch": 1}),
        ],
    ),
}


def test_a_true_history_passes(store: tuple[Path, str]) -> None:
    assert check(write(store, TRUE)) == "14 lines of history"


@pytest.mark.parametrize("lie", LIES)
def test_a_history_that_cannot_be_is_found(store: tuple[Path, str], lie: str) -> None:
    message, lines = LIES[lie]
    home = write(store, lines)
    with pytest.raises(AssertionError, match=message):
        check(home)


def test_lines_are_noted_where_there_is_a_history_only(home: Path) -> None:
    History(home).note("took", "kr-1", 1)
    assert not (home / FILE).exists()
    History(home).begin().note("took", "kr-1", 1)
    (event,) = History(home).read()
    assert event[2:] == (os.getpid(), "took", "kr-1", 1)
    assert event.since <= event.t


def test_a_line_whose_writer_was_killed_in_it_spoils_no_other(home: Path) -> None:
    History(home).begin().note("took", "kr-1", 1)
    with (home / FILE).open("a") as torn:
        torn.write('\n[52959023991095, 52959023991095, 28032, "got",')
    History(home).note("took", "kr-2", 2)
    assert [event.id for event in History(home).read()] == ["kr-1", "kr-2"]
