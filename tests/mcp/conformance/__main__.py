"""Run the official conformance suite and the inspector against `kitaru-mcp`.

`python -m tests.mcp.conformance [--set REVISION] [--scenario NAME] [--inspector] [--verbose]`; with
no options everything is run. npm fetches the pinned packages into `.node/` when they are not there.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Protocol

from tests.mcp.conformance import node, suites
from tests.mcp.conformance.suites import Place, Verdict


class Run(Protocol):
    """One run, given a place for what it writes."""

    def __call__(self, *, place: Place) -> Verdict: ...


def main(argv: Sequence[str] | None = None) -> int:
    """Run what was asked for; the exit code is 1 if something failed or could not be run."""
    options = _parser().parse_args(argv)
    try:
        found = node.installed()
    except node.Unavailable as lack:
        print(f"conformance: skipped: {lack}", flush=True)
        return 0 if options.if_available else 1
    failed = [name for name, run in _runs(found, options) if not _tell(name, run, options.verbose)]
    print(f"conformance: {'FAIL: ' + ', '.join(failed) if failed else 'pass'}", flush=True)
    return bool(failed)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tests.mcp.conformance", description=__doc__)
    parser.add_argument("--set", choices=suites.SETS, help="only this set of requirements")
    parser.add_argument("--scenario", help="only this scenario, in one set or in both")
    parser.add_argument("--inspector", action="store_true", help="only the inspector")
    parser.add_argument("--verbose", action="store_true", help="show what the servers logged")
    parser.add_argument(
        "--if-available",
        action="store_true",
        help="succeed without a run where Node, npm or its registry is missing",
    )
    return parser


def _runs(found: node.Node, options: argparse.Namespace) -> Iterator[tuple[str, Run]]:
    sets = [options.set] if options.set else suites.SETS
    if options.scenario:
        for revision in sets:
            run = partial(suites.scenario, found, name=options.scenario, revision=revision)
            yield f"{revision} {options.scenario}", run
        return
    if not options.inspector:
        for revision in sets:
            yield f"requirements {revision}", partial(suites.requirements, found, revision=revision)
    if options.inspector or not options.set:
        for era in suites.ERAS:
            yield f"inspector {era}", partial(suites.inspector, found, era=era)


def _tell(name: str, run: Run, verbose: bool) -> bool:
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="kitaru-conformance-") as folder:
        verdict = run(place=Place(Path(folder)))
        log = Path(folder, "server.log")
        logged = log.read_text() if verbose and log.exists() else ""
    outcome = "pass" if verdict.passed else "FAIL"
    print(f"{name:26}{outcome}  {time.monotonic() - began:5.1f} s")
    for line in [*verdict.lines, *logged.splitlines()]:
        print(f"    {line}", flush=True)
    return verdict.passed


if __name__ == "__main__":
    sys.exit(main())
