"""Standard input and output as lines of one client.

Standard output carries protocol messages only; what else is written there goes to standard error,
and children find standard input empty. However busy the tools are, lines come and go.
"""

from __future__ import annotations

import contextlib
import os
import select
import sys
from collections.abc import AsyncIterator

import anyio
import anyio.to_thread

#: The longest line a client may send; arguments of a tool are far below.
MAX_LINE_BYTES = 16 * 1024 * 1024
_CHUNK_BYTES = 64 * 1024
#: A pipe that can be written at all takes this much without blocking.
_SAFE_BYTES = getattr(select, "PIPE_BUF", 0)


class Wire:
    """The lines of one client. Takes both standard streams for itself, for good."""

    def __init__(self) -> None:
        self._in = _claim(0, os.open(os.devnull, os.O_RDONLY))
        self._out = _claim(1, os.dup(2))
        # Threads of its own, which no tool can take.
        self._reading, self._writing = anyio.CapacityLimiter(1), anyio.CapacityLimiter(1)
        self._turn = anyio.Lock()
        self._unwritten: list[bytes] = []

    async def lines(self) -> AsyncIterator[bytes | None]:
        """Each line that comes in, until the input ends; None for one that is too long."""
        line, is_skipping = bytearray(), False
        while chunk := await self._read():
            end, *more = chunk.split(b"\n")
            line += end
            for beginning in more:
                if not is_skipping and line.strip():
                    yield bytes(line)
                line, is_skipping = bytearray(beginning), False
            if len(line) > MAX_LINE_BYTES:
                if not is_skipping:
                    yield None
                line, is_skipping = bytearray(), True
        if line.strip() and not is_skipping:
            yield bytes(line)

    async def _read(self) -> bytes:
        try:
            return await anyio.to_thread.run_sync(
                os.read, self._in, _CHUNK_BYTES, abandon_on_cancel=True, limiter=self._reading
            )
        except OSError:  # a terminal that went away ends like any input
            return b""

    async def write(self, line: bytes) -> None:
        """Write a line; returns when the client's end of the pipe has it.

        A client that does not read makes its writers wait, and nobody else.
        """
        self._unwritten.append(line + b"\n")
        async with self._turn:  # whose turn comes writes for all who wait
            data = b"".join(self._unwritten)
            self._unwritten.clear()
            if data and not self._written_at_once(data):
                with anyio.CancelScope(shield=True):  # some of it is of others
                    await anyio.to_thread.run_sync(_write, self._out, data, limiter=self._writing)

    def _written_at_once(self, data: bytes) -> bool:
        if len(data) > _SAFE_BYTES:
            return False
        _, is_free, _ = select.select([], [self._out], [], 0)
        if is_free:
            _write(self._out, data)
        return bool(is_free)


def _claim(fd: int, instead: int) -> int:
    """A private copy of a standard stream, whose own number now leads elsewhere."""
    private = os.dup(fd)
    os.dup2(instead, fd)
    os.close(instead)
    if sys.platform != "win32":
        os.set_blocking(private, True)  # some clients leave their ends of pipes otherwise
    return private


def _write(fd: int, data: bytes) -> None:
    with contextlib.suppress(BrokenPipeError):  # the client is gone; the end of the input follows
        view = memoryview(data)
        while view:
            view = view[os.write(fd, view) :]
