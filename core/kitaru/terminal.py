"""The question of a wait, asked right in the terminal of an interactive local run.

Owns the process's terminal, one question at a time: shows what the dialogue of `prompts` yields,
hands it the lines that are typed, and hands over an answer once one fits the schema and the
declared type. Never waits for longer than it is told to, and never writes to the store.
"""

from __future__ import annotations

import contextlib
import os
import select
import sys
import threading
from dataclasses import dataclass

from kitaru import asking, failures, prompts, redaction
from kitaru.context import WaitRequest

#: One question at a time may own the terminal.
_terminal = threading.Lock()


def is_interactive() -> bool:
    """Whether a person sits at this process's terminal (asking there needs POSIX)."""
    if sys.platform == "win32" or sys.stdin is None or sys.stdout is None:
        return False
    return sys.stdin.isatty() and sys.stdout.isatty()


#: So many bytes of a line terminals take, and drop the rest without a word.
_MOST_BYTES = 4095 if sys.platform == "linux" else 1023


class LineCutError(Exception):
    """What was typed is longer than a terminal takes, so that its end is missing."""

    def __init__(self) -> None:
        super().__init__(
            f"Invalid input: a terminal takes lines of {_MOST_BYTES} bytes, and this one was cut "
            "there. Type less, or answer with `kitaru executions input ID --value JSON`."
        )


class Lines:
    """Lines typed at standard input, read without waiting for longer than one is told to."""

    def __init__(self) -> None:
        self._unread = b""

    def next(self, seconds: float) -> str | None:
        """The next line, if a whole one is there in time.

        Raises:
            EOFError: there is no more input.
            LineCutError: the terminal has dropped the end of the line.
        """
        if b"\n" not in self._unread:
            if not select.select([sys.stdin], [], [], seconds)[0]:
                return None
            # Not `readline`: it would wait for the rest of a line that was sent without its end.
            try:
                read = os.read(sys.stdin.fileno(), 65536)
            except OSError:  # the terminal is gone
                read = b""
            if not read:
                raise EOFError
            self._unread += read
        line, end, self._unread = self._unread.partition(b"\n")
        if not end:
            self._unread = line
            return None
        if len(line) >= _MOST_BYTES:
            raise LineCutError
        return line.decode(sys.stdin.encoding, "surrogateescape")

    def forget(self) -> None:
        """Drop what was typed and not read: it was meant for another question."""
        import termios

        self._unread = b""
        with contextlib.suppress(termios.error):  # no terminal any more
            termios.tcflush(sys.stdin, termios.TCIFLUSH)


@dataclass(frozen=True, slots=True)
class Typed:
    """What a person has typed: the encoded answer, or `None` to abort the wait."""

    data: bytes | None


class TerminalPrompt:
    """Shows a question and hands over what is typed, once it is a valid answer."""

    def __init__(self, request: WaitRequest, *, wait: str) -> None:
        self._request = request
        self._wait = wait
        self._owns = False
        self._closed = False
        self._lines = Lines()
        self._dialogue: prompts.Dialogue | None = None

    def poll(self, seconds: float) -> Typed | None:
        """Look for a line for at most `seconds`; return what it completes."""
        if self._closed:
            return None
        if not self._owns:
            self._owns = _terminal.acquire(timeout=seconds)
            if not self._owns:
                return None
            self._show()
        if self._dialogue is None:  # the answer handed over was not taken
            self._start()
        line = self._line(seconds)
        return None if line is None else self._take(line)

    @property
    def is_open(self) -> bool:
        """Whether an answer may still be typed."""
        return not self._closed

    def close(self, message: str = "") -> None:
        """Give the terminal back."""
        self._closed = True
        if self._owns:
            # What comes next starts a line of its own, unless Enter was the last that was typed.
            self._say(message or ("\n" if self._dialogue is not None else ""))
            self._owns = False
            _terminal.release()

    def _line(self, seconds: float) -> str | None:
        """The next line, if a whole one is there in time; closes at the end of input."""
        try:
            return self._lines.next(seconds)
        except LineCutError as exc:
            self._say(f"{exc}\n> ")
            return None
        except EOFError:  # the answer may still come from elsewhere
            exec_id, _, name = self._wait.partition("/")
            self.close(
                "\nNo more input here. Answer it elsewhere: "
                f"kitaru executions input {exec_id} --wait {name} --value '…'\n"
            )
            return None

    def _take(self, line: str) -> Typed | None:
        assert self._dialogue is not None
        if line.strip() == prompts.ABORT:
            self._dialogue = None
            return Typed(None)
        try:
            self._say(self._dialogue.send(line))
        except StopIteration as end:
            self._dialogue = None
            return Typed(end.value)
        return None

    def _refusal(self, data: bytes) -> str | None:
        try:
            self._request.load(data, self._wait)
        except Exception as exc:  # a validator of the user's may raise anything
            return f"Refused by the flow's type: {redaction.safe_message(failures.text(exc))}"
        return None

    def _show(self) -> None:
        request = self._request
        what = "confirmation" if request.schema is None else "input"
        question = prompts.visible(request.question or "Please provide input.")
        self._say(f"Waiting for {what}; {prompts.ABORT} cancels the execution.\n")
        self._say(f"Question: {question}\n")
        self._start()

    def _start(self) -> None:
        self._dialogue = asking.answer(self._request.schema, wait=self._wait, refusal=self._refusal)
        self._say(next(self._dialogue))

    @staticmethod
    def _say(text: str) -> None:
        # Past the capture of `sys.stdout`: the prompt is not a line of the flow's.
        stream = sys.__stdout__ or sys.stdout
        encoding = stream.encoding or "utf-8"
        with contextlib.suppress(OSError):  # a terminal that is gone has nobody to tell
            stream.write(text.encode(encoding, "backslashreplace").decode(encoding))
            stream.flush()
