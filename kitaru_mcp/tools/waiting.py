"""Waiting for an execution, within what clients wait for an answer: the wait tool, and `run`'s.

A wait looks whether anybody committed to the store, which costs microseconds, and reads the
execution only then. It ends early when the execution ends, asks, or has lost its driver, and when
the server ends; cancelling the call ends the wait and nothing else.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Annotated, Any

import anyio

from kitaru_mcp.desk import Call
from kitaru_mcp.parameters import Between
from kitaru_mcp.registry import READS, tool
from kitaru_mcp.threads import in_thread
from kitaru_mcp.tools.arguments import EXEC_ID
from kitaru_mcp.tools.executions import shown, waits_unseen

if TYPE_CHECKING:
    from kitaru.models import Execution

#: Clients give up on a call after 60 seconds.
MAX_SECONDS = 50
_LOOK_SECONDS = 0.02
#: A driver that dies commits nothing, so now and then the execution itself is looked at.
_UNCHANGED_SECONDS = 1.0
_PAGE = 200
#: Of many that ended between two looks, the last ones are told.
_TOLD = 20


@tool(
    "kitaru_executions_wait",
    READS,
    hint="poll until finished",
)
async def wait(
    call: Call,
    *,
    exec_id: Annotated[str, EXEC_ID],
    timeout_seconds: Annotated[int, f"0-{MAX_SECONDS}, default 30.", Between(0, MAX_SECONDS)] = 30,
) -> dict[str, Any]:
    """Wait until an execution ends, asks or loses its driver. settled=false: time was up, call
    again."""
    executions = call.client.executions
    execution = await in_thread(partial(executions.summary, exec_id))
    execution = await settled(call, execution, seconds=timeout_seconds)

    def reply() -> dict[str, Any]:
        found = executions.get(execution.exec_id)
        return {"settled": is_settled(call, found), **shown(call, found)}

    return await in_thread(reply)


def is_settled(call: Call, execution: Execution) -> bool:
    """Whether nothing happens until somebody does something."""
    if execution.status.is_finished or execution.stalled or execution.pending_waits:
        return True
    return waits_unseen(execution) and not call.client.executions.continues(execution.exec_id)


async def settled(call: Call, execution: Execution, *, seconds: float) -> Execution:
    """The execution once it is settled, or as it is when the time is up."""
    version, done, is_on = None, 0, False
    ended, desk = _Ended(call, execution.exec_id), call.desk
    with anyio.move_on_after(seconds):
        while not desk.is_ending:
            with anyio.move_on_after(_UNCHANGED_SECONDS):
                version = await desk.pulse.changed(version, pause=_LOOK_SECONDS)
            names, execution, is_over = await in_thread(ended.look)
            # What had ended before is only counted: a wait that goes on tells nothing twice.
            told = names[-_TOLD if is_on else -1 :]
            done, is_on = done + len(names), True
            for number, name in enumerate(told, start=done + 1 - len(told)):
                await call.progress(number, name)
            if is_over:
                break
    return execution


class _Ended:
    """The checkpoints that end while a call waits; a thread's work."""

    def __init__(self, call: Call, exec_id: str) -> None:
        self._call, self._exec_id = call, exec_id
        self._cursor: str | None = None

    def look(self) -> tuple[list[str], Execution, bool]:
        """What has ended since the last look, the execution, and whether it is settled."""
        executions, names = self._call.client.executions, []
        while True:
            page = executions.ended_checkpoints(self._exec_id, cursor=self._cursor, limit=_PAGE)
            self._cursor = page.next_cursor
            names += [f"{each.call_id}: {each.status}" for each in page]
            if len(page) < _PAGE:
                break
        found = executions.summary(self._exec_id)
        return names, found, is_settled(self._call, found)
