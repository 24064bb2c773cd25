"""Huge things: an artifact, a flow, a log and a store far larger than people usually have.

Each is measured in a process of its own, which prints its figures as JSON. Times are figures, with
generous limits; ratios and memory are promises.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import kitaru
from kitaru import KitaruClient, checkpoint, flow
from kitaru.flow import Flow
from tests import drives, support
from tests.chaos.trial import Scope, Skipped, Trial

MEGABYTE = 1_000_000
#: Of the memory that saving or loading takes, beside the size of the value.
MOST_MEMORY = 2.5
#: How much longer a line may take at the end of a long log than at its start.
MOST_SLOWDOWN = 2.0
#: No step of a trial takes longer than that on any machine we know, many times over.
MOST_SECONDS = 60.0
#: Only making the things to be measured may take longer.
FILLING_SECONDS = 600.0
TEXT, BYTES = "text", "bytes"
#: Where Linux lets a process forget its peak of memory.
RESET = Path("/proc/self/clear_refs")


@checkpoint
def save(kind: str, size: int) -> int:
    """Save one large value."""
    value = "x" * size if kind == TEXT else b"x" * size
    kitaru.save("large", value)
    return size


@flow
def saving(kind: str, size: int) -> int:
    """A flow with a large artifact."""
    return save(kind, size)


@checkpoint
def step(number: int) -> int:
    """A short step."""
    return number


@flow
def long(length: int) -> int:
    """Many steps, a question, and one more."""
    total = sum(step(number) for number in range(length))
    return total + int(kitaru.wait(name="go", schema=int, timeout=0))


@checkpoint
def speak(lines: int) -> list[float]:
    """Many lines; how long each tenth of them took."""
    took = []
    for _ in range(10):
        begun = time.process_time()  # also of the thread that writes them out
        for number in range(lines // 10):
            print(f"line {number} of a long story")
        took.append(time.process_time() - begun)
    return took


@flow
def speaking(lines: int) -> list[float]:
    """A flow that says much."""
    return speak(lines)


@flow
def filling(artifacts: int, size: int) -> int:
    """Large artifacts, a question, and one more step."""
    for _ in range(artifacts):
        save(BYTES, size)
    answer = kitaru.wait(name="go", schema=int, timeout=0)
    return step(int(answer))


# --- inside the process that is measured ----------------------------------------------------------


def memory_mb(of: str) -> float:
    """Memory of this process: `VmRSS` now, `VmHWM` at its peak."""
    if not RESET.exists():
        return 0.0
    status = Path("/proc/self/status").read_text()
    return int(status.partition(f"{of}:")[2].split()[0]) * 1024 / MEGABYTE


def measured(work: Callable[[], Any]) -> dict[str, float]:
    """How long something takes, and how much memory at its peak."""
    if RESET.exists():
        RESET.write_text("5")  # the peak counts from here
    before, begun = memory_mb("VmRSS"), time.perf_counter()
    work()
    return {"seconds": time.perf_counter() - begun, "mb": memory_mb("VmHWM") - before}


def left(exec_id: str) -> None:
    """Wait until its driver has let go of an execution, which asks."""
    executions = KitaruClient().executions
    support.until(lambda: not executions.continues(exec_id), "it asks", seconds=FILLING_SECONDS)
    assert executions.summary(exec_id).status == "waiting"


def resumed(of: Flow[..., Any]) -> None:
    """Resume the latest execution here, to its end."""
    drives.again("resume", of, "latest").wait(MOST_SECONDS)


def sound(client: KitaruClient) -> None:
    """Read every value, and find nothing wrong."""
    findings = client.store.examine(full=True)
    assert not findings, findings


def inside(what: str, *given: Any) -> Any:
    """One step of a trial."""
    client = KitaruClient()
    match what:
        case "save":
            saving.run("text", 10).wait()  # what is loaded at first use is no part of it
            return measured(lambda: saving.run(*given).wait())
        case "load":
            (large,) = client.artifacts.list("latest", name="large")
            client.artifacts.list("latest")
            return measured(large.load)
        case "suspend":
            handle = long.run(*given)
            return measured(lambda: left(handle.exec_id)) | {"exec_id": handle.exec_id}
        case "go-on":
            client.executions.input("latest", wait="go", value=1)
            return measured(lambda: resumed(long))
        case "replay":
            last = client.executions.latest().checkpoints[-1].call_id
            return measured(lambda: left(long.replay("latest", last).exec_id))
        case "speak":
            return speaking.run(*given).wait()
        case "fill":
            handle = filling.run(*given)
            return measured(lambda: left(handle.exec_id))
        case _:
            return inside_large(client, what)


def inside_large(client: KitaruClient, what: str) -> Any:
    """One step on a large store."""
    match what:
        case "list":
            return measured(lambda: client.executions.list(limit=50))
        case "get":
            return measured(lambda: client.executions.get("latest"))
        case "resume":
            client.executions.input("latest", wait="go", value=7)
            return measured(lambda: resumed(filling))
        case "doctor":
            return measured(lambda: sound(client))
        case "backup":
            path = client.home.path.parent / "copy.db"
            return measured(lambda: client.store.backup(path))
    raise ValueError(what)


def main() -> None:
    """Do one step and print its figures; what flows print goes nowhere."""
    what, *given = json.loads(sys.argv[1])
    with open(os.devnull, "w") as nowhere:
        output, sys.stdout = sys.stdout, nowhere
        figures = inside(what, *given)
        sys.stdout = output
    print(json.dumps(figures), flush=True)


# --- trials ---------------------------------------------------------------------------------------


def apart(home: Path, what: str, *given: Any) -> Any:
    """Do one step in a process of its own; its figures."""
    program = "from tests.chaos import huge; huge.main()"
    process = support.spawn(home, "-c", program, json.dumps([what, *given]))
    return json.loads(support.finish(process))


def within(figures: dict[str, float], what: str, *, seconds: float = MOST_SECONDS) -> float:
    """How long it took, if that is not too long."""
    took = figures["seconds"]
    assert took <= seconds, f"{what} took {took:.1f} s"
    return took


def artifact(scope: Scope) -> str:
    """Save and load 100 MB of text, and of bytes."""
    if not RESET.exists():
        raise Skipped("needs /proc to measure memory")
    size, told = max(scope.times(100), 20) * MEGABYTE, []
    for kind in (TEXT, BYTES):
        for what in ("save", "load"):
            found = apart(scope.home / kind, what, *([kind, size] if what == "save" else []))
            memory = found["mb"] * MEGABYTE / size
            assert memory <= MOST_MEMORY, f"{what} of {kind} took {memory:.2f} times its size"
            took = within(found, f"{what} of {kind}")
            told.append(f"{kind} {what} {took:.2f} s, memory x{memory:.2f}")
    return f"{size // MEGABYTE} MB: {'; '.join(told)}"


def long_flow(scope: Scope) -> str:
    """A flow of 10,000 checkpoints, gone on with and replayed at its end."""
    length = scope.times(10_000)
    first = within(apart(scope.home, "suspend", length), "the first run")
    again = within(apart(scope.home, "go-on"), "the resume")
    replay = within(apart(scope.home, "replay"), "the replay")
    return (
        f"{length} checkpoints in {first:.1f} s, resumed at the end in {again:.2f} s, "
        f"replayed from the last in {replay:.2f} s"
    )


def many_lines(scope: Scope) -> str:
    """100,000 lines of one checkpoint, written, read and shown."""
    lines = scope.times(100_000)
    took = apart(scope.home, "speak", lines)
    ratio = sum(took[-3:]) / sum(took[:3])
    assert ratio <= MOST_SLOWDOWN, f"a line takes {ratio:.1f} times as long at the end"
    client = KitaruClient(home=scope.home)
    begun = time.perf_counter()
    read = client.executions.logs("latest")
    reading = time.perf_counter() - begun
    assert [line.message for line in read[-2:]] == [
        f"line {lines // 10 + n} of a long story" for n in (-2, -1)
    ]
    assert len(read) == lines // 10 * 10
    each = sum(took[-3:]) / (lines * 0.3)
    return (
        f"{lines} lines, {1e6 * each:.0f} us each at the end (x{ratio:.2f} of the start), "
        f"all read in {reading:.2f} s"
    )


def big_store(scope: Scope) -> str:
    """A store of more than 1 GiB is listed, gone on with, examined and copied."""
    os.environ["KITARU_DURABILITY"] = "normal"  # no power is cut here
    count, size = max(2, scope.times(17)), 48 * MEGABYTE
    apart(scope.home / "store", "fill", count, size)
    length = (scope.home / "store" / "kitaru.db").stat().st_size
    assert scope.factor < 1 or length > 1 << 30, length
    told = []
    for what in ("list", "get", "resume", "doctor", "backup"):
        took = within(apart(scope.home / "store", what), what)
        told.append(f"{what} {took:.2f} s")
    assert (scope.home / "copy.db").stat().st_size > 0.9 * length
    return f"{length / (1 << 30):.2f} GiB: {', '.join(told)}"


TRIALS = (
    Trial(name="huge-artifact", run=artifact, alone=True),
    Trial(name="long-flow", run=long_flow, alone=True),
    Trial(name="many-lines", run=many_lines, alone=True),
    Trial(name="big-store", run=big_store, alone=True),
)
