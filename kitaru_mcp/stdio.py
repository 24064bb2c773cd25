"""Serving on stdin and stdout: who may use them, and when the process ends.

Standard output carries protocol messages only; what else is written there goes to standard error,
and children find standard input empty. The process ends when its input ends (answers under way
get a moment), on SIGINT and on SIGTERM, idle or busy. Runners it started go on.
"""

from __future__ import annotations

import contextlib
import io
import os
import queue
import signal
import sys
import threading
from collections.abc import Callable
from types import FrameType
from typing import TYPE_CHECKING, NoReturn

if TYPE_CHECKING:
    from kitaru_mcp.app import KitaruServer

#: How long answers under way may take after the input has ended.
DRAIN_SECONDS = 1.0
#: How long an orderly end may take before the process ends without it.
GRACE_SECONDS = 0.3
_LOOK_SECONDS = 0.01
_CHUNK_BYTES = 64 * 1024


class ClientInput(io.RawIOBase):
    """Standard input as the SDK reads it.

    A thread of its own does the reading, so that the input can also be ended from here: a read
    that blocks never keeps the process. By the time the SDK asks for what follows a message, it
    has taken that message, so only answers under way are left when the end is reached.

    Args:
        is_busy: whether answers are under way.
    """

    def __init__(self, is_busy: Callable[[], bool]) -> None:
        self._is_busy = is_busy
        self._chunks: queue.Queue[bytes] = queue.Queue(maxsize=16)
        self._rest = b""
        self._ended = threading.Event()
        private = os.dup(0)
        null = os.open(os.devnull, os.O_RDONLY)
        os.dup2(null, 0)
        os.close(null)
        threading.Thread(target=self._pump, args=(private,), name="stdin", daemon=True).start()

    def _pump(self, fd: int) -> None:
        chunk = b"."
        while chunk:
            try:
                chunk = os.read(fd, _CHUNK_BYTES)
            except OSError:  # a terminal that went away ends like any input
                chunk = b""
            self._chunks.put(chunk)

    def readable(self) -> bool:
        """It is there to be read."""
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        """Fill a buffer with what has come; 0 at the end."""
        if not self._rest and not self._ended.is_set():
            self._rest = self._chunks.get()
            if not self._rest:
                self._drain()
        if self._ended.is_set():
            return 0
        size = min(len(buffer), len(self._rest))
        buffer[:size] = self._rest[:size]
        self._rest = self._rest[size:]
        return size

    def end(self) -> None:
        """End the input now; safe in a signal handler."""
        self._ended.set()
        with contextlib.suppress(queue.Full):
            self._chunks.put_nowait(b"")

    def _drain(self) -> None:
        quiet = 0
        for _ in range(int(DRAIN_SECONDS / _LOOK_SECONDS)):
            # Two quiet looks: a message or an answer may be on its way between two tasks.
            quiet = 0 if self._is_busy() else quiet + 1
            if quiet > 2 or self._ended.wait(_LOOK_SECONDS):
                break
        self._ended.set()
        _end_within(GRACE_SECONDS)


def serve(server: KitaruServer) -> None:
    """Serve until the input ends or a signal comes."""
    import anyio

    source = ClientInput(is_busy=lambda: server.calls > 0)
    sys.stdin = io.TextIOWrapper(io.BufferedReader(source), encoding="utf-8")

    def stop(number: int, frame: FrameType | None) -> None:
        _end_within(GRACE_SECONDS)
        source.end()

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, stop)
    anyio.run(server.run_stdio_async)


def end_at_once_on_signals() -> None:
    """Until the server serves, a signal ends the process without a word."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: os._exit(0))


def _end_within(seconds: float) -> None:
    timer = threading.Timer(seconds, os._exit, args=(0,))
    timer.daemon = True
    timer.start()


def leave(code: int) -> NoReturn:
    """End the process now, whatever its threads are doing."""
    sys.stderr.flush()
    os._exit(code)
