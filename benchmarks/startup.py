"""What starting costs: `import kitaru`, a first durable step, the CLI; CPU time of whole processes.

Each is paired with `python -c pass`, measured in turn with it; the figure is CPU milliseconds
(user and system, children included), minimum and median.
"""

from __future__ import annotations

import os
import resource
import statistics
import subprocess
import sys
import tempfile
from typing import Any

ROUNDS = 9

_FIRST_STEP = """
import kitaru

@kitaru.checkpoint
def step(n: int) -> int:
    return n + 1

@kitaru.flow
def once(n: int) -> int:
    return step(n)

once.run(1).wait()
"""

_CASES = {
    "python -c pass": ["-c", "pass"],
    "import kitaru": ["-c", "import kitaru"],
    "flow and checkpoint names": ["-c", "from kitaru import checkpoint, flow, wait"],
    "first durable step": ["-c", _FIRST_STEP],
    "kitaru --help": ["-m", "kitaru.cli", "--help"],
}


def cpu_ms(arguments: list[str]) -> float:
    """CPU time of one process, in milliseconds."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([sys.executable, *arguments], check=True, stdout=subprocess.DEVNULL)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return 1000 * (after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)


def main() -> dict[str, Any]:
    """Measure every case, round by round, and print a table."""
    figures: dict[str, list[float]] = {name: [] for name in _CASES}
    with tempfile.TemporaryDirectory() as home:
        os.environ["KITARU_HOME"] = home
        for _ in range(ROUNDS):
            for name, arguments in _CASES.items():
                figures[name].append(cpu_ms(arguments))
    print("CPU of a whole process (ms: min / median)")
    for name, values in figures.items():
        print(f"  {name:28}{min(values):7.0f} / {statistics.median(values):.0f}")
    return {
        name: {"min_ms": round(min(values)), "median_ms": round(statistics.median(values))}
        for name, values in figures.items()
    }


if __name__ == "__main__":
    main()
