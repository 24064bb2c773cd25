"""The question of a wait, asked right in the terminal of an interactive local run."""

from __future__ import annotations

import json
import select
import sys
import threading
from typing import Any

from kitaru import answers
from kitaru.context import WaitRequest
from kitaru.errors import KitaruWaitValidationError

#: One question at a time may own the terminal.
_terminal = threading.Lock()


def is_interactive() -> bool:
    """Whether a person sits at this process's terminal (asking there needs POSIX)."""
    if sys.platform == "win32" or sys.stdin is None or sys.stdout is None:
        return False
    return sys.stdin.isatty() and sys.stdout.isatty()


class TerminalPrompt:
    """Shows a question and hands over a valid answer once a line holds one."""

    def __init__(self, request: WaitRequest, *, wait: str) -> None:
        self._request = request
        self._wait = wait
        self._owns = False
        self._closed = False

    def poll(self, seconds: float) -> bytes | None:
        """Look for a line for at most `seconds`; return the answer it holds."""
        if self._closed:
            return None
        if not self._owns:
            self._owns = _terminal.acquire(timeout=seconds)
            if not self._owns:
                return None
            self._show()
        if not select.select([sys.stdin], [], [], seconds)[0]:
            return None
        text = sys.stdin.readline()
        if not text:  # the terminal is gone; the answer may still come from elsewhere
            exec_id, _, name = self._wait.partition("/")
            self.close(
                "\nNo more input here. Answer it elsewhere: "
                f"kitaru executions input {exec_id} --wait {name} --value '…'\n"
            )
            return None
        try:
            data = _read(text, plain=self._request.schema is None, wait=self._wait)
            answers.validate(data, self._request.schema, wait=self._wait)
        except json.JSONDecodeError as exc:
            self._say(f'Invalid input: {exc}. Type JSON, such as true, 3 or "text".\n> ')
            return None
        except (ValueError, KitaruWaitValidationError) as exc:
            self._say(f"Invalid input: {exc}\n> ")
            return None
        return data

    @property
    def is_open(self) -> bool:
        """Whether an answer may still be typed."""
        return not self._closed

    def close(self, message: str = "") -> None:
        """Give the terminal back."""
        self._closed = True
        if self._owns:
            self._say(message)
            self._owns = False
            _terminal.release()

    def _show(self) -> None:
        request = self._request
        if request.schema is None:
            self._say("Waiting for confirmation.\n")
        else:
            self._say("Waiting for input.\n")
        self._say(f"Question: {_safe(request.question or 'Please provide input.')}\n")
        if request.schema is None:
            self._say("Press Enter to continue.\n> ")
        else:
            self._say(f"Expected JSON schema: {json.dumps(request.schema)}\n> ")

    @staticmethod
    def _say(text: str) -> None:
        # Past the capture of `sys.stdout`: the prompt is not a line of the flow's.
        stream = sys.__stdout__ or sys.stdout
        stream.write(text)
        stream.flush()


def _read(text: str, *, plain: bool, wait: str) -> bytes:
    value: Any = None if plain or not text.strip() else json.loads(text)
    return answers.encode(value, wait=wait)


def _safe(text: str) -> str:
    return "".join(char if char.isprintable() else f"\\x{ord(char):02x}" for char in text)
