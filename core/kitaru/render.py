"""Models as JSON for the CLI and the MCP server: one set of keys, redacted and safe to show.

Text of user code's is data: control characters are escaped, and values under keys that look like
secrets are masked. Recorded values themselves are never changed.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any

from kitaru import clock, codec, usage, usage_summary
from kitaru import statistics as spec
from kitaru.client import KitaruClient, views
from kitaru.client.costs import ExecutionCosts
from kitaru.models import (
    ArtifactRef,
    ArtifactView,
    CheckpointCall,
    Execution,
    LogEntry,
    PendingWait,
)
from kitaru.redaction import is_secret, safe_message, safe_text, shown, shown_value

__all__ = [
    "age",
    "artifact",
    "artifact_value",
    "artifact_view",
    "costs",
    "full",
    "log_entry",
    "log_line",
    "own_metadata",
    "pending_wait",
    "safe_message",
    "safe_text",
    "shown",
    "shown_value",
    "span",
    "statistics",
    "summary",
    "used",
    "used_of",
    "used_shortly",
]


#: What a summary leaves out.
_LARGE = (
    "inputs",
    "result",
    "frozen_execution_spec",
    "checkpoints",
    "artifacts",
    "children",
    "pending_waits",
)


def summary(execution: Execution) -> dict[str, Any]:
    """An execution as an item of a list."""
    return _execution(execution.to_dict(without=_LARGE))


def full(execution: Execution, *, repeats: bool = True) -> dict[str, Any]:
    """An execution with everything it holds but the values of its artifacts.

    Args:
        execution: the execution, with its calls.
        repeats: whether usage records stand in metadata and with attempts too, besides those of
            the calls and of the whole.
    """
    data = execution.to_dict()
    for call in () if repeats else data["checkpoints"]:
        call["metadata"].pop(usage.KEY, None)
        for attempt in call["attempts"]:
            attempt["metadata"].pop(usage.KEY, None)
            del attempt["llm_usage_records"]
    data["llm_usage_records"] = [
        record for call in data["checkpoints"] for record in call["llm_usage_records"]
    ]
    return _execution(data)


def _execution(data: dict[str, Any]) -> dict[str, Any]:
    result = shown(data)
    pairs = [(data["pending_wait"], result["pending_wait"])] if data["pending_wait"] else []
    pairs += zip(data.get("pending_waits", ()), result.get("pending_waits", ()), strict=True)
    for wait, shown_wait in pairs:
        # A schema holds no values; it has to tell what a secret that is asked for must be.
        shown_wait["schema"] = shown_value(wait["schema"], masks=False)
    return result


def pending_wait(wait: PendingWait) -> dict[str, Any]:
    """An open question, with its schema in full."""
    return shown(wait.to_dict()) | {"schema": shown_value(wait.schema, masks=False)}


def artifact(ref: ArtifactRef) -> dict[str, Any]:
    """An artifact without its value."""
    return shown(ref.to_dict())


def artifact_value(client: KitaruClient, ref: ArtifactRef) -> dict[str, Any]:
    """An artifact with its value as JSON; of a pickle, which is not read, its size."""
    record = client.artifacts.read(ref.artifact_id)
    is_pickle = codec.pickle_of(record, path=ref.artifact_id) is not None
    form = "pickle" if is_pickle else "json"
    return artifact(ref) | {
        "value": views.shown_as(ref, codec.plain(record)),
        "value_format": form,
    }


def artifact_view(view: ArtifactView) -> dict[str, Any]:
    """An artifact with a piece of its value; what does not apply is left out, as are raw bytes."""
    piece = view.to_dict(without=("artifact", "data"))
    told = {key: value for key, value in piece.items() if value is not None}
    return {**artifact(view.artifact), **told}


def statistics(
    found: spec.ExecutionStatistics,
    *,
    group_by: Iterable[spec.Grouping] | None,
    metrics: Iterable[spec.Metric] | None,
) -> dict[str, Any]:
    """Statistics, for the groupings and metrics that were asked for.

    Names are free to choose, so what is masked depends on the metadata key that is read.
    """
    keys = {str(each.name): each.metadata_key for each in spec.groupings(group_by)}
    numbers = {each.name: each.metadata_key for each in spec.metrics(metrics)}
    groups = [
        {
            "keys": _masked(group.keys, keys),
            "execution_count": group.execution_count,
            "metrics": _masked(group.metrics, numbers),
        }
        for group in found.groups
    ]
    return {
        "groups": groups,
        "truncated": found.truncated,
        "group_count": len(groups),
        "skipped": shown_value(found.skipped, masks=False),
    }


def _masked(values: dict[str, Any], read_from: dict[str, str | None]) -> dict[str, Any]:
    return {
        safe_text(name): shown_value(value, hidden=is_secret(read_from.get(name) or "", value))
        for name, value in values.items()
    }


def costs(found: ExecutionCosts) -> dict[str, Any]:
    """What executions have used of models, in groups."""
    return shown({**found.to_dict(), "group_count": len(found.groups)})


#: What people who look shortly want to know of a summary of usage; what is nothing is left out.
_USED = (
    "total_tokens",
    "reused_total_tokens",
    "records_without_cost_count",
    "failed_usage_record_count",
)


def used(summary: Mapping[str, Any] | None) -> dict[str, int | float]:
    """What calls of models took, in a few numbers; without a cost where none is known."""
    if not summary:
        return {}
    cost = usage_summary.known_cost(summary) if summary["usage_record_count"] else None
    numbers = {name: summary[name] for name in _USED if summary.get(name)}
    return numbers if cost is None else numbers | {"display_cost_usd": cost}


def used_of(call: CheckpointCall) -> dict[str, int | float]:
    """The same of a checkpoint."""
    records = call.llm_usage_records
    return used(usage_summary.summary(records)) if records else {}


def used_shortly(execution: Execution) -> str:
    """What an execution took of models, in a few words; nothing where that is nothing."""
    found = execution.llm_usage_summary
    return usage_summary.told_shortly(found) if found and found["usage_record_count"] else ""


def own_metadata(execution: Execution) -> dict[str, Any]:
    """Metadata without the numbers of `llm_usage_summary`, which it repeats for statistics."""
    found = execution.metadata.items()
    return {key: value for key, value in found if not usage_summary.is_reserved(key)}


def log_entry(entry: LogEntry) -> dict[str, Any]:
    """A captured line; fields that are not known are left out."""
    return shown({key: value for key, value in entry.to_dict().items() if value is not None})


def log_line(entry: LogEntry) -> str:
    """A captured line as text: time, level, checkpoint, message, whose further lines are indented.

    So no message can look like a line of its own.
    """
    where = f" [{entry.checkpoint_name}]" if entry.checkpoint_name else ""
    text = safe_text(f"{entry.timestamp.isoformat()} {entry.level}{where} {entry.message}")
    return text.replace("\n", "\n  ")


def age(moment: datetime) -> str:
    """How long ago a time was, in its largest unit: `40s`, `3m`, `5h`, `12d`."""
    return span((clock.from_us(clock.now_us()) - moment).total_seconds())


def span(seconds: float) -> str:
    """A length of time in its largest unit; below ten seconds with tenths."""
    seconds = max(seconds, 0.0)
    if seconds < 1:
        return f"{round(seconds * 1000)}ms"
    if seconds < 10:
        return f"{seconds:.1f}s"
    for size, unit in ((86_400, "d"), (3_600, "h"), (60, "m")):
        if seconds >= size:
            return f"{int(seconds // size)}{unit}"
    return f"{int(seconds)}s"
