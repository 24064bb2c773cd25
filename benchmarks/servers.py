"""All that the MCP server costs, beside the smallest one of the same SDK: starts, calls, ends.

Both are measured in turn, round by round, so that a busy machine is busy for both; times are wall
time unless called CPU. Calls are made on a store of 100,000 executions, which is made once and
kept in the system's folder for temporary files. Nothing but Linux tells memory and CPU time.
"""

from __future__ import annotations

import dataclasses
import json
import os
import signal
import statistics
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

from benchmarks import patterns, stores
from benchmarks.piped import ERAS, Era, Piped
from kitaru import KitaruClient

EXECUTIONS = 100_000
SEED = 0
START_ROUNDS = 7
CALL_ROUNDS = 5
CALLS = 100
LOADED_CALLS = 300
AT_ONCE = 10
#: The replies to so many calls fit into a pipe that nobody reads.
UNDER_WAY = 50

_HELLO = [sys.executable, "-m", "benchmarks.hello"]
_KITARU = [sys.executable, "-m", "kitaru_mcp.server"]
_SIGNALS = {"EOF": None, "SIGINT": signal.SIGINT, "SIGTERM": signal.SIGTERM}
_FILTERS: tuple[dict[str, Any], ...] = (
    {"status": "failed"},
    {"status": "waiting"},
    {"flow": patterns.FLOWS[3]},
    {"tags": ["prod"]},
    {"since": (patterns.END - timedelta(days=30)).isoformat(), "limit": 100},
)


class Figures:
    """Samples by name, in the order in which the names came."""

    def __init__(self) -> None:
        self._samples: dict[str, list[float]] = defaultdict(list)

    def add(self, name: str, *values: float) -> None:
        """Samples of one figure."""
        self._samples[name] += values

    def median(self, name: str) -> float:
        """The middle sample of a figure."""
        return statistics.median(self._samples[name])

    def ratio(self, name: str, base: str) -> float:
        """How many times another figure's middle this one's is."""
        return self.median(name) / self.median(base)

    def dump(self) -> dict[str, dict[str, float]]:
        """All of them: least, middle, 99th in a hundred, most."""
        return {
            name: {
                "min": round(min(values), 3),
                "median": round(statistics.median(values), 3),
                "p99": round(sorted(values)[len(values) * 99 // 100], 3),
                "max": round(max(values), 3),
            }
            for name, values in self._samples.items()
        }


@dataclasses.dataclass(frozen=True)
class Subjects:
    """What is asked for: the store's folder, executions from all over it, and an artifact."""

    home: Path
    executions: Sequence[str]
    artifact: str

    def required(self, tool: dict[str, Any]) -> dict[str, Any]:
        """Arguments that are enough for a tool that reads."""
        known = {"exec_id": self.executions[0], "artifact_id": self.artifact}
        return {name: known[name] for name in tool["inputSchema"].get("required", ())}


def subjects(home: Path) -> Subjects:
    """Executions of every age, and an artifact of one of them."""
    client = KitaruClient(home=home)
    found: list[str] = []
    for part in range(10):
        until = patterns.END - timedelta(days=patterns.DAYS * part / 10)
        found += [each.exec_id for each in client.executions.list(until=until, limit=20)]
    artifact = next(ref.artifact_id for each in found for ref in client.artifacts.list(each))
    return Subjects(home, found, artifact)


def servers(home: Path, era: Era) -> dict[str, Piped]:
    """Both servers, started one after the other."""
    commands = {"hello": _HELLO, "kitaru": [*_KITARU, "--home", str(home)]}
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    return {
        name: Piped(command, era, environment=environment) for name, command in commands.items()
    }


def starts(found: Figures, asked: Subjects, era: Era) -> None:
    """One start of each server: first answer, list of tools, memory, and end of its input."""
    for name, server in servers(asked.home, era).items():
        found.add(f"{name} first answer", server.first_ms)
        begun = time.perf_counter()
        line = server.request("tools/list", {})
        found.add(f"{name} tools/list", 1000 * (time.perf_counter() - begun))
        found.add(f"{name} CPU", server.cpu_ms())
        found.add(f"{name} memory", server.memory_mb())
        tools = json.loads(line)["result"]["tools"]
        if name == "hello":
            server.request("tools/call", {"name": "hello", "arguments": {"name": "you"}})
        else:
            found.add("tools/list bytes", len(line))
            found.add("tools", len(tools))
            for tool in tools:
                if tool["annotations"]["readOnlyHint"]:
                    call = {"name": tool["name"], "arguments": asked.required(tool)}
                    server.request("tools/call", call)
        found.add(f"{name} memory after calls", server.memory_mb())
        found.add(f"{name} EOF", server.end())


def cases(asked: Subjects) -> dict[str, list[dict[str, Any]]]:
    """What is called, by the name of the figure; a case's arguments take turns."""

    def of_each(tool: str) -> list[dict[str, Any]]:
        return [{"name": tool, "arguments": {"exec_id": each}} for each in asked.executions]

    listing = "kitaru_executions_list"
    return {
        "hello": [{"name": "hello", "arguments": {"name": "you"}}],
        "list": [{"name": listing, "arguments": {}}],
        "list by filters": [{"name": listing, "arguments": each} for each in _FILTERS],
        "get": of_each("kitaru_executions_get"),
        "logs": of_each("get_execution_logs"),
        "artifacts": of_each("kitaru_artifacts_list"),
        "status": [{"name": "kitaru_status", "arguments": {}}],
    }


def calls(found: Figures, asked: Subjects, era: Era) -> None:
    """Calls of each kind one at a time, then ten at a time, on servers that stay."""
    running = servers(asked.home, era)
    for round_ in range(CALL_ROUNDS):
        for name, arguments in cases(asked).items():
            server = running["hello" if name == "hello" else "kitaru"]
            for each in arguments[:10] if round_ == 0 else ():
                server.request("tools/call", each)  # refused, it would be quick
            ready = [
                server.prepared("tools/call", arguments[n % len(arguments)])
                for n in range(CALLS + LOADED_CALLS)
            ]
            for request in ready[:CALLS]:
                begun = time.perf_counter()
                server.exchange(request)
                found.add(f"{name} ms", 1000 * (time.perf_counter() - begun))
            cpu = server.cpu_ms()
            seconds = server.load(ready[CALLS:], at_once=AT_ONCE)
            found.add(f"{name} per second", LOADED_CALLS / seconds)
            found.add(f"{name} CPU ms", (server.cpu_ms() - cpu) / LOADED_CALLS)
    rows = json.loads(running["kitaru"].request("tools/call", cases(asked)["list"][0]))["result"]
    text = rows["content"][0]["text"]
    found.add("bytes per row", len(text.encode()) / len(json.loads(text)["items"]))
    for server in running.values():
        server.end(signal.SIGKILL)


def ends(found: Figures, asked: Subjects) -> None:
    """How long a server takes to end that is idle, and one with calls under way."""
    call = {"name": "kitaru_stacks_list", "arguments": {}}
    for name, how in _SIGNALS.items():
        for state, count in {"exit": 0, "busy exit": UNDER_WAY}.items():
            hello, kitaru = servers(asked.home, "initialize").values()
            hello.end(signal.SIGKILL)
            kitaru.post([kitaru.prepared("tools/call", call) for _ in range(count)])
            found.add(f"{name} {state}", kitaru.end(how))


def words(found: Figures) -> None:
    """`--help` and `--version`, beside a Python that does nothing."""
    options = {"pass": ["-c", "pass"]}
    options |= {word: ["-m", "kitaru_mcp.server", word] for word in ("--help", "--version")}
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    for name, option in options.items():
        begun = time.perf_counter()
        subprocess.run(
            [sys.executable, *option], check=True, env=environment, stdout=subprocess.DEVNULL
        )
        found.add(name, 1000 * (time.perf_counter() - begun))


def _show_starts(found: Figures, era: Era) -> None:
    print(f"  {era}: hello / kitaru, ratio")
    targets = {"first answer": 1.25, "memory": 1.3, "memory after calls": 1.3}
    for name in ("first answer", "tools/list", "CPU", "memory", "memory after calls", "EOF"):
        base, ours = f"hello {name}", f"kitaru {name}"
        unit = "MB" if "memory" in name else "ms"
        aim = f" (at most {targets[name]})" if name in targets else ""
        told = f"{found.median(base):8.1f} / {found.median(ours):.1f} {unit}"
        print(f"    {name:20}{told:24}{found.ratio(ours, base):6.2f} x{aim}")
    print(f"    {found.median('tools'):.0f} tools in {found.median('tools/list bytes'):.0f} bytes")


def _show_calls(found: Figures, era: Era) -> None:
    print(f"  {era}: p50, p99, most; {AT_ONCE} at a time: calls per second, CPU of a call")
    aims = {"list": " (5 ms, 500)", "get": " (5 ms, 500)"}
    figures = found.dump()
    for name in [key.removesuffix(" ms") for key in figures if key.endswith(" per second")]:
        name = name.removesuffix(" per second")
        one = figures[f"{name} ms"]
        rate, cpu = found.median(f"{name} per second"), found.median(f"{name} CPU ms")
        told = f"{one['median']:7.2f} {one['p99']:7.2f} {one['max']:7.1f} ms"
        print(f"    {name:18}{told}{rate:7.0f} per s{cpu:6.2f} ms{aims.get(name, '')}")
    print(f"    {found.median('bytes per row'):.0f} bytes per row of a list (at most 150)")


def main() -> dict[str, Any]:
    """Measure everything and print a table."""
    print(f"the MCP server on {EXECUTIONS:,} executions, beside a hello world (medians)")
    asked = subjects(stores.kept(EXECUTIONS, seed=SEED))
    figures: dict[str, Any] = {}
    for era in ERAS:
        found = Figures()
        for _ in range(START_ROUNDS):
            starts(found, asked, era)
        _show_starts(found, era)
        figures[f"starts {era}"] = found.dump()
    for era in ERAS:
        found = Figures()
        calls(found, asked, era)
        _show_calls(found, era)
        figures[f"calls {era}"] = found.dump()
    found = Figures()
    for _ in range(START_ROUNDS):
        ends(found, asked)
        words(found)
    for name, told in found.dump().items():
        print(f"  {name:18}{told['min']:8.0f} / {told['median']:.0f} / {told['max']:.0f} ms")
    figures["ends"] = found.dump()
    return figures


if __name__ == "__main__":
    main()
