"""Which store this server works on, and what it may do."""

from __future__ import annotations

from typing import Any

from kitaru_mcp.registry import READS, Desk, tool


@tool("kitaru_status", READS, title="Kitaru status")
def status(desk: Desk) -> dict[str, Any]:
    """Which store this server uses and why, versions, whether the server is read-only, the folders
    it may run flows from, and how many executions are in each status."""
    from kitaru import render
    from kitaru.client.about import facts

    item = facts(desk.client.home)
    counts = desk.client.executions.status_counts() if item["exists"] else {}
    item |= {
        "read_only": desk.policy.read_only,
        "flow_roots": [str(root) for root in desk.policy.roots],
        "executions": {str(status): count for status, count in counts.items()},
    }
    return render.shown(item)
