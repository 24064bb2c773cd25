"""What executions have used of models, and what that cost: `client.executions.costs`.

Only executions that have ended are counted: what an execution has used is summed up by then. A cost
that is not known is `None`, and never nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from kitaru import config
from kitaru import statistics as spec
from kitaru.client import filters
from kitaru.errors import KitaruUsageError
from kitaru.frozen import Model
from kitaru.models import ExecutionStatus
from kitaru.store import Store
from kitaru.store import costs as stored
from kitaru.usage_summary import known_cost


@dataclass(frozen=True, slots=True)
class ExecutionCost(Model):
    """What some executions have used of models.

    `keys` are those of the group: `flow_id` and `flow_name`, `model`, or `day`; none for all
    together. `execution_count` counts those that have used any, `display_cost_usd` is None where
    no cost is known, and `records_without_cost_count` says how many records have none.
    """

    keys: dict[str, str | None]
    execution_count: int
    usage_record_count: int
    reused_usage_record_count: int
    incurred_total_tokens: int
    reused_total_tokens: int
    display_cost_usd: float | None
    records_without_cost_count: int


@dataclass(frozen=True, slots=True)
class ExecutionCosts(Model):
    """Costs in groups, the largest first, or days from the first on.

    `total` is of all groups, also where `truncated` says that there were more than were asked for.
    `unfinished_execution_count` counts the executions that have not ended and are in none of it,
    `unreadable_usage_record_count` the records whose model is not known, because what says so is
    damaged.
    """

    by: str
    groups: tuple[ExecutionCost, ...]
    total: ExecutionCost
    truncated: bool
    unfinished_execution_count: int
    unreadable_usage_record_count: int


class Costs:
    """The part of `client.executions` that adds up money."""

    _open: Callable[[], Store]

    def costs(
        self,
        by: str = "flow",
        *,
        since: datetime | None = None,
        until: datetime | None = None,
        flow: str | None = None,
        status: str | ExecutionStatus | None = None,
        stack: str | None = None,
        tags: Sequence[str] | None = None,
        max_groups: int = spec.DEFAULT_GROUPS,
    ) -> ExecutionCosts:
        """What executions that have ended have used of models, without fetching them.

        Args:
            by: what makes a group: `flow`, `model`, or `day` of the start, in UTC.
            since: only created at this time or later; an aware datetime.
            until: only created before this time; an aware datetime.
            flow: only of the flow with this name or id.
            status: only in this status.
            stack: only on this stack.
            tags: only with all of these tags.
            max_groups: how many groups at most, 1 to 10,000: the newest days, else the largest.

        Raises:
            KitaruUsageError: an argument cannot be right.
            KitaruBackendError: it takes longer than half a minute.

        Example:
            >>> import kitaru
            >>> @kitaru.checkpoint
            ... def ask() -> None:
            ...     kitaru.record_llm_usage(
            ...         provider="mine", model="small", input_tokens=11, output_tokens=7,
            ...         actual_cost_usd=0.5,
            ...     )
            >>> kitaru.flow(lambda: ask(), name="asking").run().wait()
            >>> found = kitaru.KitaruClient().executions.costs(by="model")
            >>> found.groups[0].keys, found.groups[0].incurred_total_tokens
            ({'model': 'mine/small'}, 18)
            >>> found.total.display_cost_usd
            0.5
        """
        if by not in stored.GROUPS:
            raise KitaruUsageError(f"Unknown by {by!r:.60}; there are: {', '.join(stored.GROUPS)}.")
        most = spec.max_groups(max_groups)
        where = filters.chosen(flow, status, stack, tags=tags, since=since, until=until)
        # Others read meanwhile: of a large store this may take its time.
        with self._open().apart(seconds=config.STATISTICS_SECONDS) as conn:
            found = stored.read(conn, by, where)
        groups = [_cost(_keys(by, key, sums), sums) for key, sums in found.groups.items()]
        groups.sort(key=_by_day if by == "day" else _by_size)
        return ExecutionCosts(
            by=by,
            groups=tuple(groups[-most:] if by == "day" else groups[:most]),
            total=_cost({}, found.total),
            truncated=len(groups) > most,
            unfinished_execution_count=found.unfinished,
            unreadable_usage_record_count=found.unreadable,
        )


def _keys(by: str, key: str | None, sums: stored.Sums) -> dict[str, str | None]:
    return {"flow_id": key, "flow_name": sums.name} if by == "flow" else {by: key}


def _cost(keys: dict[str, str | None], sums: stored.Sums) -> ExecutionCost:
    numbers = sums.numbers
    return ExecutionCost(
        keys=keys,
        execution_count=sums.executions,
        usage_record_count=round(numbers["usage_record_count"]),
        reused_usage_record_count=round(numbers["reused_usage_record_count"]),
        incurred_total_tokens=round(numbers["incurred_total_tokens"]),
        reused_total_tokens=round(numbers["total_tokens"] - numbers["incurred_total_tokens"]),
        display_cost_usd=known_cost(numbers),
        records_without_cost_count=round(numbers["records_without_cost_count"]),
    )


def _by_day(cost: ExecutionCost) -> str:
    return cost.keys["day"] or ""


def _by_size(cost: ExecutionCost) -> tuple[Any, ...]:
    names = [each or "" for each in cost.keys.values()]
    return -(cost.display_cost_usd or 0), -cost.incurred_total_tokens, names[::-1]
