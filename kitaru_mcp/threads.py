"""Worker threads for tools, apart from those the protocol reads and writes with.

However many tools are busy, the protocol's own threads are free. A cancelled call leaves its
thread behind; what the thread does ends by itself.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import TypeVar

import anyio
import anyio.to_thread

T = TypeVar("T")

_MAX_THREADS = 32


@cache
def _limiter() -> anyio.CapacityLimiter:
    return anyio.CapacityLimiter(_MAX_THREADS)


async def in_thread(fn: Callable[[], T]) -> T:
    """Call a blocking function without blocking the event loop."""
    return await anyio.to_thread.run_sync(fn, abandon_on_cancel=True, limiter=_limiter())
