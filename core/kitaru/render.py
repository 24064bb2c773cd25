"""Models as JSON for the CLI and the MCP server: one set of keys, redacted and safe to show.

Text of user code's is data: control characters are escaped, and values under keys that look like
secrets are masked. Recorded values themselves are never changed.
"""

from __future__ import annotations

import re
import unicodedata
from typing import Any

from kitaru import codec
from kitaru.client import KitaruClient
from kitaru.models import ArtifactRef, Execution, LogEntry

MASK = "[redacted]"

_SECRET_KEY = re.compile(
    r"password|passwd|secret|api[_-]?key|authorization|credential|private[_-]?key|"
    r"(^|[_-])token$|access[_-]?token|bearer",
    re.IGNORECASE,
)
_COUNTS = re.compile(r"(^|_)tokens(_v1)?$", re.IGNORECASE)
#: Bidi controls and zero-width characters change what a reader sees without showing themselves.
_KEPT_CONTROLS = "\n\t"


def summary(execution: Execution) -> dict[str, Any]:
    """An execution as an item of a list."""
    data = execution.to_dict()
    for key in (
        "inputs",
        "result",
        "frozen_execution_spec",
        "checkpoints",
        "artifacts",
    ):
        del data[key]
    return shown(data)


def full(execution: Execution) -> dict[str, Any]:
    """An execution with everything it holds but the values of its artifacts."""
    data = execution.to_dict()
    data["llm_usage_records"] = [
        record for call in data["checkpoints"] for record in call["llm_usage_records"]
    ]
    return shown(data)


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


def shown(data: dict[str, Any]) -> dict[str, Any]:
    """JSON data as it may be shown: secrets masked by key, control characters escaped."""
    return {safe_text(str(key)): _shown(value, str(key)) for key, value in data.items()}


def _shown(value: Any, key: str) -> Any:
    if key and value is not None and is_secret(key) and not isinstance(value, (dict, list)):
        return MASK
    if isinstance(value, dict):
        return shown(value)
    if isinstance(value, list):
        return [_shown(item, key) for item in value]
    return safe_text(value) if isinstance(value, str) else value


def is_secret(key: str) -> bool:
    """Whether a key looks like a secret's; counts of tokens are none."""
    return bool(_SECRET_KEY.search(key)) and not _COUNTS.search(key)


def safe_text(text: str) -> str:
    """Text with control, bidi and zero-width characters escaped; newlines and tabs stay."""
    if text.isascii() and text.isprintable():
        return text
    return "".join(char if _is_plain(char) else _escaped(char) for char in text)


def _is_plain(char: str) -> bool:
    return char in _KEPT_CONTROLS or unicodedata.category(char) not in ("Cc", "Cf", "Cs", "Co")


def _escaped(char: str) -> str:
    code = ord(char)
    return (
        f"\\x{code:02x}"
        if code < 0x100
        else f"\\u{code:04x}"
        if code < 0x10000
        else f"\\U{code:08x}"
    )
