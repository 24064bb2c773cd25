"""Whatever drivers and clients do to a store, a plain model of it says the same.

The rules and the model are those of the suite (`tests/store/test_stateful.py`); here they run for
longer, from the seed of the trial.
"""

from __future__ import annotations

import hypothesis
from hypothesis import HealthCheck, settings
from hypothesis.stateful import run_state_machine_as_test

from tests.chaos.trial import Scope, Trial
from tests.store.test_stateful import StoreMachine

#: Actions in one example.
STEPS = 60
#: A nightly run makes the two thousand, and more.
EXAMPLES = 800


def run(scope: Scope) -> str:
    """Run so many examples; a difference raises, with the shortest steps that lead to it."""
    examples, begun = scope.times(EXAMPLES), StoreMachine.steps
    hypothesis.seed(scope.rng.getrandbits(64))(StoreMachine)
    wanted = settings(
        max_examples=examples,
        stateful_step_count=STEPS,
        deadline=None,
        database=None,
        suppress_health_check=[*HealthCheck],
    )
    run_state_machine_as_test(StoreMachine, settings=wanted)
    return f"{examples} examples, {StoreMachine.steps - begun} steps, 0 differences"


TRIALS = (Trial(name="model", run=run),)
