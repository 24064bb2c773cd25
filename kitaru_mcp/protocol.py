"""Requests that are no tool calls: what goes wrong becomes one protocol error, and no other text.

Unlike a tool's, such an error reaches a client's code and not its model, so it carries a number.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import TypeVar

from mcp import MCPError
from mcp.types import INTERNAL_ERROR, INVALID_PARAMS

from kitaru.errors import KitaruError, KitaruNotFoundError, KitaruStateError, KitaruUsageError
from kitaru_mcp import replies
from kitaru_mcp.desk import Desk
from kitaru_mcp.threads import in_thread

T = TypeVar("T")
_log = logging.getLogger(__name__)
#: What the request itself is to blame for.
_ITS_FAULT = (KitaruNotFoundError, KitaruStateError, KitaruUsageError)


async def answered(desk: Desk, work: Callable[[], T], *, uri: str | None = None) -> T:
    """Do a request's work in a thread.

    Args:
        desk: the server's.
        work: the work.
        uri: the resource it is about.

    Raises:
        MCPError: it failed.
    """
    try:
        return await in_thread(work)
    except KitaruError as error:
        code = INVALID_PARAMS if isinstance(error, _ITS_FAULT) else INTERNAL_ERROR
        raise MCPError(
            code=code, message=replies.refusal_text(error, desk=desk), data=_about(uri)
        ) from None
    except Exception as error:  # the process's edge: no text of a fault leaves it
        _log.exception("a request failed")
        text = f"The request failed unexpectedly ({type(error).__name__})."
        raise MCPError(code=INTERNAL_ERROR, message=text, data=_about(uri)) from None


def _about(uri: str | None) -> dict[str, str] | None:
    from kitaru import render  # a server that answers without an error does without

    return None if uri is None else {"uri": render.safe_message(uri)}
