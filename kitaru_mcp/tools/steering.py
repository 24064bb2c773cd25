"""Tools that change executions: run, answer, retry, replay, cancel.

There is no tool that resumes: an answer continues an execution whose driver is alive, and the
reply to it says when `kitaru executions resume` is needed instead.
"""

from __future__ import annotations

import json
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any

from kitaru.errors import KitaruUsageError, KitaruWaitValidationError
from kitaru.models import move
from kitaru_mcp.desk import Call
from kitaru_mcp.parameters import Between, parsed
from kitaru_mcp.registry import DESTROYS, RUNS_CODE, RUNS_CODE_AGAIN, tool
from kitaru_mcp.threads import in_changing_thread, in_start_thread, in_thread
from kitaru_mcp.tools.arguments import EXEC_ID, KEY
from kitaru_mcp.tools.executions import shown
from kitaru_mcp.tools.waiting import MAX_SECONDS, settled

if TYPE_CHECKING:
    from kitaru.models import Execution

#: How long a driver usually needs until it has stopped; nothing depends on it.
_STOP_SECONDS = 1
_CANCELLING = {"cancelling": "Its driver stops at its next checkpoint, or is ended in 10 seconds."}
_NAMED = 5


#: No JSON value: none was given.
_NO_JSON: Any = object()


@tool("kitaru_executions_run", RUNS_CODE, hint="start launch")
async def run(
    call: Call,
    *,
    target: Annotated[str, "path/to/file.py:flow or module:flow, under a flow root."],
    args: Annotated[dict[str, Any] | None, "The flow's inputs by name."] = None,
    stack: Annotated[str | None, "The stack to run on."] = None,
    wait_seconds: Annotated[
        int,
        f"Wait for its end or question, 0-{MAX_SECONDS}, default 0.",
        Between(0, MAX_SECONDS),
    ] = 0,
    idempotency_key: Annotated[str | None, KEY] = None,
) -> dict[str, Any]:
    """Start a flow in a process of its own, which goes on when this returns."""
    allowed = call.desk.policy.target(target)
    key = idempotency_key or call.tool_use_id
    start = partial(
        call.client.executions.run,
        allowed.target,
        args,
        root=allowed.root,
        stack=stack,
        idempotency_key=key,
    )
    started = await in_start_thread(start)
    execution = await settled(call, started, seconds=wait_seconds)
    return await _acted(call, execution, repeated=started.repeated)


@tool(
    "kitaru_executions_input",
    RUNS_CODE,
    hint="approve reply resume",
)
def answer(
    call: Call,
    *,
    exec_id: Annotated[str, EXEC_ID],
    wait: Annotated[str, "The open question's name."],
    value: Annotated[Any, "JSON that fits the question's schema; null for a go-ahead."] = _NO_JSON,
) -> dict[str, Any]:
    """Answer an open question, once; checked against its schema. The reply says whether the
    execution continues by itself, else the command that continues it."""
    from kitaru_mcp import views

    executions = call.client.executions
    found = executions.summary(exec_id)
    exec_id = found.exec_id  # once: answered, it may no longer be `latest:waiting`
    if value is _NO_JSON:
        _check_go_ahead(found, wait)
        value = None
    try:
        execution, going_on = executions.answer(exec_id, wait=wait, value=value)
    except KitaruWaitValidationError:
        # Some clients send every argument as text.
        meant = parsed(value)
        if meant is value:
            raise
        execution, going_on = executions.answer(exec_id, wait=wait, value=meant)
    data = shown(call, execution)
    if not going_on:
        data["next"] = [views.resume_line(execution.exec_id, call.client.home)]
    return {"continues_by_itself": going_on, "execution": data}


@tool(
    "kitaru_executions_retry",
    RUNS_CODE,
    hint="rerun failed",
)
async def retry(
    call: Call,
    *,
    exec_id: Annotated[str, EXEC_ID],
    idempotency_key: Annotated[str | None, KEY] = None,
) -> dict[str, Any]:
    """Run a failed execution again from where it failed; what is recorded is kept. Returns at
    once."""
    found = await in_thread(partial(_allowed, call, exec_id))
    key = idempotency_key or call.tool_use_id
    start = partial(call.client.executions.retry, found.exec_id, idempotency_key=key)
    execution = await in_start_thread(start)
    return await _acted(call, execution, repeated=execution.repeated)


@tool(
    "kitaru_executions_replay",
    RUNS_CODE_AGAIN,
    hint="fork what-if",
)
async def replay(
    call: Call,
    *,
    exec_id: Annotated[str, EXEC_ID],
    from_: Annotated[str, "Checkpoint (name or call id) from which calls run again."],
    overrides: Annotated[
        dict[str, Any] | None, 'Results to replace: {"checkpoint.<name>": value}.'
    ] = None,
    flow_inputs: Annotated[dict[str, Any] | None, "Flow inputs to replace."] = None,
    confirm: Annotated[bool, "true: calls may repeat their effects."] = False,
    idempotency_key: Annotated[str | None, KEY] = None,
) -> dict[str, Any]:
    """Start a new execution that reuses this one's record up to a checkpoint and runs the rest
    again."""
    found = await in_thread(partial(_allowed, call, exec_id))
    executions = call.client.executions
    preview = partial(executions.replay_preview, from_=from_, overrides=overrides)
    again = await in_thread(partial(preview, found.exec_id))
    await call.confirm(
        f"Replay {_named(found)} from {_listed(again)}{_changed(overrides, flow_inputs)}: "
        "what they do outside, they do again.",
        about=found.exec_id,
        confirmed=confirm,
    )
    start = partial(
        executions.replay_with,
        found.exec_id,
        from_=from_,
        overrides=overrides,
        flow_inputs=flow_inputs,
        idempotency_key=idempotency_key or call.tool_use_id,
    )
    execution = await in_start_thread(start)
    acted = await _acted(call, execution, repeated=execution.repeated)
    return {"available": True, "operation": "replay", **acted}


@tool(
    "kitaru_executions_cancel",
    DESTROYS,
    hint="stop abort kill",
)
async def cancel(
    call: Call,
    *,
    exec_id: Annotated[str, EXEC_ID],
    confirm: Annotated[bool, "true: it cannot continue afterwards."] = False,
) -> dict[str, Any]:
    """Stop an execution for good: at once when it waits, else at its next checkpoint."""
    executions = call.client.executions
    found = await in_thread(partial(executions.summary, exec_id))
    move("cancel", exec_id=found.exec_id, status=found.status)
    await call.confirm(
        f"Cancel {_named(found)}, which is {found.status}: it cannot continue afterwards.",
        about=found.exec_id,
        confirmed=confirm,
    )
    asked = await in_changing_thread(partial(executions.cancel, found.exec_id))
    execution = await settled(call, asked, seconds=_STOP_SECONDS)
    return await _acted(call, execution) | ({} if execution.status.is_finished else _CANCELLING)


def _allowed(call: Call, exec_id: str) -> Execution:
    """An execution whose recorded code this server may run."""
    execution = call.client.executions.summary(exec_id)
    spec = execution.frozen_execution_spec
    if spec["target"] is not None:  # without a target, the client says why it cannot go on
        call.desk.policy.check_recorded(spec["target"], root=spec["root"])
    return execution


def _changed(overrides: dict[str, Any] | None, flow_inputs: dict[str, Any] | None) -> str:
    from kitaru import render

    names = ", ".join([*(overrides or {}), *(flow_inputs or {})])
    return f" with other values of {render.safe_text(names)[:200]}" if names else ""


def _listed(calls: list[str]) -> str:
    from kitaru import render

    first = ", ".join(calls[:_NAMED]) + (" …" if len(calls) > _NAMED else "")
    return f"{render.safe_text(first)[:200]} ({len(calls)} recorded calls run again)"


def _named(execution: Execution) -> str:
    from kitaru import render

    return f"{execution.exec_id} ({render.safe_text(execution.flow_name)[:60]})"


async def _acted(call: Call, execution: Execution, *, repeated: bool = False) -> dict[str, Any]:
    """The execution as it is after an action; `repeated` when a call before did it already."""

    def reply() -> dict[str, Any]:
        found = call.client.executions.get(execution.exec_id)
        return {"execution": shown(call, found)} | ({"repeated": True} if repeated else {})

    return await in_thread(reply)


def _check_go_ahead(execution: Execution, wait: str) -> None:
    """Refuse an answer without a value, unless null is all that can be answered.

    Raises:
        KitaruUsageError: a value is asked for; null might fit it, but was not said.
    """
    for each in execution.pending_waits:
        is_meant = wait in (each.name, each.wait_id) or each.name.startswith(f"{wait}#")
        if is_meant and each.schema is not None:
            raise KitaruUsageError(
                f"{wait!r:.140} needs a value. Nothing was answered: call again with value, as "
                f"JSON that fits {json.dumps(each.schema, separators=(',', ':')):.150}"
            )
