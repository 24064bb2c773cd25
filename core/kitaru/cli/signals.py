"""How a command that looks on is told to end: Ctrl-C, SIGTERM, or a reader that has gone.

The signal is only noted, and the command ends at its next step: an exception that a signal raises
can come in the middle of a drawing, or in a lock of Python's that does not bear it. A second
signal of the same kind does what it would without all this.
"""

from __future__ import annotations

import contextlib
import io
import os
import select
import signal
import stat
import sys
import threading
from collections.abc import Iterator


@contextlib.contextmanager
def noted(signals: list[int]) -> Iterator[None]:
    """Put the numbers of signals that come meanwhile into the list; on the main thread only."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    is_over = threading.Event()
    pipe = _pipe()
    watched = [int(signal.SIGINT), int(signal.SIGTERM)]
    if pipe is not None:
        watched.append(int(signal.SIGPIPE))

    def note(number: int, frame: object) -> None:
        signals.append(number)
        signal.signal(number, before[number])

    before = {number: signal.signal(number, note) for number in watched}
    if pipe is not None:
        watch = threading.Thread(target=_until_unread, args=(pipe, is_over), daemon=True)
        watch.start()
    try:
        yield
    finally:
        is_over.set()
        for number, handler in before.items():
            signal.signal(number, handler)


def _until_unread(pipe: int, is_over: threading.Event) -> None:
    """Send SIGPIPE once nobody reads a pipe, which a command with nothing to print would not see.

    So `… | head -1` ends with its reader, and not with the next line.
    """
    poll = select.poll()
    poll.register(pipe, 0)  # that the other side is closed is told unasked
    poll.poll()
    if not is_over.is_set():
        signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGPIPE)


def _pipe() -> int | None:
    """Standard output where it is a pipe, on systems that can watch one."""
    if sys.stdout is None or not hasattr(select, "poll"):
        return None
    try:
        number = sys.stdout.fileno()
        return number if stat.S_ISFIFO(os.fstat(number).st_mode) else None
    except (io.UnsupportedOperation, ValueError):  # nothing of the system's, or closed
        return None
