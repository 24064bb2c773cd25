"""Programs that a seed makes: flows of a few calls that depend on each other.

A program is a list of statements; the flow `program` carries them out on one number. What it comes
to depends on its seed alone, however often and wherever it is driven: what fails the first times
fails by how often it ran, and what a client has to mend is mended when it retries.
"""

from __future__ import annotations

import random
import zlib
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import kitaru
from kitaru import checkpoint, flow

Statement: TypeAlias = tuple[str, int, Any]

#: How often each kind of statement comes.
KINDS = {
    "step": 6,
    "save": 2,
    "fan": 3,
    "beside": 2,
    "wait": 2,
    "sleep": 2,
    "caught": 2,
    "flaky": 2,
    "branch": 2,
    "child": 2,
    "children": 1,
    "broken": 1,
    "fatal": 0.3,
}
MOST_STATEMENTS = 12
#: What a program fails with that is to be retried.
TO_MEND = "to be mended"
#: Seconds that a wait or a sleep holds its process: none, less than a lease, and longer.
PATIENCE = (0.0, 3.0, 600.0)
NAPS = (0.5, 8.0, 40.0)


@dataclass
class World:
    """What programs see outside of the store: how often each call ran, and what is mended."""

    runs: Counter[str] = field(default_factory=Counter)
    is_mended: bool = False
    #: Told of each run of a checkpoint, before it does anything.
    ran: Callable[[str], None] = lambda key: None


world = World()


def make(seed: int) -> list[Statement]:
    """The program of a seed."""
    return _block(random.Random(f"program {seed}"), MOST_STATEMENTS, tuple(KINDS))


def _block(rng: random.Random, most: int, kinds: tuple[str, ...]) -> list[Statement]:
    length = min(rng.randint(1, most), rng.randint(1, most))
    chosen = rng.choices(kinds, [KINDS[kind] for kind in kinds], k=length)
    return [(kind, number, _details(rng, kind)) for number, kind in enumerate(chosen)]


def _details(rng: random.Random, kind: str) -> Any:
    small = ("step", "save", "fan", "wait", "sleep", "caught", "flaky")
    match kind:
        case "fan" | "beside" | "children":
            return rng.randint(2, 4)
        case "wait":
            return rng.choice(PATIENCE)
        case "sleep":
            return rng.choice(NAPS), rng.choice(PATIENCE)
        case "branch":
            return _block(rng, 2, small), _block(rng, 2, small)
        case "child":
            return rng.randrange(1000)
    return None


def answer_to(wait: str) -> int:
    """What is answered to a wait, whoever asks."""
    return mixed(wait)


def mixed(*parts: object) -> int:
    """A number that depends on all parts."""
    return zlib.crc32(repr(parts).encode()) % 10_000


def _run() -> int:
    """Note that the checkpoint that is running here runs; which time it is."""
    call = kitaru.current_checkpoint()
    assert call is not None
    world.ran(call.idempotency_key)
    world.runs[call.idempotency_key] += 1
    return world.runs[call.idempotency_key]


@checkpoint
def step(number: int, value: int) -> int:
    _run()
    return mixed("step", number, value)


@checkpoint
def spread(value: int) -> int:
    _run()
    return mixed("spread", value)


@checkpoint
def save(number: int, value: int) -> dict[str, int]:
    _run()
    kitaru.save("state", {"number": number, "value": value})
    kitaru.log(number=number)
    return {"value": mixed("save", number, value)}


@checkpoint(retries=2, retry_delay=2.0)
def flaky(number: int, value: int) -> int:
    if _run() <= number % 3:
        raise ConnectionError("not this time")
    return mixed("flaky", number, value)


@checkpoint(retries=1, retry_delay=0.1)
def fails(number: int) -> int:
    _run()
    raise ValueError(f"{number} never works")


@checkpoint
def broken(number: int, value: int) -> int:
    _run()
    if not world.is_mended:
        raise RuntimeError(TO_MEND)
    return mixed("broken", number, value)


@flow
def child(seed: int, value: int) -> int:
    """A smaller program, without children."""
    kinds = ("step", "save", "fan", "wait", "sleep", "flaky")
    return _carried_out(_block(random.Random(f"child {seed}"), 3, kinds), value)


@flow
def program(seed: int) -> int:
    """Carry a seed's program out."""
    return _carried_out(make(seed), seed)


def _carried_out(statements: list[Statement], value: int) -> int:
    for kind, number, details in statements:
        value = mixed(value, _one(kind, number, details, value))
    return value


def _one(kind: str, number: int, details: Any, value: int) -> Any:
    match kind:
        case "step" | "save" | "flaky" | "broken":
            return _CHECKPOINTS[kind](number, value)
        case "fan":
            return spread.map([value + place for place in range(details)]).result()
        case "beside":
            futures = [flaky.submit(number, value + place) for place in range(details)]
            return [step(number, value), *(future.result() for future in reversed(futures))]
        case "wait":
            return kitaru.wait(name="ask", question=f"{value}?", schema=int, timeout=details)
        case "sleep":
            kitaru.sleep(details[0], timeout=details[1])
            return None
        case "fatal":
            return fails(number)
        case "caught":
            try:
                return fails(number)
            except ValueError as exc:
                return str(exc)
        case "branch":
            return _carried_out(details[value % 2], value)
        case "child":
            return child.run(details, value).wait()
        case "children":
            handles = [child.run(number + place, value) for place in range(details)]
            return [handle.wait() for handle in handles]
    raise AssertionError(kind)


_CHECKPOINTS: dict[str, Callable[[int, int], Any]] = {
    "step": step,
    "save": save,
    "flaky": flaky,
    "broken": broken,
}
