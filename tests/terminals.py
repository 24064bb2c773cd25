"""A real terminal with a process at it: what it shows so far, and what is typed there."""

from __future__ import annotations

import fcntl
import os
import pty
import select
import struct
import subprocess
import termios
from collections.abc import Sequence

from tests.support import ROOT, until


class Terminal:
    """A process at a terminal of its own.

    Args:
        command: the program and its arguments.
        columns: how wide the terminal is, in characters.
        env: what its environment has beside the test's own.
    """

    def __init__(
        self, command: Sequence[str], *, columns: int = 100, env: dict[str, str] | None = None
    ) -> None:
        self.shown = ""
        self.master, slave = pty.openpty()
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 40, columns, 0, 0))
        inherited = {key: os.environ[key] for key in os.environ.keys() - {"COLUMNS", "LINES"}}
        paths = {"PYTHONPATH": f"{ROOT / 'core'}{os.pathsep}{ROOT}", "TERM": "xterm-256color"}
        paths |= {"COLUMNS": "", "LINES": ""}  # those of whoever runs the tests
        self.process = subprocess.Popen(
            command,
            env=inherited | paths | (env or {}),
            stdin=slave,
            stdout=slave,
            stderr=slave,
            start_new_session=True,
        )
        os.close(slave)
        self._poll = select.poll()
        self._poll.register(self.master, select.POLLIN)

    def type(self, text: str) -> None:
        os.write(self.master, text.encode())

    def reads(self, text: str, *, times: int = 1) -> bool:
        """Whether the text has been shown so often."""
        if self._poll.poll(10):
            try:
                self.shown += os.read(self.master, 65536).decode(errors="replace")
            except OSError:  # the process has closed its side
                return self.shown.count(text) >= times
        return self.shown.count(text) >= times

    def expect(self, text: str, *, times: int = 1) -> None:
        until(lambda: self.reads(text, times=times), f"{text!r} in {self.shown!r}")

    def all(self) -> str:
        """Everything it shows until it ends."""
        while True:
            self._poll.poll()
            try:
                data = os.read(self.master, 65536)
            except OSError:
                break
            if not data:
                break
            self.shown += data.decode(errors="replace")
        self.process.wait(60)
        return self.shown

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        os.close(self.master)
