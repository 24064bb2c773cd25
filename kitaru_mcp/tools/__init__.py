"""The one list of tools, in the order clients see them."""

from __future__ import annotations

from kitaru_mcp.registry import Tool
from kitaru_mcp.tools import artifacts, executions, steering
from kitaru_mcp.tools.logs import execution_logs
from kitaru_mcp.tools.statistics import statistics
from kitaru_mcp.tools.status import stacks_list, status
from kitaru_mcp.tools.waiting import wait

TOOLS: tuple[Tool, ...] = (
    executions.listing,
    executions.get,
    executions.latest,
    statistics,
    execution_logs,
    artifacts.listing,
    artifacts.get,
    wait,
    steering.answer,
    steering.run,
    steering.retry,
    steering.replay,
    steering.cancel,
    stacks_list,
    status,
)
