"""Processes whose calls to the system for one store's files are counted, killed or failed.

A `Workshop` is a process with `native/faults.c` loaded and all that is needed imported; each job
is a function of ours that it calls in a fork, with a plan of what is to happen to it. Nothing
here knows what a store is, or what a job means to prove.
"""

from __future__ import annotations

import ctypes
import errno
import importlib
import json
import os
import select
import shutil
import signal
import subprocess
import sys
import time
import traceback
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from tests.chaos.trial import Skipped
from tests.support import ROOT

SOURCE = Path(__file__).with_name("native") / "faults.c"
#: A job that has not ended by then hangs.
JOB_SECONDS = 60.0

#: Kinds of calls and what happens to one, as the library numbers them.
WRITE, SYNC, SIZE, NAME, LOCK, READ = 1, 2, 4, 8, 16, 32
NOTHING, KILL, KILL_MIDWAY, FAIL, SHORTEN = range(5)


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What happens to the call of a number, and if it lasts, to those that follow it."""

    action: int = NOTHING
    kinds: int = WRITE | SYNC | SIZE | NAME
    number: int = 0
    error: int = errno.EIO
    lasts: bool = False
    trace: str = ""


@dataclass(frozen=True)
class Done:
    """How a job ended: what it returned, unless the signal of a kill ended it."""

    reply: Any
    killed: bool
    calls: int = 0
    hits: int = 0


def library(folder: Path) -> Path:
    """The compiled library, made where it is missing."""
    if sys.platform != "linux":
        raise Skipped("needs Linux, whose calls it stands in front of")
    if (compiler := shutil.which("gcc")) is None:
        raise Skipped("needs gcc")
    path = folder / "faults.so"
    if not path.exists():
        command = [compiler, "-O1", "-Wall", "-Werror", "-shared", "-fPIC", "-o", str(path)]
        subprocess.run([*command, str(SOURCE), "-ldl", "-lpthread"], check=True)
    return path


class Workshop:
    """Runs jobs, one at a time.

    Args:
        folder: where the library is made.
        warm_up: a job that is done once before; the workshop imports whatever it needed.
    """

    def __init__(self, folder: Path, warm_up: Callable[[Path], Any]) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.chaos.injected"],
            cwd=ROOT,
            env=os.environ | {"LD_PRELOAD": str(library(folder)), "KITARU_DURABILITY": "full"},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        home = folder / "warm-up"
        home.mkdir(mode=0o700)
        loaded = self.do(_loaded, home, by=_name_of(warm_up)).reply
        self._ask({"modules": loaded})

    def do(
        self, job: Callable[..., Any], home: Path, *, plan: Plan | None = None, **given: Any
    ) -> Done:
        """Call a function with a home, for whose store the plan is meant."""
        asked = {"job": _name_of(job), "home": str(home), "plan": asdict(plan or Plan())}
        answer = self._ask({**asked, "given": given})
        assert "fault" not in answer, answer["fault"]
        return Done(**answer)

    def _ask(self, request: dict[str, Any]) -> dict[str, Any]:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(request) + "\n")
        self._process.stdin.flush()
        answer: dict[str, Any] = json.loads(self._process.stdout.readline())
        return answer

    def __enter__(self) -> Workshop:
        return self

    def __exit__(self, *exc_info: object) -> None:
        with self._process as process:
            assert process.stdin is not None
            process.stdin.close()


def _name_of(job: Callable[..., Any]) -> str:
    return f"{job.__module__}:{job.__qualname__}"


# --- inside the workshop ----------------------------------------------------------------------


def _find(name: str) -> Callable[..., Any]:
    module, _, function = name.partition(":")
    found: Callable[..., Any] = getattr(importlib.import_module(module), function)
    return found


def _loaded(home: Path, by: str) -> list[str]:
    _find(by)(home)
    return list(sys.modules)


def _serve() -> None:
    output = os.dup(1)
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # what jobs print goes nowhere
    for line in sys.stdin:
        request = json.loads(line)
        if "modules" in request:
            for name in request["modules"]:
                if name not in sys.modules and name != "__mp_main__":
                    importlib.import_module(name)
            answer: dict[str, Any] = {}
        else:
            answer = _in_fork(request)
        os.write(output, f"{json.dumps(answer)}\n".encode())


def _in_fork(request: dict[str, Any]) -> dict[str, Any]:
    reading, writing = os.pipe()
    if (pid := os.fork()) == 0:
        os.close(reading)
        try:
            answer = _done(**request)
        except BaseException:
            answer = {"fault": traceback.format_exc()}
        with os.fdopen(writing, "w") as pipe:
            pipe.write(json.dumps(answer))
        os._exit(0)
    os.close(writing)
    with os.fdopen(reading) as pipe:
        text, deadline = "", time.monotonic() + JOB_SECONDS
        while select.select([pipe], [], [], max(0.0, deadline - time.monotonic()))[0]:
            part = os.read(pipe.fileno(), 1 << 20).decode()
            if not part:
                break
            text += part
        else:
            os.kill(pid, signal.SIGKILL)
            text = json.dumps({"fault": f"{request['job']} hangs: {request['plan']}"})
    _, status = os.waitpid(pid, 0)
    if text:
        found: dict[str, Any] = json.loads(text)
        return found
    assert os.WTERMSIG(status) == signal.SIGKILL, f"{request['job']} ended with {status}"
    return {"reply": None, "killed": True}


def _done(job: str, home: str, plan: dict[str, Any], given: dict[str, Any]) -> dict[str, Any]:
    os.environ["KITARU_HOME"] = home
    os.chdir(home)  # no project's settings are looked for
    faults = ctypes.CDLL(None)
    faults.faults_watch(f"{home}/kitaru.db".encode())
    told = Plan(**plan)
    if told.trace:
        faults.faults_trace(told.trace.encode())
    what = (told.kinds, told.action, ctypes.c_long(told.number), told.error, told.lasts)
    faults.faults_plan(*what)
    reply = _find(job)(Path(home), **given)
    counted = {"calls": faults.faults_calls(), "hits": faults.faults_hits()}
    return {"reply": reply, "killed": False, **counted}


if __name__ == "__main__":
    _serve()
