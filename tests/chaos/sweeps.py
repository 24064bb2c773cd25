"""A program on the SDK meets a fault of the system at every single call it makes to its store.

It is killed there, or the call fails, once or from then on. Whatever was promised to it is there
afterwards, nothing runs a second time that was recorded, every error says what to do, and run
again without faults it comes to what it comes to undisturbed.
"""

from __future__ import annotations

import errno
import random
import shutil
from collections.abc import Iterable
from dataclasses import dataclass, replace
from itertools import count, takewhile
from pathlib import Path
from typing import Any

from kitaru import KitaruClient, KitaruError, KitaruStateError
from tests.chaos import workload
from tests.chaos.injected import (
    FAIL,
    KILL,
    KILL_MIDWAY,
    LOCK,
    NAME,
    READ,
    SHORTEN,
    SIZE,
    SYNC,
    WRITE,
    Plan,
    Workshop,
)
from tests.chaos.trial import Scope, Trial


@dataclass(frozen=True)
class Fault:
    """What is tried at every call, and in how many parts of the calls at factor 1."""

    name: str
    plan: Plan
    every: int = 1


KILLS = (
    Fault("killed before a call", Plan(action=KILL)),
    Fault("killed in a write", Plan(action=KILL_MIDWAY, kinds=WRITE), every=6),
)
ERRORS = tuple(
    Fault(f"{name} {'for good' if lasts else 'once'}", replace(plan, lasts=lasts), every)
    for name, plan, every in (
        ("write", Plan(action=FAIL, kinds=WRITE), 16),
        ("push", Plan(action=FAIL, kinds=SYNC), 1),
        ("make, cut or remove", Plan(action=FAIL, kinds=SIZE | NAME), 1),
        ("read", Plan(action=FAIL, kinds=READ), 16),
        ("lock", Plan(action=FAIL, kinds=LOCK), 4),
        ("no room", Plan(action=FAIL, kinds=WRITE, error=errno.ENOSPC), 16),
        ("half a write", Plan(action=SHORTEN, kinds=WRITE, error=errno.ENOSPC), 16),
    )
    for lasts in (False, True)
)


# --- jobs, done in the workshop ---------------------------------------------------------------


def work(home: Path) -> list[str]:
    """Go on until nothing is left to do, after an error once more; the errors of all that met one.

    An error that does not say which file has which trouble, and what to do, is a fault itself.
    """
    errors: list[str] = []
    for _ in range(2):
        try:
            workload.go_on()
            return errors
        except KitaruError as error:
            # Where not even the lease could be given back, this process still seems to drive.
            if not (errors and isinstance(error, KitaruStateError)):
                workload.check_error(home, error)
            errors.append(str(error))
    return errors


def after(home: Path) -> dict[str, Any]:
    """Look at what a fault has left, then go on without one; all that is wrong, and the outcome."""
    facts = workload.Facts(home / "facts")
    wrong = workload.check(home / "kitaru.db", facts.all()) if (home / "kitaru.db").exists() else []
    findings = KitaruClient(home=home).store.examine(full=True)
    wrong += [
        f"{each.code} {each.id}: {each.message}" for each in findings if each.code != "stalled"
    ]
    workload.go_on()
    wrong += [f"ran again: {each}" for each in workload.repeated(facts.all())]
    wrong += workload.check(home / "kitaru.db", facts.all())
    return {"wrong": wrong, "outcome": workload.outcome(home)}


# --- the sweep --------------------------------------------------------------------------------


class Sweep:
    """Tries faults on a program, each time in a fresh home."""

    def __init__(self, folder: Path, workshop: Workshop) -> None:
        self._folder = folder
        self._workshop = workshop
        assert workshop.do(work, self._home()).reply == []
        self._expected = workshop.do(after, self._folder / "home").reply
        assert self._expected["wrong"] == [], self._expected

    def at(self, plan: Plan) -> bool:
        """Let the fault of a plan happen; whether the program still came to that call."""
        home = self._home()
        done = self._workshop.do(work, home, plan=plan)
        assert done.killed or plan.lasts or len(done.reply) <= 1, (plan, done.reply)
        found = self._workshop.do(after, home).reply
        assert found["wrong"] == [], (plan, found["wrong"])
        for flow, outcome in self._expected["outcome"].items():
            assert found["outcome"].get(flow) == outcome, (plan, found["outcome"].get(flow))
        return done.killed or done.hits > 0

    def through(self, plan: Plan, numbers: Iterable[int]) -> int:
        """Try these numbers until the program makes no such call; how many it was tried at."""
        return sum(1 for _ in takewhile(lambda n: self.at(replace(plan, number=n)), numbers))

    def _home(self) -> Path:
        home = self._folder / "home"
        if home.exists():
            shutil.rmtree(home)
        home.mkdir(mode=0o700)
        return home


def warm_up(home: Path) -> None:
    """Have everything loaded that the jobs need."""
    work(home)
    after(home)


def run(scope: Scope, faults: Iterable[Fault]) -> str:
    """Try all of these faults."""
    with Workshop(scope.home, warm_up) as workshop:
        sweep = Sweep(scope.home, workshop)
        told = [_swept(sweep, fault, rng=scope.rng, factor=scope.factor) for fault in faults]
    return f"{', '.join(told)}; 0 lost, 0 twice, 0 corrupt"


def _swept(sweep: Sweep, fault: Fault, *, rng: random.Random, factor: float) -> str:
    step = max(1, int(fault.every / factor))  # at every call in a nightly run
    tried = sweep.through(fault.plan, count(1 + rng.randrange(step), step))
    assert tried or step > 1, f"{fault.name}: the program makes no such call"
    return f"{fault.name}: {tried} ({f'1 in {step}' if step > 1 else 'all'})"


TRIALS = (
    Trial(name="kill-calls", run=lambda scope: run(scope, KILLS)),
    Trial(name="fail-calls", run=lambda scope: run(scope, ERRORS)),
)
