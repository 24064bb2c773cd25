"""Tools that read executions."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Annotated, Any

from kitaru_mcp import replies
from kitaru_mcp.desk import Call
from kitaru_mcp.parameters import Between
from kitaru_mcp.registry import READS, tool
from kitaru_mcp.tools.arguments import (
    CURSOR,
    DETAIL,
    EXEC_ID,
    FLOW,
    STACK,
    Detail,
    Status,
    moment,
)

if TYPE_CHECKING:
    from kitaru.models import Execution

_MAX_ROWS = 200
_NARROW = "kitaru_artifacts_get shows one value, get_execution_logs the logs."


@tool(
    "kitaru_executions_list",
    READS,
    hint="runs failed stuck waiting",
    narrow="Give a smaller limit, or filter by flow, status or tags.",
    always_load=True,
)
def listing(
    call: Call,
    *,
    flow: Annotated[str | None, FLOW] = None,
    status: Annotated[Status | None, "Status."] = None,
    stack: Annotated[str | None, STACK] = None,
    tags: Annotated[list[str] | None, "All of these tags."] = None,
    since: Annotated[str | None, "24h, 7d, or ISO 8601 with zone."] = None,
    until: Annotated[str | None, "Like since."] = None,
    limit: Annotated[int, f"1-{_MAX_ROWS}, default 20.", Between(1, _MAX_ROWS)] = 20,
    cursor: Annotated[str | None, CURSOR] = None,
    detail: Annotated[Detail, DETAIL] = "concise",
) -> dict[str, Any]:
    """Executions, newest first, a short row each; status="waiting" finds what needs an answer."""
    found = partial(
        call.client.executions.list,
        flow,
        status,
        stack,
        tags=tags,
        cursor=cursor,
        since=moment("since", since),
        until=moment("until", until),
    )

    def page(limit: int) -> dict[str, Any]:
        executions = found(limit=limit)
        return {
            "items": [_row(execution, detail=detail) for execution in executions],
            "count": len(executions),
            **({"next_cursor": executions.next_cursor} if executions.next_cursor else {}),
        }

    return replies.page(page, limit=limit)


def _row(execution: Execution, *, detail: Detail) -> dict[str, Any]:
    from kitaru import render
    from kitaru_mcp import views

    return render.summary(execution) if detail == "full" else views.row(execution)


@tool(
    "kitaru_executions_get",
    READS,
    hint="inspect run error question",
    narrow=_NARROW,
    always_load=True,
)
def get(
    call: Call,
    *,
    exec_id: Annotated[str, EXEC_ID],
    detail: Annotated[Detail, DETAIL] = "concise",
) -> dict[str, Any]:
    """One execution: status, inputs, result, failure, open questions, last checkpoints.
    detail="full": every checkpoint, attempt and artifact."""
    return shown(call, call.client.executions.get(exec_id), detail=detail)


@tool(
    "kitaru_executions_latest",
    READS,
    hint="newest run",
    narrow=_NARROW,
)
def latest(
    call: Call,
    *,
    flow: Annotated[str | None, FLOW] = None,
    status: Annotated[str | None, "As in the list."] = None,
    stack: Annotated[str | None, STACK] = None,
) -> dict[str, Any]:
    """The newest execution that fits, as by kitaru_executions_get."""
    return shown(call, call.client.executions.latest(flow, status, stack))


def shown(call: Call, execution: Execution, *, detail: Detail = "concise") -> dict[str, Any]:
    """An execution as the tools show one."""
    from kitaru import render
    from kitaru_mcp import views

    if detail == "full":
        return render.full(execution, repeats=False)
    data = views.overview(execution, offered=call.desk.offered, home=call.client.home)
    if execution.stalled:
        data["status_reason"] = "Its process is gone: it crashed, was killed, or left (os._exit)."
        if words := call.client.executions.last_words(execution.exec_id):
            data["last_words"] = render.safe_text(words)
    if waits_unseen(execution):
        executions, exec_id = call.client.executions, execution.exec_id
        # In this order: a driver that ends between the two looks leaves the command behind.
        obstacle = executions.obstacle(exec_id)
        if obstacle is not None:
            data["waits_for"] = render.safe_text(obstacle)
        if not executions.continues(exec_id):  # so a wait for it would end at once
            line = views.resume_line(exec_id, call.client.home)
            data["next"] = [line] if obstacle is None else []
    return data


def waits_unseen(execution: Execution) -> bool:
    """Whether it waits, but for no open question: answered already, asleep, or for a child."""
    return execution.status == "waiting" and not execution.pending_waits
