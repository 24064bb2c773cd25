"""Notices that whoever read a stream has gone, also while there is nothing to print.

A command that writes only now and then would otherwise outlive its reader, as in `… | head -1`,
until its next line. It ends as any write to a closed pipe does: with a `BrokenPipeError`.
"""

from __future__ import annotations

import contextlib
import errno
import io
import os
import select
import signal
import stat
import sys
import threading
from collections.abc import Iterator
from typing import TypeVar

T = TypeVar("T")


def while_there(lines: Iterator[T]) -> Iterator[T]:
    """The lines of a command that changes nothing, for as long as somebody reads them.

    The error may come anywhere between two lines.
    """
    with _is_there():
        yield from lines


@contextlib.contextmanager
def _is_there() -> Iterator[None]:
    """Raise `BrokenPipeError` in the block, on the main thread, once the pipe has no reader."""
    pipe = _pipe()
    if pipe is None:
        yield
        return

    def end(number: int, frame: object) -> None:
        raise BrokenPipeError(errno.EPIPE, "nobody reads standard output")

    before = signal.signal(signal.SIGPIPE, end)
    main = threading.get_ident()
    is_over = threading.Event()

    def look() -> None:
        poll = select.poll()
        poll.register(pipe, 0)  # the end of the other side is told unasked
        poll.poll()
        if not is_over.is_set():
            signal.pthread_kill(main, signal.SIGPIPE)

    threading.Thread(target=look, name="kitaru-reader", daemon=True).start()
    try:
        yield
    finally:
        is_over.set()
        signal.signal(signal.SIGPIPE, before)


def _pipe() -> int | None:
    """Standard output where it is a pipe, on systems that can watch one."""
    if not hasattr(select, "poll") or threading.current_thread() is not threading.main_thread():
        return None
    try:
        number = sys.stdout.fileno()
        return number if stat.S_ISFIFO(os.fstat(number).st_mode) else None
    except (io.UnsupportedOperation, ValueError):  # nothing of the system's, or closed
        return None
