"""`kitaru executions` for looking: get, list and logs. `actions` adds what changes them."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING

import click

from kitaru import config
from kitaru.cli import actions
from kitaru.cli.command import Answer, Group, listed, open_client
from kitaru.cli.options import point_in_time
from kitaru.models import LOG_LEVELS, ExecutionStatus

if TYPE_CHECKING:
    from kitaru.client.executions import LogSource


@click.group("executions", cls=Group)
def group() -> None:
    """Look at executions and steer them; an ID may be a unique prefix, latest or latest:failed.

    \b
    Example:
      kitaru executions get kr-4f1c
    """


for _command in actions.COMMANDS:
    group.add_command(_command)


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
        text=lambda: views.execution(found, continues=actions.goes_on(client, found)),
    )


@group.command("list")
@click.option(
    "--status",
    type=click.Choice([status.value for status in ExecutionStatus], case_sensitive=False),
    help="Only in this status.",
)
@click.option("--flow", help="Only of the flow with this name or id.")
@click.option("--stack", help="Only on this stack.")
@click.option("--tag", "tags", multiple=True, help="Only with this tag; several mean all of them.")
@click.option(
    "--limit",
    type=click.IntRange(1, config.MAX_PAGE),
    default=config.DEFAULT_PAGE,
    show_default=True,
    help="How many at most.",
)
@click.option("--cursor", help="Where the page before ended.")
@click.option(
    "--since",
    type=point_in_time,
    metavar="TIME",
    help="Created then or later: ISO 8601 with a zone, or how long ago (30m, 24h, 7d).",
)
@click.option(
    "--until", type=point_in_time, metavar="TIME", help="Created before then; like --since."
)
def list_(
    *,
    status: str | None,
    flow: str | None,
    stack: str | None,
    tags: tuple[str, ...],
    limit: int,
    cursor: str | None,
    since: datetime | None,
    until: datetime | None,
) -> Answer:
    """List executions, newest first.

    \b
    Example:
      kitaru executions list --status failed --since 24h
    """
    from kitaru import render
    from kitaru.cli import views

    page = open_client().executions.list(
        flow=flow,
        status=status,
        stack=stack,
        tags=tags,
        limit=limit,
        cursor=cursor,
        since=since,
        until=until,
    )
    return Answer(
        json=lambda: listed([render.summary(each) for each in page], next_cursor=page.next_cursor),
        text=lambda: views.execution_table(page),
    )


@group.command("logs")
@click.argument("exec_id", metavar="ID")
@click.option("--checkpoint", help="Only of the calls with this name, or of this call id.")
@click.option(
    "--source",
    type=click.Choice(["step", "runner"]),
    default="step",
    show_default=True,
    help="What user code wrote, or what its runners did.",
)
@click.option("--limit", type=click.IntRange(min=1), help="How many lines at most, from the first.")
@click.option(
    "--level",
    type=click.Choice(LOG_LEVELS, case_sensitive=False),
    help="Only of this level or a higher one.",
)
@click.option("--text", help="Only with this text in the message, in any letter case.")
@click.option("--tail", type=click.IntRange(min=1), help="Only the last so many lines.")
def logs(
    *,
    exec_id: str,
    checkpoint: str | None,
    source: LogSource,
    limit: int | None,
    level: str | None,
    text: str | None,
    tail: int | None,
) -> Answer:
    """Show what an execution wrote.

    \b
    Example:
      kitaru executions logs latest:failed --level warning --tail 20
    """
    from kitaru import render
    from kitaru.cli import views

    entries = open_client().executions.logs(
        exec_id,
        checkpoint=checkpoint,
        source=source,
        limit=limit,
        level=level,
        text=text,
        tail=tail,
    )
    return Answer(
        json=lambda: listed([render.log_entry(entry) for entry in entries]),
        text=lambda: views.log_lines(entries, exec_id=exec_id),
    )
