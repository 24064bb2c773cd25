"""The tool that counts executions."""

from __future__ import annotations

from typing import Annotated, Any

from kitaru_mcp import replies
from kitaru_mcp.desk import Call
from kitaru_mcp.parameters import Between
from kitaru_mcp.registry import READS, tool
from kitaru_mcp.tools.arguments import FLOW, STACK, moment

_MAX_GROUPS = 10_000
_GROUPS = 50


@tool(
    "kitaru_executions_statistics",
    READS,
    hint="count average cost trend",
    narrow="Give a smaller max_groups, or filter.",
)
def statistics(
    call: Call,
    *,
    group_by: Annotated[
        list[str] | None, "status, flow, stack, tag, time:hour|day|week|month, metadata:<key>."
    ] = None,
    metrics: Annotated[
        list[str] | None,
        "name:duration:avg, name:metadata:<key>:sum, … p95; money is in the key "
        "kitaru_llm_display_cost_usd_v1.",
    ] = None,
    flow: Annotated[str | None, FLOW] = None,
    status: Annotated[str | None, "As in the list."] = None,
    stack: Annotated[str | None, STACK] = None,
    tags: Annotated[list[str] | None, "All of these tags."] = None,
    since: Annotated[str | None, "As in the list."] = None,
    until: Annotated[str | None, "As in the list."] = None,
    where: Annotated[dict[str, Any] | None, '{"metadata:<key>": value}.'] = None,
    max_groups: Annotated[int, f"Default {_GROUPS}.", Between(1, _MAX_GROUPS)] = _GROUPS,
) -> dict[str, Any]:
    """Counts and numbers of executions in groups, without fetching them."""
    from kitaru import render

    found = call.client.executions.statistics(
        group_by,
        metrics,
        flow,
        status=status,
        stack=stack,
        tags=tags,
        max_groups=max_groups,
        since=moment("since", since),
        until=moment("until", until),
        where=where,
    )
    shown = render.statistics(found, group_by=group_by, metrics=metrics)
    groups = [
        {key: value for key, value in group.items() if value or key != "metrics"}
        for group in shown["groups"]
    ]

    def page(most: int) -> dict[str, Any]:
        data: dict[str, Any] = {"groups": groups[:most], "group_count": min(most, len(groups))}
        if most < len(groups) or shown["truncated"]:
            data["truncated"] = True
        if any(shown["skipped"].values()):
            data["skipped"] = shown["skipped"]
        return data

    return replies.page(page, limit=max(1, len(groups)))
