"""Which executions are meant, as callers of listings and of statistics say it."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from kitaru.errors import KitaruUsageError
from kitaru.models import ExecutionStatus, parse_status
from kitaru.redaction import is_storable
from kitaru.store.listing import Filter


def chosen(
    flow: str | None,
    status: str | ExecutionStatus | None,
    stack: str | None,
    *,
    tags: Sequence[str] | None,
    since: datetime | None,
    until: datetime | None,
) -> Filter:
    """The filter that is asked for.

    Raises:
        KitaruUsageError: an argument cannot be right.
    """
    for name, time in (("since", since), ("until", until)):
        if time is not None and getattr(time, "tzinfo", None) is None:
            raise KitaruUsageError(f"{name} is {time!s}; give a datetime with a time zone.")
    for name, text in (("flow", flow), ("stack", stack)):
        if text is not None and not (isinstance(text, str) and is_storable(text)):
            raise KitaruUsageError(f"{name} is {text!r:.60}; give its name.")
    return Filter(
        flow=flow,
        status=None if status is None else parse_status(status),
        stack=stack,
        tags=_tags(tags),
        since=since,
        until=until,
    )


def _tags(tags: Sequence[str] | None) -> tuple[str, ...]:
    if isinstance(tags, str):
        raise KitaruUsageError(f"tags is the text {tags!r}; give a list of tags.")
    for tag in tags or ():
        if not isinstance(tag, str) or not tag or not is_storable(tag):
            raise KitaruUsageError(f"tags holds {tag!r:.60}; give texts that are not empty.")
    return tuple(tags or ())
