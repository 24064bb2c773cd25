"""Every case of `cases.CASES`: undisturbed, killed at each commit and continued, and raced.

A kill is before or after a commit: each case is killed at two such points on its way, with
`KITARU_TEST_ALL=1` at all of them. One more trial of each is killed twice, at points drawn with
`KITARU_TEST_SEED`.
"""

from __future__ import annotations

import os
import random
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pytest

from tests.conformance import broken, trial
from tests.conformance.cases import CASES, Case
from tests.conformance.stage import Point, Side
from tests.conformance.trial import Baseline, Broken

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")

#: Draws the commits of the trials that are killed twice; named where one fails.
SEED = int(os.environ.get("KITARU_TEST_SEED") or random.randrange(1_000_000))

Trial = Callable[[Baseline, Point, Broken | None], list[str]]


@dataclass(frozen=True)
class Trials:
    """What came, or comes, of a case's trials: the complaints of each."""

    crashes: list[Future[list[str]]]
    twice: Future[list[str]]
    race: Future[list[str]]


@pytest.fixture(scope="module")
def workers() -> Iterator[ProcessPoolExecutor]:
    with trial.workers() as pool:
        yield pool


@pytest.fixture(scope="module", params=CASES, ids=lambda case: case.name)
def case(request: pytest.FixtureRequest) -> Case:
    found: Case = request.param
    return found


@pytest.fixture(scope="module")
def empty(workers: ProcessPoolExecutor, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The home that each undisturbed run starts from a copy of."""
    home = tmp_path_factory.mktemp("empty")
    workers.submit(trial.make_home, home).result()
    return home


@pytest.fixture(scope="module")
def baseline(
    case: Case,
    empty: Path,
    workers: ProcessPoolExecutor,
    tmp_path_factory: pytest.TempPathFactory,
) -> Baseline:
    folder = tmp_path_factory.mktemp(case.name)
    return workers.submit(trial.undisturbed, case.name, folder, empty).result()


def test_undisturbed_it_ends_as_expected(case: Case, baseline: Baseline) -> None:
    status = "failed" if case.error else "completed"
    assert baseline.ended == {"status": status, "result": case.expected, "error": case.error}


@pytest.fixture(scope="module")
def trials(baseline: Baseline, workers: ProcessPoolExecutor) -> Trials:
    """All trials of a case, under way at the same time."""
    crash, middle = partial(trial.crash, baseline), Point(baseline.commits // 2, "after")
    return Trials(
        crashes=[workers.submit(crash, point) for point in trial.points(baseline.commits)],
        twice=workers.submit(trial.crash_twice, baseline, SEED),
        race=workers.submit(trial.race, baseline, middle),
    )


def test_killed_at_any_commit_it_ends_as_if_undisturbed(trials: Trials) -> None:
    assert [complaint for each in trials.crashes for complaint in each.result()] == []


def test_killed_twice_it_ends_as_if_undisturbed(trials: Trials) -> None:
    assert trials.twice.result() == []


def test_of_two_that_continue_it_at_once_one_takes_it_to_the_same_end(trials: Trials) -> None:
    assert trials.race.result() == []


@pytest.fixture(scope="module")
def sequence(
    empty: Path, workers: ProcessPoolExecutor, tmp_path_factory: pytest.TempPathFactory
) -> Baseline:
    """A case to break: start, four checkpoints, end are its six commits."""
    folder = tmp_path_factory.mktemp("broken")
    return workers.submit(trial.undisturbed, "sequence", folder, empty).result()


@pytest.mark.parametrize("side", ["before", "after"])
def test_killed_at_its_first_commit_or_its_last_it_ends_as_if_undisturbed(
    sequence: Baseline, workers: ProcessPoolExecutor, side: Side
) -> None:
    end = Point(1 if side == "before" else sequence.commits, side)
    assert workers.submit(trial.crash, sequence, end).result() == []


FAULTS: list[tuple[Broken, Trial, str]] = [
    (broken.goes_on_before_the_commit, trial.crash, "too many calls were in flight"),
    (broken.runs_recorded_calls_again, trial.crash, "add ran 2 times, undisturbed 1"),
    (broken.changes_records, trial.crash, "recorded before the kill, and changed: ['add'"),
    (broken.loses_lines, trial.crash, "logs differs"),
    (broken.knows_no_leases, trial.race, "race before commit 4, knows_no_leases: "),
]


@pytest.mark.parametrize(
    ("fault", "trial_of", "complaint"), FAULTS, ids=[fault.__name__ for fault, *_ in FAULTS]
)
def test_the_suite_finds_out_a_broken_driver(
    sequence: Baseline,
    workers: ProcessPoolExecutor,
    fault: Broken,
    trial_of: Trial,
    complaint: str,
) -> None:
    found = workers.submit(trial_of, sequence, Point(4, "before"), fault).result()
    assert [each for each in found if complaint in each], found


def test_the_suite_finds_out_a_kill_that_did_not_happen(
    sequence: Baseline, workers: ProcessPoolExecutor
) -> None:
    late = Point(sequence.commits + 1, "before")
    found = workers.submit(trial.crash, sequence, late).result()
    assert "it was to be killed, and ended with 0" in found[0]
