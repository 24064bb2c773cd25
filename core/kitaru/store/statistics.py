"""Statistics in SQL: groups of executions counted, and their numbers put together.

Rows of executions never leave SQLite; what comes back are groups. A request is one statement, and
one more for each percentile, all read in one snapshot.
"""

from __future__ import annotations

import json
import math
import sqlite3
from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime, timedelta
from typing import Any

from kitaru.statistics import (
    ExecutionStatistics,
    ExecutionStatisticsGroup,
    ExecutionStatisticsGrouping,
    ExecutionStatisticsMetric,
)
from kitaru.store import executions
from kitaru.store.executions import Filter

_HOUR, _DAY = 3_600_000_000, 86_400_000_000
_SECONDS = 1_000_000.0
#: 1970-01-01 was a Thursday, three days after the Monday its week began with.
_THURSDAY = 3
_EPOCH = date(1970, 1, 1)

_BUCKETS = {
    "hour": f"started_at / {_HOUR}",
    "day": f"started_at / {_DAY}",
    "week": f"(started_at / {_DAY} + {_THURSDAY}) / 7",
    "month": "strftime('%Y-%m-01', started_at / 1000000, 'unixepoch')",
}
_CHECKPOINTS = "FROM calls WHERE calls.execution = executions.id AND calls.kind = 'checkpoint'"
_NAME = (
    "CASE instr(call_id, '#') WHEN 0 THEN call_id "
    "ELSE substr(call_id, 1, instr(call_id, '#') - 1) END"
)
#: The only attempt of a simple call is not recorded by itself.
_ATTEMPTS = (
    "CASE WHEN attempts IS NOT NULL THEN json_array_length(attempts) "
    "ELSE started_at IS NOT NULL AND original_call_id IS NULL END"
)
_SOURCES = {
    "duration": f"(ended_at - started_at) / {_SECONDS}",
    "queue_time": f"(started_at - created_at) / {_SECONDS}",
    "wait_time": (
        f"(SELECT coalesce(sum(resolved_at - waits.created_at), 0) / {_SECONDS} FROM waits "
        "WHERE waits.execution = executions.id AND waits.status = 'answered')"
    ),
    "step_count": f"(SELECT count(DISTINCT {_NAME}) {_CHECKPOINTS})",
    "cached_step_count": f"(SELECT count(cached_from) {_CHECKPOINTS})",
    "attempt_count": f"(SELECT coalesce(sum({_ATTEMPTS}), 0) {_CHECKPOINTS})",
    "output_artifact_count": (
        f"(SELECT count(result_size) {_CHECKPOINTS}) "
        "+ (SELECT count(*) FROM artifacts WHERE artifacts.execution = executions.id)"
    ),
}
_KEY = "FROM json_each(executions.metadata) AS item WHERE item.key = ?"
#: Whole numbers can be longer than any float is large.
_IS_NUMBER = "item.type IN ('integer', 'real') AND item.value > -9e999 AND item.value < 9e999"
#: As floats, since a sum of integers may not leave 64 bits.
_NUMBER = f"(SELECT CAST(value AS REAL) {_KEY} AND {_IS_NUMBER})"
_NO_NUMBER = f"(SELECT count(*) {_KEY} AND NOT ({_IS_NUMBER}))"
#: Numbers are themselves, so that 1 and 1.0 are equal; a quote tells other texts from true, false.
_SCALAR = (
    "(SELECT CASE WHEN item.type IN ('true', 'false') THEN item.type "
    f"WHEN item.type = 'text' THEN '\"' || value WHEN {_IS_NUMBER} THEN value END {_KEY})"
)
#: Those that SQLite has, by the same names.
_AGGREGATIONS = frozenset({"avg", "sum", "min", "max"})


class _Request:
    """A request's parts as SQL, each with its parameters in the order of the text."""

    def __init__(
        self,
        groupings: Sequence[ExecutionStatisticsGrouping],
        metrics: Sequence[ExecutionStatisticsMetric],
        *,
        where: Filter,
        conditions: Mapping[str, Any],
    ) -> None:
        self.groupings, self.metrics = groupings, metrics
        self._condition, self._filters = _where(where, conditions)
        self.keys = [f"key{number}" for number in range(len(groupings))]
        self.time = next(
            (key for key, each in zip(self.keys, groupings, strict=True) if _is_time(each)), None
        )

    def rows(self, values: Sequence[tuple[str, list[Any]]]) -> tuple[str, list[Any]]:
        """One row per execution, or per tag of one: its keys, its names, and some values."""
        columns, parameters = [], []
        for key, grouping in zip(self.keys, self.groupings, strict=True):
            text, given = _key(grouping)
            columns.append(f"{text} AS {key}")
            parameters += given
        columns += ["flow_name AS name_of_flow", "stack_name AS name_of_stack"]
        for number, (text, given) in enumerate(values):
            columns.append(f"{text} AS value{number}")
            parameters += given
        source = "executions"
        if any(each.dimension == "tag" for each in self.groupings):
            source += " LEFT JOIN json_each(executions.tags) AS tagged"
        return (
            f"SELECT {', '.join(columns)} FROM {source} {self._condition}",
            parameters + self._filters,
        )

    def order(self, *, newest: bool) -> str:
        """The order of groups: by time where there is one, else the largest first."""
        others = [key for key in self.keys if key != self.time]
        if self.time is None:
            return ", ".join(["number DESC", *(f"{key} ASC NULLS LAST" for key in others)])
        time, other = ("ASC NULLS FIRST", "ASC NULLS LAST")
        if newest:
            time, other = ("DESC NULLS LAST", "DESC NULLS FIRST")
        return ", ".join([f"{self.time} {time}", *(f"{key} {other}" for key in others)])


def compute(
    conn: sqlite3.Connection,
    groupings: Sequence[ExecutionStatisticsGrouping],
    metrics: Sequence[ExecutionStatisticsMetric],
    *,
    where: Filter,
    conditions: Mapping[str, Any],
    max_groups: int,
) -> ExecutionStatistics:
    """Count and aggregate the executions that fit.

    Args:
        conn: a snapshot.
        groupings: what to group by; none for one group of all.
        metrics: what to compute for each group.
        where: which executions.
        conditions: metadata keys and the values they must have.
        max_groups: how many groups at most: the newest, or without time the largest.
    """
    request = _Request(groupings, metrics, where=where, conditions=conditions)
    plain = [each for each in metrics if each.aggregation in _AGGREGATIONS]
    rows = conn.execute(*_grouped(request, plain, limit=max_groups + 1)).fetchall()
    truncated = len(rows) > max_groups
    if request.time is not None:
        rows = rows[-max_groups:]  # they come oldest first
    rows = rows[:max_groups]
    percentiles = {
        metric.name: _percentile(conn, request, metric) for metric in metrics if metric not in plain
    }
    groups = tuple(_group(request, row, plain=plain, percentiles=percentiles) for row in rows)
    ungrouped = _Request((), metrics, where=where, conditions=conditions)
    return ExecutionStatistics(groups, truncated, _skipped(conn, ungrouped))


def _grouped(
    request: _Request, plain: Sequence[ExecutionStatisticsMetric], *, limit: int
) -> tuple[str, list[Any]]:
    rows, parameters = request.rows([_value(each) for each in plain])
    names = "max(name_of_flow) AS name_of_flow, max(name_of_stack) AS name_of_stack"
    numbers = [
        f"{each.aggregation}(value{number}) AS value{number}" for number, each in enumerate(plain)
    ]
    columns = ", ".join([*request.keys, "count(*) AS number", names, *numbers])
    group = f"GROUP BY {', '.join(request.keys)} " if request.keys else ""
    sql = f"SELECT {columns} FROM ({rows}) {group}"
    if request.keys:
        sql = (
            f"SELECT * FROM ({sql}ORDER BY {request.order(newest=True)} LIMIT ?) "
            f"ORDER BY {request.order(newest=False)}"
        )
        parameters = [*parameters, limit]
    return sql, parameters


def _percentile(
    conn: sqlite3.Connection, request: _Request, metric: ExecutionStatisticsMetric
) -> dict[tuple[Any, ...], float]:
    """For each group the least value that so many of a hundred are at or below."""
    rows, parameters = request.rows([_value(metric)])
    keys = ", ".join(request.keys) or "1"
    sql = (
        f"SELECT {keys}, value0 FROM (SELECT *, row_number() OVER (PARTITION BY {keys} "
        f"ORDER BY value0) AS place, count(*) OVER (PARTITION BY {keys}) AS number "
        f"FROM ({rows}) WHERE value0 IS NOT NULL) WHERE place = (number * ? + 99) / 100"
    )
    found = conn.execute(sql, [*parameters, int(metric.aggregation[1:])]).fetchall()
    width = len(request.keys)
    return {tuple(row)[:width]: float(row["value0"]) for row in found}


def _skipped(conn: sqlite3.Connection, ungrouped: _Request) -> dict[str, int]:
    """How many executions hold something else than a number where a metric wants one."""
    asked = [each for each in ungrouped.metrics if each.metadata_key is not None]
    if not asked:
        return {}
    rows, parameters = ungrouped.rows([(_NO_NUMBER, [each.metadata_key]) for each in asked])
    sums = ", ".join(f"coalesce(sum(value{number}), 0)" for number in range(len(asked)))
    (row,) = conn.execute(f"SELECT {sums} FROM ({rows})", parameters).fetchall()
    return {each.name: count for each, count in zip(asked, row, strict=True)}


def _group(
    request: _Request,
    row: sqlite3.Row,
    *,
    plain: Sequence[ExecutionStatisticsMetric],
    percentiles: Mapping[str, Mapping[tuple[Any, ...], float]],
) -> ExecutionStatisticsGroup:
    keys: dict[str, Any] = {}
    for key, grouping in zip(request.keys, request.groupings, strict=True):
        keys[str(grouping.name)] = _shown(grouping, row[key])
        if grouping.dimension in ("flow", "stack"):
            keys[f"{grouping.dimension}_name"] = row[f"name_of_{grouping.dimension}"]
    place = tuple(row[key] for key in request.keys)
    known = {each.name: row[f"value{number}"] for number, each in enumerate(plain)}
    known |= {name: found.get(place) for name, found in percentiles.items()}
    metrics = {each.name: _finite(known[each.name]) for each in request.metrics}
    return ExecutionStatisticsGroup(keys, row["number"], metrics)


def _finite(value: float | None) -> float | None:
    """A metric; one that is beyond the largest float could not be said in JSON."""
    return None if value is None or not math.isfinite(value) else float(value)


def _value(metric: ExecutionStatisticsMetric) -> tuple[str, list[Any]]:
    if metric.metadata_key is not None:
        return _NUMBER, [metric.metadata_key]
    return _SOURCES[metric.source], []


def _is_time(grouping: ExecutionStatisticsGrouping) -> bool:
    return grouping.time_granularity is not None


def _key(grouping: ExecutionStatisticsGrouping) -> tuple[str, list[Any]]:
    if grouping.time_granularity is not None:
        return _BUCKETS[grouping.time_granularity], []
    if grouping.metadata_key is not None:
        return _SCALAR, [grouping.metadata_key]
    columns = {"status": "status", "flow": "flow_id", "stack": "stack_name", "tag": "tagged.value"}
    return columns[grouping.dimension], []


def _shown(grouping: ExecutionStatisticsGrouping, value: Any) -> Any:
    """A key as people read it."""
    if value is None:
        return None
    if grouping.metadata_key is not None:
        return _scalar(value)
    if grouping.time_granularity == "hour":
        return str(datetime.fromtimestamp(value * 3600, UTC).replace(tzinfo=None))
    if grouping.time_granularity == "day":
        return str(_EPOCH + timedelta(days=value))
    if grouping.time_granularity == "week":
        return str(_EPOCH + timedelta(days=value * 7 - _THURSDAY))
    return value


def _scalar(value: Any) -> Any:
    """What `_SCALAR` stands for; one group holds 1 and 1.0, and is always shown as 1."""
    if isinstance(value, str):
        return value[1:] if value.startswith('"') else value == "true"
    is_short = isinstance(value, float) and value.is_integer() and abs(value) < 2**53
    return int(value) if is_short else value


def _same(value: Any) -> tuple[str, Any]:
    """What `_SCALAR` must be for this value, as SQL and its parameter."""
    if isinstance(value, str):
        return "?", f'"{value}'
    if value is None or isinstance(value, bool):
        return "?", value if value is None else str(value).lower()
    return "json_extract(?, '$')", json.dumps(value)  # SQLite reads it as it does the metadata


def _where(where: Filter, conditions: Mapping[str, Any]) -> tuple[str, list[Any]]:
    sql, parameters = executions.conditions(where, "executions.created_at")
    for tag in where.tags:
        sql.append("executions.id IN (SELECT execution FROM execution_tags WHERE tag = ?)")
        parameters.append(tag)
    for key, value in conditions.items():
        sql_value, given = _same(value)
        sql.append(f"{_SCALAR} IS {sql_value}")
        parameters += [key, given]
    return f"WHERE {' AND '.join(sql)}" if sql else "", parameters
