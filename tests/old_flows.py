"""Flows of which `tests/data` holds executions, recorded by earlier versions of the store."""

from __future__ import annotations

import os

import kitaru
from kitaru import checkpoint, flow


@checkpoint
def research(topic: str) -> str:
    print("looking")
    kitaru.save("notes", {"topic": topic, "size": 40_000 * "n"}, type="context")
    kitaru.log(pages=3)
    return f"notes about {topic}"


@checkpoint(retries=1, retry_delay=0.0)
def draft(notes: str) -> str:
    here = kitaru.current_checkpoint()
    assert here is not None
    if here.attempt == 1:
        raise ValueError("not yet")
    return f"draft from {notes}"


@flow(tags=["old"])
def done(topic: str) -> str:
    return draft(research(topic))


@checkpoint
def breaks() -> str:
    if "KITARU_TEST_MENDED" in os.environ:
        return "mended"
    raise RuntimeError("broken")


@flow
def broken() -> str:
    return research("cats") + breaks()


@flow
def asks(topic: str) -> str:
    notes = research(topic)
    ok = kitaru.wait(name="approve", question="Publish?", timeout=0)
    return notes if ok else "rejected"
