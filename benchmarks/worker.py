"""A process that does one side's work, and stays up between rounds.

It takes one request a line on its standard input, calls that function of its module, and answers
with a line. What the work prints goes nowhere. An error in it ends the benchmark.
"""

from __future__ import annotations

import importlib
import json
import os
import signal
import subprocess
import sys
import traceback
from collections.abc import Mapping
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent


def environment(**given: str) -> dict[str, str]:
    """A user's environment: code is compiled once and kept, and no setting of ours is on."""
    left = ("KITARU_", "PYTHONDONTWRITEBYTECODE", "PYTHONUNBUFFERED")
    kept = {key: value for key, value in os.environ.items() if not key.startswith(left)}
    return {**kept, "PYTHONPATH": str(ROOT), **given}


class Broken(Exception):
    """A benchmark did not run to its end; the message says where."""


class Worker:
    """A process and its pipes.

    Args:
        module: whose functions it calls, in `benchmarks`.
        home: the folder of its store; a side without one needs none.
        durability: its store's.
    """

    def __init__(self, module: str, *, home: Path | None = None, durability: str = "full") -> None:
        variables = {"KITARU_DURABILITY": durability}
        if home is not None:
            variables["KITARU_HOME"] = str(home)
        self.module = module
        self._process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.worker", f"benchmarks.{module}"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=environment(**variables),
            cwd=ROOT,
        )
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._in, self._out = self._process.stdin, self._process.stdout
        self.pid = self._process.pid

    def run(self, name: str, **arguments: Any) -> Any:
        """Call a function, and return what it returns."""
        self.post(name, **arguments)
        return self.take()

    def post(self, name: str, **arguments: Any) -> None:
        """Call a function, and let it run."""
        self._in.write(json.dumps([name, arguments]).encode() + b"\n")
        self._in.flush()

    def take(self) -> Any:
        """What the function returned that was called before."""
        line = self._out.readline()
        if not line:
            raise Broken(f"The worker of {self.module} ended with {self._process.wait()}.")
        answer: Mapping[str, Any] = json.loads(line)
        if "error" in answer:
            raise Broken(f"In the worker of {self.module}:\n{answer['error']}")
        return answer["returned"]

    def kill(self) -> None:
        """End it without a warning, as `kill -9` does."""
        self._process.send_signal(signal.SIGKILL)
        self.__exit__()

    def __enter__(self) -> Worker:
        return self

    def __exit__(self, *_: object) -> None:
        self._in.close()
        self._process.wait()
        self._out.close()


def main() -> None:
    """Answer requests until there are no more."""
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    with open(os.devnull, "w") as nowhere:
        os.dup2(nowhere.fileno(), 1)
    module = importlib.import_module(sys.argv[1])
    for line in sys.stdin:
        name, arguments = json.loads(line)
        try:
            answer = {"returned": getattr(module, name)(**arguments)}
        except Exception:  # whatever it is, the parent tells it
            answer = {"error": traceback.format_exc()}
        answers.write(json.dumps(answer) + "\n")


if __name__ == "__main__":
    main()
