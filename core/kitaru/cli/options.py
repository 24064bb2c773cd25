"""Readers of option values: JSON and points in time. A value that cannot be read exits with 2."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import datetime
from typing import Any, NoReturn

import click

from kitaru.errors import KitaruUsageError


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
    from kitaru.client.moments import parse_moment

    try:
        return parse_moment(text, name="this")
    except KitaruUsageError as exc:
        raise click.BadParameter(str(exc)) from None


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not a JSON number")
