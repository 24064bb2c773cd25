"""Readers of option values: JSON, points in time, and what statistics are asked for.

A value that cannot be read exits with 2.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Any, NoReturn, TypeVar

import click

from kitaru import statistics
from kitaru.errors import KitaruUsageError
from kitaru.statistics import ExecutionStatisticsGrouping, ExecutionStatisticsMetric

T = TypeVar("T")


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

    return _read(lambda: parse_moment(text, name="this"))


def groupings(
    _: click.Context, __: click.Parameter, given: tuple[str, ...]
) -> tuple[ExecutionStatisticsGrouping, ...]:
    """What to group by, from the texts of an option, or from JSON objects.

    Raises:
        click.BadParameter: one cannot be right, or not beside the others.
    """
    return _read(lambda: statistics.groupings(map(_spec, given)))


def metrics(
    _: click.Context, __: click.Parameter, given: tuple[str, ...]
) -> tuple[ExecutionStatisticsMetric, ...]:
    """What to compute, from the texts of an option, or from JSON objects.

    Raises:
        click.BadParameter: one cannot be right, or not beside the others.
    """
    return _read(lambda: statistics.metrics(map(_spec, given)))


def metadata_values(
    _: click.Context, __: click.Parameter, given: tuple[str, ...]
) -> dict[str, Any]:
    """Metadata keys and values, from `metadata:KEY=VALUE`; a value that is no JSON is text.

    Raises:
        click.BadParameter: one is of another form, or a key is given twice.
    """
    found: dict[str, Any] = {}
    for text in given:
        key, is_given, value = text.partition("=")
        if not is_given:
            raise click.BadParameter(f"{text[:80]!r} has no value; write metadata:KEY=VALUE.")
        if key in found:
            raise click.BadParameter(f"{key[:80]!r} is given twice; an execution has one value.")
        try:
            found[key] = json_value(value).value
        except click.BadParameter:
            found[key] = value
    _read(lambda: statistics.conditions(found))
    return found


def _read(reader: Callable[[], T]) -> T:
    try:
        return reader()
    except KitaruUsageError as exc:
        raise click.BadParameter(str(exc)) from None


def _spec(text: str) -> str | dict[str, Any]:
    return json_object(text) if text.startswith("{") else text


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not a JSON number")
