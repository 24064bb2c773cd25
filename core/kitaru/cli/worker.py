"""`kitaru worker`: executions that could go on do so without anybody asking."""

from __future__ import annotations

import dataclasses
import signal
import threading
from collections.abc import Iterator
from typing import TYPE_CHECKING

import click

from kitaru import config
from kitaru.cli import output
from kitaru.cli.command import Command, Said, Stream, open_client

if TYPE_CHECKING:
    from kitaru.worker import Event


@click.command("worker", cls=Command)
@click.option(
    "--limit",
    type=click.IntRange(min=1),
    default=config.WORKER_LIMIT,
    show_default=True,
    help="How many of its runners live at a time.",
)
@click.option("--once", is_flag=True, help="Take up what is due now, and end.")
def worker(*, limit: int, once: bool) -> Stream:
    """Take up whatever could go on: answered, slept, its child ended, its process dead.

    It runs until Ctrl-C or SIGTERM; the runners it has started go on.

    \b
    Example:
      kitaru worker --limit 8
    """
    from kitaru.worker import serve

    stop = threading.Event()
    return Stream(_lines(serve(open_client(), limit=limit, once=once, stop=stop), stop))


def _lines(events: Iterator[Event], stop: threading.Event) -> Iterator[Said]:
    from kitaru import render

    before = signal.signal(signal.SIGTERM, lambda number, frame: stop.set())
    try:
        for event in events:
            did = "Resumed" if event.event == "resumed" else "Cannot resume"
            text = f"{did} {event.exec_id} ({event.flow_name}): {event.reason}"
            yield Said(output.line(text), render.shown(dataclasses.asdict(event)))
    finally:
        signal.signal(signal.SIGTERM, before)
