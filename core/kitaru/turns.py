"""The order in which the results of calls reach the tasks of an async flow.

A result waits until those that ended before it have been taken, as when they were recorded; so
whichever task went on first then goes on first again. Places are added from any thread; all else
happens on the flow's event loop.
"""

from __future__ import annotations

import asyncio
import heapq
from collections.abc import Iterable

from kitaru import config


class Turns:
    """Whose turn it is; `recorded` are the places of the calls that have ended, in order."""

    def __init__(self, recorded: Iterable[int]) -> None:
        self._queue = [*recorded]
        self._left = {*self._queue}
        self._waiting: dict[int, asyncio.Future[None]] = {}

    def expect(self, order: int) -> None:
        """A call has just ended at this place."""
        self._left.add(order)
        heapq.heappush(self._queue, order)

    async def turn(self, order: int | None) -> None:
        """Wait for the turn of the call that ended at this place, and take it."""
        if order is None:
            return
        loop = asyncio.get_running_loop()
        try:
            # A recorded result does not come at once either: other tasks go on until their calls.
            await asyncio.sleep(0)
            while order in self._left and self._next() != order:
                self._waiting[order] = waiting = loop.create_future()
                done, _ = await asyncio.wait([waiting], timeout=config.TURN_SECONDS)
                if not done and order == min(self._waiting):
                    return  # what ended before it is not asked for any more
        finally:
            self._waiting.pop(order, None)
            self.skip(order)

    def skip(self, order: int | None) -> None:
        """This place is taken, or will not be asked for."""
        self._left.discard(order)
        waiting = self._waiting.get(self._next())
        if waiting is not None:
            # In the loop's next round: those that have gone on act before it does.
            asyncio.get_running_loop().call_soon(_wake, waiting)

    def _next(self) -> int:
        while self._queue and self._queue[0] not in self._left:
            heapq.heappop(self._queue)
        return self._queue[0] if self._queue else 0


def _wake(waiting: asyncio.Future[None]) -> None:
    if not waiting.done():
        waiting.set_result(None)
