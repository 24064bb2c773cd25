"""`kitaru executions` for looking: get, list, statistics; others have modules of their own."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import click

from kitaru import config
from kitaru import statistics as spec
from kitaru.cli import actions, logs, timeline, transfer, upkeep, watch
from kitaru.cli.command import Answer, Group, listed, open_client
from kitaru.cli.options import groupings, metadata_values, metrics, point_in_time
from kitaru.models import ExecutionStatus


@click.group("executions", cls=Group)
def group() -> None:
    """Look at executions and steer them; an ID may be a unique prefix, latest or latest:failed.

    \b
    Example:
      kitaru executions get kr-4f1c
    """


for _command in (
    *actions.COMMANDS,
    logs.logs,
    watch.watch,
    timeline.timeline,
    *upkeep.COMMANDS,
    *transfer.COMMANDS,
):
    group.add_command(_command)


_FILTERS = (
    click.option(
        "--status",
        type=click.Choice([status.value for status in ExecutionStatus], case_sensitive=False),
        help="Only in this status.",
    ),
    click.option("--flow", help="Only of the flow with this name or id."),
    click.option("--stack", help="Only on this stack."),
    click.option(
        "--tag", "tags", multiple=True, help="Only with this tag; several mean all of them."
    ),
    click.option(
        "--since",
        type=point_in_time,
        metavar="TIME",
        help="Created then or later: ISO 8601 with a zone, or how long ago (30m, 24h, 7d).",
    ),
    click.option(
        "--until", type=point_in_time, metavar="TIME", help="Created before then; like --since."
    ),
)


def filtered(command: Callable[..., Answer]) -> Callable[..., Answer]:
    """Give a command the options that choose executions."""
    for option in reversed(_FILTERS):
        command = option(command)
    return command


@group.command("get")
@click.argument("exec_id", metavar="ID")
def get(exec_id: str) -> Answer:
    """Show one execution.

    \b
    Example:
      kitaru executions get kr-4f1c -o json
    """
    from kitaru import render
    from kitaru.cli import views

    client = open_client()
    found = client.executions.get(exec_id)
    return Answer(
        json=lambda: {"item": render.full(found)},
        text=lambda: views.execution(found, continues=client.executions.goes_on(found)),
    )


@group.command("list")
@filtered
@click.option(
    "--limit",
    type=click.IntRange(1, config.MAX_PAGE),
    default=config.DEFAULT_PAGE,
    show_default=True,
    help="How many at most.",
)
@click.option("--cursor", help="Where the page before ended.")
def list_(*, limit: int, cursor: str | None, **filters: Any) -> Answer:
    """List executions, newest first.

    \b
    Example:
      kitaru executions list --status failed --since 24h
    """
    from kitaru import render
    from kitaru.cli import views

    page = open_client().executions.list(limit=limit, cursor=cursor, **filters)
    return Answer(
        json=lambda: listed([render.summary(each) for each in page], next_cursor=page.next_cursor),
        text=lambda: views.execution_table(page),
    )


@group.command("statistics")
@click.option(
    "--group-by",
    multiple=True,
    callback=groupings,
    metavar="SPEC",
    help="status, flow, stack, tag, time:hour|day|week|month or metadata:KEY; several make finer "
    "groups.",
)
@click.option(
    "--metric",
    "metrics",
    multiple=True,
    callback=metrics,
    metavar="SPEC",
    help="A number for each group: NAME:SOURCE:AGGREGATION or NAME:metadata:KEY:AGGREGATION.",
)
@filtered
@click.option(
    "--where",
    multiple=True,
    callback=metadata_values,
    metavar="KEY=VALUE",
    help="Only with this metadata: metadata:tier=gold; the value is JSON, or else text.",
)
@click.option(
    "--max-groups",
    type=click.IntRange(1, spec.MAX_GROUPS),
    default=spec.DEFAULT_GROUPS,
    show_default=True,
    help="How many groups at most: the newest when grouped by time, else the largest.",
)
@click.option("--chart", is_flag=True, help="Draw bars over time instead; needs --group-by time:….")
def statistics(
    *,
    chart: bool,
    group_by: tuple[spec.ExecutionStatisticsGrouping, ...],
    metrics: tuple[spec.ExecutionStatisticsMetric, ...],
    max_groups: int,
    **filters: Any,
) -> Answer:
    """Count executions in groups, with averages, sums or percentiles of their numbers.

    Sources: duration, queue_time and wait_time in seconds, step_count, cached_step_count,
    attempt_count, output_artifact_count. Aggregations: avg, sum, min, max, p50, p95, p99.

    \b
    Example:
      kitaru executions statistics --group-by status --metric mean:duration:avg
    """
    from kitaru import render
    from kitaru.cli import views

    if chart and not any(each.time_granularity for each in group_by):
        raise click.UsageError("--chart is drawn over time: add --group-by time:day.")
    found = open_client().executions.statistics(group_by, metrics, max_groups=max_groups, **filters)
    item = render.statistics(found, group_by=group_by, metrics=metrics)
    return Answer(
        json=lambda: {"item": item},
        text=lambda: (views.statistics_chart if chart else views.statistics)(
            item, group_by=group_by, metrics=metrics, max_groups=max_groups
        ),
    )
