"""A seed's program is driven by processes that die, stall and wake up late, as the seed says.

`python -m tests.chaos.simulation SEED` repeats one run exactly: it chooses the program, who is on
turn at each transaction, how time passes, and at which transactions a process is killed (before
it begins, before its commit, right after) or stalls, mostly for longer than its lease. Whoever is
alive takes up what could go on, as `kitaru worker` does. In the end everything is as after an
undisturbed run, no overtaken driver has written, and no call has run that was recorded before.
"""

from __future__ import annotations

import contextlib
import json
import random
import shutil
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kitaru import config, ids
from kitaru.store import open_store
from tests import support
from tests.chaos import programs
from tests.chaos.simulated import BLOWS, EXEC_ID, Blow, Run
from tests.chaos.trial import Scope, Trial

MOST_BLOWS = 4
#: How many runs are cancelled on their way.
CANCELLED = 0.15


def outcome(home: Path) -> dict[str, Any]:
    """What is compared: executions, and the calls, artifacts and answers of each."""
    found: dict[str, Any] = {}
    sql = "SELECT exec_id, status, flow_name, hex(result), metadata FROM executions ORDER BY id"
    for row in support.query(home, sql):
        found[row[0]] = row[1:], [_without_trace(call) for call in support.journal(home, row[0])]
    found["artifacts"] = support.query(
        home, "SELECT execution, seq, position, name, hex(data) FROM artifacts ORDER BY 1, 2, 3"
    )
    found["answers"] = support.query(
        home, "SELECT execution, call_id, status, hex(answer) FROM waits ORDER BY 1, 2"
    )
    return found


def _without_trace(call: tuple[Any, ...]) -> tuple[Any, ...]:
    """A call; one that failed in another process has no lines of the checkpoint's."""
    failure = json.loads(call[10] or "null")
    return (*call[:10], failure and {**failure, "traceback": None}, *call[11:])


@dataclass(frozen=True)
class Seen:
    """A run that has ended: what it left, and how often each checkpoint ran."""

    run: Run
    outcome: dict[str, Any]
    runs: Counter[str]


def simulate(seed: int, folder: Path, template: Path) -> Run:
    """Run a seed's program undisturbed and disturbed, and compare; gives the disturbed run."""
    calm = _seen(folder / "calm", template, seed)
    assert calm.runs == programs.world.wanted
    rng = random.Random(f"blows {seed}")
    at = [rng.randint(1, calm.run.commits) for _ in range(rng.randint(1, MOST_BLOWS))]
    blows: dict[int, Blow] = {each: rng.choice(BLOWS) for each in at}
    cancel_at = rng.randint(1, calm.run.commits) if rng.random() < CANCELLED else None
    wild = _seen(folder / "wild", template, seed, blows=blows, cancel_at=cancel_at)
    came, was = wild.outcome, calm.outcome
    if wild.run.is_cancelled:
        status = came[EXEC_ID][0][0]
        assert status == "cancelled", f"cancelled, and yet {status}"
        came, was = _recorded(came), _recorded(was)
        was = {call: was.get(call) for call in came}
    else:
        assert not calm.runs - wild.runs, "some checkpoints have not run"
    assert came == was, _difference(came, was)
    more = wild.runs - calm.runs
    assert max(more.values(), default=0) <= wild.run.struck, f"ran too often: {more}"
    return wild.run


def _seen(home: Path, template: Path, seed: int, **given: Any) -> Seen:
    shutil.copytree(template, home)
    try:
        run = Run(home, seed, **given)
        with run.installed():
            try:
                run.see_through()
            finally:
                run.leave()
        assert not run.faults, "\n".join(run.faults)
        return Seen(run, outcome(home), programs.world.runs)
    finally:
        shutil.rmtree(home)


def _recorded(outcome: dict[str, Any]) -> dict[str, Any]:
    """The values of all calls that have one."""
    return {
        f"{exec_id}/{call[1]}": call
        for exec_id, found in outcome.items()
        if exec_id.startswith(ids.EXECUTION_PREFIX)
        for call in found[1]
        if call[4] == "completed"
    }


def _difference(came: dict[str, Any], was: dict[str, Any]) -> str:
    parts = [key for key in {**came, **was} if came.get(key) != was.get(key)]
    return "\n".join(
        f"{key}: undisturbed\n  {was.get(key)}\nnow\n  {came.get(key)}" for key in parts
    )


@contextlib.contextmanager
def folder() -> Iterator[tuple[Path, Path]]:
    """A folder in memory, where there is one, and an empty store in it to copy."""
    memory = Path("/dev/shm")
    with (
        tempfile.TemporaryDirectory(dir=memory if memory.is_dir() else None) as name,
        contextlib.chdir(name),  # where no pyproject.toml has to be read
    ):
        template = Path(name) / "template"
        open_store(config.find_home(template))
        support.forget(template)
        yield Path(name), template


def run(seeds: list[int]) -> str:
    """Simulate these seeds."""
    commits = blows = cancelled = 0
    with folder() as (where, template):
        for seed in seeds:
            try:
                done = simulate(seed, where, template)
            except BaseException:
                print(f"seed {seed}; again: {sys.executable} -m tests.chaos.simulation {seed}")
                raise
            commits, blows = commits + done.commits, blows + done.struck
            cancelled += done.is_cancelled
    return (
        f"{len(seeds)} seeds, {commits} transactions, {blows} deaths and stalls, "
        f"{cancelled} cancelled, 0 differences"
    )


def _trial(scope: Scope) -> str:
    return run([scope.rng.randrange(10**9) for _ in range(scope.times(2000))])


TRIALS = (Trial(name="simulation", run=_trial),)

if __name__ == "__main__":
    with folder() as (where, template):
        for told in map(int, sys.argv[1:]):
            print(*simulate(told, where, template).trace, sep="\n")
