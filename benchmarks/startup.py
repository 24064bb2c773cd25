"""What starting costs: `import kitaru`, a first durable step, the commands, the MCP server; memory.

Every figure is of a whole process, with the interpreter's own share: CPU is user and system time,
the clock runs from its start to its end (of the MCP server: to the answer to `tools/list`), and
memory is what it has resident at its end. The floor is a Python process that does nothing.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks import stores
from benchmarks.piped import Piped
from benchmarks.rounds import Figures, Samples, Side, interleave
from benchmarks.scope import Scope
from benchmarks.worker import ROOT, environment

#: How many executions are in the store that is listed.
EXECUTIONS = 100_000
MEGABYTE = 1_000_000
BARE, HELLO = "Python alone", "hello world of the same SDK"

#: `import kitaru` alone loads next to nothing; these names are what a flow is written with.
_IMPORT = "from kitaru import checkpoint, flow, wait"
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
_MEMORY = """
import os
if os.path.exists("/proc/self/statm"):  # nothing but Linux tells it
    fields = open("/proc/self/statm").read().split()
    print("resident", int(fields[1]) * os.sysconf("SC_PAGE_SIZE"))
"""


def cost(arguments: list[str], **variables: str) -> dict[str, float]:
    """What one Python process costs; memory where its program prints it."""
    begun = time.perf_counter()
    with tempfile.TemporaryFile() as output:
        process = subprocess.Popen(
            [sys.executable, *arguments], env=environment(**variables), stdout=output, cwd=ROOT
        )
        _, status, used = os.wait4(process.pid, 0)
        took = time.perf_counter() - begun
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            raise subprocess.CalledProcessError(process.returncode, process.args)
        output.seek(0)
        told = re.search(rb"^resident (\d+)$", output.read(), re.MULTILINE)
    memory = {"resident_bytes": float(told[1])} if told else {}
    return {"cpu": used.ru_utime + used.ru_stime, "clock": took, **memory}


def ours(home: Path) -> dict[str, float]:
    """An import, then a first durable step, each in a new process."""
    imported = cost(["-c", _IMPORT + _MEMORY], KITARU_HOME=str(home))
    stepped = first_step(home)
    return _figures(imported, stepped)


def first_step(home: Path) -> dict[str, float]:
    """A new process with one durable step."""
    return cost(["-c", _FIRST_STEP + _MEMORY], KITARU_HOME=str(home))


def nothing() -> dict[str, float]:
    """The same figures of a process that does nothing."""
    one = cost(["-c", "pass" + _MEMORY])
    return _figures(one, one)


def _figures(imported: Figures, stepped: Figures) -> dict[str, float]:
    told = {
        "import_cpu": imported["cpu"],
        "import_clock": imported["clock"],
        "first_step": stepped["clock"],
        "first_step_cpu": stepped["cpu"],
    }
    if "resident_bytes" in stepped:
        told["import_resident"] = imported["resident_bytes"]
        told["resident_bytes"] = stepped["resident_bytes"]
    return told


def served(*command: str, **variables: str) -> dict[str, float]:
    """One start of an MCP server, to its list of tools; it is idle then."""
    start = [sys.executable, "-m", *command]
    server = Piped(start, "initialize", environment=environment(**variables))
    tools = json.loads(server.request("tools/list", {}))["result"]["tools"]
    took = time.perf_counter() - server.began
    assert tools
    statm = Path(f"/proc/{server.pid}/statm").read_text().split()
    memory = float(int(statm[1]) * os.sysconf("SC_PAGE_SIZE"))
    server.end()
    return {"clock": took, "resident_bytes": memory}


def run(scope: Scope) -> list[dict[str, Any]]:
    """The package, then the commands and the server."""
    home = scope.place("home")
    first_step(home)  # it makes the store, which the others have
    with scope.peer_sides("startup", floor=BARE) as peers:
        sides = [Side(BARE, nothing), Side("Kitaru", lambda: ours(home), BARE), *peers()]
        times = 1 if scope.quick else 3
        samples = interleave(sides, rounds=scope.rounds, times=times, warm=False)
    found = [
        _table(samples, "import", "Import", "CPU", figure="import_cpu"),
        _table(samples, "import clock", "Import", "clock", figure="import_clock"),
        _table(samples, "first step", "First durable step", "clock", figure="first_step"),
        _table(samples, "first step CPU", "First durable step", "CPU", figure="first_step_cpu"),
        _table(samples, "import memory", "Memory", "after import", figure="import_resident"),
        _table(samples, "memory", "Memory", "after a durable step", figure="resident_bytes"),
    ]
    tables = [table for table in found if table["sides"]]
    if scope.quick:
        return tables
    return [*tables, *_new_store(scope), *_commands(scope), *_server(scope, home)]


def _table(samples: Samples, key: str, title: str, column: str, *, figure: str) -> dict[str, Any]:
    is_memory = figure.endswith(("resident", "resident_bytes"))

    def value(figures: Figures) -> float:
        return figures[figure] / MEGABYTE if is_memory else 1000 * figures[figure]

    having = [
        side.name
        for side in samples.sides
        if any(round_ and figure in round_ for round_ in samples.rounds[side.name])
    ]
    return samples.table(
        key,
        title=title,
        column=column,
        figure=value,
        unit="MB" if is_memory else "ms",
        names=having,
    )


def _new_store(scope: Scope) -> list[dict[str, Any]]:
    """The first durable step of all, which makes the store."""
    samples = interleave(
        [
            Side(BARE, lambda: cost(["-c", "pass" + _MEMORY])),
            Side("Kitaru", lambda: first_step(scope.place(f"new-{time.monotonic_ns()}")), BARE),
        ],
        rounds=scope.rounds,
    )
    title = "First durable step, which makes the store"
    return [
        _table(samples, "new store", title, "clock", figure="clock"),
        _table(samples, "new store CPU", title, "CPU", figure="cpu"),
        _table(samples, "new store memory", title, "memory", figure="resident_bytes"),
    ]


def _commands(scope: Scope) -> list[dict[str, Any]]:
    """The command line on a store of many executions."""
    many = str(stores.kept(EXECUTIONS))

    def command(*words: str, **variables: str) -> Callable[[], Figures]:
        return lambda: cost(["-m", "kitaru.cli", *words], KITARU_HOME=many, **variables)

    completing = {
        "_KITARU_COMPLETE": "bash_complete",
        "COMP_WORDS": "kitaru executions get kr-1",
        "COMP_CWORD": "3",
    }
    samples = interleave(
        [
            Side(BARE, lambda: cost(["-c", "pass"])),
            Side("kitaru --help", command("--help"), BARE),
            Side("kitaru executions list", command("executions", "list"), BARE),
            Side("kitaru executions get latest", command("executions", "get", "latest"), BARE),
            Side("completing an id", command(**completing), BARE),
        ],
        rounds=scope.rounds,
    )
    title = f"Commands, on a store of {EXECUTIONS:,} executions"
    return [
        _table(samples, "command CPU", title, "CPU", figure="cpu"),
        _table(samples, "command", title, "clock", figure="clock"),
    ]


def _server(scope: Scope, home: Path) -> list[dict[str, Any]]:
    """The MCP server."""
    samples = interleave(
        [
            Side(HELLO, lambda: served("benchmarks.hello")),
            Side("kitaru-mcp", lambda: served("kitaru_mcp.server", "--home", str(home)), HELLO),
        ],
        rounds=scope.rounds,
    )
    title = "MCP server"
    return [
        _table(samples, "server", title, "start to tools/list", figure="clock"),
        _table(samples, "server memory", title, "memory, idle", figure="resident_bytes"),
    ]
