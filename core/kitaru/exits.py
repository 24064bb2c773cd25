"""The end of the process while flows still run: they finish, or are left resumable.

At an ordinary end of the interpreter running flows are driven to their ends, and waits that nobody
has answered let go. After Ctrl-C, and at SIGTERM, they stop at their next durable call, or a
moment later wherever they are. Nothing here is installed before the first flow runs.
"""

from __future__ import annotations

import atexit
import os
import signal
import sys
import threading
from types import FrameType

from kitaru import clock, config
from kitaru.heart import Beating, heart
from kitaru.store import close_all

_leaving = threading.Event()
_lock = threading.Lock()
_installed = False


def is_leaving() -> bool:
    """Whether the interpreter ends, so that nobody can answer here any more."""
    return _leaving.is_set()


def install() -> None:
    """Look after the flows of this process when it ends."""
    global _installed
    with _lock:
        if _installed:
            return
        _installed = True
    atexit.register(_at_exit)
    at_main = threading.current_thread() is threading.main_thread()
    if at_main and signal.getsignal(signal.SIGTERM) is signal.SIG_DFL:
        signal.signal(signal.SIGTERM, _terminated)


def _at_exit() -> None:
    _leaving.set()
    interrupted = getattr(sys, "last_type", None) is KeyboardInterrupt
    try:
        while not interrupted and (drives := _drives()):
            drives[0].ended.wait(config.TICK_SECONDS)
    except KeyboardInterrupt:
        interrupted = True
    if interrupted:
        stop_all()
    else:
        close_all()


def _terminated(number: int, frame: FrameType | None) -> None:
    stop_all()
    signal.signal(number, signal.SIG_DFL)
    os.kill(os.getpid(), number)


def stop_all() -> None:
    """Stop every flow of this process, and say how each goes on."""
    drives = _drives()
    for drive in drives:
        drive.stop()
    deadline = clock.monotonic() + config.EXIT_GRACE_SECONDS
    for drive in drives:
        drive.ended.wait(max(0.0, deadline - clock.monotonic()))
        if not drive.ended.is_set():
            drive.let_go()
        sys.stderr.write(f"Stopped. Continue with `kitaru executions resume {drive.exec_id}`.\n")


def _drives() -> list[Beating]:
    return [drive for drive in heart.drives() if not drive.ended.is_set()]
