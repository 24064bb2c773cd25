"""Flows that fill every table of a store; run in a copy of this file."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import kitaru
from kitaru import checkpoint, flow


@dataclass
class Note:
    text: str
    tags: tuple[str, ...] = ()


@checkpoint(cache=True)
def draft(topic: str) -> Note:
    print("drafting", topic)
    kitaru.log(tier="gold", cost=0.5)
    kitaru.save("outline", {"topic": topic}, type="context", tags=["kept"])
    kitaru.save("long", "x" * 60_000)
    return Note(topic, ("a",))


@checkpoint
def breaks(topic: str) -> None:
    raise ValueError(f"no luck with {topic}")


@flow
def child(topic: str) -> str:
    return draft(topic).text


@flow(tags=["nightly"], timeout=3600)
def agent(topic: str, how: str = "") -> Any:
    kitaru.log(tier="silver", deep={"a": ["b"]})
    note = draft(topic)
    if how == "child":
        child(topic)
    if how == "sleeps":
        kitaru.sleep(3600, timeout=0)
    if how == "asks":
        kitaru.wait(name="approve", question="Go on?", schema=str, metadata={"m": "n"}, timeout=0)
    if how == "fails":
        breaks(topic)
    return {"note": note.text, "long": "y" * 60_000}
