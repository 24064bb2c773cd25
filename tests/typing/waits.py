"""What a type checker infers of the answers to waits; checked by both, never run."""

# pyright: strict

from dataclasses import dataclass
from enum import Enum
from typing import Any, Literal, TypedDict, assert_type

import pydantic

import kitaru


class Review(pydantic.BaseModel):
    approved: bool


class Color(Enum):
    RED = "red"


@dataclass
class Choice:
    number: int


class Details(TypedDict):
    note: str


@kitaru.flow
def sync_flow(kind: Any) -> None:
    ok: bool = kitaru.wait(schema=bool)
    assert_type(kitaru.wait(), bool)
    assert_type(kitaru.wait(name="go", question="Go?", timeout=0, metadata={"a": 1}), bool)
    assert_type(kitaru.wait(schema=bool), bool)
    assert_type(kitaru.wait(schema=int), int)
    assert_type(kitaru.wait(schema=list[str]), list[str])
    assert_type(kitaru.wait(schema=Review), Review)
    assert_type(kitaru.wait(schema=Color), Color)
    assert_type(kitaru.wait(schema=Choice), Choice)
    assert_type(kitaru.wait(schema=Details), Details)
    kitaru.wait(schema=None)
    assert ok

    # No type can say these in Python 3.11; the author declares what comes.
    level: Literal["low", "high"] = kitaru.wait(schema=Literal["low", "high"])
    number: int | None = kitaru.wait(schema=int | None)
    assert_type(kitaru.wait(schema=kind), Any)
    assert level
    assert number


@kitaru.flow
async def async_flow(kind: Any) -> None:
    ok: bool = await kitaru.wait_async(schema=bool)
    assert_type(await kitaru.wait_async(), bool)
    assert_type(await kitaru.wait_async(name="go", question="Go?", timeout=0), bool)
    assert_type(await kitaru.wait_async(schema=list[str]), list[str])
    assert_type(await kitaru.wait_async(schema=Review), Review)
    assert_type(await kitaru.wait_async(schema=Color), Color)
    assert_type(await kitaru.wait_async(schema=Choice), Choice)
    assert_type(await kitaru.wait_async(schema=Details), Details)
    await kitaru.wait_async(schema=None)
    assert_type(await kitaru.wait_async(schema=kind), Any)
    level: Literal["low", "high"] = await kitaru.wait_async(schema=Literal["low", "high"])
    assert ok
    assert level
