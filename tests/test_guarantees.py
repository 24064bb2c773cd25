"""docs/guarantees.md says what is promised, with a figure for each trial, and nothing else."""

from __future__ import annotations

import re

import pytest

from tests.chaos import page
from tests.chaos.__main__ import TRIALS
from tests.chaos.promises import PROMISES

PROMISED = [promise for group in PROMISES.values() for promise in group]
ROWS = [line for line in page.PAGE.read_text().splitlines() if line.startswith("| ")]


def test_every_trial_stands_behind_a_promise_and_every_promise_has_its_trials():
    assert page.trials_of_promises() == set(TRIALS)


@pytest.mark.parametrize("promise", PROMISED, ids=lambda promise: promise.trials[0])
def test_the_page_gives_each_promise_with_its_attack_its_figures_and_its_command(promise):
    (row,) = [line for line in ROWS if line.startswith(f"| {promise.text} |")]
    _, _, attack, figures, command, _ = [cell.strip() for cell in row.split("|")]
    assert attack == promise.attack
    assert command == f"`python3 dev chaos {' '.join(promise.trials)}`"
    told = dict(re.findall(r"([a-z-]+): (.+?)(?:<br>|$)", figures))
    assert tuple(told) == promise.trials
    assert all(re.search(r"\d", figure) for figure in told.values())


def test_the_page_says_when_and_where_it_was_measured():
    assert re.search(
        r"^Measured on \d{4}-\d\d-\d\d at commit `[0-9a-f]{10}`: .* SQLite [\d.]+; ",
        page.PAGE.read_text(),
        re.MULTILINE,
    )


def test_recording_writes_a_run_into_the_page_and_leaves_the_prose(tmp_path, monkeypatch):
    kept = page.PAGE.read_text()
    copy = tmp_path / "guarantees.md"
    copy.write_text(kept)
    monkeypatch.setattr(page, "PAGE", copy)
    page.record(dict.fromkeys(TRIALS, "7 tries | 0 lost"), seed=11, factor=1, seconds=600)
    text = copy.read_text()
    assert "kill-calls: 7 tries / 0 lost" in text
    assert "`python3 dev chaos --seed 11`" in text
    outside = re.compile(f"{re.escape(page.BEGIN)}.*{re.escape(page.END)}", re.DOTALL)
    assert outside.sub("", text) == outside.sub("", kept)
