"""Run the crash tests at length, and odd calls to the MCP server: `python -m tests.chaos --help`.

With the defaults it takes a few minutes on two cores. A failure leaves its store behind and says
where; the seed repeats the choices, though not the moments of the system's scheduler.
"""

from __future__ import annotations

import argparse
import random
import secrets
import shutil
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path

from tests.chaos import calls, kills, races, rot, writers, zombies

Trial = Callable[[Path, random.Random], str]


def trials(options: argparse.Namespace) -> Iterator[tuple[str, Trial]]:
    """Each trial by its name; it gets a home of its own."""
    share = -(-options.kills // len(kills.SCENARIOS))
    for scenario in kills.SCENARIOS:
        name = "kill " + " ".join([scenario.flow, *map(str, scenario.inputs.values())])
        yield name, _kill(scenario, share)
    rounds = options.rounds
    yield "race", lambda home, rng: races.run(home, rounds=rounds)
    yield "zombie", lambda home, rng: zombies.run(home, rounds=rounds, rng=rng)
    yield "rot", lambda home, rng: rot.run(home, rounds=5 * rounds, rng=rng)
    yield "calls", lambda home, rng: calls.run(home, calls=options.calls, rng=rng)
    yield "writers", lambda home, rng: writers.run(home, executions=2 * rounds)


def _kill(scenario: kills.Scenario, count: int) -> Trial:
    return lambda home, rng: str(kills.KillLoop(home, scenario, rng=rng).run(kills=count))


def main() -> int:
    """Run every trial; the exit code is 1 if one of them failed."""
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__)
    parser.add_argument("--seed", type=int, default=secrets.randbelow(1_000_000))
    parser.add_argument("--kills", type=int, default=240, help="how many processes to kill")
    parser.add_argument("--rounds", type=int, default=100, help="races, and stopped drivers")
    parser.add_argument("--calls", type=int, default=20_000, help="odd calls to the MCP server")
    parser.add_argument("--only", default="", help="only trials whose name starts like this")
    options = parser.parse_args()
    print(f"seed {options.seed}", flush=True)
    failed = []
    for name, trial in trials(options):
        if not name.startswith(options.only):
            continue
        home = Path(tempfile.mkdtemp(prefix="kitaru-chaos-"))
        began = time.monotonic()
        try:
            outcome = trial(home, random.Random(f"{options.seed} {name}"))
        except Exception:  # a trial may find anything; the others still run
            traceback.print_exc()
            failed.append(name)
            outcome = f"FAILED; its store is {home}"
        else:
            shutil.rmtree(home)
        print(f"{name:16} {time.monotonic() - began:6.1f} s  {outcome}", flush=True)
    print("FAILED: " + ", ".join(failed) if failed else "every trial passed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
