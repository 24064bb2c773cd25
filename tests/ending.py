"""A script with running flows, for tests of how a process ends: `python tests/ending.py FLOWS END`.

It starts the flows, prints their ids once each is where it is held, and then does what `END` says.
What is held goes on when the file `open` is in the store's home.
"""

from __future__ import annotations

import asyncio
import atexit
import concurrent.futures
import os
import select
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import kitaru
from kitaru import KitaruClient, checkpoint, config, flow


def home() -> Path:
    """The store's home now: a test that imports this file has one of its own."""
    return Path(os.environ["KITARU_HOME"])


def arrive(name: str) -> None:
    """Leave a mark that this place is reached, and by which process."""
    mark = home() / f"at-{name}.{threading.get_ident()}"
    mark.write_text(str(os.getpid()))
    mark.rename(home() / f"at-{name}")  # whole from the first moment


def is_open() -> bool:
    """Whether what is held may go on."""
    return (home() / "open").exists()


def hold(name: str) -> str:
    """Wait until what is held may go on."""
    arrive(name)
    while not is_open():
        time.sleep(0.005)
    return name


@checkpoint
def held(name: str) -> str:
    return hold(name)


@checkpoint
async def held_async(name: str) -> str:
    arrive(name)
    while not is_open():
        await asyncio.sleep(0.005)
    return name


@checkpoint(runtime="isolated")
def held_isolated(name: str) -> str:
    return hold(name)


@checkpoint
def quick(number: int) -> int:
    return number


@flow
def plain() -> str:
    return held("plain")


@flow
async def coroutine() -> str:
    return await held_async("coroutine")


@flow
def isolated() -> str:
    return held_isolated("isolated")


@flow
def asks() -> str:
    return kitaru.wait(name="approve", schema=str)


@flow
def sleeps() -> str:
    arrive("sleeps")
    kitaru.sleep(0.5, timeout=60)
    return "sleeps"


@flow
def sleeps_long() -> str:
    arrive("sleeps_long")
    kitaru.sleep(3600, timeout=3600)
    return "sleeps_long"


@flow
def child() -> str:
    return held("parent")


@flow
def parent() -> str:
    return child.run().wait()


@flow
def parent_asleep() -> str:
    return sleeps_long.run().wait()


@flow
def fan() -> str:
    return held.map(["fan"] * 20).result()[0]


@flow
async def fan_async() -> str:
    async with asyncio.TaskGroup() as group:
        first = group.create_task(held_async("fan_async"))
        group.create_task(asyncio.to_thread(is_open))
    await held.map(["fan_async"] * 20)
    await asyncio.to_thread(is_open)
    return first.result()


@flow
def steps() -> int:
    """Many short calls, without being held."""
    arrive("steps")
    return sum(quick(number) for number in range(60)) + sum(quick.map(range(60)).result())


@flow
def children() -> int:
    """Starts flows when main has long ended."""
    arrive("children")
    return sum(steps.run().wait() for _ in range(2))


Handles = list[kitaru.FlowHandle[Any]]


def wait(handles: Handles) -> None:
    handles[0].wait()


def sleep(handles: Handles) -> None:
    # In slices: a signal that comes between Python's last look and the system call is not seen
    # before the call has ended.
    while True:
        time.sleep(0.05)


def choose(handles: Handles) -> None:
    while True:
        select.select([sys.stdin], [], [], 0.05)


def compute(handles: Handles) -> None:
    while True:
        pass


def end(handles: Handles) -> None:
    return


def leave(handles: Handles) -> None:
    sys.exit(3)


def fail(handles: Handles) -> None:
    raise ValueError("main fails")


def vanish(handles: Handles) -> None:
    os._exit(4)


def say_ready(inside: str) -> None:
    """Print a line once main is in a function of this name."""
    called: list[str] = []
    while inside not in called:
        frame = sys._current_frames()[threading.main_thread().ident or 0]
        called = [each.name for each in traceback.extract_stack(frame)]
    print("ready", flush=True)


def go_on(handles: Handles) -> None:
    """A host that catches Ctrl-C, twice: beside `wait`, and in it."""
    for work, inside in ((sleep, "sleep"), (wait, "_follow")):
        try:
            threading.Thread(target=say_ready, args=(inside,), daemon=True).start()
            work(handles)
        except KeyboardInterrupt:
            print(*(handle.status for handle in handles), flush=True)
    (home() / "open").touch()
    while handles[1].status == "running":
        time.sleep(0.002)


def use_own_handler(handles: Handles) -> None:
    def note(number: int, frame: object) -> None:
        os.write(1, b"own handler\n")  # the signal may come in the middle of a print
        (home() / "open").touch()

    signal.signal(signal.SIGTERM, note)
    print("set", flush=True)
    while not is_open():
        time.sleep(0.01)


def work_on(handles: Handles) -> None:
    """A thread of the user's outlives main, and answers."""

    def answer() -> None:
        threading.main_thread().join()
        while not KitaruClient().executions.pending_waits(handles[0].exec_id):
            time.sleep(0.002)
        KitaruClient().executions.input(handles[0].exec_id, wait="approve", value="asks")
        print(handles[0].wait(), flush=True)
        print(steps.run().exec_id, flush=True)

    threading.Thread(target=answer, daemon=False).start()


def fork(handles: Handles) -> None:
    """A forked child that ends, and one that is ended, beside running flows."""
    if os.fork() == 0:
        sys.exit(0)
    ready, at = os.pipe()
    if (child := os.fork()) == 0:
        os.write(at, b"1")
        time.sleep(60)
        os._exit(9)
    os.read(ready, 1)
    os.kill(child, signal.SIGTERM)
    codes = sorted(os.waitstatus_to_exitcode(os.wait()[1]) for _ in range(2))
    if (child := os.fork()) == 0:
        print("child", quick_flow(), flush=True)
        sys.exit(0)
    print(*codes, os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
    (home() / "open").touch()


def quick_flow() -> int:
    return steps.run().wait()


def read_at_exit(handles: Handles) -> None:
    """A handler that runs before Kitaru's; `main` has one that runs after it."""
    atexit.register(show_first, handles)


def show_first(handles: Handles) -> None:
    if handles:
        print(KitaruClient().executions.get(handles[0].exec_id).status, flush=True)


def start_at_exit(handles: Handles) -> None:
    atexit.register(lambda: print(steps.run().exec_id, flush=True))


def start_late(handles: Handles) -> None:
    """An executor that was not shut down, and a flow that is started as the last thing."""
    concurrent.futures.ThreadPoolExecutor().submit(is_open).result()
    print(steps.run().exec_id, flush=True)


def start_in_thread(handles: Handles) -> None:
    """The first flow is started from another thread than main's."""
    thread = threading.Thread(target=lambda: print(plain.run().exec_id, flush=True))
    thread.start()
    thread.join()
    sleep(handles)


def main() -> None:
    """Start flows, and end."""
    names, how = sys.argv[1:]
    config.EXIT_GRACE_SECONDS = float(os.environ.get("GRACE", "0.2"))
    flows = [globals()[name] for name in names.split(",") if name]
    handles: Handles = []
    if how == "read_at_exit":
        atexit.register(show_first, handles)
    handles += [each.run() for each in flows]
    for each, handle in zip(flows, handles, strict=True):
        mark = home() / f"at-{each.name}"
        while not (handle.status == "waiting" if each is asks else mark.exists()):
            time.sleep(0.002)
    print(*(handle.exec_id for handle in handles), flush=True)
    ends: dict[str, Callable[[Handles], None]] = {
        work.__name__: work
        for work in (
            *(wait, sleep, choose, compute, end, leave, fail, vanish, go_on, use_own_handler),
            *(work_on, fork, read_at_exit, start_at_exit, start_late, start_in_thread),
        )
    }
    ends[how](handles)


if __name__ == "__main__":
    main()
