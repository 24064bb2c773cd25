"""Trials that are tests of the suite: what they promise is whole in a few seconds."""

from __future__ import annotations

from tests.chaos.trial import of_tests

TRIALS = (of_tests("divergence", "tests/runtime/test_divergence.py"),)
