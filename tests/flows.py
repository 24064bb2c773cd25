"""Flows that tests run in processes of their own, to be killed, stopped and overtaken.

Everything they leave outside the store lies in the store's home: each run of a checkpoint appends
its idempotency key to `effects`, a gate is a file that a checkpoint waits for, and in a home with
a history (`tests.chaos.history`) they note what they see.
"""

from __future__ import annotations

import hashlib
import os
import time
from collections import Counter
from pathlib import Path
from typing import TypeVar

import kitaru
from kitaru import checkpoint, context, flow
from kitaru.calls import Calls
from tests.chaos.history import History

T = TypeVar("T")

GATE_SECONDS = 60.0


def home() -> Path:
    """The home of the store this process works on."""
    return Path(os.environ["KITARU_HOME"])


def effect() -> None:
    """Leave a durable mark outside the store that this checkpoint ran."""
    call = kitaru.current_checkpoint()
    assert call is not None
    fd = os.open(home() / "effects", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    try:
        os.write(fd, f"{call.idempotency_key}\n".encode())
        os.fsync(fd)
    finally:
        os.close(fd)


def _epoch() -> int:
    driver = context.current_driver.get()
    assert isinstance(driver, Calls)
    return driver.ledger.lease.epoch


def returned(value: T) -> T:
    """Note that this checkpoint's value is about to be recorded."""
    call = kitaru.current_checkpoint()
    assert call is not None
    History(home()).note("writes", call.idempotency_key, _epoch())
    return value


class Witness:
    """Notes what a flow's body gets from its calls, which it names in the order it makes them."""

    def __init__(self) -> None:
        self._history = History(home())
        self._exec_id = kitaru.current_execution_id()
        self._epoch = _epoch()
        self._made: Counter[str] = Counter()
        self._history.note("took", str(self._exec_id), self._epoch)

    def got(self, name: str, value: T) -> T:
        """The value of the next call with this name."""
        self._made[name] += 1
        self._note(name if self._made[name] == 1 else f"{name}#{self._made[name]}", value)
        return value

    def given(self, value: list[str]) -> list[str]:
        """The value of a call that is told by the value itself, first of all."""
        self._note(value[0], value)
        return value

    def _note(self, call: str, value: object) -> None:
        outcome = {"value": value, "epoch": self._epoch}
        self._history.note("got", f"{self._exec_id}/{call}", outcome)


def pass_gate(name: str) -> None:
    """Wait until a test opens the gate of this name."""
    (home() / f"at-{name}-{os.getpid()}").touch()
    deadline = time.monotonic() + GATE_SECONDS
    while not (home() / f"gate-{name}").exists():
        if time.monotonic() > deadline:
            raise TimeoutError(f"Gate {name!r} was never opened.")
        time.sleep(0.002)


@checkpoint
def step(number: int, previous: str) -> str:
    effect()
    print(f"step {number}")
    if number % 10 == 0:
        kitaru.save("state", {"number": number, "previous": previous})
        kitaru.log(number=number)
    return returned(hashlib.sha256(f"{number}:{previous}".encode()).hexdigest())


@checkpoint
def spread(item: str) -> str:
    effect()
    print(f"spread {item}")
    return returned(hashlib.sha256(item.encode()).hexdigest())


@checkpoint
def gated(name: str) -> str:
    effect()
    pass_gate(name)
    print(f"passed {name}")
    return returned(name)


@checkpoint(retries=1, retry_delay=0.001)
def breaks() -> str:
    effect()
    if not (home() / "mended").exists():
        raise ValueError("not mended yet")
    return "mended"


@checkpoint
def large(number: int, size: int) -> str:
    effect()
    return chr(ord("a") + number % 26) * size


# A process that is told so stops here, once its store is open and before it takes an execution.
if "KITARU_TESTS_START_GATE" in os.environ:
    pass_gate(os.environ["KITARU_TESTS_START_GATE"])


def steps(length: int, value: str, saw: Witness) -> str:
    """A part of a flow: one checkpoint after the other."""
    for number in range(length):
        value = saw.got("step", step(number, value))
    return value


@flow
def chain(length: int = 50) -> str:
    """One checkpoint after the other."""
    return steps(length, "", Witness())


@flow
def fan(rounds: int = 6, width: int = 8) -> list[str]:
    """Rounds of checkpoints beside each other; each round needs the one before."""
    saw, values = Witness(), [""] * width
    for _ in range(rounds):
        values = spread.map([f"{place}{values[place - 1]}" for place in range(width)]).result()
        values = [saw.got("spread", value) for value in values]
    return values


@flow
def asks(length: int = 10, timeout: float = 0.0) -> list[str]:
    """Checkpoints, a question, checkpoints, a question, checkpoints."""
    saw = Witness()
    values = [steps(length, "start", saw)]
    for name in ("first", "second"):
        answer = kitaru.wait(name=name, question="What next?", schema=str, timeout=timeout)
        values.append(steps(length, saw.got(name, answer), saw))
    return values


@flow
def gate(name: str = "a", before: int = 2, after: int = 3) -> list[str]:
    """Checkpoints, one that waits for a gate, checkpoints."""
    saw = Witness()
    first = steps(before, "before", saw)
    return [first, saw.got("gated", gated(name)), steps(after, "after", saw)]


@flow
def fragile() -> list[str]:
    """A checkpoint, one that fails twice until it is mended, a checkpoint."""
    return [step(1, ""), breaks(), step(2, "")]


@flow
def heavy(count: int = 8, size: int = 100_000) -> list[int]:
    """Checkpoints with results that fill a disk."""
    return [len(large(number, size)) for number in range(count)]
