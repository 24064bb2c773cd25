"""The order in which the results of calls reach the tasks of an async flow.

Results go to their tasks one at a time, in the order in which the calls ended, each when all that
the one before it has set off has come to rest. So whichever task went on first goes on first again
when the flow is driven again, whatever the speed. Places are added from any thread; all else
happens on the flow's event loop, which asks here whenever it has nothing else to do.
"""

from __future__ import annotations

import asyncio
import heapq
import selectors
from collections.abc import Iterable
from typing import Any

from kitaru import clock, config

_ORIGINALS = 2**62  # what has its place in the original only comes before all that ends here


class Turns:
    """Whose turn it is; `recorded` are the places of the calls that have ended, in order."""

    def __init__(self, recorded: Iterable[int]) -> None:
        self._queue = [*recorded]
        self._left = {*self._queue}
        self._fresh: set[int] = set()
        self._waiting: dict[int, asyncio.Future[None]] = {}
        self._quiet: list[asyncio.Future[None]] = []
        self._stuck: tuple[int, float] | None = None

    @property
    def has_results(self) -> bool:
        """Whether a call has ended in this drive and its task does not know yet."""
        return bool(self._fresh)

    def expect(self, order: int) -> None:
        """A call has just ended at this place."""
        self._left.add(order)
        self._fresh.add(order)
        heapq.heappush(self._queue, order)

    def plan(self, original: int | None) -> int | None:
        """A call is made that a replay takes from this place in its original."""
        if (order := planned(original)) is not None:
            self._left.add(order)
            heapq.heappush(self._queue, order)
        return order

    async def turn(self, order: int | None) -> None:
        """Wait for the turn of the call that ended at this place, and take it."""
        if order is None:
            return
        self._waiting[order] = waiting = asyncio.get_running_loop().create_future()
        try:
            await waiting
        finally:
            self._waiting.pop(order, None)
            self.skip(order)

    def skip(self, order: int | None) -> None:
        """This place is taken, or will not be asked for."""
        if order is not None:
            self._left.discard(order)
            self._fresh.discard(order)

    async def quiet(self) -> None:
        """Wait until the flow's tasks have nothing to do and no result is to be had."""
        self._quiet.append(quiet := asyncio.get_running_loop().create_future())
        await quiet

    def at_rest(self) -> float | None:
        """The loop has nothing to do: let one task go on.

        Returns:
            0 when one does; else the seconds after which to ask again, `None` for never.
        """
        following = self._next()
        patience = self._patience(following) if self._waiting else None
        if self._waiting and patience is not None and patience <= 0:
            # What ended before is not asked for any more; the end of the flow tells, if it must.
            following = min(self._waiting)
            for order in [order for order in self._left if order < following]:
                self.skip(order)
        waiting = self._waiting.pop(following, None)
        if waiting is not None:
            self._stuck = None
            _wake(waiting)
            return 0
        woken, self._quiet = self._quiet, []
        for quiet in woken:
            _wake(quiet)
        return 0 if woken else patience

    def _patience(self, following: int) -> float:
        """How long those that wait go on waiting for one that is not asked for."""
        now = clock.monotonic()
        if self._stuck is None or self._stuck[0] != following:
            self._stuck = following, now
        return self._stuck[1] + config.TURN_SECONDS - now

    def _next(self) -> int:
        while self._queue and self._queue[0] not in self._left:
            heapq.heappop(self._queue)
        return self._queue[0] if self._queue else 0


def _wake(waiting: asyncio.Future[None]) -> None:
    if not waiting.done():
        waiting.set_result(None)


def planned(original: int | None) -> int | None:
    """The place of a call's end in a replay, before it has one there: as in the original."""
    return None if original is None else original - _ORIGINALS


class RestingSelector(selectors.DefaultSelector):
    """An event loop's selector that sees when the loop has nothing left to do.

    The loop asks for events without a timeout to spare while callbacks are ready to run.
    """

    def __init__(self, turns: Turns) -> None:
        super().__init__()
        self._turns = turns
        self._rounds = 0

    def select(self, timeout: float | None = None) -> list[Any]:
        """Events, as the loop asks for them; before it would sleep, one task goes on."""
        self._rounds = self._rounds + 1 if timeout == 0 else 0
        if timeout != 0 or self._rounds >= config.TURN_ROUNDS:
            pause = self._turns.at_rest()
            if pause is not None:
                timeout = pause if timeout is None else min(timeout, pause)
        return super().select(timeout)


class RestingLoop(asyncio.SelectorEventLoop):
    """The event loop of an async flow; it closes at the end of the process too."""

    async def shutdown_default_executor(self, *timeout: Any) -> None:
        """Let the threads of its executor end."""
        try:
            await super().shutdown_default_executor(*timeout)
        except RuntimeError as exc:
            # Python 3.12.0 to 3.12.2 start no thread once main has ended, to wait for the others;
            # the interpreter's own end waits for them.
            if "shutdown" not in str(exc):
                raise
