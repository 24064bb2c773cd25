"""A sample of the simulation: a dozen seeds, and that a seed is one run."""

from __future__ import annotations

import pytest

from tests.chaos import simulation


@pytest.mark.parametrize("seed", range(12))
def test_a_program_driven_by_dying_and_stalling_processes_ends_as_if_undisturbed(seed: int) -> None:
    assert "0 differences" in simulation.run([seed])


def test_a_seed_is_one_run() -> None:
    with simulation.folder() as (where, template):
        first, again = (simulation.simulate(8, where, template) for _ in range(2))
    assert first[2].splitlines() == again[2].splitlines()
