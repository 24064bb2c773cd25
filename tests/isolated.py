"""Checkpoints that tests run in processes of their own, and the way to run one there.

`python -m tests.isolated` makes one attempt of `stays`, to be killed meanwhile.
"""

from __future__ import annotations

import ctypes
import functools
import logging
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Any

import pydantic

import kitaru
from kitaru import checkpoint, config
from kitaru.context import CallScope
from kitaru.context import IsolatedTask as Task
from kitaru.effects import Tried
from kitaru.isolation import attempt
from kitaru.store.logs import LogRecord

SLEEPER = [sys.executable, "-c", "import signal; signal.pause()"]


class Color(Enum):
    RED = 1


@dataclass
class Doc:
    title: str
    color: Color


class Note(pydantic.BaseModel):
    text: str
    doc: Doc


class TooLong(Exception):
    def __init__(self, limit: int) -> None:
        super().__init__(f"over {limit}")
        self.limit = limit


class _Broken:
    """What no record can hold."""


@checkpoint
def greets(name: str, *, loud: bool = False) -> str:
    return f"Hello, {name.upper() if loud else name}"


@checkpoint
def annotates(doc: Doc, *notes: Note) -> list[Note | Doc]:
    return [doc, *notes, Note(text="new", doc=doc)]


@checkpoint
def refuses(limit: int) -> None:
    raise TooLong(limit)


@checkpoint
def breaks() -> Any:
    return _Broken()


@checkpoint
def crashes() -> None:
    kitaru.log(tokens=7)
    kitaru.save("draft", ["kept"])
    print("about to read")
    ctypes.string_at(0)


@checkpoint
def leaves(code: int) -> None:
    sys.stderr.write("\n".join(f"line {number}" for number in range(100)))
    sys.stderr.flush()
    os._exit(code)


@checkpoint
def exits() -> None:
    raise SystemExit(3)


@checkpoint
def kills(number: int) -> None:
    os.kill(os.getpid(), number)


@checkpoint
def stays(folder: str) -> None:
    """Never ends; its pid and that of its own child are in a file of the folder."""
    kitaru.log(stays=True)
    sleeper = subprocess.Popen(SLEEPER)
    Path(folder, "writing").write_text(f"{os.getpid()} {sleeper.pid}")
    Path(folder, "writing").rename(Path(folder, "pids"))
    sleeper.wait()


@checkpoint
async def stays_awaiting(folder: str) -> None:
    stays.fn(folder)


@checkpoint
def leaves_a_child() -> int:
    return subprocess.Popen(SLEEPER).pid


@checkpoint
def speaks() -> None:
    print("one", "é", end="\n")
    sys.stdout.buffer.write("zwei ü".encode()[:-1])
    sys.stdout.buffer.write("ü\n".encode()[1:])
    print("a warning", file=sys.stderr)
    os.write(1, b"past python\n")
    log = logging.getLogger("app")
    log.info("at %s", "info")
    log.debug("unseen")
    try:
        raise ValueError("why")
    except ValueError:
        log.exception("oops")
    print("unended \udcff", end="")


@checkpoint
def tells_who() -> list[Any]:
    call = kitaru.current_checkpoint()
    assert call is not None
    return [
        kitaru.current_execution_id(),
        call.call_id,
        call.name,
        call.attempt,
        call.idempotency_key,
        os.getcwd() == os.environ["EXPECTED_CWD"],
        os.getsid(0) == os.getpid(),
        sys.stdin.read(),
    ]


@checkpoint
def gathers(other: str) -> str:
    kitaru.log(cost={"usd": 1}, step="a")
    kitaru.log(cost={"tokens": 2}, step="b")
    kitaru.save("first", (1, "ü"), type="context", tags=["t"])
    kitaru.save("second", Doc("x", Color.RED))
    return f"loaded {kitaru.load(other, 'greets')}"


@checkpoint
def nests() -> str:
    return greets("nobody")


@checkpoint
def returns_much(size: int) -> str:
    return "ü" * size


@checkpoint
def takes_much(text: str) -> int:
    return len(text)


@checkpoint
def writes_much(size: int) -> int:
    for _ in range(size):
        sys.stderr.write("e" * 1023 + "\n")
        sys.stdout.write("o" * 1023 + "\n")
    return size


@checkpoint
def closes_streams() -> str:
    sys.stdout.close()
    sys.stderr.close()
    for fd in (0, 1, 2):
        os.close(fd)
    return "done"


@checkpoint
def closes_everything() -> None:
    os.closerange(3, 100)
    signal.pause()


@checkpoint
def forks() -> str:
    pid = os.fork()
    if pid:
        assert os.waitpid(pid, 0)[1] == 0
        return "parent"
    print("forked child")
    logging.getLogger("app").warning("from the fork")
    sys.stdout.flush()
    os._exit(0)


@checkpoint
def returns_twice() -> str:
    pid = os.fork()
    if pid:
        os.waitpid(pid, 0)
    return "parent" if pid else "child"


@checkpoint
def leaves_orderly(path: str) -> str:
    import atexit

    atexit.register(Path(path).write_text, "left")
    return "done"


async def _awaits(text: str) -> str:
    import asyncio

    await asyncio.sleep(0)
    print("awaited")
    return text


# The decorator refuses coroutine functions; the process does not.
awaits: Any = kitaru.Checkpoint(_awaits, name="awaits", type=None, policy=greets.policy)
_awaits.__qualname__ = "awaits"

not_a_checkpoint = 3


def make_task(call: kitaru.Checkpoint[..., Any], *args: Any, **kwargs: Any) -> Task:
    """What its driver would hand to a process for this call."""
    bound = call.parameters.signature.bind(*args, **kwargs)
    bound.apply_defaults()
    return call._task(dict(bound.arguments))


class Attempt:
    """One attempt, with what it gathers and the lines it makes."""

    def __init__(self) -> None:
        self.scope = CallScope("kr-1", "work#2", 4, 1_000_000)
        self.stop = threading.Event()
        self.lines: list[LogRecord] = []

    def make(self, task: Task, *, timeout: float | None = None) -> Tried:
        return attempt(
            task,
            self.scope,
            home=config.find_home(),
            stops=self.stop.is_set,
            timeout=timeout,
            line=self.lines.append,
        )

    def begin(self, task: Task, **options: Any) -> Callable[[], Tried]:
        """Make it on a thread; gives what waits for its end."""
        ended: list[Tried] = []
        work = functools.partial(self.make, task, **options)
        thread = threading.Thread(target=lambda: ended.append(work()))
        thread.start()

        def join() -> Tried:
            thread.join()
            return ended[0]

        return join


if __name__ == "__main__":
    from tests import isolated

    Attempt().make(isolated.make_task(isolated.stays, os.environ["KITARU_HOME"]))


@kitaru.checkpoint(runtime="isolated")
def ask_a_model(prompt: str) -> str:
    return kitaru.llm(prompt, model="openai/gpt-5-nano")
