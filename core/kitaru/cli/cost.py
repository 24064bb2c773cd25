"""`kitaru cost`: what executions have used of models, as one small table."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import click

from kitaru import statistics as spec
from kitaru.cli import output
from kitaru.cli.command import Answer, Command, open_client
from kitaru.cli.executions import filtered

_HEADINGS = ("Executions", "Tokens incurred", "Tokens reused", "Cost")
_NAMES = {"flow": "flow_name", "model": "model", "day": "day"}


@click.command("cost", cls=Command)
@click.option(
    "--by",
    type=click.Choice([*_NAMES]),
    default="flow",
    show_default=True,
    help="What makes a group; days are those of the start, in UTC.",
)
@filtered
@click.option(
    "--max-groups",
    type=click.IntRange(1, spec.MAX_GROUPS),
    default=spec.DEFAULT_GROUPS,
    show_default=True,
    help="How many groups at most: the newest days, else the largest.",
)
def cost(*, by: str, max_groups: int, **filters: Any) -> Answer:
    """Show the tokens and the money that executions have spent on models.

    Executions count once they have ended. A + behind a cost says that some of it is not known.

    \b
    Example:
      kitaru cost --by model --since 7d
    """
    from kitaru import render

    found = open_client().executions.costs(by, max_groups=max_groups, **filters)
    item = render.costs(found)
    return Answer(json=lambda: {"item": item}, text=lambda: _text(item, max_groups))


def _text(item: dict[str, Any], max_groups: int) -> str:
    title, by = f"Kitaru cost by {item['by']}", item["by"]
    if item["groups"]:
        rows = [(each["keys"][_NAMES[by]] or "-", *_numbers(each)) for each in item["groups"]]
        rows.append(("Total", *_numbers(item["total"])))
        lines = [output.table(title, (by.capitalize(), *_HEADINGS), rows, none="costs")]
    else:
        lines = [title, "  No execution that has ended has used a model."]
    return "\n".join([*lines, *_left_out(item, max_groups)])


def _numbers(cost: dict[str, Any]) -> tuple[str, ...]:
    from kitaru.usage_summary import told_cost

    return (
        f"{cost['execution_count']:,}",
        f"{cost['incurred_total_tokens']:,}",
        f"{cost['reused_total_tokens']:,}",
        told_cost(cost) or "unknown",
    )


def _left_out(item: dict[str, Any], max_groups: int) -> Iterator[str]:
    """What the table does not show, a line each."""
    if item["truncated"]:
        kept = "newest" if item["by"] == "day" else "largest"
        yield (
            f"There are more groups; these are the {kept}, the total is of all. Narrow the "
            f"filters, or raise --max-groups (it is {max_groups})."
        )
    total = item["total"]
    if unknown := total["records_without_cost_count"]:
        told = f"{unknown:,} of {total['usage_record_count']:,} usage records"
        yield f"Without a known cost, and not in these amounts: {told}."
    if unfinished := item["unfinished_execution_count"]:
        executions = "execution" if unfinished == 1 else "executions"
        yield f"Not counted because they have not ended: {unfinished:,} {executions}."
    if unreadable := item["unreadable_usage_record_count"]:
        yield f"In the total only, because their model is damaged: {unreadable:,} usage records."
