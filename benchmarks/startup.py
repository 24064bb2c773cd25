"""What starting costs: `import kitaru`, a first durable step, the CLI on a store of 100,000.

Each is paired with `python -c pass`, measured in turn with it; the figures are milliseconds of CPU
(user and system, children included) and of the clock, minimum and median of whole processes, and
how many times the CPU of the bare process that is.
"""

from __future__ import annotations

import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks import stores
from kitaru import config

ROUNDS = 9
EXECUTIONS = 100_000

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

_BARE = "python -c pass"
#: Each with the arguments of Python, and what its environment has beside the own one.
_CASES: dict[str, tuple[list[str], dict[str, str]]] = {
    _BARE: (["-c", "pass"], {}),
    "import kitaru": (["-c", "import kitaru"], {}),
    "flow and checkpoint names": (["-c", "from kitaru import checkpoint, flow, wait"], {}),
    "first durable step": (["-c", _FIRST_STEP], {}),
    "kitaru --help": (["-m", "kitaru.cli", "--help"], {}),
}
_ON_MANY: dict[str, tuple[list[str], dict[str, str]]] = {
    "kitaru executions list": (["-m", "kitaru.cli", "executions", "list"], {}),
    "kitaru executions get latest": (["-m", "kitaru.cli", "executions", "get", "latest"], {}),
    "completing an id": (
        ["-m", "kitaru.cli"],
        {
            "_KITARU_COMPLETE": "bash_complete",
            "COMP_WORDS": "kitaru executions get kr-1",
            "COMP_CWORD": "3",
        },
    ),
}


def cost(arguments: list[str], env: dict[str, str]) -> tuple[float, float]:
    """CPU and clock time of one process, in milliseconds."""
    # As users have it: compiled once, then read.
    inherited = {key: os.environ[key] for key in os.environ.keys() - {"PYTHONDONTWRITEBYTECODE"}}
    before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    subprocess.run(
        [sys.executable, *arguments],
        env=inherited | env,
        check=True,
        stdout=subprocess.DEVNULL,
    )
    ended = time.perf_counter()
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return 1000 * cpu, 1000 * (ended - began)


def main() -> dict[str, Any]:
    """Measure every case, round by round, and print a table."""
    cases = {
        **_CASES,
        **{f"{name}, {EXECUTIONS:,}": case for name, case in _ON_MANY.items()},
    }
    costs: dict[str, list[tuple[float, float]]] = {name: [] for name in cases}
    with tempfile.TemporaryDirectory() as folder:
        many, few = Path(folder) / "many", Path(folder) / "few"
        many.mkdir(mode=0o700)
        stores.generate(config.Home(many, "benchmark"), count=EXECUTIONS)
        for _ in range(ROUNDS):
            for name, (arguments, env) in cases.items():
                home = few if name in _CASES else many
                costs[name].append(cost(arguments, {"KITARU_HOME": str(home), **env}))
    print("A whole process (ms of CPU: min / median; of the clock: the same; times the bare one)")
    bare, figures = min(cpu for cpu, _ in costs[_BARE]), {}
    for name, values in costs.items():
        cpu, clock = zip(*values, strict=True)
        figures[name] = {
            "min_ms": round(min(cpu)),
            "median_ms": round(statistics.median(cpu)),
            "clock_min_ms": round(min(clock)),
            "clock_median_ms": round(statistics.median(clock)),
            "ratio": round(min(cpu) / bare, 1),
        }
        least, median, clock_least, clock_median, ratio = figures[name].values()
        print(
            f"  {name:38}{least:5} / {median:<5}{clock_least:6} / {clock_median:<5}{ratio:7.1f} x"
        )
    return figures


if __name__ == "__main__":
    main()
