"""Measures Kitaru beside the floor and its peers, case by case; without names all of them.

`--record` writes docs/performance.json, its page and its plots, or renews some cases of them;
`--compare` shows a quick run's ratios beside the recorded ones.
"""

from __future__ import annotations

import argparse
import importlib
import json
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks import comparing, page, recording
from benchmarks.peers import find
from benchmarks.scope import Scope, disk
from benchmarks.worker import ROOT, Broken

CASES = (
    "sequential",
    "models",
    "fan_out",
    "at_once",
    "resume",
    "crash",
    "startup",
    "answers",
    "logs",
    "artifacts",
    "queries",
    "size",
    "mcp",
)
#: Short, and with ratios that are much the same in each run.
QUICK = ("sequential", "models", "at_once", "resume", "startup", "artifacts", "queries", "size")
ROUNDS, QUICK_ROUNDS = 5, 3


def options(arguments: list[str] | None = None) -> argparse.Namespace:
    """What the command line asks for."""
    parser = argparse.ArgumentParser(prog="bench", description=__doc__)
    parser.add_argument("cases", nargs="*", metavar="CASE", help=", ".join(CASES))
    parser.add_argument("--rounds", type=int, metavar="N", help="how often each side does the work")
    parser.add_argument("--quick", action="store_true", help="little work, and no peers")
    parser.add_argument("--json", type=Path, metavar="FILE", help="keep the figures there")
    parser.add_argument("--record", action="store_true", help="measure, and write the page")
    parser.add_argument(
        "--compare", action="store_true", help="a quick run beside the recorded figures"
    )
    chosen = parser.parse_args(arguments)
    if unknown := [name for name in chosen.cases if name not in CASES]:
        parser.error(f"there is no case {unknown[0]!r}; there are {', '.join(CASES)}")
    if chosen.rounds is not None and chosen.rounds < 1:
        parser.error("--rounds must be 1 or more")
    chosen.quick = chosen.quick or chosen.compare
    if chosen.record and chosen.quick:
        parser.error("--record measures in full")
    chosen.cases = chosen.cases or (QUICK if chosen.quick else CASES)
    chosen.rounds = chosen.rounds or (QUICK_ROUNDS if chosen.quick else ROUNDS)
    return chosen


def measure(
    chosen: argparse.Namespace, peers: list[Any], *, kept: recording.Kept | None = None
) -> dict[str, list[dict[str, Any]]]:
    """Every case that was chosen."""
    found = {}
    for name in chosen.cases:
        begun = time.perf_counter()
        tables = kept.find(name) if kept else None
        if tables is None:
            # Each is imported only when it runs, so that none pays for another's imports.
            case = importlib.import_module(f"benchmarks.{name}")
            with tempfile.TemporaryDirectory(dir=disk(), prefix="kitaru-bench-") as folder:
                scope = Scope(Path(folder), chosen.rounds, quick=chosen.quick, peers=peers)
                tables = case.run(scope)
            if kept:
                kept.keep(name, tables)
        found[name] = tables
        print(f"\n{name}: {page.TITLES[name]}  ({time.perf_counter() - begun:.0f} s)")
        print("\n".join(page.plain(tables)), flush=True)
    return found


def main() -> None:
    """Measure, print, and keep what was asked for."""
    chosen = options()
    commit = recording.clean_commit() if chosen.record else None
    if commit and not recording.PEERS_PYTHON.exists():
        raise Broken(
            f"The peers' environment is not there, and a page needs it: {recording.BRING}."
        )
    peers, missing = ([], []) if chosen.quick else find()
    where = recording.machine()
    print(", ".join(f"{key.replace('_', ' ')} {value}" for key, value in where.items()))
    print("".join(f"left out: {line}\n" for line in missing), end="")
    kept = recording.Kept(commit, chosen.rounds) if commit else None
    cases = measure(chosen, peers, kept=kept)
    figures = {"machine": where, "rounds": chosen.rounds, **recording.about_peers(peers, missing)}
    figures["cases"] = cases
    if chosen.json:
        chosen.json.write_text(json.dumps(figures, indent=1, ensure_ascii=False) + "\n")
    if chosen.compare:
        print()
        print("\n".join(comparing.lines(cases, recording.committed()["cases"])))
    if commit and kept:
        if [*cases] == [*CASES]:
            recording.write(figures, commit=commit)
        else:
            recording.add(figures, commit=commit, order=CASES)
        page.write()
        kept.forget()
        print(f"\nwritten: {recording.PAGE.relative_to(ROOT)}")


if __name__ == "__main__":
    try:
        main()
    except Broken as error:
        sys.exit(f"bench: {error}")
    except KeyboardInterrupt:
        sys.exit(130)
