"""Worker threads for tools, apart from those the protocol reads and writes with.

However many tools are busy, the protocol's own threads are free. A cancelled call leaves its
thread behind; what the thread does ends by itself. Starts of runners have threads of their own
kind: an import may block for a minute, and must not keep other tools waiting.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import TypeVar

import anyio
import anyio.to_thread

T = TypeVar("T")

_MAX_THREADS = 32
_MAX_STARTS = 8


@cache
def _limiter(most: int) -> anyio.CapacityLimiter:
    return anyio.CapacityLimiter(most)


async def in_thread(fn: Callable[[], T]) -> T:
    """Call a blocking function without blocking the event loop."""
    return await _in_one_of(_MAX_THREADS, fn)


async def in_start_thread(fn: Callable[[], T]) -> T:
    """Like `in_thread`, for a function that starts a runner and hears its answer."""
    return await _in_one_of(_MAX_STARTS, fn)


async def _in_one_of(most: int, fn: Callable[[], T]) -> T:
    return await anyio.to_thread.run_sync(fn, abandon_on_cancel=True, limiter=_limiter(most))
