"""Trials that are commands of their own: tests of the suite, and the tests of those tests."""

from __future__ import annotations

import subprocess
import sys

from tests.chaos.trial import Scope, Trial, of_tests
from tests.support import ROOT


def mutants(_: Scope) -> str:
    """Switch protections off one by one, and see that a test notices each."""
    command = [sys.executable, "-m", "tests.mutants"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-1000:]
    return done.stdout.splitlines()[-1]


TRIALS = (
    of_tests("divergence", "tests/runtime/test_divergence.py"),
    Trial(name="mutants", run=mutants),
)
