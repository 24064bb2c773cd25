"""Arguments that several tools share."""

from __future__ import annotations

from datetime import datetime
from typing import Literal

EXEC_ID = "The execution's id (kr-…) or a unique beginning of it."
FLOW = "Only of the flow with this name or id."
STACK = "Only on this stack."

Status = Literal["pending", "running", "waiting", "completed", "failed", "cancelled"]


def moment(name: str, text: str | None) -> datetime | None:
    """A time given as ISO 8601 or as an age.

    Raises:
        KitaruUsageError: it is neither.
    """
    if text is None:
        return None
    from kitaru.client.moments import parse_moment

    return parse_moment(text, name=name)
