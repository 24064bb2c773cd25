"""What a trial is: a promise that is attacked in a fresh home, and the figure that comes of it.

A trial raises `AssertionError` when the promise does not hold, and `Skipped` where it cannot be
tried; it never passes by doing less in silence. Its choices come from the seed alone.
"""

from __future__ import annotations

import random
import re
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from tests.support import ROOT


class Skipped(Exception):
    """This machine lacks what the trial needs; the message says what."""


@dataclass(frozen=True)
class Scope:
    """Where a trial happens, its choices, and how much of it.

    `factor` multiplies how often things are tried: 1 by default, 10 for a nightly run.
    """

    home: Path
    rng: random.Random
    factor: float = 1.0

    def times(self, count: int) -> int:
        """A number of rounds, at the length of this run."""
        return max(1, round(count * self.factor))


@dataclass(frozen=True, kw_only=True)
class Trial:
    """A named attack; it returns a line with what was tried and what was found.

    `alone`: its figure holds times, so that nothing else of ours runs beside it.
    """

    name: str
    run: Callable[[Scope], str]
    alone: bool = False


def of_tests(name: str, *nodes: str) -> Trial:
    """A trial that runs tests of the suite; they must pass, and none be left out."""
    return Trial(name=name, run=lambda _: _run_tests(nodes))


def _run_tests(nodes: tuple[str, ...]) -> str:
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", *nodes]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-1000:]
    dots = "".join(re.findall(r"^[.sx]+(?= +\[)", done.stdout, re.MULTILINE))
    if "s" in dots:
        raise Skipped(f"{dots.count('s')} of its tests cannot run on this machine")
    return f"{len(dots)} tests pass"
