"""Statistics a second time, in plain Python over the rows that a test has made.

It shares no code with the store: buckets come from `datetime`, percentiles from a sorted list. Only
the rules are the same.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from kitaru.statistics import ExecutionStatisticsGrouping, ExecutionStatisticsMetric


@dataclass(frozen=True)
class Made:
    """One execution as it was made; times are aware, in UTC."""

    flow: str
    stack: str
    status: str
    tags: tuple[str, ...]
    created_at: datetime
    started_at: datetime | None
    ended_at: datetime | None
    metadata: dict[str, Any] = field(default_factory=dict)


Place = tuple[Any, ...]
Shown = tuple[list[tuple[dict[str, Any], int, dict[str, float | None]]], bool, dict[str, int]]


def statistics(
    made: Sequence[Made],
    groupings: Sequence[ExecutionStatisticsGrouping],
    metrics: Sequence[ExecutionStatisticsMetric],
    *,
    fits: Callable[[Made], bool],
    max_groups: int,
) -> Shown:
    """Groups, whether there were more, and how many values of each metric were no numbers."""
    chosen = [one for one in made if fits(one)]
    members: dict[Place, list[Made]] = {} if groupings else {(): []}
    for one in chosen:
        for place in places(one, groupings):
            members.setdefault(place, []).append(one)
    by_time = next((n for n, each in enumerate(groupings) if each.dimension == "time"), None)
    ordered = sorted(members, key=lambda place: _order(place, len(members[place]), by_time))
    kept = ordered[:max_groups] if by_time is None else ordered[-max_groups:]
    groups = []
    for place in kept:
        keys = _keys(place, groupings)
        numbers = {each.name: _metric(members[place], each) for each in metrics}
        groups.append((keys, len(members[place]), numbers))
    skipped = {
        each.name: sum(
            each.metadata_key in one.metadata and not _is_number(one.metadata[each.metadata_key])
            for one in chosen
        )
        for each in metrics
        if each.metadata_key is not None
    }
    return groups, len(ordered) > max_groups, skipped


def places(one: Made, groupings: Sequence[ExecutionStatisticsGrouping]) -> list[Place]:
    """Where an execution counts; a key's first part keeps 1 and true apart."""
    found: list[Place] = []
    by_tag = any(each.dimension == "tag" for each in groupings)
    for tag in (one.tags or (None,)) if by_tag else (None,):
        known = {"status": one.status, "flow": one.flow, "stack": one.stack, "tag": tag}
        place = []
        for each in groupings:
            if each.dimension == "time":
                place.append(scalar(bucket(one.started_at, str(each.time_granularity))))
            elif each.dimension == "metadata":
                place.append(scalar(one.metadata.get(str(each.metadata_key))))
            else:
                place.append(scalar(known[each.dimension]))
        found.append(tuple(place))
    return found


def bucket(started_at: datetime | None, granularity: str) -> str | None:
    """The hour, day, Monday or first of the month in which it started."""
    if started_at is None:
        return None
    start = started_at.replace(tzinfo=None, minute=0, second=0, microsecond=0)
    if granularity == "hour":
        return str(start)
    if granularity == "week":
        start -= timedelta(days=start.weekday())
    if granularity == "month":
        start = start.replace(day=1)
    return str(start.date())


def scalar(value: Any) -> tuple[int, Any]:
    """A metadata value in its order: numbers, texts, false, true, and nothing last."""
    if isinstance(value, bool):
        return 2, value
    if _is_number(value):
        return 0, value if -(2**63) <= value < 2**63 else float(value)
    return (1, value) if isinstance(value, str) else (3, 0)


def _is_number(value: Any) -> bool:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    try:
        return math.isfinite(float(value))
    except OverflowError:
        return False


def _order(place: Place, count: int, by_time: int | None) -> Any:
    if by_time is None:
        return (-count, place)
    rank, time = place[by_time]
    return (-1 if rank == 3 else rank, time), place[:by_time] + place[by_time + 1 :]


def _keys(place: Place, groupings: Sequence[ExecutionStatisticsGrouping]) -> dict[str, Any]:
    keys = {}
    for (rank, value), each in zip(place, groupings, strict=True):
        shown = None if rank == 3 else value
        if each.dimension == "flow":
            keys |= {str(each.name): f"fl-{value}", "flow_name": value}
        elif each.dimension == "stack":
            keys |= {str(each.name): value, "stack_name": value}
        else:
            keys[str(each.name)] = shown
    return keys


def _metric(members: Sequence[Made], metric: ExecutionStatisticsMetric) -> float | None:
    found = [_number(one, metric) for one in members]
    numbers = sorted(number for number in found if number is not None)
    if not numbers:
        return None
    how = str(metric.aggregation)
    if how in ("sum", "avg"):
        return math.fsum(numbers) / (len(numbers) if how == "avg" else 1)
    if how in ("min", "max"):
        return numbers[0 if how == "min" else -1]
    return numbers[math.ceil(len(numbers) * int(how[1:]) / 100) - 1]


def _number(one: Made, metric: ExecutionStatisticsMetric) -> float | None:
    if metric.metadata_key is not None:
        value = one.metadata.get(metric.metadata_key)
        return float(value) if _is_number(value) else None
    if metric.source == "duration":
        return _between(one.started_at, one.ended_at)
    if metric.source == "queue_time":
        return _between(one.created_at, one.started_at)
    return 0.0  # none of them has a call


def _between(start: datetime | None, end: datetime | None) -> float | None:
    return None if start is None or end is None else (end - start) / timedelta(seconds=1)
