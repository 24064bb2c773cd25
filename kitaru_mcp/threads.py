"""Worker threads for tools, of three kinds, so that none of them keeps the others waiting.

Reading is quick, and more than a few readers at once only take turns; a change may wait for the
store's lock; a start may wait a minute for a flow's import. A cancelled call leaves its thread
behind; what the thread does ends by itself.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Literal, TypeVar

import anyio
import anyio.to_thread

T = TypeVar("T")

_MOST = {"reading": 4, "changing": 8, "starting": 8}


@cache
def _limiter(kind: Literal["reading", "changing", "starting"]) -> anyio.CapacityLimiter:
    return anyio.CapacityLimiter(_MOST[kind])


async def in_thread(fn: Callable[[], T]) -> T:
    """Call a function that reads, without blocking the event loop."""
    return await anyio.to_thread.run_sync(fn, abandon_on_cancel=True, limiter=_limiter("reading"))


async def in_changing_thread(fn: Callable[[], T]) -> T:
    """Like `in_thread`, for a function that changes the store."""
    return await anyio.to_thread.run_sync(fn, abandon_on_cancel=True, limiter=_limiter("changing"))


async def in_start_thread(fn: Callable[[], T]) -> T:
    """Like `in_thread`, for a function that starts a runner and hears its answer."""
    return await anyio.to_thread.run_sync(fn, abandon_on_cancel=True, limiter=_limiter("starting"))
