"""Python processes that have already loaded what they import: forks of one that did so once.

`command()` stands where `sys.executable` would. The process it starts has the caller's streams,
folder and environment, and Kitaru, its server and what they import are loaded in it; all else is as
in a process that was started anew. So it is for tests of what a program does, not of how it starts,
nor of the process itself: what the caller starts is a shadow, which ends as the process does.
"""

from __future__ import annotations

import atexit
import builtins
import gc
import importlib.util
import marshal
import os
import selectors
import signal
import socket
import subprocess
import sys
import tempfile
import types
from collections.abc import Sequence
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
SHADOW = Path(__file__).with_name("shadow.py")
#: What most processes under test import sooner or later.
LOADED = (
    "anyio._backends._asyncio",
    "jsonschema",
    "kitaru.cli",
    "kitaru.client",
    "kitaru.handle",
    "kitaru.runtime",
    "kitaru_mcp.app",
    "kitaru_mcp.policy",
    "kitaru_mcp.tools",
    "sqlite_utils",
)

Request = tuple[str, dict[str, str], list[str]]


@cache
def command() -> tuple[str, ...]:
    """What to put before `-m MODULE` or a script's path to run it in a warm process."""
    folder = Path(tempfile.mkdtemp(prefix="kitaru-warm-"))
    process = subprocess.Popen(
        [sys.executable, "-P", str(Path(__file__)), str(folder / "socket")],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        start_new_session=True,
    )
    assert process.stdout is not None
    with process.stdout as stdout:
        assert stdout.readline(), "it did not start"

    def end() -> None:
        process.communicate()  # its input ends, and so does it
        (folder / "socket").unlink(missing_ok=True)
        folder.rmdir()

    atexit.register(end)
    return sys.executable, "-I", "-S", str(SHADOW), str(folder / "socket")


class Parent:
    """The process that has loaded everything, and forks where it is asked to."""

    def __init__(self, path: str) -> None:
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(path)
        self._listener.listen(16)
        self._woken, self._wakes = socket.socketpair()
        self._wakes.setblocking(False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.set_wakeup_fd(self._wakes.fileno())
        self._running: dict[int, socket.socket] = {}
        self._selector = selectors.DefaultSelector()
        for each in (self._listener, self._woken, 0):
            self._selector.register(each, selectors.EVENT_READ)

    def serve(self) -> list[str] | None:
        """Fork until the input ends; in a fork, the arguments it is to run."""
        while True:
            ready = [key.fileobj for key, _ in self._selector.select()]
            if 0 in ready:
                return None
            if self._woken in ready:
                self._woken.recv(4096)
                self._reap()
            for pid, conn in list(self._running.items()):
                if conn in ready:
                    self._pass_on(pid, conn)
            if self._listener in ready and (arguments := self._accept()) is not None:
                return arguments

    def _accept(self) -> list[str] | None:
        conn, _ = self._listener.accept()
        head, streams, _, _ = socket.recv_fds(conn, 4, 3)
        with conn.makefile("rb") as stream:
            request: Request = marshal.loads(stream.read(int.from_bytes(head, "big")))
        if (pid := os.fork()) == 0:
            conn.close()
            self._leave()
            return become(request, streams)
        for fd in streams:
            os.close(fd)
        self._running[pid] = conn
        self._selector.register(conn, selectors.EVENT_READ)
        return None

    def _reap(self) -> None:
        while self._running:
            pid, status = os.waitpid(-1, os.WNOHANG)
            if pid == 0:
                return
            code = os.waitstatus_to_exitcode(status)
            with self._running.pop(pid) as conn, suppress(KeyError, BrokenPipeError):
                self._selector.unregister(conn)  # gone, as it is itself, if its shadow was killed
                conn.sendall(code.to_bytes(4, "big", signed=True))

    def _pass_on(self, pid: int, conn: socket.socket) -> None:
        numbers = conn.recv(16)
        for number in numbers or [signal.SIGKILL]:
            os.kill(pid, number)
        if not numbers:
            self._selector.unregister(conn)

    def _leave(self) -> None:
        """Let a fork be a process like any other."""
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        self._selector.close()
        for each in (self._listener, self._woken, self._wakes, *self._running.values()):
            each.close()


def become(request: Request, streams: Sequence[int]) -> list[str]:
    """Take over a caller's streams, folder and environment; returns the arguments."""
    folder, environment, arguments = request
    os.setsid()  # a signal to all of its group is none to the others
    for fd, stream in enumerate(streams):
        os.dup2(stream, fd)
        os.close(stream)
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    return arguments


def run(arguments: Sequence[str]) -> None:
    """Run a module or script as `__main__`, as Python does with these arguments."""
    main: Any = types.ModuleType("__main__")
    main.__builtins__ = builtins
    is_module = arguments[0] == "-m"
    first = os.getcwd() if is_module else str(Path(arguments[0]).resolve().parent)
    sys.path[:0] = [first, *filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep))]
    sys.argv = list(arguments)
    if is_module:
        spec = importlib.util.find_spec(arguments[1])
        assert spec is not None
        assert spec.origin is not None
        sys.argv = [spec.origin, *arguments[2:]]
        main.__spec__, main.__package__ = spec, spec.parent
    main.__file__ = sys.argv[0]
    sys.modules["__main__"] = main
    exec(compile(Path(main.__file__).read_bytes(), main.__file__, "exec"), main.__dict__)


if __name__ == "__main__":
    for name in LOADED:
        importlib.import_module(name)
    gc.freeze()
    parent = Parent(sys.argv[1])
    print("ready", flush=True)
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    if (arguments := parent.serve()) is not None:
        run(arguments)
