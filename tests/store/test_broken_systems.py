"""A program on the SDK is killed, failed by the system, and left without power, at some calls.

The trials `kill-calls`, `fail-calls`, `power` and `upgrades` try the same at all of them.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from tests.chaos import power, sweeps, upgrades
from tests.chaos.injected import KILL, Plan, Workshop
from tests.chaos.trial import Scope, Skipped


@pytest.fixture(scope="module")
def workshop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workshop]:
    """A process whose calls to the system can be made to fail."""
    try:
        started = Workshop(tmp_path_factory.mktemp("workshop"), sweeps.warm_up)
    except Skipped as exc:
        pytest.skip(str(exc))
    with started:
        yield started


def test_a_program_that_was_killed_goes_on_when_it_is_run_again(tmp_path: Path, workshop: Workshop):
    sweep = sweeps.Sweep(tmp_path, workshop)
    for number in (150, 350, 550):
        assert sweep.at(Plan(action=KILL, number=number))


@pytest.mark.parametrize(("fault", "number"), [(1, 250), (2, 20), (10, 300)])
def test_a_failing_disk_is_an_error_and_no_loss(
    tmp_path: Path, workshop: Workshop, fault: int, number: int
):
    sweep = sweeps.Sweep(tmp_path, workshop)
    assert sweep.at(replace(sweeps.ERRORS[fault].plan, number=number))


def test_a_power_cut_loses_nothing_that_was_promised(tmp_path: Path, workshop: Workshop):
    scope = Scope(tmp_path, random.Random(5))
    assert not power.Attack(scope, workshop, "full").run(40)


def test_without_a_push_for_each_commit_it_would_lose_something(tmp_path: Path, workshop: Workshop):
    scope = Scope(tmp_path, random.Random(5))
    assert set(power.Attack(scope, workshop, "normal").run(40)) >= {"lost"}


@pytest.mark.parametrize("version", upgrades.OLD)
def test_an_upgrade_that_is_killed_has_happened_or_not(
    tmp_path: Path, workshop: Workshop, version: int
):
    upgrade = upgrades.Upgrade(tmp_path, workshop, version)
    assert upgrade.at(Plan(action=KILL, number=50))
