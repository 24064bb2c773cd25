"""Executions and artifacts as text for people."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from kitaru.cli import output
from kitaru.models import ArtifactRef, CheckpointCall, Execution, LogEntry, Page


def execution(found: Execution, *, continues: bool) -> str:
    """One execution, and how to continue it where it does not go on by itself."""
    waits = found.pending_waits
    calls = [call for call in found.checkpoints if call.checkpoint_type != "wait"]
    pairs = [
        ("Execution ID", found.exec_id),
        ("Flow", found.flow_name),
        ("Status", status(found)),
        ("Started", output.moment(found.started_at)),
        ("Ended", output.moment(found.ended_at)),
        ("Stack", found.stack_name),
        ("Pending wait", ", ".join(wait.name for wait in waits) or "none"),
        ("Wait question", "; ".join(wait.question or "not set" for wait in waits) or "none"),
        ("Failure", found.failure.message if found.failure else "none"),
        ("Checkpoints", ", ".join(map(_call, calls)) or "none"),
        ("LLM usage", json.dumps(found.llm_usage_summary) if found.llm_usage_summary else "none"),
    ]
    if found.status_reason and not waits and not found.failure:
        pairs.append(("Reason", found.status_reason))
    if found.parent_exec_id is not None:
        pairs.append(("Parent", found.parent_exec_id))
    if found.children:
        pairs.append(("Children", ", ".join(found.children)))
    return output.fields("Kitaru execution", pairs) + _hint(found, continues)


def _call(call: CheckpointCall) -> str:
    cached = f", cached from {call.cached_from}" if call.cached_from else ""
    return f"{call.call_id} ({call.status}{cached})"


def outcome(did: str, found: Execution, *, continues: bool = True) -> str:
    """What an action did to an execution, such as `Resumed execution`."""
    head = output.fields(f"{did}: {found.exec_id}", [("Status", status(found))])
    return head + _hint(found, continues)


def status(found: Execution) -> str:
    """An execution's status, and whether nobody drives it although it runs."""
    return f"{found.status} (stalled)" if found.stalled else str(found.status)


def _hint(found: Execution, continues: bool) -> str:
    if continues and not found.stalled:
        return ""
    return f"\nContinue it with: kitaru executions resume {found.exec_id}"


def execution_table(page: Page[Execution]) -> str:
    """A page of executions, and how to get the next one."""
    text = output.table(
        "Kitaru executions",
        ("ID", "Flow", "Status", "Started", "Ended", "Stack"),
        [
            (
                each.exec_id,
                each.flow_name,
                status(each),
                output.moment(each.started_at, separator=" ", missing="-"),
                output.moment(each.ended_at, separator=" ", missing="-"),
                each.stack_name,
            )
            for each in page
        ],
        none="executions",
    )
    if page.next_cursor is not None:
        text += f"\nThere are more: repeat the command with --cursor {page.next_cursor}"
    return text


def log_lines(entries: Sequence[LogEntry], *, exec_id: str) -> str:
    """The messages of log entries, or that there are none."""
    if not entries:
        return output.line(f"No log entries found for execution {exec_id}.")
    return "\n".join(output.block(entry.message) for entry in entries)


def artifact_table(refs: Sequence[ArtifactRef]) -> str:
    """The artifacts of an execution."""
    return output.table(
        "Kitaru artifacts",
        ("ID", "Name", "Kind", "Type", "Call", "Bytes"),
        [
            (
                ref.artifact_id,
                ref.name,
                ref.kind or "-",
                ref.save_type,
                ref.producing_call,
                str(ref.size),
            )
            for ref in refs
        ],
        none="artifacts",
    )


def artifact(shown: dict[str, Any]) -> str:
    """One artifact with its value, from the JSON that may be shown of it."""
    head = output.fields(
        "Kitaru artifact",
        [
            ("Artifact ID", shown["artifact_id"]),
            ("Name", shown["name"]),
            ("Kind", shown["kind"] or "not set"),
            ("Type", shown["save_type"]),
            ("Produced by", shown["producing_call"]),
            ("Created", shown["created_at"]),
            ("Bytes", shown["size"]),
        ],
    )
    value = shown["value"]
    text = value if isinstance(value, str) else json.dumps(value, indent=2, ensure_ascii=False)
    return f"{head}\n  Value:\n{output.block(text, indent='    ')}"
