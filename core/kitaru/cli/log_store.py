"""`kitaru log-store`: where copies of log lines go, and sending them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from kitaru.cli import output, style
from kitaru.cli.command import Answer, Group
from kitaru.errors import KitaruBackendError

if TYPE_CHECKING:
    from kitaru.log_store import LogStore


@click.group("log-store", cls=Group)
def group() -> None:
    """Send copies of log lines elsewhere; the lines themselves stay in the store.

    \b
    Example:
      kitaru log-store show
    """


@group.command("show")
def show() -> Answer:
    """Show where copies go, how many lines are not sent yet, and what went wrong last.

    \b
    Example:
      kitaru log-store show
    """
    from kitaru.log_store import current_log_store

    return _answer("Kitaru log store", current_log_store())


@group.command("set")
@click.argument("backend")
@click.option(
    "--endpoint",
    required=True,
    metavar="URL",
    help="Of jsonl a path or file:// URL, of otlp the address of a collector.",
)
@click.option(
    "--header",
    "headers",
    multiple=True,
    metavar="NAME=SECRET:KEY",
    help="A header that otlp sends, with the key of a secret that holds its value.",
)
@click.option("--from-start", is_flag=True, help="Send the lines that are there already, too.")
def set_(*, backend: str, endpoint: str, headers: tuple[str, ...], from_start: bool) -> Answer:
    """Choose where copies go from now on: jsonl, a file, or otlp, a collector.

    \b
    Example:
      kitaru log-store set otlp --endpoint http://localhost:4318
    """
    from kitaru.log_store import set_log_store

    pairs = (header.partition("=") for header in headers)
    given = {name: reference for name, _, reference in pairs}
    found = set_log_store(backend, endpoint=endpoint, headers=given, from_start=from_start)
    return _answer("Set log store", found)


@group.command("reset")
def reset() -> Answer:
    """Send no copies any more.

    \b
    Example:
      kitaru log-store reset
    """
    from kitaru.log_store import reset_log_store

    was_set = reset_log_store()
    return Answer(
        json=lambda: {"item": {"was_set": was_set}},
        text=lambda: "Reset log store" if was_set else "No log store was set",
    )


@group.command("push")
def push() -> Answer:
    """Send the lines that are there now and were not sent yet.

    \b
    Example:
      kitaru log-store push
    """
    from kitaru import log_store

    found = log_store.current_log_store()
    with style.progress("Sending log lines", found.unsent if found else None) as advance:
        done = log_store.push(told=advance)
    error = None
    if done.rejected:
        error = KitaruBackendError(
            f"The log store has refused {done.rejected} lines for good; they will not be sent "
            "again. The lines are still here: kitaru executions logs."
        )
    return Answer(
        json=lambda: {"item": done.to_dict()},
        text=lambda: f"Pushed log lines: {done.sent}",
        error=error,
    )


def _answer(title: str, found: LogStore | None) -> Answer:
    def json() -> dict[str, Any]:
        from kitaru import render

        if found is None:
            return {"item": {"configured": False}}
        # Headers are references, whatever their names look like.
        more = {"headers": render.shown_value(dict(found.headers), masks=False)}
        return {"item": {"configured": True, **render.shown(found.to_dict()), **more}}

    return Answer(json=json, text=lambda: output.fields(title, _pairs(found)))


def _pairs(found: LogStore | None) -> list[tuple[str, Any]]:
    if found is None:
        return [("Backend", "none (logs stay in the store)")]
    headers = ", ".join(f"{name} from {where}" for name, where in found.headers.items())
    pairs = [
        ("Backend", found.backend),
        ("Endpoint", found.endpoint),
        *([("Headers", headers)] if headers else []),
        ("Since", output.moment(found.since)),
        ("Not sent yet", found.unsent),
        ("Last error", found.last_error or "none"),
    ]
    if found.last_error is not None:
        pairs.append(("Last error at", output.moment(found.last_error_at)))
    return pairs
