"""Statistics as clients ask for them: `client.executions.statistics`."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any

from kitaru import config
from kitaru import statistics as spec
from kitaru.client import filters
from kitaru.models import ExecutionStatus
from kitaru.statistics import ExecutionStatistics, Grouping, Metric
from kitaru.store import Store
from kitaru.store import statistics as stored


class Statistics:
    """The part of `client.executions` that counts."""

    _open: Callable[[], Store]

    def statistics(
        self,
        group_by: Iterable[Grouping] | None = None,
        metrics: Iterable[Metric] | None = None,
        flow: str | None = None,
        *,
        status: str | ExecutionStatus | None = None,
        stack: str | None = None,
        tags: Sequence[str] | None = None,
        max_groups: int = spec.DEFAULT_GROUPS,
        since: datetime | None = None,
        until: datetime | None = None,
        where: Mapping[str, Any] | None = None,
    ) -> ExecutionStatistics:
        """Count executions in groups, and put their numbers together, without fetching them.

        Args:
            group_by: what to group by: `status`, `flow`, `stack`, `tag`,
                `time:hour|day|week|month`, `metadata:<key>`, or `ExecutionStatisticsGrouping`;
                without any there is one group. Times are those of the start, in UTC.
            metrics: `"<name>:<source>:<aggregation>"` or `"<name>:metadata:<key>:<aggregation>"`,
                or `ExecutionStatisticsMetric`. Durations are in seconds.
            flow: only of the flow with this name or id.
            status: only in this status.
            stack: only on this stack.
            tags: only with all of these tags.
            max_groups: how many groups at most, 1 to 10,000: the newest where one grouping is by
                time, else the largest.
            since: only created at this time or later; an aware datetime.
            until: only created before this time; an aware datetime.
            where: only with these metadata values: `{"metadata:<key>": value}`.

        Raises:
            KitaruUsageError: an argument cannot be right; lists what there is.
            KitaruBackendError: it takes longer than half a minute.

        Example:
            >>> import kitaru
            >>> @kitaru.flow
            ... def brewing() -> None: ...
            >>> brewing.run().wait()
            >>> found = kitaru.KitaruClient().executions.statistics(
            ...     group_by=["flow", "status"], metrics=["mean:duration:avg"]
            ... )
            >>> group = found.groups[0]
            >>> group.keys["flow_name"], group.keys["status"], group.execution_count
            ('brewing', 'completed', 1)
            >>> group.metrics["mean"] >= 0
            True
        """
        groupings, wanted = spec.groupings(group_by), spec.metrics(metrics)
        most, conditions = spec.max_groups(max_groups), spec.conditions(where)
        chosen = filters.chosen(flow, status, stack, tags=tags, since=since, until=until)
        # Others read meanwhile: of a large store this may take its time.
        with self._open().apart(seconds=config.STATISTICS_SECONDS) as conn:
            return stored.compute(
                conn, groupings, wanted, where=chosen, conditions=conditions, max_groups=most
            )
