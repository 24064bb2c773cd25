"""Calls of the MCP server over its pipes, on a store of 100,000 executions.

A client sends one call after the other, then keeps ten under way. The floor is the smallest server
the same SDK makes, called in the same rounds. Each sample is a batch of calls: its median, its 99th
in a hundred, and how many calls a second it answered. `benchmarks.servers` measures more.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from typing import Any

from benchmarks import servers, stores
from benchmarks.piped import Piped
from benchmarks.rounds import Figures, Side, interleave
from benchmarks.scope import Scope

EXECUTIONS = 100_000
FLOOR = "hello world of the same SDK"
CALLS, LOADED, AT_ONCE = 100, 300, 10
COLUMNS = {
    "p50": ("median of one call", "ms"),
    "p99": ("99th in a hundred", "ms"),
    "rate": (f"calls per second, {AT_ONCE} at a time", "/s"),
}


def batch(server: Piped, arguments: Sequence[dict[str, Any]]) -> dict[str, float]:
    """Calls one at a time, then some at a time."""
    ready = [
        server.prepared("tools/call", arguments[number % len(arguments)])
        for number in range(CALLS + LOADED)
    ]
    took = []
    for request in ready[:CALLS]:
        begun = time.perf_counter()
        server.exchange(request)
        took.append(1000 * (time.perf_counter() - begun))
    seconds = server.load(ready[CALLS:], at_once=AT_ONCE)
    took.sort()
    return {
        "p50": statistics.median(took),
        "p99": took[len(took) * 99 // 100],
        "rate": LOADED / seconds,
    }


def run(scope: Scope) -> list[dict[str, Any]]:
    """List, get and logs."""
    asked = servers.subjects(stores.kept(EXECUTIONS, seed=servers.SEED))
    running = servers.servers(asked.home, "initialize")
    cases = servers.cases(asked)

    def side(name: str, tool: str, floor: str | None) -> Side:
        server = running["hello" if floor is None else "kitaru"]
        server.request("tools/call", cases[tool][0])  # refused, it would be quick
        go: Callable[[], Figures] = lambda: batch(server, cases[tool])  # noqa: E731
        return Side(name, go, floor)

    sides = [side(FLOOR, "hello", None)]
    sides += [side(f"kitaru-mcp, {tool}", tool, FLOOR) for tool in ("list", "get", "logs")]
    samples = interleave(sides, rounds=scope.rounds)
    for server in running.values():
        server.end()
    return [
        samples.table(
            key,
            title="Calls",
            column=column,
            figure=key,
            unit=unit,
            better="more" if key == "rate" else "less",
        )
        for key, (column, unit) in COLUMNS.items()
    ]
