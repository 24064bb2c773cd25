"""Switch promises off one by one, and see that a test fails for each: `python3 dev mutants --help`.

First the same tests run with nothing switched off: they must pass. A mutant that no test notices
is a test that is missing.
"""

from __future__ import annotations

import argparse
import concurrent.futures
import sys
import time
from collections.abc import Sequence

from tests.mutants import trees
from tests.mutants.catalogue import MUTANTS
from tests.mutants.mutant import Mutant

SIDE_BY_SIDE = 2
#: All tests together, without a mutant.
LONGEST_SECONDS = 900.0


def baseline(chosen: Sequence[Mutant]) -> bool:
    """Whether all their tests pass as long as nothing is switched off."""
    nodes = sorted({node for mutant in chosen for node in mutant.tests})
    began = time.monotonic()
    with trees.copy() as root:
        found = trees.run(root, nodes, f"--numprocesses={SIDE_BY_SIDE}", seconds=LONGEST_SECONDS)
    seconds = time.monotonic() - began
    wrong = found.problem or found.failed
    told = "pass" if wrong is None else f"FAIL, and so nothing can be said: {wrong}"
    print(f"{len(nodes)} tests without a mutant: {told} ({seconds:.0f} s)", flush=True)
    return wrong is None


def noticed(mutant: Mutant) -> bool:
    """Whether a test fails with the promise switched off; tells which."""
    began = time.monotonic()
    with trees.copy(mutant) as root:
        found = trees.run(root, mutant.tests)
    seconds = time.monotonic() - began
    verdict = "noticed" if found.failed else "BROKEN" if found.problem else "SURVIVED"
    by = found.failed or found.problem or f"by {', '.join(mutant.tests)}"
    print(f"{mutant.name:26} {verdict:9}{seconds:5.1f} s  {by}", flush=True)
    return found.failed is not None


def main() -> int:
    """Try the mutants; the exit code is 1 if one is not noticed."""
    known = {mutant.name: mutant for mutant in MUTANTS}
    parser = argparse.ArgumentParser(
        prog="python3 dev mutants", description=__doc__, epilog="mutants: " + ", ".join(known)
    )
    parser.add_argument("mutants", nargs="*", metavar="MUTANT", help="only these; all by default")
    options = parser.parse_args()
    if unknown := set(options.mutants) - set(known):
        parser.error(f"no mutant {', '.join(sorted(unknown))}; there are: {', '.join(known)}")
    chosen = [known[name] for name in options.mutants or known]
    for mutant in chosen:
        trees.applied(mutant)  # before anything runs
    began = time.monotonic()
    if not baseline(chosen):
        return 1
    with concurrent.futures.ThreadPoolExecutor(SIDE_BY_SIDE) as pool:
        count = sum(pool.map(noticed, chosen))
    print(f"{count} of {len(chosen)} mutants noticed, in {time.monotonic() - began:.0f} s")
    return int(count < len(chosen))


if __name__ == "__main__":
    sys.exit(main())
