"""The end of the process while flows still run: they finish, or are left resumable.

When the interpreter ends in the ordinary way, running flows are driven to their ends, and waits
that nobody has answered let go. After Ctrl-C, and at SIGTERM, flows stop at their next durable
call, or a moment later wherever they are, and stderr tells how each goes on. Nothing here is
installed before the first flow runs, and a handler that is not Python's own is left alone. A
forked child has no flows: its end is none of theirs.
"""

from __future__ import annotations

import atexit
import contextlib
import os
import queue
import signal
import sys
import threading
import weakref
from collections.abc import Iterable
from functools import partial
from types import FrameType

from kitaru import clock, config
from kitaru.errors import KitaruError
from kitaru.heart import Beating, heart
from kitaru.models import ExecutionStatus
from kitaru.store import close_all, executions, waits


class _State:
    """What is known of the end of this process."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.is_installed = False
        self.handles_sigterm = False
        self.leaving = threading.Event()
        self.is_any_left = False
        self.stopping: weakref.WeakSet[Beating] = weakref.WeakSet()
        self.told: weakref.WeakSet[Beating] = weakref.WeakSet()
        # Of all that is in `threading` and `queue`, only these may be used in a signal's handler.
        self.signals: queue.SimpleQueue[int] = queue.SimpleQueue()
        self.stopped: queue.SimpleQueue[None] = queue.SimpleQueue()


_state = _State()


def is_leaving() -> bool:
    """Whether the interpreter ends, so that nobody can answer here any more."""
    return _state.leaving.is_set()


def install() -> None:
    """Look after the flows of this process when it ends.

    Raises:
        RuntimeError: no thread can be started.
    """
    with _state.lock:
        if not _state.is_installed:
            # It ends executors in a hook like ours, and hooks run last in, first out: flows may
            # use executors to their ends.
            import concurrent.futures.thread  # noqa: F401

            threading.Thread(target=_watch, args=(_state,), name="kitaru-exit", daemon=True).start()
            # Not `atexit` alone, which runs when no new thread can be started in some releases.
            with contextlib.suppress(RuntimeError):  # main has ended already
                threading._register_atexit(_main_has_ended)  # type: ignore[attr-defined]
            atexit.register(_leave)
            _state.is_installed = True
        at_main = threading.current_thread() is threading.main_thread()
        if at_main and not _state.handles_sigterm:
            _state.handles_sigterm = True
            if signal.getsignal(signal.SIGTERM) is signal.SIG_DFL:
                signal.signal(signal.SIGTERM, _terminated)


def stop(drives: Iterable[Beating]) -> None:
    """Stop flows at their next durable call; each is told of when it has stopped."""
    for drive in drives:
        _state.stopping.add(drive)
        drive.stop()
        drive.on_end(partial(_tell, drive))


def _main_has_ended() -> None:
    others = [thread for thread in threading.enumerate() if not thread.daemon]
    # While threads of the user's run, somebody may still answer: then `atexit` is the end.
    if _is_interrupted() or others == [threading.main_thread()]:
        _leave()


def _leave() -> None:
    """Let flows finish, or after Ctrl-C stop them, and close the stores."""
    if _is_interrupted():
        _stop_all()  # first: what is to stop shall not let go of itself
    _state.leaving.set()
    try:
        while drives := heart.drives():
            drives[0].ended.wait(config.TICK_SECONDS)
    except KeyboardInterrupt:
        _stop_all()
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(AttributeError, OSError, ValueError):
                stream.flush()
        # As main would have ended; its exit code is decided already.
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        os.kill(os.getpid(), signal.SIGINT)
    # Python aborts a process that ends while another thread is at the end of writing a line.
    for drive in list(_state.stopping):
        _tell(drive)
    if not _state.is_any_left:
        close_all()


def _is_interrupted() -> bool:
    # A prompt (`sys.ps1`) notes the exception too, and goes on.
    return getattr(sys, "last_type", None) is KeyboardInterrupt and not hasattr(sys, "ps1")


def _terminated(number: int, frame: FrameType | None) -> None:
    """Hold main up here, while another thread stops the flows: main may have any lock."""
    signal.signal(number, signal.SIG_DFL)  # a second one ends the process at once
    try:
        _state.signals.put(number)
        with contextlib.suppress(queue.Empty):
            _state.stopped.get(timeout=config.EXIT_GRACE_SECONDS + config.EXIT_LAST_SECONDS)
    finally:
        os.kill(os.getpid(), number)


def _watch(state: _State) -> None:
    state.signals.get()
    _stop_all()
    state.stopped.put(None)


def _stop_all() -> None:
    """Stop every flow of this process, and say how each goes on."""
    drives = heart.drives()
    deadline = clock.monotonic() + config.EXIT_GRACE_SECONDS
    with contextlib.suppress(KeyboardInterrupt):  # a second one: at once
        stop(drives)
        for drive in drives:
            drive.ended.wait(max(0.0, deadline - clock.monotonic()))
    late = [drive for drive in drives if not drive.ended.is_set()]
    for store in {drive.store for drive in late}:
        # What cannot be written here is found by others: a dead process drives nothing.
        with contextlib.suppress(KitaruError), store.write() as conn:
            for drive in late:
                if drive.store is store:
                    drive.let_go(conn)
    deadline = clock.monotonic() + config.EXIT_LAST_SECONDS / 2
    for drive in drives:
        if not drive.is_stopped:  # it has just ended of itself, and is about to say how
            drive.ended.wait(max(0.0, deadline - clock.monotonic()))
        _tell(drive)
        heart.remove(drive)
        _state.is_any_left |= not drive.ended.is_set()


def _tell(drive: Beating) -> None:
    """Say how a flow that was stopped goes on, once."""
    with _state.lock:
        if not drive.is_stopped or drive in _state.told:
            return
        _state.told.add(drive)
        answer = ""
        with contextlib.suppress(KitaruError), drive.store.snapshot() as conn:
            waits_on = executions.at(conn, drive.execution).status is ExecutionStatus.WAITING
            if waits_on and not waits.closed(conn, [drive.execution]):
                answer = f"answer it: `kitaru executions input {drive.exec_id} --value '…'`, "
        text = f"continue with `kitaru executions resume {drive.exec_id}`."
        with contextlib.suppress(AttributeError, OSError, ValueError):  # no stderr, or a closed one
            sys.stderr.write(f"Stopped {drive.exec_id}: {answer}{text}\n")
            sys.stderr.flush()


def _forget() -> None:
    """A forked child has none of its parent's threads."""
    global _state
    if _state.handles_sigterm and signal.getsignal(signal.SIGTERM) is _terminated:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
    _state = _State()
    heart.forget()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)
