"""Try to break what is promised in docs/guarantees.md: `python3 dev chaos --help`.

Each trial gets a process and a home of its own; two run side by side, but for those whose figures
are times. A failure leaves its home behind and says how to repeat it: the seed repeats the
choices, though not the moments of the system's scheduler.
"""

from __future__ import annotations

import argparse
import concurrent.futures
import json
import random
import secrets
import shutil
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.chaos import (
    calls,
    canary,
    claims,
    clocks,
    forks,
    framing,
    full_disk,
    huge,
    kills,
    model,
    page,
    paid,
    planted,
    power,
    races,
    readers,
    readonly,
    rot,
    simulation,
    stop,
    strangers,
    suite,
    sweeps,
    targets,
    texts,
    upgrades,
    values,
    wal_reset,
    writers,
    zombies,
)
from tests.chaos.trial import Scope, Skipped, Trial
from tests.support import ROOT

MODULES = (
    kills,
    races,
    zombies,
    stop,
    rot,
    writers,
    calls,
    suite,
    sweeps,
    power,
    upgrades,
    full_disk,
    model,
    claims,
    wal_reset,
    canary,
    planted,
    simulation,
    forks,
    readers,
    values,
    clocks,
    framing,
    readonly,
    targets,
    huge,
    texts,
    strangers,
    paid,
)
TRIALS: dict[str, Trial] = {trial.name: trial for module in MODULES for trial in module.TRIALS}
SIDE_BY_SIDE = 2
#: A trial that has not ended by then hangs; at ten times the length it has ten times as long.
DEADLINE_SECONDS = 900.0
NIGHTLY = 10.0
PASSED, SKIPPED, FAILED = "passed", "skipped", "FAILED"


@dataclass(frozen=True)
class Outcome:
    """How a trial went."""

    name: str
    verdict: str
    text: str
    seconds: float


def inside(name: str, home: Path, seed: int, factor: float) -> int:
    """Run one trial in this process; its last line is its outcome."""
    scope = Scope(home, random.Random(f"{seed} {name}"), factor)
    try:
        verdict, text = PASSED, TRIALS[name].run(scope)
    except Skipped as exc:
        verdict, text = SKIPPED, str(exc)
    except Exception:  # a trial may find anything; the others still run
        traceback.print_exc()
        verdict, text = FAILED, ""
    print("\n" + json.dumps([verdict, text]), flush=True)
    return int(verdict == FAILED)


def tried(trial: Trial, seed: int, factor: float) -> Outcome:
    """Run one trial in a process of its own, and tell how it went."""
    home = Path(tempfile.mkdtemp(prefix=f"kitaru-chaos-{trial.name}-"))
    options = [trial.name, "--home", str(home), "--seed", str(seed), "--factor", str(factor)]
    began = time.monotonic()
    try:
        done = subprocess.run(
            [sys.executable, "-m", "tests.chaos", "--inside", *options],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            timeout=DEADLINE_SECONDS * max(1.0, factor),
        )
        printed, _, last = done.stdout.rstrip().rpartition("\n")
        verdict, text = json.loads(last) if last.startswith("[") else (FAILED, done.stdout)
    except subprocess.TimeoutExpired as exc:
        printed, verdict, text = str(exc.stdout), FAILED, "it did not end"
    if verdict == FAILED:
        again = f"python3 dev chaos {trial.name} --seed {seed} --factor {factor:g}"
        text = f"{text}\n{printed}\nIts home is {home}; again: {again}"
    else:
        shutil.rmtree(home)
    outcome = Outcome(trial.name, verdict, text, time.monotonic() - began)
    print(f"{trial.name:12} {verdict:8}{outcome.seconds:6.1f} s  {text}", flush=True)
    return outcome


def run(chosen: Sequence[Trial], seed: int, factor: float) -> list[Outcome]:
    """Run trials: side by side what may, and by itself what measures time."""
    apart = [tried(trial, seed, factor) for trial in chosen if trial.alone]
    with concurrent.futures.ThreadPoolExecutor(SIDE_BY_SIDE) as pool:
        others = [trial for trial in chosen if not trial.alone]
        return apart + list(pool.map(lambda trial: tried(trial, seed, factor), others))


def record(outcomes: Sequence[Outcome], *, seed: int, factor: float, seconds: float) -> None:
    """Write a whole run that passed into docs/guarantees.md."""
    figures = {each.name: each.text for each in outcomes if each.verdict == PASSED}
    if missing := page.trials_of_promises() - set(figures):
        sys.exit(f"Nothing was recorded: no figures of {', '.join(sorted(missing))}.")
    page.record(figures, seed=seed, factor=factor, seconds=seconds)


def main() -> int:
    """Run the trials; the exit code is 1 if one of them failed."""
    parser = argparse.ArgumentParser(
        prog="python3 dev chaos", description=__doc__, epilog="trials: " + ", ".join(TRIALS)
    )
    parser.add_argument("trials", nargs="*", metavar="TRIAL", help="only these; all by default")
    parser.add_argument("--nightly", action="store_true", help="ten times as long")
    parser.add_argument(
        "--factor", type=float, help="how many times the usual length; 0.1 is a try"
    )
    parser.add_argument("--seed", type=int, help="repeat the choices of an earlier run")
    parser.add_argument("--record", action="store_true", help="write the figures into the page")
    parser.add_argument("--inside", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--home", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if unknown := set(options.trials) - set(TRIALS):
        parser.error(f"no trial {', '.join(sorted(unknown))}; there are: {', '.join(TRIALS)}")
    seed = secrets.randbelow(1_000_000) if options.seed is None else options.seed
    factor = options.factor or (NIGHTLY if options.nightly else 1.0)
    if options.inside:
        return inside(options.trials[0], options.home, seed, factor)
    print(f"seed {seed}", flush=True)
    began = time.monotonic()
    outcomes = run([TRIALS[name] for name in options.trials or TRIALS], seed, factor)
    counted = {v: sum(o.verdict == v for o in outcomes) for v in (PASSED, SKIPPED, FAILED)}
    told = ", ".join(f"{count} {verdict}" for verdict, count in counted.items() if count)
    seconds = time.monotonic() - began
    print(f"{told}, in {seconds:.0f} s; seed {seed}")
    if options.record:
        record(outcomes, seed=seed, factor=factor, seconds=seconds)
    return int(counted[FAILED] > 0)


if __name__ == "__main__":
    sys.exit(main())
