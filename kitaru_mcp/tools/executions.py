"""Tools that read executions."""

from __future__ import annotations

from typing import Annotated, Any

from kitaru_mcp.parameters import Between
from kitaru_mcp.registry import READS, Desk, tool
from kitaru_mcp.replies import MAX_CHARACTERS, compact
from kitaru_mcp.tools.arguments import EXEC_ID, FLOW, STACK, Status, moment

_MAX_ROWS = 100


@tool(
    "kitaru_executions_list",
    READS,
    title="List executions",
    narrow="Give a smaller limit, or filter by flow, status or tags.",
)
def listing(
    desk: Desk,
    *,
    flow: Annotated[str | None, FLOW] = None,
    status: Annotated[Status | None, "Only in this status."] = None,
    stack: Annotated[str | None, STACK] = None,
    tags: Annotated[list[str] | None, "Only with all of these tags."] = None,
    limit: Annotated[
        int, f"How many at most, 1-{_MAX_ROWS}; default 20.", Between(1, _MAX_ROWS)
    ] = 20,
    cursor: Annotated[str | None, "next_cursor of the page before."] = None,
    since: Annotated[
        str | None, "Only created at or after: ISO 8601 with zone, or an age like 24h, 7d."
    ] = None,
    until: Annotated[str | None, "Only created before: same forms as since."] = None,
) -> dict[str, Any]:
    """List executions, newest first: id, flow, status, times, and for waiting ones the question
    (pending_wait). Use status="waiting" for what needs an answer, "failed" for what broke."""
    from kitaru import render

    while True:
        page = desk.client.executions.list(
            flow,
            status,
            stack,
            tags=tags,
            limit=limit,
            cursor=cursor,
            since=moment("since", since),
            until=moment("until", until),
        )
        result = {
            "items": [render.summary(execution) for execution in page],
            "count": len(page),
            "next_cursor": page.next_cursor,
        }
        # A shorter page keeps the cursor right, which clipping could not.
        if limit == 1 or len(compact(result)) <= MAX_CHARACTERS:
            return result
        limit = max(1, limit // 2)


@tool(
    "kitaru_executions_get",
    READS,
    title="Get an execution",
    narrow="kitaru_artifacts_get shows one value, get_execution_logs the logs.",
)
def get(desk: Desk, *, exec_id: Annotated[str, EXEC_ID]) -> dict[str, Any]:
    """One execution in full: status, inputs, result, failure with traceback, pending wait with its
    question and JSON schema, checkpoints with their attempts, and artifact ids."""
    from kitaru import render

    return render.full(desk.client.executions.get(exec_id))


@tool(
    "kitaru_executions_latest",
    READS,
    title="Get the latest execution",
    narrow="kitaru_artifacts_get shows one value, get_execution_logs the logs.",
)
def latest(
    desk: Desk,
    *,
    flow: Annotated[str | None, FLOW] = None,
    status: Annotated[Status | None, "Only in this status."] = None,
    stack: Annotated[str | None, STACK] = None,
) -> dict[str, Any]:
    """The newest execution that fits the filters, in full as by kitaru_executions_get."""
    from kitaru import render

    return render.full(desk.client.executions.latest(flow, status, stack))
