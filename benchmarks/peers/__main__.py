"""How each peer's durability was found out: its syncs per step, counted, and its pragmas, asked.

`python -m benchmarks.peers` runs each peer's worker under strace (Linux) and counts the calls of
fsync, fdatasync and msync that one step more costs, those of its servers included.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
import time
from pathlib import Path

from . import Peer, find

STEPS = 200
_QUIET_SECONDS = 3.0


def main() -> None:
    """Count for each peer that is installed."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.peers", description=__doc__)
    parser.add_argument("names", nargs="*", help="only peers whose name has one of these")
    names = [name.lower() for name in parser.parse_args().names]
    found, missing = find()
    if shutil.which("strace") is None:
        sys.exit("strace is not on the path; without it syncs are not counted.")
    for line in missing:
        print(line)
    for peer in found:
        if not names or any(name in peer.name.lower() for name in names):
            print(f"{peer.name} {peer.version}: {syncs_per_step(peer)}")


def syncs_per_step(peer: Peer) -> str:
    """The syncs of an execution's steps, those that come later included, by kind."""
    with tempfile.TemporaryDirectory(prefix="syncs-") as folder:
        trace = Path(folder, "trace")
        tracer = ["strace", "-f", "-qq", "-e", "trace=fsync,fdatasync,msync", "-o", str(trace)]
        counts = []
        with peer.open(Path(folder), under=tracer) as session:
            for steps in (STEPS, 2 * STEPS):
                before = _count(trace)
                session.ask("sequential", {"steps": steps})
                at_its_end = _count(trace)
                time.sleep(_QUIET_SECONDS)  # for what is written behind the steps
                counts.append((before, at_its_end, _count(trace)))
            pragmas = session.ask("settings", {})
    (a, b, c), (d, e, f) = counts
    shown = [
        f"{((e - d) - (b - a)) / STEPS:.2f} syncs a step",
        f"{((f - d) - (c - a)) / STEPS:.2f} with what comes later",
    ]
    return ", ".join([*shown, *(f"{name} {value}" for name, value in pragmas.items())])


def _count(trace: Path) -> int:
    """The calls so far; one that another thread's interrupts is begun once and resumed once."""
    lines = trace.read_text(errors="replace").splitlines()
    return sum("resumed>" not in line and "sync(" in line for line in lines)


if __name__ == "__main__":
    main()
