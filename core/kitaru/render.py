"""Models as JSON for the CLI and the MCP server: one set of keys, redacted and safe to show.

Text of user code's is data: control characters are escaped, and values under keys that look like
secrets are masked. Recorded values themselves are never changed.
"""

from __future__ import annotations

from typing import Any

from kitaru import codec
from kitaru.client import KitaruClient
from kitaru.models import ArtifactRef, Execution, LogEntry
from kitaru.redaction import safe_text, shown, shown_value

__all__ = [
    "artifact",
    "artifact_value",
    "full",
    "log_entry",
    "log_line",
    "safe_text",
    "shown",
    "summary",
]


def summary(execution: Execution) -> dict[str, Any]:
    """An execution as an item of a list."""
    data = execution.to_dict()
    for key in (
        "inputs",
        "result",
        "frozen_execution_spec",
        "checkpoints",
        "artifacts",
        "children",
        "pending_waits",
    ):
        del data[key]
    return _execution(data)


def full(execution: Execution) -> dict[str, Any]:
    """An execution with everything it holds but the values of its artifacts."""
    data = execution.to_dict()
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


def artifact(ref: ArtifactRef) -> dict[str, Any]:
    """An artifact without its value."""
    return shown(ref.to_dict())


def artifact_value(client: KitaruClient, ref: ArtifactRef) -> dict[str, Any]:
    """An artifact with its value as JSON."""
    value = codec.plain(client.artifacts.read(ref.artifact_id))
    return shown({**ref.to_dict(), "value": value, "value_format": "json"})


def log_entry(entry: LogEntry) -> dict[str, Any]:
    """A captured line; fields that are not known are left out."""
    return shown({key: value for key, value in entry.to_dict().items() if value is not None})


def log_line(entry: LogEntry) -> str:
    """A captured line as text: time, level, checkpoint, message."""
    where = f" [{entry.checkpoint_name}]" if entry.checkpoint_name else ""
    return safe_text(f"{entry.timestamp.isoformat()} {entry.level}{where} {entry.message}")
