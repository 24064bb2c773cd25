"""Points in time as the CLI's and the MCP server's users write them."""

from __future__ import annotations

import re
from datetime import datetime, timedelta

from kitaru import clock
from kitaru.errors import KitaruUsageError

_AGE = re.compile(r"(\d{1,6})([mhd])", re.ASCII)
_UNITS = {"m": "minutes", "h": "hours", "d": "days"}


def parse_moment(text: str, *, name: str) -> datetime:
    """An aware time, from ISO 8601 with a zone or from an age (`30m`, `24h`, `7d`).

    Args:
        text: what was written.
        name: the argument it was written for.

    Raises:
        KitaruUsageError: it is neither.

    Example:
        >>> parse_moment("2026-11-20T08:00Z", name="since").isoformat()
        '2026-11-20T08:00:00+00:00'
    """
    try:
        if age := _AGE.fullmatch(text.strip()):
            ago = timedelta(**{_UNITS[age[2]]: int(age[1])})
            return clock.from_us(clock.now_us()) - ago
        moment = datetime.fromisoformat(text.strip())
    except (ValueError, OverflowError):
        raise KitaruUsageError(
            f"{name} is {text[:60]!r}, which is no time. Write ISO 8601 with a zone "
            "(2026-11-20T08:00Z), or how long ago it was: 30m, 24h, 7d."
        ) from None
    if moment.tzinfo is None:
        raise KitaruUsageError(f"{name} is {text!r} without a time zone; add Z for UTC, or +02:00.")
    return moment
