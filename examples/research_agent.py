"""A research agent: plans, asks side by side, writes, and publishes what a person approves.

    python examples/model_server.py -- python examples/research_agent.py [TOPIC]    # offline
    OPENAI_API_KEY=… python examples/research_agent.py [TOPIC]

`--model anthropic/claude-haiku-4-5` asks another model, with its provider's key. In a terminal the
question is asked right there; elsewhere the script tells how to answer it and lets go, and
`--approve` says yes to it. Killed at any point, it goes on with `kitaru executions resume ID`, and
what is recorded is not asked again.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

from pydantic import BaseModel, Field

import kitaru

MODEL = "openai/gpt-5-nano"
MOST_QUESTIONS = 4


class Plan(BaseModel):
    """What a report has to answer."""

    questions: list[str]


class Approval(BaseModel):
    """What the editor says of a report; with feedback it is written anew."""

    approve: bool
    feedback: str = Field("", description="what to change before that; empty rejects it")


@kitaru.checkpoint(type="llm_call")
def research(question: str, model: str) -> str:
    answer = kitaru.llm(
        question, model=model, system="Answer in two sentences. Say so if you do not know."
    )
    return f"{question}\n{answer}"


@kitaru.checkpoint(type="tool_call")
def publish(path: str, report: str) -> str:
    # Run again, after a crash in the middle, it writes the same.
    Path(path).write_text(report + "\n", encoding="utf-8")
    return path


@kitaru.flow
def research_agent(topic: str, path: str, model: str = MODEL, patience: float = 600) -> str | None:
    """Write a report, and publish it when a person has approved it.

    Args:
        topic: what it is about.
        path: the file to publish to.
        model: who thinks.
        patience: for how many seconds a process waits for the person.

    Returns:
        The file, or `None` for a report that was rejected.
    """
    plan = kitaru.llm(
        f"Name three questions that a short report on {topic} must answer.",
        model=model,
        schema=Plan,
        name="plan",
    )
    notes = research.product(plan.questions[:MOST_QUESTIONS], [model]).result()
    report = kitaru.llm(
        f"Write a report on {topic}, of these notes alone:\n\n" + "\n\n".join(notes),
        model=model,
        stream=True,  # `kitaru executions logs ID --follow` shows it while it is written
        name="report",
    )
    while True:
        print(report)
        answer = kitaru.wait(
            name="approve",
            question=f"Publish this report on {topic}?",
            schema=Approval,
            timeout=patience,
            metadata={"report": report},
        )
        if answer.approve:
            return publish(path, report)
        if not answer.feedback:
            return None
        report = kitaru.llm(
            f"Revise a report as its editor asks: {answer.feedback}\n\n{report}",
            model=model,
            stream=True,
            name="revision",
        )


def approve(exec_id: str) -> None:
    """Say yes to whatever it asks, as a web page or a chat bot would."""
    executions = kitaru.KitaruClient().executions
    while not (found := executions.get(exec_id)).status.is_finished:
        for asked in found.pending_waits:
            executions.input(exec_id, wait=asked.wait_id, value=Approval(approve=True))
        time.sleep(0.05)


def used(exec_id: str) -> str:
    """What the models took, as the execution's record tells it."""
    summary = kitaru.KitaruClient().executions.get(exec_id).llm_usage_summary
    if summary is None:
        return "no model was asked"
    cost = f"${summary['display_cost_usd']:.6f}"
    if summary["records_without_cost_count"]:
        cost = "a cost that is not known"
    count, tokens = summary["usage_record_count"], summary["total_tokens"]
    return f"{count} answers of {', '.join(summary['models'])}, {tokens:,} tokens, {cost}"


def main() -> int:
    parser = argparse.ArgumentParser(description="Research a topic and publish a report.")
    parser.add_argument("topic", nargs="?", default="tea")
    parser.add_argument("--output", default="report.md", help="the file to publish to")
    parser.add_argument("--model", default=MODEL, help="provider/name, or an alias")
    parser.add_argument("--approve", action="store_true", help="publish without asking a person")
    options = parser.parse_args()
    sits_here = options.approve or (sys.stdin.isatty() and sys.stdout.isatty())
    path = str(Path(options.output).resolve())
    handle = research_agent.run(options.topic, path, options.model, 600 if sits_here else 2)
    print(f"Execution {handle.exec_id}")
    try:
        if options.approve:
            approve(handle.exec_id)
        published = handle.wait()
    except kitaru.KitaruStateError as waits:  # nobody was there to answer
        print(waits)
        return 0
    except kitaru.KitaruError as error:
        print(error, file=sys.stderr)
        return 1
    print("Rejected." if published is None else f"Published to {published}")
    print(f"Used: {used(handle.exec_id)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
