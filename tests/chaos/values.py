"""Values of every kind: each comes back equal and of the same type, or is refused at the call.

A refusal names the path to what cannot be held. Nothing is ever changed in silence: not a NaN, a
lone surrogate, a key that is no text, a subclass, nor the order of a dict. Some go through real
checkpoints, and are read by another process.
"""

from __future__ import annotations

import collections
import dataclasses
import decimal
import enum
import fractions
import io
import random
import sys
import uuid
from collections.abc import Callable
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from pathlib import Path, PurePosixPath
from typing import Any
from zoneinfo import ZoneInfo

from pydantic import BaseModel

import kitaru
from kitaru import KitaruClient, codec
from kitaru.errors import KitaruSerializationError
from tests import support
from tests.chaos.trial import Scope, Trial
from tests.core.test_codec import same

BIG_BYTES = 100_000_000
#: Values that one checkpoint returns in the part that goes through a store.
AT_ONCE = 40


class Colour(enum.Enum):
    """An enum whose values look alike."""

    ONE = 1
    TRUE = "1"


@dataclasses.dataclass
class Point:
    """A dataclass that holds anything."""

    x: Any
    y: Any = 0.0


class Card(BaseModel):
    """A model that holds anything."""

    name: str
    more: Any = None


class Loud(str):
    """A text that is more than a text."""


class Count(int):
    """A number that is more than a number."""


class Shelf(dict[str, Any]):
    """A dict that is more than a dict."""


DECLARED = codec.declared_types(Colour | Point | Card)
TEXTS = (
    *("", "a", "nul\0", "\ud800", "\udcff\ud800\udc00", "$", '"quote\\"', "\u202eevil", "\x1b[31m"),
    *("ไทย", "👩‍🔬", "e\u0301", "é", "\ufeff", "\u2028", "x" * 3000, "1", "None", "nan"),
)
NUMBERS: tuple[Any, ...] = (
    *(0, -1, 1, True, False, 2**53 + 1, 2**63, 2**64, 2**70, -(2**70), 10**400, 0.0, -0.0, 1.0),
    *(0.1, 1e308, 5e-324, float("inf"), float("-inf"), float("nan"), 1j, complex("nan-infj")),
    *(Decimal("1.50"), Decimal("-0"), Decimal("NaN"), Decimal("1e9999")),
    *(fractions.Fraction(1, 3), None, Ellipsis, NotImplemented),
)
ODD: tuple[Callable[[], Any], ...] = (
    *(object, lambda: len, lambda: (n for n in ()), lambda: int, lambda: sys, io.StringIO),
    *(lambda: Loud("x"), lambda: Count(3), Shelf, lambda: collections.OrderedDict(a=1)),
    *(
        lambda: Decimal("sNaN7"),
        lambda: collections.deque([1]),
        lambda: collections.defaultdict(list),
        lambda: iter([]),
    ),
    *(
        lambda: memoryview(b"x"),
        lambda: ValueError("x"),
        lambda: decimal.Context(),
        lambda: {}.keys(),
    ),
)


class Drawing:
    """Draws values; everything comes from one generator of chances."""

    def __init__(self, rng: random.Random) -> None:
        self._rng = rng

    def text(self) -> str:
        """Any text."""
        if self._rng.random() < 0.4:
            return self._rng.choice(TEXTS)
        return "".join(
            chr(self._rng.randrange(self._rng.choice([0x80, 0xFFFF, 0x10FFFF])))
            for _ in range(self._rng.randrange(6))
        )

    def moment(self) -> Any:
        """A time of any kind."""
        zone = self._rng.choice(
            [None, UTC, ZoneInfo("Europe/Berlin"), ZoneInfo("Asia/Kathmandu")]
            + [timezone(timedelta(seconds=self._rng.randrange(-86_399, 86_400)))] * 2
            + [timezone(timedelta(hours=2), self.text())]
        )
        fold = self._rng.randrange(2)
        at = datetime(2024, 10, 27, 2, self._rng.randrange(60), tzinfo=zone, fold=fold)
        chosen = [at, at.timetz(), at.date(), date.min, datetime.max, time.min, timedelta.max, zone]
        return self._rng.choice([*chosen, timedelta(microseconds=self._rng.getrandbits(40))])

    def leaf(self) -> Any:
        """A value without parts that can be a key."""
        rng = self._rng
        kind = rng.randrange(7)
        if kind == 0:
            return rng.choice(NUMBERS)
        if kind == 1:
            return rng.choice([rng.getrandbits(rng.randrange(1, 200)), rng.gauss(0, 1e10)])
        if kind == 2:
            return rng.randbytes(rng.randrange(20))
        if kind == 3:
            return self.moment()
        if kind == 4:
            path = rng.choice([Path, PurePosixPath])(rng.choice([".", "/a/b", "é", "../x"]))
            return rng.choice([uuid.UUID(int=rng.getrandbits(128)), path, range(3, -9, -2)])
        return self.text() if kind == 5 else rng.choice(list(Colour))

    def value(self, depth: int = 0) -> Any:
        """A value with parts."""
        rng = self._rng
        if depth > 4 or rng.random() < 0.35:
            return self.leaf()
        size, kind = rng.randrange(4), rng.randrange(9)
        if kind < 2:
            return [self.value(depth + 1) for _ in range(size)]
        if kind == 2:
            return tuple(self.value(depth + 1) for _ in range(size))
        if kind == 3:
            return rng.choice([set, frozenset])(self.leaf() for _ in range(size))
        if kind == 4:
            return {self.leaf(): self.value(depth + 1) for _ in range(size)}
        if kind == 5:
            return {(self.leaf(), self.leaf()): 0, 1: "int", "1": "text", None: [], "None": ()}
        if kind == 6:
            return Point(self.value(depth + 1), self.value(depth + 1))
        if kind == 7:
            return Card(name="card", more=self.value(depth + 1))
        return {self.text(): self.value(depth + 1) for _ in range(size)}

    def planted(self) -> tuple[Any, str]:
        """Something odd somewhere in lists and dicts, and the path to it."""
        value, path = self.odd(), ""
        for _ in range(self._rng.randrange(5)):
            if self._rng.random() < 0.5:
                before = [self._rng.randrange(9)] * self._rng.randrange(3)
                value, path = [*before, value], f"[{len(before)}]{path}"
            else:
                value, path = {"first": 1, "key": value}, f'["key"]{path}'
        return value, f"value{path}"

    def odd(self) -> Any:
        """What may not be recordable."""
        chance = self._rng.random()
        if chance < 0.2:
            return self.nested(self._rng.choice([150, 201, 500, 1000, 10_000]))
        if chance < 0.3:
            circle: list[Any] = [1]
            circle.append({"again": circle} if chance < 0.25 else circle)
            return circle
        return self._rng.choice(ODD)()

    def nested(self, depth: int) -> Any:
        """Lists, tuples and dicts in each other."""
        value: Any = self.leaf()
        for _ in range(depth):
            value = self._rng.choice([lambda v: [v], lambda v: (v,), lambda v: {"k": v}])(value)
        return value


def bare(value: Any) -> Any:
    """A value with instances taken apart, so that what they hold is compared by type, too."""
    if dataclasses.is_dataclass(value):
        return (type(value).__name__, {k: bare(v) for k, v in vars(value).items()})
    if isinstance(value, BaseModel):
        return (type(value).__name__, {k: bare(v) for k, v in value.__dict__.items()})
    if type(value) in (list, tuple):
        return type(value)(map(bare, value))
    if type(value) is dict:
        return {key: bare(each) for key, each in value.items()}
    return value


def judge(value: Any, path: str = "value") -> bool:
    """Whether a value comes back as it was; where it is refused, the path must lead to it."""
    refusal = ""
    try:
        data = codec.encode(value, types=DECLARED)
    except KitaruSerializationError as exc:
        refusal = str(exc)
    if refusal:
        assert refusal.startswith(path), f"{refusal} does not begin with {path}"
        return False
    back = codec.decode(data, types=DECLARED)
    assert same(bare(back), bare(value)), f"{value!r:.300} came back as {back!r:.300}"
    assert codec.encode(back, types=DECLARED) == data, f"{value!r:.300} has two records"
    return True


def run(scope: Scope) -> str:
    """Judge so many values, a share of them with something odd inside, and a large one."""
    rng, count = scope.rng, scope.times(50_000)
    drawing, kept = Drawing(rng), 0
    for number in range(count):
        value, path = drawing.planted() if number % 5 == 0 else (drawing.value(), "value")
        kept += judge(value, path)
    assert judge("é" * (BIG_BYTES // 2))
    assert judge([rng.randbytes(BIG_BYTES // 4)])
    stored = through_a_store(scope.home, checkpoints=scope.times(50), seed=rng.getrandbits(32))
    return (
        f"{count} values, {kept} came back as they were, {count - kept} refused with their path, "
        f"{stored} more through a store to another process, one of {BIG_BYTES // 10**6} MB, "
        "0 changed"
    )


# --- through a store ------------------------------------------------------------------------------


def drawn(seed: int) -> list[Any]:
    """Values of built-in types that can be recorded, the same for the same seed."""
    drawing, found = Drawing(random.Random(seed)), list[Any]()
    while len(found) < AT_ONCE:
        value = drawing.value()
        try:
            codec.encode(value)
        except KitaruSerializationError:
            continue
        found.append(value)
    return found


@kitaru.checkpoint
def keep(seed: int) -> list[Any]:
    """A step that gives some of everything, and saves it, too."""
    values = drawn(seed)
    kitaru.save("values", tuple(values))
    return values


@kitaru.flow
def keeping(seed: int, checkpoints: int) -> bool:
    """The flow itself sees what was recorded."""
    return all(same(keep(seed + n), drawn(seed + n)) for n in range(checkpoints))


def through_a_store(home: Path, *, checkpoints: int, seed: int) -> int:
    """Record values in one process and read them in another; gives how many."""
    program = f"from tests.chaos import values; h = values.keeping.run({seed}, {checkpoints}); "
    assert support.run_python(home, f"{program}print(h.wait())") == ["True"]
    program = f"from tests.chaos import values; print(values.read({seed}))"
    assert support.run_python(home, program) == [str(2 * checkpoints)]
    return checkpoints * AT_ONCE


def read(seed: int) -> int:
    """Compare all that was recorded with what was drawn; how many artifacts that were."""
    client = KitaruClient()
    refs = client.executions.latest().artifacts
    for number, ref in enumerate(refs):
        wanted = drawn(seed + number // 2)
        assert same(ref.load(), wanted if ref.save_type == "step_output" else tuple(wanted)), ref
    return len(refs)


TRIALS = (Trial(name="values", run=run),)
