"""Every case of `cases.CASES`, undisturbed, killed at each commit and resumed, and raced.

A case with more than twelve commits is killed at an even choice of twelve; with `KITARU_TEST_ALL=1`
at all of them.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from functools import partial

import pytest

from tests.conformance import broken, trial
from tests.conformance.cases import CASES, Case
from tests.conformance.stage import Point
from tests.conformance.trial import Baseline, Broken

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")

Trial = Callable[[Baseline, Point, Broken | None], list[str]]


@pytest.fixture(scope="module")
def workers() -> Iterator[ProcessPoolExecutor]:
    with trial.workers() as pool:
        yield pool


@pytest.fixture(scope="module", params=CASES, ids=lambda case: case.name)
def case(request: pytest.FixtureRequest) -> Case:
    found: Case = request.param
    return found


@pytest.fixture(scope="module")
def baseline(
    case: Case, workers: ProcessPoolExecutor, tmp_path_factory: pytest.TempPathFactory
) -> Baseline:
    folder = tmp_path_factory.mktemp(case.name)
    return workers.submit(trial.undisturbed, case.name, folder).result()


def test_undisturbed_it_ends_as_expected(case: Case, baseline: Baseline) -> None:
    status = "failed" if case.error else "completed"
    assert baseline.ended == {"status": status, "result": case.expected, "error": case.error}


def test_killed_at_any_commit_it_ends_as_if_undisturbed(
    baseline: Baseline, workers: ProcessPoolExecutor
) -> None:
    found = workers.map(partial(trial.crash, baseline), trial.points(baseline.commits))
    assert [complaint for each in found for complaint in each] == []


def test_of_two_that_continue_it_at_once_one_takes_it_to_the_same_end(
    baseline: Baseline, workers: ProcessPoolExecutor
) -> None:
    middle = Point(baseline.commits // 2, "after")
    assert workers.submit(trial.race, baseline, middle).result() == []


@pytest.fixture(scope="module")
def sequence(workers: ProcessPoolExecutor, tmp_path_factory: pytest.TempPathFactory) -> Baseline:
    """A case to break: start, four checkpoints, end are its six commits."""
    folder = tmp_path_factory.mktemp("broken")
    return workers.submit(trial.undisturbed, "sequence", folder).result()


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
