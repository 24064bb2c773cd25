"""Every kind of schema a wait takes: asked, answered, recorded, and given back as its type.

The same value and type come back when the answer arrives while the driver polls, when it arrives
after the driver let go, and on a retry and a replay that take the recorded answer.
"""

from __future__ import annotations

import ipaddress
import json
import math
import re
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import date, datetime, time, timedelta, timezone
from decimal import Decimal
from enum import Enum, Flag, IntEnum, StrEnum
from pathlib import Path
from typing import Annotated, Any, Generic, Literal, NamedTuple, NewType, NotRequired, TypeVar
from uuid import UUID

import pytest
from pydantic import (
    BaseModel,
    BeforeValidator,
    Field,
    SecretStr,
    TypeAdapter,
    field_validator,
    model_validator,
)
from typing_extensions import TypedDict  # pydantic needs this one before Python 3.12

import kitaru
from kitaru import KitaruClient, checkpoint, flow
from tests.drives import again, answer, error_of, get, left
from tests.support import until

T = TypeVar("T")
UserId = NewType("UserId", int)


@pytest.fixture(autouse=True)
def fresh(home: object) -> None:
    """Every test here has a store of its own."""


class Colour(Enum):
    RED = "red"
    BLUE = 3


class Level(IntEnum):
    LOW = 1
    HIGH = 2


class Word(StrEnum):
    YES = "yes"


class Rights(Flag):
    READ = 1
    WRITE = 2


class Options(TypedDict):
    dry: bool
    jobs: NotRequired[int]


class Point(NamedTuple):
    x: int
    y: int = 0


@dataclass(frozen=True)
class Inner:
    at: date
    tags: tuple[str, ...] = ()


@dataclass
class Outer:
    inner: Inner
    more: list[Inner] = field(default_factory=list)
    colour: Colour = Colour.RED


class Address(BaseModel):
    street: str = Field(min_length=1)
    number: int = 1

    @field_validator("street")
    @classmethod
    def _tidy(cls, value: str) -> str:
        return value.strip()


class Order(BaseModel):
    to: Address
    copies: set[int] = {1}
    bill: Address | None = None

    @model_validator(mode="after")
    def _needs_copies(self) -> Order:
        if not self.copies:
            raise ValueError("no copies")
        return self


class Renamed(BaseModel):
    value: int = Field(alias="the-value")


class Box(BaseModel, Generic[T]):
    held: T


class Cat(BaseModel):
    kind: Literal["cat"]
    lives: int = 9


class Dog(BaseModel):
    kind: Literal["dog"]


class Tree(BaseModel):
    name: str
    below: list[Tree] = []


NOON = datetime(2026, 11, 20, 12, 0, 0, 5, tzinfo=timezone(timedelta(hours=7)))

#: What is declared, what is answered, what comes back.
KINDS: dict[str, tuple[Any, Any, Any]] = {
    "bool": (bool, True, True),
    "int": (int, -(2**70), -(2**70)),
    "float": (float, 1, 1.0),
    "float-exact": (float, 0.1 + 0.2, 0.1 + 0.2),
    "str": (str, "true", "true"),
    "list": (list[int], [1, 2], [1, 2]),
    "list-empty": (list[int], [], []),
    "list-nested": (list[list[bool]], [[True], []], [[True], []]),
    "dict": (dict[str, int], {"b": 1, "a": 2}, {"b": 1, "a": 2}),
    "dict-dates": (dict[date, Level], {"2026-11-20": 2}, {date(2026, 11, 20): Level.HIGH}),
    "literal": (Literal["a", 1, None], 1, 1),
    "enum": (Colour, 3, Colour.BLUE),
    "int-enum": (Level, 2, Level.HIGH),
    "str-enum": (Word, "yes", Word.YES),
    "flag": (Rights, 2, Rights.WRITE),
    "typed-dict": (Options, {"dry": True}, {"dry": True}),
    "named-tuple": (Point, [1, 2], Point(1, 2)),
    "dataclass": (
        Outer,
        {"inner": {"at": "2026-11-20", "tags": ["a"]}, "colour": 3},
        Outer(Inner(date(2026, 11, 20), ("a",)), [], Colour.BLUE),
    ),
    "dataclass-given": (Outer, Outer(Inner(NOON.date())), Outer(Inner(NOON.date()))),
    "model": (
        Order,
        {"to": {"street": " Elm "}, "bill": {"street": "Oak", "number": 2}},
        Order(to=Address(street="Elm"), bill=Address(street="Oak", number=2)),
    ),
    "model-given": (
        Order,
        Order(to=Address(street="Elm"), copies={2, 3}),
        Order(to=Address(street="Elm"), copies={2, 3}),
    ),
    "model-alias": (Renamed, {"the-value": 1}, Renamed(**{"the-value": 1})),
    "model-generic": (Box[Colour], {"held": 3}, Box[Colour](held=Colour.BLUE)),
    "model-recursive": (
        Tree,
        {"name": "a", "below": [{"name": "b"}]},
        Tree(name="a", below=[Tree(name="b")]),
    ),
    "models": (list[Address], [{"street": "Elm"}], [Address(street="Elm")]),
    "optional-null": (Order | None, None, None),
    "optional-given": (Inner | None, {"at": "2026-11-20"}, Inner(date(2026, 11, 20))),
    "union-int": (int | str, 3, 3),
    "union-str": (int | str, "3", "3"),
    "union-models": (Cat | Dog, {"kind": "dog"}, Dog(kind="dog")),
    "union-tagged": (
        Annotated[Cat | Dog, Field(discriminator="kind")],
        {"kind": "cat"},
        Cat(kind="cat"),
    ),
    "datetime": (datetime, NOON, NOON),
    "datetime-text": (datetime, "2026-11-20T12:00:00.000005+07:00", NOON),
    "datetime-naive": (datetime, "2026-11-20T12:00:00", datetime(2026, 11, 20, 12)),
    "time": (time, time(18, 30), time(18, 30)),
    "timedelta": (timedelta, timedelta(days=1, microseconds=5), timedelta(days=1, microseconds=5)),
    "decimal": (Decimal, Decimal("1.50"), Decimal("1.50")),
    "decimal-long": (Decimal, "0." + "1" * 40, Decimal("0." + "1" * 40)),
    "uuid": (UUID, UUID("12345678" * 4), UUID("12345678" * 4)),
    "path": (Path, Path("/a/b c"), Path("/a/b c")),
    "pattern": (re.Pattern[str], "a+", re.compile("a+")),
    "address": (ipaddress.IPv4Address, "127.0.0.1", ipaddress.IPv4Address("127.0.0.1")),
    "tuple": (tuple[int, Colour], [1, "red"], (1, Colour.RED)),
    "tuple-open": (tuple[Level, ...], [1, 2], (Level.LOW, Level.HIGH)),
    "set": (set[int], [2, 1], {1, 2}),
    "frozenset": (frozenset[str], ["a"], frozenset({"a"})),
    "bytes": (bytes, "abc", b"abc"),
    "bytes-given": (bytes, b"a\xc3\xa9", "aé".encode()),
    "new-type": (UserId, 3, 3),
    "constrained": (Annotated[int, Field(ge=1, le=5)], 5, 5),
    "before": (Annotated[int, BeforeValidator(lambda value: value + 1)], 4, 5),
    "secret": (SecretStr, "hunter2", SecretStr("hunter2")),
    "none": (None, None, None),
    "none-type": (type(None), None, None),
    "any": (Any, {"a": [1, 2.5, None, "x"]}, {"a": [1, 2.5, None, "x"]}),
}
every_kind = pytest.mark.parametrize(("schema", "given", "expected"), KINDS.values(), ids=KINDS)


def deep(value: Any) -> Any:
    """A value with the types of it and of all it holds, to be compared."""
    if isinstance(value, BaseModel):
        return type(value).__name__, {key: deep(item) for key, item in value}
    if hasattr(value, "__dataclass_fields__"):
        return type(value).__name__, {key: deep(item) for key, item in vars(value).items()}
    if isinstance(value, dict):
        return [(deep(key), deep(item)) for key, item in value.items()]
    if isinstance(value, (list, tuple)):
        return type(value).__name__, [deep(item) for item in value]
    return type(value).__name__, value


class Asking:
    """A flow that asks, goes on for one checkpoint, and keeps what each drive of it got."""

    def __init__(self, schema: Any, **options: Any) -> None:
        self.got: list[Any] = []
        self.may_end = True

        @checkpoint
        def after() -> None:
            if not self.may_end:
                raise ValueError("not yet")

        def ask() -> None:
            self.got.append(deep(kitaru.wait(name="ask", schema=schema, **options)))
            after()

        self.flow = flow(ask)


@every_kind
def test_the_declared_type_comes_back_to_a_driver_that_polls(schema, given, expected):
    asking = Asking(schema, timeout=20)
    handle = asking.flow.run()
    answer(handle.exec_id, "ask", given)
    handle.wait(20)
    assert asking.got == [deep(expected)]


@every_kind
def test_the_declared_type_comes_back_to_later_drives_too(schema, given, expected):
    asking = Asking(schema, timeout=0)
    asking.may_end = False
    handle = asking.flow.run()
    left(handle.exec_id)
    answer(handle.exec_id, "ask", given)
    error_of(again("resume", asking.flow, handle.exec_id))
    asking.may_end = True
    again("retry", asking.flow, handle.exec_id).wait(20)
    asking.flow.replay(handle.exec_id, "after").wait(20)
    assert asking.got == [deep(expected)] * 3


@every_kind
def test_a_question_shows_its_schema_and_metadata_as_json(schema, given, expected):
    metadata = {"n": 1, "deep": {"a": [None, True]}}
    handle = Asking(schema, timeout=0, question="Which?", metadata=metadata).flow.run()
    pending = left(handle.exec_id).pending_wait
    assert pending is not None
    assert (pending.question, pending.metadata) == ("Which?", metadata)
    described = None if schema is None else TypeAdapter(schema).json_schema()
    assert pending.schema == described
    assert json.loads(json.dumps(pending.to_dict(), allow_nan=False)) == pending.to_dict()


def test_a_default_that_json_has_no_number_for_is_shown_as_text():
    class Limits(BaseModel):
        most: float = math.inf

    handle = Asking(Limits, timeout=20).flow.run()
    pending = until(lambda: get(handle).pending_wait, "it asks")
    assert pending.schema is not None
    assert pending.schema["properties"]["most"]["default"] == "Infinity"
    answer(handle.exec_id, "ask", {})
    handle.wait(20)


@pytest.mark.parametrize("schema", [None, bool, Order, list[int]])
@pytest.mark.parametrize("timeout", [0, 20])
def test_a_wait_of_any_kind_may_be_aborted_while_it_polls_and_later(schema, timeout):
    asking = Asking(schema, timeout=timeout)
    handle = asking.flow.run()
    client = KitaruClient()
    if timeout:
        until(lambda: client.executions.pending_waits(handle.exec_id), "it asks")
    else:
        left(handle.exec_id)
    assert client.executions.abort_wait(handle.exec_id, wait="ask").status == "cancelled"
    assert isinstance(error_of(handle), kitaru.KitaruExecutionError)
    assert asking.got == []
    with pytest.raises(kitaru.KitaruStateError):
        again("resume", asking.flow, handle.exec_id)


class Undescribed:
    """A type that nobody knows how to read."""


@dataclass
class Holder:
    inner: Undescribed


class SelfDescribed:
    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: Any) -> Any:
        raise RuntimeError("no description today")


class Objects(Enum):
    ONE = object()


@pytest.mark.parametrize(
    ("schema", "reason"),
    [
        (Undescribed, "Unable to generate pydantic-core schema"),
        (Holder, "Unable to generate pydantic-core schema"),
        (list[Undescribed], "Unable to generate pydantic-core schema"),
        (Callable[[int], int], "Cannot generate a JsonSchema"),
        (Annotated[int, Field(ge="many")], "ge"),
        (Annotated[str, Field(pattern="(")], "unclosed group"),
        (SelfDescribed, "no description today"),
        (Objects, "Unable to serialize unknown type"),
        ({"approve": bool}, "'type'"),
        (threading.Lock, "JSON Schema"),
    ],
)
def test_a_type_that_cannot_be_described_is_refused_at_the_call_with_the_reason(schema, reason):
    error = error_of(Asking(schema).flow.run())
    assert isinstance(error.__cause__, kitaru.KitaruUsageError)
    assert "wait 'ask': " in str(error)
    assert "cannot be described as JSON Schema" in str(error)
    assert reason in str(error)
    (execution,) = KitaruClient().executions.list()
    assert (execution.status, execution.pending_wait) == ("failed", None)


def test_a_union_keeps_the_kind_that_was_answered_for_each_of_many():
    asking = Asking(list[int | bool | str | Cat | None], timeout=0)
    handle = asking.flow.run()
    left(handle.exec_id)
    answer(handle.exec_id, "ask", [1, True, "1", None, {"kind": "cat"}])
    again("resume", asking.flow, handle.exec_id).wait(20)
    asking.flow.replay(handle.exec_id, "after").wait(20)
    assert asking.got == [deep([1, True, "1", None, Cat(kind="cat")])] * 2


def test_a_validator_that_breaks_asks_again_with_the_reason_and_changes_nothing():
    broken = [True]

    def validate(value: Any) -> Any:
        if broken:
            raise RuntimeError("not a value's fault")
        return value

    asking = Asking(Annotated[int, BeforeValidator(validate)], timeout=20)
    handle = asking.flow.run()
    answer(handle.exec_id, "ask", 3)
    until(lambda: "not a value's fault" in (get(handle).status_reason or ""), "it is refused")
    broken.clear()
    answer(handle.exec_id, "ask", 3)
    handle.wait(20)
    assert asking.got == [("int", 3)]
