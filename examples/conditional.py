"""A flow that decides: plain `if` and `while` on what its checkpoints returned.

    python examples/conditional.py [TICKET]

The decisions need no record of their own: they depend on recorded results only, so a flow that is
resumed decides the same way again. What depends on a clock or on chance belongs in a checkpoint.
"""

from __future__ import annotations

import sys
from typing import Literal

import kitaru

Kind = Literal["bug", "question"]
ENOUGH = 0.8


@kitaru.checkpoint(type="llm_call")
def classify(ticket: str) -> Kind:
    return "bug" if "crash" in ticket.lower() else "question"


@kitaru.checkpoint(type="tool_call")
def open_issue(ticket: str) -> str:
    return f"opened an issue: {ticket}"


@kitaru.checkpoint(type="llm_call")
def answer(ticket: str, attempt: int) -> str:
    return f"answer {attempt} to: {ticket}"


@kitaru.checkpoint(type="llm_call")
def grade(text: str) -> float:
    return 0.9 if text.startswith("answer 2") else 0.5


@kitaru.flow
def triage(ticket: str) -> str:
    if classify(ticket) == "bug":
        return open_issue(ticket)
    attempt = 1
    text = answer(ticket, attempt)
    while grade(text) < ENOUGH and attempt < 3:
        attempt += 1
        text = answer(ticket, attempt)
    return text


if __name__ == "__main__":
    tickets = sys.argv[1:] or ["How do I log in?", "Crash at start"]
    for ticket in tickets:
        print(triage.run(ticket).wait())
