"""What many at once cost: calls of one flow, executions of one process, executions that wait.

Each case runs in a process of its own at 100, 300 and 1,000. Memory is what the process's resident
set grew by, for each call or execution; time is given as a ratio to the same work done one after
the other in the same process; commits are counted, and the CPU is that of two idle seconds.
"""

from __future__ import annotations

import asyncio
import json
import os
import resource
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import kitaru
from kitaru import config
from kitaru.store import open_store

SIZES = (100, 300, 1000)
IDLE_SECONDS = 2.0
#: What an event loop needs: its selector, and a pair of sockets.
DESCRIPTORS_PER_LOOP = 3
SPARE_DESCRIPTORS = 100


@kitaru.checkpoint
def step(number: int) -> int:
    """A call that does nothing worth mentioning."""
    return number


@kitaru.checkpoint
async def step_async(number: int) -> int:
    """The same as a coroutine."""
    return number


_ends = threading.Event()


@kitaru.checkpoint
def held(number: int) -> int:
    """A call that lasts until all have begun."""
    _ends.wait()
    return number


@kitaru.checkpoint
async def held_async(number: int) -> int:
    """The same as a coroutine."""
    while not _ends.is_set():
        await asyncio.sleep(0.5)  # a thousand loops that poll more often would be the load
    return number


@kitaru.flow
def one_by_one(count: int) -> list[int]:
    """Calls one after the other."""
    return [step(number) for number in range(count)]


@kitaru.flow
async def one_by_one_async(count: int) -> list[int]:
    """Calls one after the other."""
    return [await step_async(number) for number in range(count)]


@kitaru.flow
def mapped(count: int) -> list[int]:
    """Calls beside each other, on a thread each."""
    return held.map(range(count), max_workers=count).result()


@kitaru.flow
async def gathered(count: int) -> list[int]:
    """Calls beside each other, in a task each."""
    return list(await asyncio.gather(*(held_async(number) for number in range(count))))


@kitaru.flow
def once(number: int) -> int:
    """One call."""
    return held(number)


@kitaru.flow
async def once_async(number: int) -> int:
    """One call."""
    return await held_async(number)


@kitaru.flow
def quick(number: int) -> int:
    """One short call."""
    return step(number)


@kitaru.flow
async def quick_async(number: int) -> int:
    """One short call."""
    return await step_async(number)


@kitaru.flow
def asks(number: int) -> int:
    """Waits for an answer."""
    return number + kitaru.wait(name="more", schema=int, timeout=3600)


def resident() -> int:
    """Bytes of memory that this process has in use; nothing but Linux tells it so."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize()


def calls(together: Any, after_each_other: Any, count: int) -> dict[str, Any]:
    """Many calls of one flow."""
    after_each_other.run(count).wait()
    before, commits = resident(), count_commits()
    begun = time.perf_counter()
    handle = together.run(count)
    while len(list_running(handle.exec_id)) < count:
        time.sleep(0.05)
    grown, begun_all, at = resident() - before, time.perf_counter() - begun, len(commits)
    _ends.set()
    released = time.perf_counter()
    assert handle.wait() == list(range(count))
    ended = time.perf_counter() - released
    shared = len(commits) - at
    begun = time.perf_counter()
    after_each_other.run(count).wait()
    alone = time.perf_counter() - begun
    return {
        "bytes": grown // count,
        "ratio": round((begun_all + ended) / alone, 2),
        "commits": round(shared / count, 3),
    }


def executions(flow: Any, short: Any, count: int) -> dict[str, Any]:
    """Many executions of one process."""
    short.run(0).wait()
    before, commits = resident(), count_commits()
    begun = time.perf_counter()
    handles = [flow.run(number) for number in range(count)]
    for handle in handles:
        while not list_running(handle.exec_id):
            time.sleep(0.01)
    grown, started, at = resident() - before, time.perf_counter() - begun, len(commits)
    _ends.set()
    released = time.perf_counter()
    assert [handle.wait() for handle in handles] == list(range(count))
    ended = time.perf_counter() - released
    shared = len(commits) - at
    begun = time.perf_counter()
    for number in range(count):
        short.run(number).wait()
    alone = time.perf_counter() - begun
    return {
        "bytes": grown // count,
        "ratio": round((started + ended) / alone, 2),
        "commits": round(shared / count, 3),
    }


def waiting(count: int) -> dict[str, Any]:
    """Many executions that wait for an answer, in one process."""
    client = kitaru.KitaruClient()
    before = resident()
    handles = [asks.run(number) for number in range(count)]
    while any(handle.status != "waiting" for handle in handles):
        time.sleep(0.05)
    grown = resident() - before
    cpu = time.process_time()
    time.sleep(IDLE_SECONDS)
    cpu = time.process_time() - cpu
    for handle in handles:
        client.executions.input(handle.exec_id, wait="more", value=1)
    assert [handle.wait() for handle in handles] == [number + 1 for number in range(count)]
    return {"bytes": grown // count, "idle_cpu_percent": round(100 * cpu / IDLE_SECONDS, 1)}


def count_commits() -> list[str]:
    """Every commit of this process from now on."""
    seen: list[str] = []
    store = open_store(config.find_home())
    store._writer.set_trace_callback(lambda sql: seen.append(sql) if sql == "COMMIT" else None)
    return seen


def list_running(exec_id: str) -> list[Any]:
    """The calls of an execution that are shown as running."""
    sql = "SELECT 1 FROM calls JOIN executions ON id = execution WHERE exec_id = ?"
    return open_store(config.find_home()).read(sql, (exec_id,))


CASES: dict[str, Callable[[int], dict[str, Any]]] = {
    "calls on threads": lambda count: calls(mapped, one_by_one, count),
    "calls in tasks": lambda count: calls(gathered, one_by_one_async, count),
    "executions": lambda count: executions(once, quick, count),
    "async executions": lambda count: executions(once_async, quick_async, count),
    "waiting executions": waiting,
}


def measure(case: str, count: int) -> dict[str, Any] | None:
    """One case in a process of its own; nothing where descriptors do not suffice."""
    limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    needed = count * DESCRIPTORS_PER_LOOP + SPARE_DESCRIPTORS
    if case == "async executions" and limit < needed:
        return None
    with tempfile.TemporaryDirectory() as home:
        command = [sys.executable, "-m", "benchmarks.scale", case, str(count)]
        environment = os.environ | {"KITARU_HOME": home}
        told = subprocess.run(command, env=environment, capture_output=True, check=True, text=True)
    figures: dict[str, Any] = json.loads(told.stdout)
    return figures


def main() -> dict[str, Any]:
    """Measure every case at every size and print a table."""
    print("many at once, for each: memory, time against one after the other, commits, idle CPU")
    figures: dict[str, Any] = {}
    for case in CASES:
        for count in SIZES:
            got = figures[f"{case} {count}"] = measure(case, count)
            if got is None:
                print(f"  {case:20}{count:6}  needs more file descriptors (`ulimit -n`)")
                continue
            told = f"  {case:20}{count:6}{got['bytes'] / 1024:8.0f} KiB"
            told += f"{got['ratio']:8.2f} x" if "ratio" in got else ""
            told += f"{got['commits']:8.3f} commits" if "commits" in got else ""
            told += f"{got['idle_cpu_percent']:8.1f} % CPU" if "idle_cpu_percent" in got else ""
            print(told, flush=True)
    return figures


if __name__ == "__main__":
    if len(sys.argv) == 3:
        print(json.dumps(CASES[sys.argv[1]](int(sys.argv[2]))))
    else:
        main()
