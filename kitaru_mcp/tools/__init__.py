"""The one list of tools, in the order clients see them."""

from __future__ import annotations

from kitaru_mcp.registry import Tool
from kitaru_mcp.tools import artifacts, executions, steering
from kitaru_mcp.tools.logs import execution_logs
from kitaru_mcp.tools.status import status

TOOLS: tuple[Tool, ...] = (
    status,
    executions.listing,
    executions.get,
    executions.latest,
    execution_logs,
    artifacts.listing,
    artifacts.get,
    steering.run,
    steering.answer,
    steering.retry,
    steering.replay,
    steering.cancel,
)
