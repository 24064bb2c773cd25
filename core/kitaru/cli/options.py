"""Readers of option values: JSON and points in time. A value that cannot be read exits with 2."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, NoReturn

import click

from kitaru import clock

_SPAN = re.compile(r"(\d+)([mhd])", re.ASCII)
_UNITS = {"m": "minutes", "h": "hours", "d": "days"}


@dataclass(frozen=True, slots=True)
class Json:
    """A JSON value that was given; `null` is one too."""

    value: Any


def json_value(text: str) -> Json:
    """Any JSON value.

    Raises:
        click.BadParameter: the text is not JSON.
    """
    try:
        return Json(json.loads(text, parse_constant=_refuse_constant))
    except (ValueError, RecursionError) as exc:
        raise click.BadParameter(
            f"this is not JSON: {exc}. Text needs quotes: '\"yes\"'."
        ) from None


def json_object(text: str) -> dict[str, Any]:
    """A JSON object.

    Raises:
        click.BadParameter: the text is not a JSON object.
    """
    found = json_value(text).value
    if not isinstance(found, dict):
        raise click.BadParameter("this is not a JSON object; write '{\"name\": value}'.")
    return found


def point_in_time(text: str) -> datetime:
    """An aware time: ISO 8601 with a zone, or how long ago (`30m`, `24h`, `7d`).

    Raises:
        click.BadParameter: the text is no such time.
    """
    try:
        if span := _SPAN.fullmatch(text):
            ago = timedelta(**{_UNITS[span[2]]: int(span[1])})
            return clock.from_us(clock.now_us()) - ago
        time = datetime.fromisoformat(text)
    except (ValueError, OverflowError):
        raise click.BadParameter(
            f"{text!r} is not a time. Write ISO 8601 with a zone (2026-11-20T08:00Z), or how long "
            "ago it was: 30m, 24h, 7d."
        ) from None
    if time.tzinfo is None:
        raise click.BadParameter(f"{text!r} has no time zone; add Z for UTC, or +02:00.")
    return time


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not a JSON number")
