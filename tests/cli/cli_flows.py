"""Flows for the tests of the command line; importing and running them makes noise on stdout."""

from __future__ import annotations

from pathlib import Path

import kitaru

print("noise of the import")

SNEAKY = "Go?\n  Failure: none\x1b[2J"


@kitaru.checkpoint
def research(topic: str) -> str:
    print(f"looking up {topic}\x1b[31m")
    kitaru.save("sources", {"topic": topic, "api_key": "sk-123"}, type="context")
    return f"notes about {topic}"


@kitaru.checkpoint(type="llm_call")
def draft(notes: str) -> str:
    return f"draft from {notes}"


@kitaru.flow(tags=["plain", "quick"])
def pipeline(topic: str, mark: str = "!") -> str:
    return draft(research(topic)) + mark


@kitaru.flow(tags=["plain"])
def agent(topic: str = "dogs") -> str:
    """Asks and lets go at once."""
    print("noise of the body")
    notes = research(topic)
    ok = kitaru.wait(name="approve", question=SNEAKY, schema=bool, timeout=0)
    return draft(notes) if ok else "rejected"


@kitaru.flow
def patient() -> int:
    """Asks and keeps its driver."""
    return kitaru.wait(name="count", schema=int, timeout=60)


@kitaru.checkpoint
def needs(path: str) -> str:
    if not Path(path).exists():
        raise ValueError("no input yet")
    return Path(path).read_text()


@kitaru.flow
def flaky(path: str) -> str:
    return needs(path)


@kitaru.checkpoint
def blocks_on(fifo: str) -> str:
    return Path(fifo).read_text()


@kitaru.flow
def blocked(fifo: str) -> str:
    return draft(blocks_on(fifo))


@kitaru.flow
def taken_names(overrides: str = "o") -> str:
    return draft(overrides)
