"""When the server's process ends: with its input, on SIGINT and on SIGTERM, idle or busy.

A signal ends it within `GRACE_SECONDS`, whatever its threads are doing; what is being committed is
either in the store or not. Runners it started go on. Nothing heavy is imported here, so that
`--help` can answer at once.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Awaitable, Callable
from types import FrameType
from typing import NoReturn

#: How long an orderly end may take before the process ends without it.
GRACE_SECONDS = 0.3


def run(serve: Callable[[], Awaitable[None]]) -> None:
    """Serve until `serve` returns or a signal comes."""

    import asyncio

    import anyio

    async def main() -> None:
        loop = asyncio.get_running_loop()
        with anyio.CancelScope() as scope:

            def stop(number: int, frame: FrameType | None) -> None:
                end_within(GRACE_SECONDS)
                loop.call_soon_threadsafe(scope.cancel)

            for number in (signal.SIGINT, signal.SIGTERM):
                signal.signal(number, stop)
            await serve()

    anyio.run(main)


def open_missing_streams() -> None:
    """Let each standard stream that the launcher closed lead nowhere.

    The next file to be opened would take its number, and receive what is printed.
    """
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, mode))  # noqa: SIM115


def end_at_once_on_signals() -> None:
    """Until the server serves, a signal ends the process without a word."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: os._exit(0))


def end_within(seconds: float) -> None:
    """End the process after this time, if it is still there."""
    timer = threading.Timer(seconds, os._exit, args=(0,))
    timer.daemon = True
    timer.start()


def leave(code: int) -> NoReturn:
    """End the process now, whatever its threads are doing."""
    sys.stderr.flush()
    os._exit(code)
