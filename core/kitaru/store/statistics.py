"""Statistics in SQL: groups of executions counted, and their numbers put together.

Rows of executions never leave SQLite; what comes back are groups. Groups are counted first: from
the roll-up, which the store keeps with every change of a status, where it has all that is asked
for; else from a narrow index of all executions. Whatever comes from elsewhere, such as metadata
and percentiles, is one more statement each, and all are read in one snapshot.
"""

from __future__ import annotations

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
from kitaru.store import listing, metadata
from kitaru.store.listing import Filter
from kitaru.store.schema import NO_DAY

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
#: The same where the roll-up is read, which knows days only.
_ROLLED_DAY = f"nullif(day, {NO_DAY})"
_ROLLED_BUCKETS = {
    "day": _ROLLED_DAY,
    "week": f"({_ROLLED_DAY} + {_THURSDAY}) / 7",
    "month": f"strftime('%Y-%m-01', {_ROLLED_DAY} * 86400, 'unixepoch')",
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
#: How many of an execution's numbers the roll-up has, and their sum in microseconds.
_ROLLED = {
    "duration": ("sum(ended)", "sum(duration)"),
    "queue_time": (f"sum(iif(day = {NO_DAY}, 0, executions))", "sum(queue_time)"),
}
_ROLLED_AGGREGATIONS = {
    "avg": "CAST({total} AS REAL) / {number} / 1000000",
    "sum": "iif({number}, CAST({total} AS REAL) / 1000000, NULL)",
}
_IS_NUMBER = "typeof(measured.value) IN ('integer', 'real')"
_SCALAR = (
    "(SELECT value FROM execution_metadata AS known WHERE known.key = ? "
    "AND known.flow_id = executions.flow_id AND known.execution = executions.id)"
)
#: Those that SQLite has, by the same names.
_AGGREGATIONS = frozenset({"avg", "sum", "min", "max"})


class _Request:
    """A request's parts as SQL, each with its parameters in the order of the text."""

    def __init__(
        self,
        groupings: Sequence[ExecutionStatisticsGrouping],
        *,
        where: Filter,
        conditions: Mapping[str, Any],
    ) -> None:
        self.groupings = groupings
        self._conditions, self._filters = _where(where, conditions)
        self.keys = [f"key{number}" for number in range(len(groupings))]
        self.time = next(
            (key for key, each in zip(self.keys, groupings, strict=True) if _is_time(each)), None
        )
        self.is_rolled = (
            not (where.tags or where.since or where.until or conditions)
            and all(each.dimension not in ("tag", "metadata") for each in groupings)
            and all(each.time_granularity != "hour" for each in groupings)
        )

    @property
    def _is_by_flow(self) -> bool:
        """Whether the flow is all that is asked of an execution; metadata lies by flow."""
        return not self._conditions and all(each.dimension == "flow" for each in self.groupings)

    def rows(self, values: Sequence[str]) -> tuple[str, list[Any]]:
        """One row per execution, or per tag of one: its keys, its names, and some values."""
        return self._selected(values, "executions")

    def rolled(self, values: Sequence[str]) -> tuple[str, list[Any]]:
        """The groups as the roll-up has them, with their numbers."""
        columns, _ = self._columns(_ROLLED_BUCKETS)
        columns = [
            *columns,
            "coalesce(sum(executions), 0) AS number",
            "max(flow_name) AS name_of_flow",
            "max(stack_name) AS name_of_stack",
            *values,
        ]
        return f"SELECT {', '.join(columns)} FROM execution_rollup{self._where()}", self._filters

    def measured(self, values: Sequence[str], key: str, condition: str) -> tuple[str, list[Any]]:
        """One row per execution that has a metadata value of which a condition holds."""
        if self._is_by_flow:
            columns = [*(f"flow_id AS {key}" for key in self.keys), *_named(values)]
            return (
                f"SELECT {', '.join(columns)} FROM execution_metadata AS measured "
                f"WHERE key = ? AND {condition}",
                [key],
            )
        having = f"SELECT execution, value FROM execution_metadata AS measured WHERE {condition}"
        source = (
            f"({having} AND key = ?) AS measured CROSS JOIN executions "
            "INDEXED BY executions_facts ON executions.id = measured.execution"
        )
        return self._selected(values, source, [key])

    def order(self, *, newest: bool) -> str:
        """The order of groups: by time where there is one, else the largest first."""
        others = [key for key in self.keys if key != self.time]
        if self.time is None:
            return ", ".join(["number DESC", *(f"{key} ASC NULLS LAST" for key in others)])
        time, other = ("ASC NULLS FIRST", "ASC NULLS LAST")
        if newest:
            time, other = ("DESC NULLS LAST", "DESC NULLS FIRST")
        return ", ".join([f"{self.time} {time}", *(f"{key} {other}" for key in others)])

    def _selected(
        self, values: Sequence[str], source: str, given: Sequence[Any] = ()
    ) -> tuple[str, list[Any]]:
        columns, parameters = self._columns(_BUCKETS)
        columns += ["flow_name AS name_of_flow", "stack_name AS name_of_stack", *_named(values)]
        if any(each.dimension == "tag" for each in self.groupings):
            source += " LEFT JOIN json_each(executions.tags) AS tagged"
        return (
            f"SELECT {', '.join(columns)} FROM {source}{self._where()}",
            [*parameters, *given, *self._filters],
        )

    def _columns(self, buckets: Mapping[str, str]) -> tuple[list[str], list[Any]]:
        columns, parameters = [], []
        for key, grouping in zip(self.keys, self.groupings, strict=True):
            text, given = _key(grouping, buckets)
            columns.append(f"{text} AS {key}")
            parameters += given
        return columns, parameters

    def _where(self) -> str:
        return f" WHERE {' AND '.join(self._conditions)}" if self._conditions else ""


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
    request = _Request(groupings, where=where, conditions=conditions)
    beside = [each for each in metrics if _is_counted_beside(each, request)]
    rows = conn.execute(*_counted(request, beside, limit=max_groups + 1)).fetchall()
    truncated = len(rows) > max_groups
    if request.time is not None:
        rows = rows[-max_groups:]  # they come oldest first
    rows = rows[:max_groups]
    apart = {each.name: _apart(conn, request, each) for each in metrics if each not in beside}
    order = [each.name for each in metrics]
    groups = tuple(_group(request, row, beside=beside, apart=apart, order=order) for row in rows)
    ungrouped = _Request((), where=where, conditions=conditions)
    return ExecutionStatistics(groups, truncated, _skipped(conn, ungrouped, metrics))


def _is_counted_beside(metric: ExecutionStatisticsMetric, request: _Request) -> bool:
    """Whether a metric comes with the counts, from where they are read."""
    if request.is_rolled:
        return metric.source in _ROLLED and metric.aggregation in _ROLLED_AGGREGATIONS
    return metric.source in _SOURCES and metric.aggregation in _AGGREGATIONS


def _counted(
    request: _Request, beside: Sequence[ExecutionStatisticsMetric], *, limit: int
) -> tuple[str, list[Any]]:
    group = f" GROUP BY {', '.join(request.keys)}" if request.keys else ""
    if request.is_rolled:
        sql, parameters = request.rolled([_rolled(each, n) for n, each in enumerate(beside)])
        sql += group
    else:
        rows, parameters = request.rows([_SOURCES[each.source] for each in beside])
        names = "max(name_of_flow) AS name_of_flow, max(name_of_stack) AS name_of_stack"
        numbers = [
            f"{each.aggregation}(value{number}) AS value{number}"
            for number, each in enumerate(beside)
        ]
        columns = ", ".join([*request.keys, "count(*) AS number", names, *numbers])
        sql = f"SELECT {columns} FROM ({rows}){group}"
    if request.keys:
        sql = (
            f"SELECT * FROM ({sql} ORDER BY {request.order(newest=True)} LIMIT ?) "
            f"ORDER BY {request.order(newest=False)}"
        )
        parameters = [*parameters, limit]
    return sql, parameters


def _rolled(metric: ExecutionStatisticsMetric, number: int) -> str:
    count, total = _ROLLED[metric.source]
    value = _ROLLED_AGGREGATIONS[metric.aggregation].format(number=count, total=total)
    return f"{value} AS value{number}"


def _apart(
    conn: sqlite3.Connection, request: _Request, metric: ExecutionStatisticsMetric
) -> dict[tuple[Any, ...], float]:
    """One metric of each group that has numbers for it, by a statement of its own."""
    if metric.metadata_key is None:
        rows, parameters = request.rows([_SOURCES[metric.source]])
    else:
        # As floats, since a sum of integers may not leave 64 bits.
        value = "CAST(measured.value AS REAL)"
        rows, parameters = request.measured([value], metric.metadata_key, _IS_NUMBER)
    keys = ", ".join(request.keys) or "1"
    if metric.aggregation in _AGGREGATIONS:
        group = f" GROUP BY {keys}" if request.keys else ""
        sql = f"SELECT {keys}, {metric.aggregation}(value0) AS value0 FROM ({rows}){group}"
    else:
        # The least value that so many of a hundred are at or below.
        sql = (
            f"SELECT {keys}, value0 FROM (SELECT *, row_number() OVER (PARTITION BY {keys} "
            f"ORDER BY value0) AS place, count(*) OVER (PARTITION BY {keys}) AS number "
            f"FROM ({rows}) WHERE value0 IS NOT NULL) WHERE place = (number * ? + 99) / 100"
        )
        parameters = [*parameters, int(metric.aggregation[1:])]
    found = conn.execute(sql, parameters).fetchall()
    width = len(request.keys)
    return {tuple(row)[:width]: row["value0"] for row in found}


def _skipped(
    conn: sqlite3.Connection, request: _Request, metrics: Sequence[ExecutionStatisticsMetric]
) -> dict[str, int]:
    """How many executions hold something else than a number where a metric wants one."""
    found = {}
    for each in metrics:
        if each.metadata_key is not None:
            rows, parameters = request.measured(["1"], each.metadata_key, f"NOT ({_IS_NUMBER})")
            (row,) = conn.execute(f"SELECT count(*) FROM ({rows})", parameters).fetchall()
            found[each.name] = row[0]
    return found


def _group(
    request: _Request,
    row: sqlite3.Row,
    *,
    beside: Sequence[ExecutionStatisticsMetric],
    apart: Mapping[str, Mapping[tuple[Any, ...], float]],
    order: Sequence[str],
) -> ExecutionStatisticsGroup:
    keys: dict[str, Any] = {}
    for key, grouping in zip(request.keys, request.groupings, strict=True):
        keys[str(grouping.name)] = _shown(grouping, row[key])
        if grouping.dimension in ("flow", "stack"):
            keys[f"{grouping.dimension}_name"] = row[f"name_of_{grouping.dimension}"]
    place = tuple(row[key] for key in request.keys)
    known = {each.name: row[f"value{number}"] for number, each in enumerate(beside)}
    known |= {name: found.get(place) for name, found in apart.items()}
    return ExecutionStatisticsGroup(
        keys, row["number"], {name: _finite(known[name]) for name in order}
    )


def _finite(value: float | None) -> float | None:
    """A metric; one that is beyond the largest float could not be said in JSON."""
    return None if value is None or not math.isfinite(value) else float(value)


def _is_time(grouping: ExecutionStatisticsGrouping) -> bool:
    return grouping.time_granularity is not None


def _key(
    grouping: ExecutionStatisticsGrouping, buckets: Mapping[str, str]
) -> tuple[str, list[Any]]:
    if grouping.time_granularity is not None:
        return buckets[grouping.time_granularity], []
    if grouping.metadata_key is not None:
        return _SCALAR, [grouping.metadata_key]
    columns = {"status": "status", "flow": "flow_id", "stack": "stack_name", "tag": "tagged.value"}
    return columns[grouping.dimension], []


def _named(values: Sequence[str]) -> list[str]:
    return [f"{text} AS value{number}" for number, text in enumerate(values)]


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
    """The metadata value that a row stands for; one group holds 1 and 1.0, and is shown as 1."""
    if isinstance(value, str):
        return value[1:] if value.startswith('"') else value == "true"
    is_short = isinstance(value, float) and value.is_integer() and abs(value) < 2**53
    return int(value) if is_short else value


def _where(where: Filter, conditions: Mapping[str, Any]) -> tuple[list[str], list[Any]]:
    sql, parameters = listing.all_conditions(where)
    for key, value in conditions.items():
        sql.append(f"{_SCALAR} IS ?")
        parameters += [key, metadata.scalar(value)]
    return sql, parameters
