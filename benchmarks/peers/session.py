"""A worker process of a peer: started, asked one line at a time, and killed with all it started.

The worker runs in the peers' own environment and stays up between rounds, so that a round measures
the work and not the start. A request is one JSON line, `{"case": …, "arguments": {…}}`; so is its
answer, `{"figures": {…}}` or `{"error": …}`. What the worker and its servers print goes to a log,
whose last lines stand in the error when it dies.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

#: A round that would take longer is not run: a page of medians needs several of each.
LIMIT_SECONDS = 20.0
#: A worker that gives no answer for so long is taken to hang.
PATIENCE_SECONDS = 180.0
_TRIAL_PART = 10
_SIZES = ("executions", "recorded", "steps")
_LAST_LINES = 15


class PeerError(Exception):
    """A worker died, failed or answered something that is no answer."""


class TooSlow(Exception):
    """A round that was not run: `seconds` is what it would take, as a smaller one tells."""

    def __init__(self, message: str, *, seconds: float) -> None:
        super().__init__(message)
        self.seconds = seconds


class Session:
    """One worker of a peer, from its start to its end; use it in a `with`.

    Args:
        name: the peer's, for messages.
        command: what starts the worker.
        environment: all its variables.
        log: the file for what it prints.
    """

    def __init__(
        self, name: str, command: Sequence[str], *, environment: Mapping[str, str], log: Path
    ) -> None:
        self.name = name
        self._log = log
        #: For each case the sizes of its rounds so far, and how long the quickest of each took.
        self._took: dict[str, dict[int, float]] = {}
        with log.open("wb") as file:
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=file,
                env=dict(environment),
                start_new_session=True,
            )

    def __enter__(self) -> Session:
        try:
            self.ask("ready", {})  # the first round would pay for the start otherwise
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Kill the worker and every process it started."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                with contextlib.suppress(OSError):
                    pipe.close()

    def run(self, case: str, **arguments: float) -> dict[str, float]:
        """One round; its figures.

        Raises:
            TooSlow: it would take longer than `LIMIT_SECONDS`. The first large round is preceded by
                one of a hundredth and one of a tenth of the size; what each step more takes from
                the smallest round so far to the largest one decides.
            PeerError: the worker failed.
        """
        if _size(arguments) >= _TRIAL_PART**2:
            self._refuse_what_is_slow(case, arguments)
        return self._timed(case, arguments)

    def ask(self, case: str, arguments: Mapping[str, Any]) -> dict[str, Any]:
        """The worker's answer to one request."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        hangs = threading.Event()
        silent = threading.Timer(PATIENCE_SECONDS, self._give_up, [hangs])
        silent.start()
        try:
            request = json.dumps({"case": case, "arguments": arguments})
            with contextlib.suppress(BrokenPipeError):  # it is dead; what it said tells more
                self._process.stdin.write(request.encode() + b"\n")
                self._process.stdin.flush()
            line = self._process.stdout.readline()
        finally:
            silent.cancel()
        if not line:
            code = self._process.wait()
            why = f"the worker ended with exit code {code} in {case}"
            if hangs.is_set():
                why = f"{case} gave no answer in {PATIENCE_SECONDS:.0f} s and was killed"
            raise PeerError(f"{self.name}: {why}.{self._said()}")
        try:
            answer = json.loads(line)
            figures = answer.get("figures")
        except (ValueError, AttributeError):
            text = line[:200].decode(errors="replace").strip()
            raise PeerError(f"{self.name}: this is no answer: {text}{self._said()}") from None
        if not isinstance(figures, dict):
            raise PeerError(f"{self.name}: {case} failed: {answer.get('error')}{self._said()}")
        return figures

    def _give_up(self, hangs: threading.Event) -> None:
        hangs.set()
        self._process.kill()

    def _timed(self, case: str, arguments: Mapping[str, float]) -> dict[str, Any]:
        began = time.perf_counter()
        figures = self.ask(case, arguments)
        took, rounds = time.perf_counter() - began, self._took.setdefault(case, {})
        size = _size(arguments)
        rounds[size] = min(took, rounds.get(size, took))
        return figures

    def _refuse_what_is_slow(self, case: str, arguments: Mapping[str, float]) -> None:
        size, smaller = _size(arguments), _smaller(arguments)
        rounds = self._took.setdefault(case, {})
        # Twice, for a busy machine can make one trial slow.
        trials = [_smaller(smaller), smaller, smaller]
        while trials and not (_knows(rounds, size) and _estimate(rounds, size) <= LIMIT_SECONDS):
            self._timed(case, trials.pop(0))
        most, seconds = max(rounds), _estimate(rounds, size)
        if seconds > LIMIT_SECONDS:
            raise TooSlow(
                f"{self.name}: {case} of {size:,} steps would take about {seconds:.0f} s "
                f"({most:,} took {rounds[most]:.1f} s); the limit is {LIMIT_SECONDS:.0f} s.",
                seconds=seconds,
            )

    def _said(self) -> str:
        lines = self._log.read_text(errors="replace").splitlines()[-_LAST_LINES:]
        return "".join(f"\n  | {line}" for line in lines)


def _size(arguments: Mapping[str, float]) -> int:
    """How many steps a round has; its time is taken to grow with them."""
    size = 1
    for name in _SIZES:
        size *= int(arguments.get(name, 1))
    return size


def _knows(rounds: Mapping[int, float], size: int) -> bool:
    """Whether a round large enough has been run to tell how long one of this size takes."""
    return max(rounds, default=0) * _TRIAL_PART >= size


def _estimate(rounds: Mapping[int, float], size: int) -> float:
    """How long a round would take: what the smallest one took does not grow with the size."""
    least, most = min(rounds), max(rounds)
    each = (rounds[most] - rounds[least]) / max(1, most - least)
    return rounds[most] + max(0.0, each) * (size - most)


def _smaller(arguments: Mapping[str, float]) -> dict[str, float]:
    """The arguments of a trial: the first size that can be is a tenth."""
    for name in _SIZES:
        if arguments.get(name, 0) >= _TRIAL_PART:
            return {**arguments, name: int(arguments[name]) // _TRIAL_PART}
    return dict(arguments)
