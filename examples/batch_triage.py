"""Tickets, sorted by a model side by side; a second run of the same ones costs nothing.

    python examples/model_server.py -- python examples/batch_triage.py    # offline
    OPENAI_API_KEY=… python examples/batch_triage.py

`--model anthropic/claude-haiku-4-5` asks another model, with its provider's key. An answer that
does not fit `Triage` is asked for again, and both are counted; a ticket that cannot be sorted does
not keep the others from it. With `cache=True` a ticket that was sorted before, by the same model
and code, is not sorted again.
"""

from __future__ import annotations

import argparse
import sys
from typing import Literal

from pydantic import BaseModel

import kitaru

MODEL = "openai/gpt-5-nano"
TICKETS = [
    "I was charged twice in May.",
    "Since this morning nobody here can log in.",
    "The export could have a dark theme.",
    " ",
    "The invoice is an empty page, and the audit is tomorrow.",
]


class Triage(BaseModel):
    """Where a ticket goes, and how soon."""

    urgency: Literal["high", "normal", "low"]
    team: Literal["access", "billing", "product"]
    summary: str


@kitaru.checkpoint(type="llm_call")
def triage(ticket: str, model: str) -> Triage:
    if not ticket.strip():
        raise ValueError("the ticket is empty")
    return kitaru.llm(f"Sort this support ticket: {ticket}", model=model, schema=Triage)


@kitaru.flow(cache=True)
def batch_triage(tickets: list[str], model: str = MODEL) -> list[Triage | str]:
    """What becomes of each ticket; a text says why one was not sorted."""
    group = triage.product(tickets, [model], max_workers=4)
    return [outcome_of(each) for each in group.results(return_exceptions=True)]


def outcome_of(result: Triage | Exception) -> Triage | str:
    if isinstance(result, kitaru.KitaruUsageError):  # no key or no SDK: that is no ticket's fault
        raise result
    return str(result) if isinstance(result, Exception) else result


def show(outcomes: list[Triage | str], execution: kitaru.Execution) -> None:
    """Tickets, tokens and money by urgency; calls are in the order of the tickets."""
    by_urgency: dict[str, list[kitaru.CheckpointCall]] = {}
    for outcome, call in zip(outcomes, execution.checkpoints, strict=True):
        urgency: str = outcome.urgency if isinstance(outcome, Triage) else "not sorted"
        by_urgency.setdefault(urgency, []).append(call)
    print(f"{'urgency':10} tickets  tokens  cost")
    for urgency, calls in sorted(by_urgency.items()):
        records = [record for call in calls for record in call.llm_usage_records]
        tokens = sum(record["usage"]["total_tokens"] or 0 for record in records)
        paid = [record["cost"] for record in records if record["billing_effect"] == "incurred"]
        costs = [cost["display_cost_usd"] for cost in paid]
        cost = "not known" if None in costs else f"${sum(costs):.6f}"
        print(f"{urgency:10} {len(calls):7} {tokens:7,}  {cost}")
    if (used := execution.llm_usage_summary) is not None:
        new, reused = used["incurred_total_tokens"], used["reused_total_tokens"]
        print(f"{new:,} tokens incurred, {reused:,} reused\n")


def main() -> int:
    parser = argparse.ArgumentParser(description="Have a model sort tickets, twice.")
    parser.add_argument("--model", default=MODEL, help="provider/name, or an alias")
    options = parser.parse_args()
    for _ in range(2):  # the second time all answers are known
        handle = batch_triage.run(TICKETS, options.model)
        print(f"Execution {handle.exec_id}")
        try:
            outcomes = handle.wait()
        except kitaru.KitaruError as error:
            print(error, file=sys.stderr)
            return 1
        for ticket, outcome in zip(TICKETS, outcomes, strict=True):
            where = outcome.team if isinstance(outcome, Triage) else outcome
            print(f"  {ticket!r}: {where}")
        show(outcomes, kitaru.KitaruClient().executions.get(handle.exec_id))
    return 0


if __name__ == "__main__":
    sys.exit(main())
