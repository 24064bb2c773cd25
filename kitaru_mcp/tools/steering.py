"""Tools that change executions: run, answer, retry, replay, cancel.

There is no tool that resumes: an answer continues an execution whose driver is alive, and the
reply to it says when `kitaru executions resume` is needed instead.
"""

from __future__ import annotations

import json
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any

import anyio

from kitaru.errors import KitaruUsageError, KitaruWaitValidationError
from kitaru.models import move
from kitaru_mcp.parameters import Between
from kitaru_mcp.registry import DESTROYS, RUNS_CODE, Desk, tool
from kitaru_mcp.threads import in_start_thread, in_thread
from kitaru_mcp.tools.arguments import EXEC_ID

if TYPE_CHECKING:
    from kitaru.models import Execution

#: Clients give up on a call after 60 seconds.
_MAX_WAIT_SECONDS = 50
_FIRST_LOOK_SECONDS = 0.02
_LAST_LOOK_SECONDS = 0.5


@tool("kitaru_executions_run", RUNS_CODE, title="Run a flow")
async def run(
    desk: Desk,
    *,
    target: Annotated[
        str, "'path/to/file.py:flow' or 'module:flow', from a flow root of the server."
    ],
    args: Annotated[dict[str, Any] | None, "The flow's inputs by name."] = None,
    wait_seconds: Annotated[
        int,
        f"Seconds to wait for it to finish or ask, 0-{_MAX_WAIT_SECONDS}; default 0.",
        Between(0, _MAX_WAIT_SECONDS),
    ] = 0,
) -> dict[str, Any]:
    """Start a flow in a process of its own, and return its execution at once, or when it has
    finished, failed or asks a question, within wait_seconds. It goes on either way."""
    allowed = desk.policy.target(target)
    executions = desk.client.executions
    start = partial(executions.run, allowed.target, args, root=allowed.root)
    execution = await in_start_thread(start)
    pause = _FIRST_LOOK_SECONDS
    with anyio.move_on_after(wait_seconds):
        while not _is_settled(execution):
            await anyio.sleep(pause)
            pause = min(pause * 1.5, _LAST_LOOK_SECONDS)
            execution = await in_thread(partial(executions.get, execution.exec_id))
    return _shown(execution)


@tool("kitaru_executions_input", RUNS_CODE, title="Answer a waiting execution")
def answer(
    desk: Desk,
    *,
    exec_id: Annotated[str, EXEC_ID],
    wait: Annotated[str, "The name of the pending wait (pending_wait.name)."],
    value: Annotated[
        Any, "The answer: any JSON that fits pending_wait.schema; null for a plain go-ahead."
    ] = None,
) -> dict[str, Any]:
    """Answer the question an execution waits for. The answer is checked against the wait's schema
    and accepted once. The reply says whether the execution continues by itself; if not, it has
    the command that continues it."""
    executions = desk.client.executions
    try:
        executions.input(exec_id, wait=wait, value=value)
    except KitaruWaitValidationError:
        # Some clients send every argument as text.
        parsed = _json_text(value)
        if parsed is _NO_JSON:
            raise
        executions.input(exec_id, wait=wait, value=parsed)
    # In this order: a driver that ends between the two looks is seen as finished, not as gone.
    driven = executions.continues(exec_id)
    execution = executions.get(exec_id)
    line = f"kitaru executions resume {execution.exec_id}"
    if execution.status.is_finished:
        coming = "Nothing: it has ended."
    elif driven:
        coming = "It goes on by itself; kitaru_executions_get shows how far it is."
    else:
        coming = f"The answer is recorded, but no process drives this execution. Run: {line}"
    going_on = driven or execution.status.is_finished
    return {"continues_by_itself": going_on, "next": coming, **_shown(execution)}


@tool("kitaru_executions_retry", RUNS_CODE, title="Retry a failed execution")
async def retry(desk: Desk, *, exec_id: Annotated[str, EXEC_ID]) -> dict[str, Any]:
    """Run a failed execution again from where it failed, under the same id. Recorded checkpoints
    are kept; the failed one runs again. Returns at once."""
    found = await in_thread(partial(_allowed, desk, exec_id))
    return _shown(await in_start_thread(partial(desk.client.executions.retry, found)))


@tool("kitaru_executions_replay", RUNS_CODE, title="Replay an execution")
async def replay(
    desk: Desk,
    *,
    exec_id: Annotated[str, EXEC_ID],
    from_: Annotated[str, "The checkpoint (name or call id) from which calls run again."],
    overrides: Annotated[
        dict[str, Any] | None,
        'Results to replace: {"checkpoint.<name or call id>": value}.',
    ] = None,
    flow_inputs: Annotated[
        dict[str, Any] | None, "Flow inputs to replace; they reach only code that runs again."
    ] = None,
) -> dict[str, Any]:
    """Start a new execution that reuses this one's record up to a checkpoint and runs the rest
    again. The original stays as it is. Returns at once."""
    found = await in_thread(partial(_allowed, desk, exec_id))
    start = partial(
        desk.client.executions.replay_with,
        found,
        from_=from_,
        overrides=overrides,
        flow_inputs=flow_inputs,
    )
    execution = await in_start_thread(start)
    return {"available": True, "operation": "replay", **_shown(execution)}


@tool("kitaru_executions_cancel", DESTROYS, title="Cancel an execution")
def cancel(
    desk: Desk,
    *,
    exec_id: Annotated[str, EXEC_ID],
    confirm: Annotated[bool, "Must be true: a cancelled execution cannot continue."] = False,
) -> dict[str, Any]:
    """Stop an execution for good: at once when it waits, else at its next checkpoint."""
    executions = desk.client.executions
    if not confirm:
        execution = executions.get(exec_id)
        move("cancel", exec_id=execution.exec_id, status=execution.status)
        raise KitaruUsageError(
            f"Nothing was cancelled: {execution.exec_id} ({execution.flow_name}) is "
            f"{execution.status}, and cancelling cannot be undone. Call again with confirm=true."
        )
    return _shown(executions.cancel(exec_id))


def _allowed(desk: Desk, exec_id: str) -> str:
    """The full id of an execution whose recorded code this server may run."""
    execution = desk.client.executions.get(exec_id)
    spec = execution.frozen_execution_spec
    if spec["target"] is not None:  # without a target, the client says why it cannot go on
        desk.policy.check_recorded(spec["target"], root=spec["root"])
    return execution.exec_id


def _is_settled(execution: Execution) -> bool:
    return execution.status not in ("pending", "running") or execution.stalled


def _shown(execution: Execution) -> dict[str, Any]:
    from kitaru import render

    result = {"result": execution.result} if execution.status.is_successful else {}
    return {"execution": {**render.summary(execution), **render.shown(result)}}


_NO_JSON = object()


def _json_text(value: Any) -> Any:
    if isinstance(value, str):
        try:
            return json.loads(value)
        except (ValueError, RecursionError):
            return _NO_JSON
    return _NO_JSON
