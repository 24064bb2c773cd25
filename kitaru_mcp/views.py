"""Short forms of what the client returns: what a model needs to decide what to ask next.

A row of a list takes at most `ROW_BYTES`. What is long is clipped and says so; empty fields are
left out; `next` has at most two calls that usually follow. The whole of everything is there with
`detail="full"`.
"""

from __future__ import annotations

import json
import shlex
from collections import Counter
from datetime import datetime
from typing import Any

from kitaru import render
from kitaru.config import Home
from kitaru.models import (
    ArtifactRef,
    CheckpointCall,
    Execution,
    ExecutionStatus,
    FailureInfo,
    PendingWait,
)
from kitaru_mcp.replies import compact

ROW_BYTES = 150
_NAME = 40
_LEAST_NOTE = 12
_VALUE = 600
_MESSAGE = 300
_TRACEBACK = 900
_LINE = 200
_CHECKPOINTS = 20


def row(execution: Execution) -> dict[str, Any]:
    """An execution in a list."""
    shown = {
        "exec_id": execution.exec_id,
        "flow": "",
        "status": _status(execution),
        "at": _moment(execution.created_at),
        "age": render.age(execution.created_at),
    }
    room = ROW_BYTES - _size(shown)
    note, used = _note(execution), render.used_shortly(execution)
    needed = len(used) + len(',"used":""') if used else 0
    flow = render.safe_text(execution.flow_name)
    shown["flow"] = flow = _within(flow, room if note else room - needed)
    room -= _size(flow) - 2
    least = len(',"note":""') + _LEAST_NOTE
    # What went wrong, or is asked, comes first: it is what somebody has to act on.
    if needed and room >= needed + (least if note else 0):
        shown["used"] = used
        room -= needed
    if note and room >= least:
        shown["note"] = _within(note, room - least + _LEAST_NOTE)
    return shown


def _within(text: str, room: int) -> str:
    """The beginning of a text that takes at most so many bytes as JSON."""
    if len(text) <= room and ((text.isalnum() and text.isascii()) or _size(text) - 2 <= room):
        return text
    text = text[: max(0, room)]
    while text and _size(text) + 1 > room:
        text = text[:-1]
    return f"{text.rstrip()}…"


def title(execution: Execution) -> str:
    """One line for people."""
    flow = _within(render.safe_text(execution.flow_name), _NAME)
    return f"{flow}: {_status(execution)}, {render.age(execution.created_at)} ago"


def overview(execution: Execution, *, offered: Any, home: Home) -> dict[str, Any]:
    """An execution by itself.

    Args:
        execution: the execution.
        offered: the names of tools that may be suggested.
        home: its store's.
    """
    ended = execution.ended_at
    data = {
        "exec_id": execution.exec_id,
        "flow": execution.flow_name,
        "status": execution.status.value,
        "stalled": execution.stalled,
        "status_reason": _reason(execution),
        "created_at": execution.created_at.isoformat(timespec="seconds"),
        "age": render.age(execution.created_at),
        "took": _took(execution.started_at, ended) if ended else None,
        "tags": list(execution.tags),
        "metadata": _value(render.own_metadata(execution)),
        "target": execution.frozen_execution_spec.get("target"),
        "inputs": _value(execution.inputs),
        "failure": _failure(execution.failure),
        "checkpoints": _checkpoints(execution),
        "llm_usage": render.used(execution.llm_usage_summary),
        "artifact_count": execution.artifact_count,
        "original_exec_id": execution.original_exec_id,
        "parent_exec_id": execution.parent_exec_id,
        "children": list(execution.children),
    }
    shown = render.shown({key: value for key, value in data.items() if value not in _EMPTY})
    if asked := waits(execution):
        shown["pending_waits"] = asked
    if execution.status.is_successful:  # an empty one is told, too
        shown["result"] = render.shown_value(_value(execution.result))
    shown["next"] = suggestions(execution, offered=offered, home=home)
    return shown


def artifact(ref: ArtifactRef) -> dict[str, Any]:
    """An artifact in a list; its name is left out where its id ends with it."""
    data: dict[str, Any] = {"artifact_id": ref.artifact_id, "size": ref.size}
    if ref.kind is not None:
        data["kind"] = ref.kind
    if ref.save_type != "step_output":
        data["save_type"] = ref.save_type
    if not ref.artifact_id.endswith(f"/{ref.name}"):
        data["name"] = ref.name
    return render.shown(data)


_EMPTY: tuple[Any, ...] = (None, False, "", [], {})


def resume_line(exec_id: str, home: Home) -> str:
    """How an execution goes on that nobody drives; in any shell, whatever store it would find."""
    is_named = home.source in ("explicit argument", "KITARU_HOME")
    store = f"KITARU_HOME={shlex.quote(str(home.path))} " if is_named else ""
    return f"in a shell: {store}kitaru executions resume {exec_id}"


def suggestions(execution: Execution, *, offered: Any, home: Home) -> list[str]:
    """The calls, or the command, that usually come next; two at most."""
    exec_id = execution.exec_id
    given = f'exec_id="{exec_id}"'
    if execution.stalled:
        return [resume_line(exec_id, home)]
    calls = {
        ExecutionStatus.FAILED: [
            f"get_execution_logs({given}, tail=50)",
            f"kitaru_executions_retry({given})",
        ],
        ExecutionStatus.WAITING: [_answer(given, each) for each in execution.pending_waits]
        or [f"kitaru_executions_wait({given})"],
        ExecutionStatus.COMPLETED: [f"kitaru_artifacts_list({given})"],
    }.get(execution.status, [f"kitaru_executions_wait({given})"])
    if execution.status is ExecutionStatus.CANCELLED:
        calls = [f"get_execution_logs({given}, tail=50)"]
    return [call for call in calls if call.partition("(")[0] in offered][:2]


def _answer(given: str, wait: PendingWait) -> str:
    return f"kitaru_executions_input({given}, wait={json.dumps(wait.name)}, value=…)"


def _status(execution: Execution) -> str:
    return "stalled" if execution.stalled else execution.status.value


def _note(execution: Execution) -> str:
    """What a list says about it beyond its status."""
    if execution.failure is not None:
        text = execution.failure.message
    elif execution.pending_wait is not None:
        text = f"asks {execution.pending_wait.name}"
    else:
        return ""
    return " ".join(render.safe_text(text)[:_MESSAGE].split())


def _failure(failure: FailureInfo | None) -> dict[str, Any] | None:
    if failure is None:
        return None
    return {
        "type": failure.exception_type,
        "message": _clip(failure.message, _MESSAGE),
        "origin": failure.origin.value,
        "traceback": _end(failure.traceback or ""),
    }


def _end(traceback: str) -> str:
    """The last lines of a traceback, which say where it was raised."""
    lines, kept, room = traceback.splitlines(), [], _TRACEBACK
    while lines and room > 0:
        kept.append(_clip(lines.pop(), _LINE))
        room -= len(kept[-1])
    return "\n".join([*([f"[{len(lines)} lines before]"] if lines else []), *reversed(kept)])


def _reason(execution: Execution) -> str:
    """Why the status is what it is, unless the failure or the question says so."""
    is_said = execution.failure is not None or execution.pending_waits
    return "" if is_said else _clip(execution.status_reason or "", _MESSAGE)


def waits(execution: Execution) -> list[dict[str, Any]]:
    """Its open questions, oldest first."""
    return [_wait(each) for each in execution.pending_waits]


def _wait(wait: PendingWait) -> dict[str, Any]:
    data = {
        "name": wait.name,
        "question": _clip(wait.question or "", _VALUE),
        "metadata": _value(wait.metadata),
        "since": wait.entered_waiting_at.isoformat(timespec="seconds"),
    }
    shown = render.shown({key: value for key, value in data.items() if value not in _EMPTY})
    # A schema holds no values; it has to tell what a secret that is asked for must be.
    return {**shown, "schema": render.shown_value(wait.schema, masks=False)}


def _checkpoints(execution: Execution) -> dict[str, Any]:
    """How many there are in each status, and the last ones; failed ones always."""
    calls = execution.checkpoints
    if not calls:
        return {}
    counts = Counter(call.status.value for call in calls)
    failed = [call for call in calls if call.failure is not None][-_CHECKPOINTS // 2 :]
    chosen = {call.call_id for call in [*failed, *calls[-(_CHECKPOINTS - len(failed)) :]]}
    known = execution.failure.message if execution.failure else None
    rows = [_call(call, known=known) for call in calls if call.call_id in chosen]
    hidden = len(calls) - len(rows)
    return {
        "counts": dict(counts),
        **({"not_shown": hidden} if hidden else {}),
        "last": rows,
    }


def _call(call: CheckpointCall, *, known: str | None) -> dict[str, Any]:
    """A checkpoint; a failure that is the execution's own, `known`, is not told again."""
    failure = call.failure.message if call.failure else ""
    data = {
        "call_id": call.call_id,
        "status": call.status.value,
        "took": _took(call.started_at, call.ended_at),
        "attempts": len(call.attempts) if len(call.attempts) > 1 else None,
        "cached_from": call.cached_from,
        "failure": "" if failure == known else _clip(failure, _MESSAGE),
        "llm_usage": render.used_of(call),
    }
    return {key: value for key, value in data.items() if value not in _EMPTY}


def _took(start: datetime | None, end: datetime | None) -> str | None:
    return render.span((end - start).total_seconds()) if start and end else None


def _value(value: Any) -> Any:
    """A value, or the beginning of its JSON where that is long."""
    text = compact(render.shown_value(value))
    return value if len(text) <= _VALUE else _clip(text, _VALUE)


def _clip(text: str, most: int) -> str:
    text = render.safe_text(text)  # first: a cut would leave a part of a registered value
    return text if len(text) <= most else f"{text[:most]}… [{len(text) - most} more characters]"


def _moment(moment: datetime) -> str:
    return f"{moment.isoformat(timespec='minutes')[:16]}Z"


def _size(data: Any) -> int:
    return len(compact(data).encode())
