"""One look at the store for everybody who waits for it to change.

While anybody waits, the store is asked every few milliseconds whether anything was committed, which
costs microseconds. Nobody waits in a thread, and without waiters nothing is asked.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

import anyio

from kitaru_mcp.threads import in_thread


class Pulse:
    """The store's version, as it changes.

    Args:
        look: tells the version.
    """

    def __init__(self, look: Callable[[], int]) -> None:
        self._look = look
        self._version: int | None = None
        self._pauses: Counter[float] = Counter()
        self._is_ended = False
        self._wanted, self._changed = anyio.Event(), anyio.Event()

    async def changed(self, seen: int | None, *, pause: float) -> int | None:
        """The store's version, once it is another one than was seen, or nothing more will change.

        Args:
            seen: what this gave before; None to be told at once.
            pause: seconds between two looks, at most.
        """
        if seen is None:
            return await in_thread(self._look)
        self._pauses[pause] += 1
        self._wanted.set()
        try:
            while self._version in (seen, None) and not self._is_ended:
                await self._changed.wait()
            return self._version
        finally:
            self._pauses -= Counter([pause])

    def end(self) -> None:
        """Let everybody go."""
        self._is_ended = True
        self._changed.set()

    async def run(self) -> None:
        """Look as long as anybody waits."""
        while not self._is_ended:
            await self._wanted.wait()
            if not self._pauses:
                self._wanted, self._version = anyio.Event(), None
                continue
            version = await in_thread(self._look)
            if version != self._version:
                self._version = version
                self._changed.set()
                self._changed = anyio.Event()
            await anyio.sleep(min(self._pauses, default=0))
