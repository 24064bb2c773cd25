"""One step after the other: each finished step is on disk before the next one starts.

    python examples/sequential.py [TOPIC]

Kill it between two steps, and `kitaru executions resume ID` goes on behind the last finished one.
The two functions stand for calls of a model; put yours in.
"""

from __future__ import annotations

import sys

import kitaru


@kitaru.checkpoint(type="tool_call")
def research(topic: str) -> list[str]:
    print(f"looking for {topic}")
    return [f"{topic} are old friends of ours", f"{topic} sleep a lot"]


@kitaru.checkpoint(type="llm_call")
def draft(topic: str, notes: list[str]) -> str:
    print(f"writing from {len(notes)} notes")
    return f"About {topic}: {'; '.join(notes)}."


@kitaru.checkpoint(type="llm_call")
def polish(text: str) -> str:
    return text.capitalize().replace(";", ", and")


@kitaru.flow
def article(topic: str) -> str:
    notes = research(topic)
    text = draft(topic, notes)
    return polish(text)


if __name__ == "__main__":
    handle = article.run(*sys.argv[1:2] or ["dogs"])
    print(handle.wait())
    print(f"Look at it again: kitaru executions get {handle.exec_id}")
