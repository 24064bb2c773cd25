"""Arguments that several tools share."""

from __future__ import annotations

from datetime import datetime
from typing import Literal

EXEC_ID = "Id, prefix, latest or latest:failed."
FLOW = "Flow name or id."
STACK = "Stack name."
DETAIL = "Default concise."
CURSOR = "Cursor of the last reply."
KEY = "Same key: acts once."

Status = Literal["pending", "running", "waiting", "completed", "failed", "cancelled"]
Detail = Literal["concise", "full"]


def moment(name: str, text: str | None) -> datetime | None:
    """A time given as ISO 8601 or as an age.

    Raises:
        KitaruUsageError: it is neither.
    """
    if text is None:
        return None
    from kitaru.client.moments import parse_moment

    return parse_moment(text, name=name)
