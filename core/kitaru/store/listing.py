"""Listings: which executions there are, by filters, a page at a time.

Each filter is in SQL and on an index, and so are two at once; pages go by key. What is only
counted comes from the roll-up.
"""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from kitaru import clock
from kitaru.models import Actions, Execution, ExecutionStatus, Page
from kitaru.store import executions, refs, values


@dataclass(frozen=True, slots=True)
class Filter:
    """Which executions a listing shows; `flow` is a name or an id, several tags mean all."""

    flow: str | None = None
    status: ExecutionStatus | None = None
    stack: str | None = None
    tags: tuple[str, ...] = ()
    since: datetime | None = None
    until: datetime | None = None


#: A listing by a tag's own index, which is in the order of the listing; CROSS keeps it first.
_TAGGED = executions.SUMMARY.replace(
    "FROM executions ",
    "FROM execution_tags AS tagged CROSS JOIN executions ON id = tagged.execution ",
)
_OTHER_TAG = (
    "EXISTS (SELECT 1 FROM execution_tags AS other "
    "WHERE other.tag = ? AND other.created_at = {time} AND other.execution = {key})"
)
#: Among so many executions a tag is looked for, else they among the tag's.
_FEW = 20_000


def page(
    conn: sqlite3.Connection,
    where: Filter,
    *,
    limit: int,
    cursor: str | None,
    client: Actions | None = None,
) -> Page[Execution]:
    """Newest first, one page, bound to a client; each filter is in SQL and on an index."""
    head, time, key = executions.SUMMARY, "executions.created_at", "id"
    # One or two filters have an index of their own; for more it is worth to count first.
    has_index = not where.tags and None in (where.flow, where.status, where.stack)
    fitting = None if has_index else _fitting(conn, where)
    if fitting == 0:
        return Page([], None)
    by_tag = bool(where.tags) and (fitting is None or fitting > _FEW)
    if by_tag:
        head, time, key = _TAGGED, "tagged.created_at", "tagged.execution"
    sql, parameters = conditions(where, time)
    for number, tag in enumerate(where.tags):
        other = _OTHER_TAG.format(time=time, key=key)
        sql.append("tagged.tag = ?" if by_tag and not number else other)
        parameters.append(tag)
    if cursor is not None:
        sql.append(f"({time}, {key}) < (?, ?)")
        parameters += values.place(cursor, parts=2)
    condition = f"WHERE {' AND '.join(sql)} " if sql else ""
    rows = conn.execute(
        f"{head}{condition}ORDER BY {time} DESC, {key} DESC LIMIT ?",
        (*parameters, limit + 1),
    ).fetchall()
    more = len(rows) > limit
    rows = rows[:limit]
    next_cursor = values.cursor(rows[-1]["created_at"], rows[-1]["id"]) if more else None
    models = [executions.model(conn, row, detail=False, client=client) for row in rows]
    return Page(models, next_cursor)


@values.intact("An execution")
def count_by_status(conn: sqlite3.Connection) -> dict[ExecutionStatus, int]:
    """How many executions are in each status; statuses without one are left out."""
    rows = conn.execute(
        "SELECT status, sum(executions) FROM execution_rollup GROUP BY status"
    ).fetchall()
    return {ExecutionStatus(row[0]): row[1] for row in rows}


def _fitting(conn: sqlite3.Connection, where: Filter) -> int | None:
    """How many executions fit a filter whatever their tags and times; `None` when all do."""
    sql, parameters = conditions(Filter(where.flow, where.status, where.stack), "")
    if not sql:
        return None
    count = "SELECT coalesce(sum(executions), 0) FROM execution_rollup WHERE "
    return int(conn.execute(count + " AND ".join(sql), parameters).fetchone()[0])


def flow_names(conn: sqlite3.Connection, *, limit: int) -> list[str]:
    """The names of flows in alphabetical order, by one step in the index for each."""
    rows = conn.execute(
        "WITH RECURSIVE names (name) AS (SELECT min(flow_name) FROM executions UNION ALL "
        "SELECT (SELECT min(flow_name) FROM executions WHERE flow_name > name) "
        "FROM names WHERE name IS NOT NULL) SELECT name FROM names WHERE name IS NOT NULL LIMIT ?",
        (limit,),
    )
    return [row[0] for row in rows.fetchall()]


def all_conditions(where: Filter) -> tuple[list[str], list[Any]]:
    """A filter with its tags, as SQL on `executions`; for those who go through all that fit."""
    sql, parameters = conditions(where, "created_at")
    for tag in where.tags:
        sql.append("executions.id IN (SELECT execution FROM execution_tags WHERE tag = ?)")
        parameters.append(tag)
    return sql, parameters


def conditions(where: Filter, time: str) -> tuple[list[str], list[Any]]:
    """A filter without its tags, as SQL; `time` is the column that holds when one was created."""
    sql: list[str] = []
    parameters: list[Any] = []
    if where.flow is not None:
        condition, parameters = refs.of_flow(where.flow)
        sql.append(condition)
    if where.status is not None:
        sql.append("status = ?")
        parameters.append(where.status.value)
    if where.stack is not None:
        sql.append("stack_name = ?")
        parameters.append(where.stack)
    if where.since is not None:
        sql.append(f"{time} >= ?")
        parameters.append(clock.to_us(where.since))
    if where.until is not None:
        sql.append(f"{time} < ?")
        parameters.append(clock.to_us(where.until))
    return sql, parameters
