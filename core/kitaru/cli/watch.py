"""`kitaru executions watch`: an execution as it goes on, drawn on a terminal, else line by line.

On a terminal it is one tree that is drawn again when something has changed, and once a second for
the sake of running durations; elsewhere each change is a line or a JSON object. What there is to
see comes from the client.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import click

from kitaru.cli import output, style
from kitaru.cli.command import Command, Said, Stream, open_client

if TYPE_CHECKING:
    from kitaru.client.watching import Progress
    from kitaru.timeline import Call


@click.command("watch", cls=Command)
@click.argument("exec_id", metavar="ID")
def watch(exec_id: str) -> Stream:
    """Watch an execution go on until it has ended: checkpoints, attempts, questions, children.

    \b
    Example:
      kitaru executions watch latest
    """
    signals: list[int] = []
    changes = open_client().executions.watch(exec_id, stop=lambda: bool(signals))
    return Stream(
        _lines(changes),
        live=lambda: _draw(changes),
        signals=signals,
        interrupted=_event("interrupted", {}),
    )


def _event(name: str, item: dict[str, Any]) -> dict[str, Any]:
    return {"command": "executions.watch", "event": name, "item": item}


# --- line by line ---------------------------------------------------------------------------------


def _lines(changes: Iterator[Progress]) -> Iterator[Said]:
    from kitaru import render
    from kitaru.cli import views
    from kitaru.client.following import ending

    status, asked = "", set[str]()
    for progress in changes:
        execution = progress.execution
        if (now := views.status(execution)) != status and not execution.status.is_finished:
            status = now
            item = {"status": execution.status.value, "stalled": execution.stalled}
            yield Said(f"status: {status}", _event("status", item))
        for call in progress.calls:
            if call.kind != "wait":
                item = render.shown(call.to_dict())
                yield Said(_told(call), _event(call.kind, item))
            elif call.ended_at is not None:
                yield Said(_told(call), _event("answered", render.shown(call.to_dict())))
        for wait in execution.pending_waits:
            if wait.wait_id not in asked:
                asked.add(wait.wait_id)
                text = output.line(f"waiting for {wait.name}: {wait.question or 'no question'}")
                yield Said(text, _event("waiting", render.pending_wait(wait)))
        if progress.note is not None:
            item = render.shown({"message": progress.note})
            yield Said(output.line(progress.note), _event("stalled", item), aside=True)
        if execution.status.is_finished:
            message = ending(execution)
            item = render.shown({"status": execution.status.value, "message": message})
            code = int(not execution.status.is_successful)
            yield Said(output.line(f"[{message}]"), _event("terminal", item), code=code)


def _told(call: Call) -> str:
    """A call's id, its state and what belongs to that."""
    from kitaru.timeline import duration, state

    kind = "" if call.name == call.kind else f"{call.kind} "
    parts = [f"{kind}{call.call_id}: {state(call.kind, call.status)}"]
    if call.started_at and call.ended_at and not call.reused:
        parts.append(duration((call.ended_at - call.started_at).total_seconds()))
    failure = call.attempts[-1].failure if call.attempts else None
    if failure is not None and call.failure is None:
        parts.append(f"attempt {len(call.attempts)} failed, {failure.message}")
    elif len(call.attempts) > 1:
        parts.append(f"attempt {len(call.attempts)}")
    if call.reused:
        parts.append("reused")
    if call.usage:
        parts.append(call.usage.told)
    if call.child_exec_id:
        parts.append(call.child_exec_id)
    if call.failure:
        parts.append(call.failure)
    return output.line(", ".join(parts))


# --- on a terminal --------------------------------------------------------------------------------


def _draw(changes: Iterator[Progress]) -> int:
    """Draw the execution for as long as there is something to see; return the exit code."""
    from rich.live import Live

    from kitaru.cli.tree import View
    from kitaru.client.following import ending

    screen = style.console()
    view = View(screen)
    # Not redirected: what stands in for standard output does not say which characters it has.
    with Live(
        get_renderable=view.draw, console=screen, refresh_per_second=1, redirect_stdout=False
    ) as live:
        for progress in changes:
            view.see(progress)
            live.refresh()
    execution = view.execution
    if execution is None or not execution.status.is_finished:
        return 0  # a signal has come
    click.echo(output.line(f"[{ending(execution)}]"))
    return int(not execution.status.is_successful)
