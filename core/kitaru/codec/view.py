"""What a record says, as plain JSON for people and models.

Needs no user types and rebuilds none. The result can always be dumped as strict JSON and encoded
as UTF-8; it is made to be read and cannot be decoded again.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from math import isfinite
from typing import Any

from kitaru.codec.nodes import RECORDS, SEQUENCES, tag_of
from kitaru.codec.refusal import MAX_DEPTH, TOO_DEEP, Refused
from kitaru.codec.scalars import SCALARS, show_float


def shown(node: Any, depth: int = 0) -> Any:
    """A node, that is this many levels deep, as a person reads it."""
    kind = type(node)
    if kind is str:
        return _printable(node)
    if kind is float:
        return node if isfinite(node) else show_float(node)
    if kind not in (list, dict):
        return node
    if depth > MAX_DEPTH:
        raise Refused(TOO_DEEP)
    if kind is list:
        return [shown(item, depth + 1) for item in node]
    if "$" not in node:
        return _shown_dict(node.items(), depth + 1)
    return _shown_tagged(node, depth)


def _shown_tagged(node: dict[str, Any], depth: int) -> Any:
    tag, payload = tag_of(node), node["v"]
    if tag in SCALARS:
        try:
            text = SCALARS[tag].show(payload)
        except Exception as error:  # libraries refuse damaged payloads in their own ways
            raise Refused(f"is damaged: {error}") from error
        return _printable(text) if type(text) is str else text
    if tag in SEQUENCES:
        return [shown(item, depth + 1) for item in payload]
    if tag == "dict":
        return _shown_dict(zip(payload[::2], payload[1::2], strict=False), depth + 1)
    if tag in RECORDS:
        fields = _shown_dict(payload.items(), depth + 1)
        extra = shown(node["extra"], depth + 1) if "extra" in node else None
        return {**extra, **fields} if isinstance(extra, dict) else fields
    return _printable("|".join(map(str, payload)) if tag == "flag" else payload)


def _shown_dict(pairs: Iterable[tuple[Any, Any]], depth: int) -> dict[str, Any]:
    result: dict[str, Any] = {}
    seen: dict[str, int] = {}
    for node, item in pairs:
        key = text = _as_key(shown(node, depth))
        # The number stands in front: what hides secrets looks at how keys end.
        while key in result:
            seen[text] = seen.get(text, 1) + 1
            key = f"({seen[text]}) {text}"
        result[key] = shown(item, depth)
    return result


def _as_key(key: Any) -> str:
    return json.dumps(key, ensure_ascii=False) if isinstance(key, list | dict) else str(key)


def _printable(text: str) -> str:
    return text if text.isascii() else text.encode("utf-8", "backslashreplace").decode()
