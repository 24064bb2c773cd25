"""A sample of the stops: a script and a runner, told to end while they are busy."""

from __future__ import annotations

import os
import random
from pathlib import Path

import pytest

from tests.chaos import stop

pytestmark = pytest.mark.skipif(os.name == "nt", reason="signals of POSIX")


def test_what_is_told_to_stop_hands_back_what_it_has_not_finished(home: Path) -> None:
    assert "0 lost, 0 repeated" in stop.run(home, rounds=2, rng=random.Random(5))
