"""`kitaru executions logs`: what an execution wrote, at once or line by line as it comes.

How a line looks is decided here: bare messages, `-v` with time and level, `-vv` with the
checkpoint, `--grouped` under headings. What there is to show comes from the client.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import click

from kitaru.cli import output, style
from kitaru.cli.command import Answer, Command, Said, Stream, listed, open_client
from kitaru.models import LOG_LEVELS, LogEntry

if TYPE_CHECKING:
    from kitaru.client.following import FollowEvent

_COLOURS = {"WARNING": "yellow", "ERROR": "red", "CRITICAL": "red"}


@click.command("logs", cls=Command)
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
@click.option(
    "-f", "--follow", is_flag=True, help="Go on with lines as they come, until it has ended."
)
@click.option("--grouped", is_flag=True, help="Put a heading over the lines of each checkpoint.")
@click.option(
    "-v", "--verbose", count=True, help="With time and level; -vv with the checkpoint, too."
)
def logs(
    *,
    exec_id: str,
    limit: int | None,
    tail: int | None,
    follow: bool,
    grouped: bool,
    verbose: int,
    **chosen: Any,
) -> Answer | Stream:
    """Show what an execution wrote; with --follow until it ends, with its questions and its end.

    \b
    Example:
      kitaru executions logs latest:failed --level warning --tail 20
      kitaru executions logs latest --follow -vv
    """
    from kitaru import render

    if follow and (limit is not None or tail is not None):
        raise click.UsageError(
            "--follow goes from the first line to the end: no --limit or --tail."
        )
    shown = _Lines(verbose=verbose, grouped=grouped)
    if follow:
        signals: list[int] = []
        events = open_client().executions.follow(exec_id, **chosen, stop=lambda: bool(signals))
        return Stream(
            _followed(events, shown), signals=signals, interrupted=_event("interrupted", {})
        )
    entries = open_client().executions.logs(exec_id, limit=limit, tail=tail, **chosen)
    return Answer(
        json=lambda: listed([render.log_entry(entry) for entry in entries]),
        text=lambda: shown.all(entries) if entries else _none(exec_id),
    )


def _none(exec_id: str) -> str:
    return output.line(f"No log entries found for execution {exec_id}.")


def _event(name: str, item: dict[str, Any]) -> dict[str, Any]:
    return {"command": "executions.logs", "event": name, "item": item}


def _followed(events: Iterator[FollowEvent], lines: _Lines) -> Iterator[Said]:
    from kitaru import render
    from kitaru.client.following import LogEvent, StalledEvent, WaitingEvent

    for event in events:
        item: dict[str, Any]
        aside, code = False, 0
        if isinstance(event, LogEvent):
            item, text = render.log_entry(event.entry), lines.one(event.entry)
        elif isinstance(event, WaitingEvent):
            item = render.pending_wait(event.wait)
            text = output.line(f"[Execution is waiting for input on: {event.wait.name}]")
        elif isinstance(event, StalledEvent):
            item, text, aside = render.shown(event.to_dict()), output.line(event.message), True
        else:
            item = render.shown(event.to_dict())
            text, code = output.line(f"[{event.message}]"), int(not event.status.is_successful)
        yield Said(text, _event(event.event, item), code=code, aside=aside)


class _Lines:
    """Log entries as text, with headings where the checkpoint changes."""

    def __init__(self, *, verbose: int, grouped: bool) -> None:
        self._verbose = verbose
        self._grouped = grouped
        self._under: str | None = None
        self._paint: Callable[[str, str | None], str] = style.painter()

    def all(self, entries: Sequence[LogEntry]) -> str:
        """All entries; where they are grouped, the lines of a checkpoint stand together."""
        return "\n".join(map(self.one, _gathered(entries) if self._grouped else entries))

    def one(self, entry: LogEntry) -> str:
        """One entry, under its heading where that is a new one."""
        text = self._line(entry)
        name = entry.checkpoint_name or ""
        if not self._grouped or name == self._under:
            return text
        self._under = name
        return f"{style.rule(output.line(f'checkpoint: {name}' if name else 'flow'))}\n{text}"

    def _line(self, entry: LogEntry) -> str:
        colour = _COLOURS.get(entry.level)
        message = output.block(entry.message)
        if not self._verbose:
            return self._paint(message, colour)
        level = self._paint(f"{output.line(entry.level):<5}", colour)
        where = ""
        if self._verbose > 1 and entry.checkpoint_name:
            where = f"[{output.line(entry.checkpoint_name)}] "
        # Further lines are indented, so that none can pass for an entry of its own.
        message = message.replace("\n", "\n  ")
        return f"{output.moment(entry.timestamp, separator=' ')} {level} {where}{message}"


def _gathered(entries: Iterable[LogEntry]) -> Iterator[LogEntry]:
    """Entries checkpoint by checkpoint, in the order in which those first wrote."""
    groups: dict[str | None, list[LogEntry]] = {}
    for entry in entries:
        groups.setdefault(entry.checkpoint_name, []).append(entry)
    for group in groups.values():
        yield from group
