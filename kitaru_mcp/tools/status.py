"""Which store this server works on, what it may do, and where executions can run."""

from __future__ import annotations

from typing import Any

from kitaru_mcp.desk import Call
from kitaru_mcp.registry import READS, tool


@tool(
    "kitaru_status",
    READS,
    hint="store version counts",
)
def status(call: Call) -> dict[str, Any]:
    """The store and why this one, versions, the server's rights, counts by status."""
    from kitaru import render
    from kitaru.client.about import facts

    item = facts(call.client.home)
    counts = call.client.executions.status_counts() if item["exists"] else {}
    policy = call.desk.policy
    item |= {
        "read_only": policy.read_only,
        "flow_roots": [str(root) for root in policy.roots],
        "executions": {str(status): count for status, count in counts.items()},
    }
    return render.shown(item)


@tool(
    "kitaru_stacks_list",
    READS,
    hint="environments",
)
def stacks_list(call: Call) -> dict[str, Any]:
    """The stacks (places where executions run), and which one is active."""
    from kitaru import list_stacks, render

    items = [stack.to_dict() for stack in list_stacks(home=call.client.home.path)]
    return render.shown({"items": items, "count": len(items)})
