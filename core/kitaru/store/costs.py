"""What many executions have used of models, added up in SQL.

Read from what each has written when it ended: its flat numbers, which lie apart from its metadata,
or for models its summary. Rows of executions never leave SQLite, and damaged ones are passed over
and counted.
"""

from __future__ import annotations

import sqlite3
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from kitaru import usage_summary
from kitaru.store import listing
from kitaru.store.listing import Filter

_COUNT = "usage_record_count"
#: What is added up; `execution_count` comes with the first.
_SUMMED = (
    _COUNT,
    "reused_usage_record_count",
    "total_tokens",
    "incurred_total_tokens",
    "display_cost_usd",
    "records_without_cost_count",
)
_FLAT_COUNT = usage_summary.FLAT_KEYS[_COUNT]
_KEYS = {usage_summary.FLAT_KEYS[name]: name for name in _SUMMED}
#: What executions can be grouped by, as a key and a name.
GROUPS = {
    "flow": "flow_id, max(flow_name)",
    "model": "NULL, NULL",
    "day": "date(started_at / 1000000, 'unixepoch'), NULL",
}
_HAS_ENDED = "status IN ('completed', 'failed', 'cancelled')"
_HAS_NOT_ENDED = "status IN ('pending', 'running', 'waiting')"
#: Numbers beyond are damage, and would be no number in JSON when they are added up.
_MOST = 1e15
_HAS_USED = "id IN (SELECT execution FROM execution_metadata WHERE key = ? AND value > 0)"
_BY_MODEL = f"$.{usage_summary.SUMMARY_KEY}.by_model"


@dataclass(slots=True)
class Sums:
    """The numbers of a group by their names, each added up; `name` is that of a flow."""

    name: str | None = None
    numbers: dict[str, float] = field(default_factory=lambda: dict.fromkeys(_SUMMED, 0))
    executions: int = 0


@dataclass(frozen=True, slots=True)
class Costs:
    """Groups by their keys, all of them together, and what is in no group.

    `unfinished` counts executions, `unreadable` usage records.
    """

    groups: Mapping[str | None, Sums]
    total: Sums
    unfinished: int
    unreadable: int


def read(conn: sqlite3.Connection, by: str, where: Filter) -> Costs:
    """What executions that have ended have used, in groups.

    Args:
        conn: a snapshot.
        by: what makes a group. Days are those of the start, in UTC.
        where: which executions.
    """
    sql, given = listing.all_conditions(where)
    ended = " AND ".join([_HAS_ENDED, *sql])
    groups, total = _flat(conn, by, ended, given=given)
    unreadable = 0
    if by == "model":
        groups = _of_models(conn, ended, given=given)
        counted = sum(each.numbers[_COUNT] for each in groups.values())
        unreadable = max(round(total.numbers[_COUNT] - counted), 0)
    (unfinished,) = conn.execute(
        f"SELECT count(*) FROM executions WHERE {' AND '.join([_HAS_NOT_ENDED, *sql])}",  # noqa: S608
        given,
    ).fetchone()
    return Costs(groups, total, unfinished, unreadable)


def _flat(
    conn: sqlite3.Connection, by: str, condition: str, *, given: Sequence[Any]
) -> tuple[dict[str | None, Sums], Sums]:
    """The flat numbers of executions: by group, and all together."""
    found = conn.execute(
        f"SELECT {GROUPS[by]}, used.key, count(nullif(used.value, 0)), total(used.value) "  # noqa: S608
        "FROM (SELECT key, execution, value FROM execution_metadata "
        f"WHERE key IN ({', '.join('?' * len(_KEYS))}) "
        f"AND typeof(value) IN ('integer', 'real') AND abs(value) < {_MOST}) AS used "
        "CROSS JOIN executions INDEXED BY executions_facts ON executions.id = used.execution "
        f"WHERE {condition} GROUP BY 1, used.key",
        (*_KEYS, *given),
    ).fetchall()
    groups: dict[str | None, Sums] = defaultdict(Sums)
    total = Sums()
    for group, name, key, count, number in found:
        groups[group].name = name
        for sums in (groups[group], total):
            sums.numbers[_KEYS[key]] += number
            sums.executions += count if _KEYS[key] == _COUNT else 0
    return {group: sums for group, sums in groups.items() if sums.executions}, total


def _of_models(
    conn: sqlite3.Connection, condition: str, *, given: Sequence[Any]
) -> dict[str | None, Sums]:
    """The numbers of models, from summaries; what is damaged is passed over."""
    # CASE goes in order: a function for JSON must not see what is none.
    entries = (
        "SELECT key AS model, CASE type WHEN 'object' THEN value ELSE '{}' END AS value FROM "  # noqa: S608
        "(SELECT CASE WHEN json_valid(metadata) THEN "
        f"CASE json_type(metadata, '{_BY_MODEL}') "
        f"WHEN 'object' THEN json_extract(metadata, '{_BY_MODEL}') END END AS models "
        f"FROM executions WHERE {_HAS_USED} AND {condition}) AS used, json_each(used.models)"
    )
    is_whole = " AND ".join(
        f"json_type(value, '$.{name}') IN ('integer', 'real') "
        f"AND abs(json_extract(value, '$.{name}')) < {_MOST}"
        for name in _SUMMED
    )
    sums = ", ".join(f"total(json_extract(value, '$.{name}'))" for name in _SUMMED)
    found = conn.execute(
        f"SELECT model, count(*), {sums} FROM ({entries}) WHERE {is_whole} GROUP BY model",  # noqa: S608
        (_FLAT_COUNT, *given),
    ).fetchall()
    return {
        model: Sums(numbers=dict(zip(_SUMMED, numbers, strict=True)), executions=count)
        for model, count, *numbers in found
    }
