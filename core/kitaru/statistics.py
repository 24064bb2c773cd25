"""What statistics are asked for: groupings and metrics, read from texts, mappings or objects.

Pure: it knows what there is and refuses the rest with a list of it; the store turns a request into
SQL. The same texts are understood by the SDK, the CLI and the MCP server.
"""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, TypeVar

from kitaru.errors import KitaruUsageError
from kitaru.frozen import Model
from kitaru.redaction import is_storable

MAX_GROUPS = 10_000
DEFAULT_GROUPS = 1000

E = TypeVar("E", bound=StrEnum)


class ExecutionStatisticsDimension(StrEnum):
    """What executions can be grouped by."""

    STATUS = "status"
    FLOW = "flow"
    STACK = "stack"
    TAG = "tag"
    TIME = "time"
    METADATA = "metadata"


class ExecutionStatisticsTimeGranularity(StrEnum):
    """How long the buckets of a time grouping are."""

    HOUR = "hour"
    DAY = "day"
    WEEK = "week"
    MONTH = "month"


class ExecutionStatisticsMetricSource(StrEnum):
    """Which number of an execution a metric is made from."""

    DURATION = "duration"
    STEP_COUNT = "step_count"
    CACHED_STEP_COUNT = "cached_step_count"
    OUTPUT_ARTIFACT_COUNT = "output_artifact_count"
    QUEUE_TIME = "queue_time"
    ATTEMPT_COUNT = "attempt_count"
    WAIT_TIME = "wait_time"
    METADATA = "metadata"


class ExecutionStatisticsAggregation(StrEnum):
    """How the numbers of a group become one."""

    AVG = "avg"
    SUM = "sum"
    MIN = "min"
    MAX = "max"
    P50 = "p50"
    P95 = "p95"
    P99 = "p99"


_DIMENSION = ExecutionStatisticsDimension
_SOURCE = ExecutionStatisticsMetricSource
_GROUPINGS = "status, flow, stack, tag, time:hour|day|week|month, metadata:<key>"
_NAMES = {_DIMENSION.FLOW: "flow_id", _DIMENSION.STACK: "stack_id"}


@dataclass(frozen=True, slots=True)
class ExecutionStatisticsGrouping(Model):
    """One thing to group by.

    Args:
        dimension: `status`, `flow`, `stack`, `tag`, `time` or `metadata`.
        name: the key in a group's `keys`; by default `flow_id`, `day`, the metadata key, …
        time_granularity: for `time`: `hour`, `day`, `week` or `month`.
        metadata_key: for `metadata`: whose values are grouped by.

    Raises:
        KitaruUsageError: it cannot be right.

    Example:
        >>> ExecutionStatisticsGrouping("time", time_granularity="day").name
        'day'
    """

    dimension: str
    name: str | None = None
    time_granularity: str | None = None
    metadata_key: str | None = None

    def __post_init__(self) -> None:
        dimension = _one_of(_DIMENSION, self.dimension, what="grouping", there_are=_GROUPINGS)
        object.__setattr__(self, "dimension", dimension)
        is_time, is_metadata = dimension is _DIMENSION.TIME, dimension is _DIMENSION.METADATA
        if is_time:
            granularity = _one_of(
                ExecutionStatisticsTimeGranularity, self.time_granularity, what="time grouping"
            )
            object.__setattr__(self, "time_granularity", granularity)
        _belongs(
            self.time_granularity, is_time, field="time_granularity", owner="time", here=dimension
        )
        _belongs(
            self.metadata_key, is_metadata, field="metadata_key", owner="metadata", here=dimension
        )
        if self.name is None:
            default = self.time_granularity or self.metadata_key or dimension.value
            object.__setattr__(self, "name", str(_NAMES.get(dimension, default)))
        _named(self.name, what="A grouping")


@dataclass(frozen=True, slots=True)
class ExecutionStatisticsMetric(Model):
    """One number to compute for each group.

    Args:
        name: the key in a group's `metrics`.
        source: `duration`, `queue_time` and `wait_time` in seconds; `step_count`,
            `cached_step_count`, `output_artifact_count`, `attempt_count`; or `metadata`.
        aggregation: `avg`, `sum`, `min`, `max`, `p50`, `p95` or `p99`.
        metadata_key: for `metadata`: whose numbers are taken.

    Raises:
        KitaruUsageError: it cannot be right.

    Example:
        >>> ExecutionStatisticsMetric("slowest", "duration", "max").source
        <ExecutionStatisticsMetricSource.DURATION: 'duration'>
    """

    name: str
    source: str
    aggregation: str
    metadata_key: str | None = None

    def __post_init__(self) -> None:
        _named(self.name, what="A metric")
        source = _one_of(_SOURCE, self.source, what="metric source")
        aggregation = _one_of(ExecutionStatisticsAggregation, self.aggregation, what="aggregation")
        object.__setattr__(self, "source", source)
        object.__setattr__(self, "aggregation", aggregation)
        is_metadata = source is _SOURCE.METADATA
        _belongs(
            self.metadata_key, is_metadata, field="metadata_key", owner="metadata", here=source
        )


@dataclass(frozen=True, slots=True)
class ExecutionStatisticsGroup(Model):
    """The executions that have the same keys.

    A metric without numbers, or beyond the largest float, is `None`.
    """

    keys: dict[str, Any]
    execution_count: int
    metrics: dict[str, float | None]


@dataclass(frozen=True, slots=True)
class ExecutionStatistics(Model):
    """Groups of executions; `truncated` when there were more than were asked for.

    `skipped` counts, for each metric, the executions whose metadata held something that is no
    number.
    """

    groups: tuple[ExecutionStatisticsGroup, ...]
    truncated: bool
    skipped: dict[str, int]


Grouping = str | Mapping[str, Any] | ExecutionStatisticsGrouping
Metric = str | Mapping[str, Any] | ExecutionStatisticsMetric


def groupings(given: Iterable[Grouping] | None) -> tuple[ExecutionStatisticsGrouping, ...]:
    """What to group by.

    Raises:
        KitaruUsageError: one is unknown, named twice, or a second one by time.

    Example:
        >>> [each.name for each in groupings(["time:day", "metadata:tier"])]
        ['day', 'tier']
    """
    found = tuple(_grouping(each) for each in _listed(given, "group_by", '["status"]'))
    names = [name for each in found for name in _keys_of(each)]
    for name in names:
        if names.count(name) > 1:
            raise KitaruUsageError(f"Two groupings are named {name!r}; give one another name.")
    if sum(each.dimension is _DIMENSION.TIME for each in found) > 1:
        raise KitaruUsageError("Only one grouping can be by time.")
    return found


def metrics(given: Iterable[Metric] | None) -> tuple[ExecutionStatisticsMetric, ...]:
    """What to compute.

    Raises:
        KitaruUsageError: one is unknown or named twice.

    Example:
        >>> metrics(["cost:metadata:usd:sum"])[0].metadata_key
        'usd'
    """
    found = tuple(_metric(each) for each in _listed(given, "metrics", '["mean:duration:avg"]'))
    names = [each.name for each in found]
    for name in names:
        if names.count(name) > 1:
            raise KitaruUsageError(f"Two metrics are named {name!r}; give one another name.")
    return found


def max_groups(value: Any) -> int:
    """How many groups at most.

    Raises:
        KitaruUsageError: it is no whole number from 1 to 10,000.
    """
    if type(value) is not int:
        raise KitaruUsageError(f"max_groups is {value!r:.40}; it must be a whole number.")
    if not 1 <= value <= MAX_GROUPS:
        raise KitaruUsageError(f"max_groups is {value}; it must be from 1 to {MAX_GROUPS}.")
    return value


def conditions(where: Mapping[str, Any] | None) -> dict[str, Any]:
    """Metadata keys and the values they must have, from `{"metadata:<key>": value}`.

    Raises:
        KitaruUsageError: a key is of another form, or a value is no JSON scalar.
    """
    if where is not None and not isinstance(where, Mapping):
        raise KitaruUsageError(
            f"where is {where!r:.60}; give a mapping, such as {{'metadata:tier': 'gold'}}."
        )
    found = {}
    for key, value in (where or {}).items():
        prefix, _, name = str(key).partition(":")
        if prefix != "metadata" or not name or not is_storable(name):
            raise KitaruUsageError(
                f"where has the key {str(key)!r:.80}; its keys are of the form 'metadata:<key>'."
            )
        if not _is_scalar(value):
            raise KitaruUsageError(
                f"where['{key}'] is {value!r:.60}; give a text, a number, true, false or null."
            )
        found[name] = value
    return found


def _keys_of(grouping: ExecutionStatisticsGrouping) -> list[str]:
    """The keys it gives a group: a flow and a stack have their name beside them."""
    has_name = grouping.dimension in _NAMES
    return [str(grouping.name), *([f"{grouping.dimension}_name"] if has_name else [])]


def _grouping(given: Grouping) -> ExecutionStatisticsGrouping:
    if isinstance(given, ExecutionStatisticsGrouping):
        return given
    if isinstance(given, Mapping):
        return _made(ExecutionStatisticsGrouping, given, "grouping")
    if not isinstance(given, str):
        raise KitaruUsageError(f"A grouping is {given!r:.60}; there are: {_GROUPINGS}.")
    dimension, _, rest = given.partition(":")
    if dimension == _DIMENSION.TIME:
        return ExecutionStatisticsGrouping(dimension, time_granularity=rest)
    if dimension == _DIMENSION.METADATA:
        return ExecutionStatisticsGrouping(dimension, metadata_key=rest)
    return ExecutionStatisticsGrouping(given)


def _metric(given: Metric) -> ExecutionStatisticsMetric:
    if isinstance(given, ExecutionStatisticsMetric):
        return given
    if isinstance(given, Mapping):
        return _made(ExecutionStatisticsMetric, given, "metric")
    parts = given.split(":") if isinstance(given, str) else []
    if len(parts) == 3:
        return ExecutionStatisticsMetric(*parts)
    if len(parts) == 4 and parts[1] == _SOURCE.METADATA:
        return ExecutionStatisticsMetric(parts[0], parts[1], parts[3], metadata_key=parts[2])
    raise KitaruUsageError(
        f"Metric {given!r:.80} is not of the form 'name:source:aggregation' or "
        "'name:metadata:key:aggregation'. A key with a colon in it needs the form "
        '{"name": …, "source": "metadata", "metadata_key": …, "aggregation": …}.'
    )


T = TypeVar("T")


def _made(kind: type[T], given: Mapping[str, Any], what: str) -> T:
    known = [field.name for field in dataclasses.fields(kind)]  # type: ignore[arg-type]
    unknown = [str(name) for name in given if name not in known]
    if unknown:
        raise KitaruUsageError(
            f"A {what} has no field {unknown[0]!r:.60}; it has: {', '.join(known)}."
        )
    try:
        return kind(**given)
    except TypeError:
        needed = "dimension" if what == "grouping" else "name, source, aggregation"
        raise KitaruUsageError(f"A {what} needs the fields: {needed}.") from None


def _listed(given: Any, name: str, example: str) -> Sequence[Any]:
    if isinstance(given, (str, bytes, Mapping)) or (
        given is not None and not isinstance(given, Iterable)
    ):
        raise KitaruUsageError(f"{name} is {given!r:.60}; give a list, such as {example}.")
    return list(given or ())


def _one_of(kind: type[E], value: Any, *, what: str, there_are: str | None = None) -> E:
    try:
        return kind(value)
    except ValueError:
        known = there_are or ", ".join(kind)
        raise KitaruUsageError(f"Unknown {what} {value!r:.60}; there are: {known}.") from None


def _belongs(value: Any, is_wanted: bool, *, field: str, owner: str, here: str) -> None:
    if is_wanted and not (isinstance(value, str) and value and is_storable(value)):
        raise KitaruUsageError(f"{owner} needs {field}: write {owner}:<{field}> or give the field.")
    if not is_wanted and value is not None:
        raise KitaruUsageError(f"{field} belongs to {owner} and not to {here}.")


def _is_scalar(value: Any) -> bool:
    """Whether metadata can have this value; numbers are those that a float can hold."""
    if isinstance(value, str):
        return type(value) is str and is_storable(value)
    if type(value) in (int, float):
        return bool(-sys.float_info.max <= value <= sys.float_info.max)
    return value is None or type(value) is bool


def _named(name: Any, *, what: str) -> None:
    if not isinstance(name, str) or not name.strip():
        raise KitaruUsageError(f"{what} is named {name!r:.60}; give it a text that is not empty.")
