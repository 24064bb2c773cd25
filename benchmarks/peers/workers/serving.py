"""What every worker does alike: it answers requests, and measures new processes and files.

It imports neither Kitaru nor a peer. A worker is a script of `.peers`' Python whose first argument
is its folder; `--first-step` before it makes it a process that does one durable step and ends.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import resource
import signal
import socket
import sqlite3
import subprocess
import sys
import time
import traceback
import urllib.error
import urllib.request
from collections.abc import Callable, Coroutine, Iterator, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

Figures = dict[str, Any]
Cases = Mapping[str, Callable[..., Figures]]

FIRST_STEP = "--first-step"
_SERVER_SECONDS = 60.0
#: How long servers that stood still get for what they have missed, before anything is measured.
_WAKING_SECONDS = 0.25


def serve(cases: Cases) -> None:
    """Answer each line of the standard input, until it ends."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # from now on a peer that prints cannot spoil an answer
    always: Cases = {"ready": dict, "settings": dict}
    for line in _requests():
        request = json.loads(line)
        try:
            case = {**always, **cases}[request["case"]]
            answer: Figures = {"figures": case(**request["arguments"])}
        except Exception:  # whatever a peer raises is told, and the worker goes on
            answer = {"error": traceback.format_exc()}
        answers.write(json.dumps(answer) + "\n")
        answers.flush()
    if os.getsid(0) == os.getpgrp():  # who asked is gone; no server may outlive it
        os.killpg(0, signal.SIGKILL)


def _requests() -> Iterator[str]:
    """The lines of the standard input; while none comes, this peer's servers stand still.

    Two idle servers would slow down whatever is measured beside them.
    """
    while True:
        held = _children(os.getpid())
        _signal(held, signal.SIGSTOP)
        line = sys.stdin.readline()
        _signal(held, signal.SIGCONT)
        if not line:
            return
        if held:
            time.sleep(_WAKING_SECONDS)
        yield line


def _children(pid: int) -> list[int]:
    """All processes below one; none where there is no /proc."""
    below = []
    for told in Path(f"/proc/{pid}/task").glob("*/children"):
        with contextlib.suppress(OSError):
            below += [int(word) for word in told.read_text().split()]
    return [*below, *(each for child in below for each in _children(child))]


def _signal(pids: list[int], number: signal.Signals) -> None:
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)


def in_loop(
    loop: asyncio.AbstractEventLoop, case: Callable[..., Coroutine[Any, Any, Figures]]
) -> Callable[..., Figures]:
    """An async case as one that `serve` can call from its own thread."""

    def run(**arguments: Any) -> Figures:
        return asyncio.run_coroutine_threadsafe(case(**arguments), loop).result()

    return run


def startup(imports: str, *arguments: str) -> Figures:
    """What a new process pays for the import, and for a first durable step.

    Args:
        imports: the statement a user's module begins with.
        arguments: of this worker's script as a new process, after `FIRST_STEP`.
    """
    figures = _new_process("-c", _TIMED_IMPORT, imports)
    command = (sys.argv[0], FIRST_STEP, *arguments)
    if command not in _done_before:  # the very first one would make the store, too
        _new_process(*command)
        _done_before.add(command)
    began = time.perf_counter()
    figures |= _new_process(*command)
    return {**figures, "first_step": time.perf_counter() - began}


_done_before: set[tuple[str, ...]] = set()


_TIMED_IMPORT = """
import json, sys, time
cpu, clock = time.process_time(), time.perf_counter()
exec(sys.argv[1])
cpu, clock = time.process_time() - cpu, time.perf_counter() - clock
print(json.dumps({"import_cpu": cpu, "import_clock": clock}))
"""


def _new_process(*arguments: str) -> Figures:
    """What it prints last; its Python caches compiled modules, as everybody's does."""
    slowing = ("PYTHONDONTWRITEBYTECODE", "PYTHONUNBUFFERED")
    environment = {key: value for key, value in os.environ.items() if key not in slowing}
    command = [sys.executable, *arguments]
    done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, check=True)
    figures: Figures = json.loads(done.stdout.splitlines()[-1])
    return figures


def print_memory() -> None:
    """Print what memory this process holds now; the last thing of a `--first-step` process."""
    try:
        pages = int(Path("/proc/self/statm").read_text().split()[1])
        size = pages * resource.getpagesize()
    except OSError:  # where there is no /proc the peak, in bytes, is the nearest there is
        size = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    print(json.dumps({"resident_bytes": size}))


def bytes_per_step(run: Callable[[int], object], database: Path, *, steps: int) -> Figures:
    """How many bytes more the database takes for each step more of one execution."""
    sizes = [_folded(database)]
    for length in (steps, 3 * steps):
        run(length)
        sizes.append(_folded(database))
    before, short, long = sizes
    return {"bytes": ((long - short) - (short - before)) / (2 * steps)}


def _folded(database: Path) -> int:
    """The size of a database with its write-ahead log folded in."""
    with closing(sqlite3.connect(database)) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    return database.stat().st_size


def free_port() -> int:
    """A port of the loopback that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def request(url: str, body: object = None) -> Any:
    """The JSON a server of ours answers, which is asked again until it is up."""
    data = None if body is None else json.dumps(body).encode()
    deadline = time.monotonic() + _SERVER_SECONDS
    while True:
        call = urllib.request.Request(url, data, {"content-type": "application/json"})
        try:
            with urllib.request.urlopen(call, timeout=_SERVER_SECONDS) as answer:
                text = answer.read()
                return json.loads(text) if text else None
        except urllib.error.HTTPError as error:
            raise RuntimeError(f"{url}: {error.code} {error.read().decode()}") from error
        except OSError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.05)
