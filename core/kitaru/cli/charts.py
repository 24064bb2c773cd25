"""Bars made of characters: beside the rows of a table, and as a chart over time.

Blocks of an eighth where the encoding has them, else `#`. Only text is made here; whoever prints
it decides on colours and width.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta

from kitaru.cli.characters import can_show

_EIGHTHS = " ▏▎▍▌▋▊▉"
#: A line of a chart: what it is called, and the parts of its bar.
Row = tuple[str, dict[str, float]]
_NOT_STARTED = "not started"
#: So many empty buckets are shown between two; a longer pause is one line.
_MOST_EMPTY = 31
#: What the parts of a stacked bar are drawn with, the largest part first; the last is the rest.
_FILLS, _ASCII_FILLS = "█▓▒░·", "#=+-."
_STEPS: dict[str, Callable[[datetime], datetime]] = {
    "hour": lambda at: at + timedelta(hours=1),
    "day": lambda at: at + timedelta(days=1),
    "week": lambda at: at + timedelta(weeks=1),
    "month": lambda at: (at.replace(day=1) + timedelta(days=32)).replace(day=1),
}


def bars(values: Sequence[float | None], *, width: int) -> list[str]:
    """One bar for each value, the largest as wide as there is room; none for 0 and below."""
    most = max((value for value in values if value), default=0)
    if most <= 0:
        return ["" for _ in values]
    return [_bar(max(value or 0, 0) / most * width) for value in values]


def over_time(
    numbers: Sequence[tuple[str | None, str, float | None]], *, unit: str, adds_up: bool
) -> list[Row]:
    """The lines of a chart: for each bucket its numbers, for the empty buckets none.

    Args:
        numbers: a bucket, what else tells a group from others, and its number.
        unit: how long a bucket is: `hour`, `day`, `week` or `month`.
        adds_up: whether the numbers of one bucket make sense as parts of one bar.
    """
    found: dict[str, list[Row]] = {}
    for bucket, rest, number in numbers:
        name = bucket or _NOT_STARTED
        lines = found.setdefault(name, [])
        if not adds_up:
            lines.append((f"{name}  {rest}".rstrip(), {} if number is None else {"": number}))
            continue
        if not lines:
            lines.append((name, {}))
        if number is not None:
            # Groups may read the same, as flows of one name do.
            lines[0][1][rest] = lines[0][1].get(rest, 0) + number
    started = [bucket for bucket in found if bucket != _NOT_STARTED]
    rows = found.get(_NOT_STARTED, [])
    for bucket, following in itertools.zip_longest(started, started[1:]):
        rows = [*rows, *found[bucket], *((each, {}) for each in _between(bucket, following, unit))]
    return rows


def stacked(rows: Sequence[Row], *, width: int) -> list[str]:
    """A chart: a line for each bucket, and below what the parts of the bars are."""
    totals: dict[str, float] = {}
    for _, parts in rows:
        for name, value in parts.items():
            totals[name] = totals.get(name, 0) + max(value, 0)
    names = sorted(totals, key=lambda name: (-totals[name], name))
    fills = _FILLS if can_show(_FILLS) else _ASCII_FILLS
    fill = {name: fills[min(n, len(fills) - 1)] for n, name in enumerate(names)}
    most = max((sum(max(value, 0) for value in parts.values()) for _, parts in rows), default=0)
    label = max((len(bucket) for bucket, _ in rows), default=0)
    numbers = [number(sum(parts.values())) if parts else "" for _, parts in rows]
    space = max(width - label - max(map(len, numbers), default=0) - 6, 8)
    lines = []
    for (bucket, parts), shown in zip(rows, numbers, strict=True):
        ends, total, bar = 0, 0.0, ""
        for name in names:
            total += max(parts.get(name, 0), 0)
            end = round(total / most * space) if most else 0
            bar += fill[name] * (end - ends)
            ends = end
        lines.append(f"  {bucket:{label}}  {bar}{' ' if bar else ''}{shown}".rstrip())
    if names not in ([], [""]):
        lines += ["", *_legend(names, fill)]
    return lines


def _legend(names: Sequence[str], fill: Mapping[str, str]) -> list[str]:
    shown = [name for name in names if fill[name] != fill[names[-1]]] or [names[0]]
    rest = [name for name in names if name not in shown]
    lines = [f"  {fill[name]} {name}" for name in shown]
    if rest:
        lines.append(f"  {fill[rest[0]]} {rest[0] if len(rest) == 1 else f'{len(rest)} others'}")
    return lines


def _bar(length: float) -> str:
    if not can_show(_EIGHTHS):
        return "#" * max(round(length), 1 if length else 0)
    eighths = max(round(length * 8), 1 if length else 0)
    return ("█" * (eighths // 8) + _EIGHTHS[eighths % 8]).rstrip()


def _between(bucket: str, following: str | None, unit: str) -> list[str]:
    """The buckets between two, in which nothing started."""
    if following is None:
        return []
    empty: list[str] = []
    at, end = datetime.fromisoformat(bucket), datetime.fromisoformat(following)
    while (at := _STEPS[unit](at)) < end:
        if len(empty) == _MOST_EMPTY:
            return ["…" if can_show("…") else "..."]
        empty.append(str(at if unit == "hour" else at.date()))
    return empty


def number(value: float) -> str:
    """A number with two decimals, more only where it is so small that those would be zeros."""
    if not 0.01 <= abs(value) < 1e15:
        return f"{value:.3g}"
    return f"{value:.2f}".rstrip("0").rstrip(".")
