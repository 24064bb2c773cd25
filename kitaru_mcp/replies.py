"""Replies of tools: what the client gets of a result or an error.

Structured content and text always carry the same data, since each client shows its model only one
of them. A reply never exceeds `MAX_CHARACTERS`: what is left out is said at its end, with the way
to get it. An error is one line: a code word, what happened, what to do next.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any

from mcp.types import CallToolResult, TextContent

from kitaru import errors
from kitaru_mcp.desk import Desk, NotConfirmed
from kitaru_mcp.policy import NotAllowed
from kitaru_mcp.registry import Result

#: Clients cut at about 50,000 characters, some in the middle, and say little about it.
MAX_CHARACTERS = 40_000
MAX_ERROR = 400
_ERROR_TAIL = 120
#: What a person would type, where a model has a tool; there is none for `resume`.
_COMMAND = re.compile(
    r"`?kitaru executions (?P<name>list|get|logs|input|retry|replay|cancel|run)\b"
    r"(?: [^`.]*?'…'|[^`.]*(?=`))?`?"
)

#: The first class that fits gives the code word.
_CODES: tuple[tuple[type[errors.KitaruError], str], ...] = (
    (NotAllowed, "not_allowed"),
    (NotConfirmed, "not_confirmed"),
    (errors.KitaruNotFoundError, "not_found"),
    (errors.KitaruStateError, "invalid_state"),
    (errors.KitaruUsageError, "bad_argument"),
    (errors.KitaruWaitValidationError, "bad_argument"),
    (errors.KitaruSerializationError, "bad_argument"),
    (errors.KitaruCorruptionError, "store_damaged"),
    (errors.KitaruBackendError, "store_unavailable"),
)
#: Longest text, longest list: tried in turn until a result fits.
_CLIPS = ((8000, 200), (2000, 100), (500, 40), (200, 15), (80, 5))


def reply(result: Result, *, narrow: str) -> CallToolResult:
    """A tool's result for the client; `narrow` says how to ask for less of it."""
    if isinstance(result, CallToolResult):
        return result
    if isinstance(result, str):
        return _text(cut_lines(result, narrow=narrow))
    data, text = fitting(result, narrow=narrow)
    return CallToolResult(content=[TextContent(type="text", text=text)], structured_content=data)


def refusal(error: errors.KitaruError, *, desk: Desk) -> CallToolResult:
    """An error for the client, with its code word first."""
    return _text(refusal_text(error, desk=desk), is_error=True)


def refusal_text(error: errors.KitaruError, *, desk: Desk) -> str:
    """The text of an error, with its code word first, and no paths but the store's and flows'."""
    from kitaru import render

    code = next((code for cls, code in _CODES if isinstance(error, cls)), "internal")
    text = _COMMAND.sub(_tool_for, desk.presentable(" ".join(str(error).split())))
    return _short(code, render.safe_message(text))


def _tool_for(command: re.Match[str]) -> str:
    name = command["name"]
    return "get_execution_logs" if name == "logs" else f"kitaru_executions_{name}"


def failure(code: str, message: str) -> CallToolResult:
    """A tool error that did not come from Kitaru."""
    return _text(_short(code, message), is_error=True)


def _short(code: str, message: str) -> str:
    """An error of at most `MAX_ERROR` characters; a longer one loses its middle."""
    text = f"{code}: {message}"
    if len(text) <= MAX_ERROR:
        return text
    head = MAX_ERROR - _ERROR_TAIL - 3
    return f"{text[:head]} … {text[-_ERROR_TAIL:]}"


def _text(text: str, *, is_error: bool = False) -> CallToolResult:
    return CallToolResult(content=[TextContent(type="text", text=text)], is_error=is_error)


def compact(data: Any) -> str:
    """JSON without spaces."""
    return json.dumps(data, ensure_ascii=False, separators=(",", ":"))


def last_lines(text: str) -> str:
    """The last lines of a text, as many as a reply may hold."""
    if len(text) <= MAX_CHARACTERS:
        return text
    start = len(text) - MAX_CHARACTERS + 200
    shown = text[text.find("\n", start) + 1 :] if "\n" in text[start:] else text[start:]
    return f"… {len(text) - len(shown)} characters before are not shown.\n{shown}"


def cut_lines(text: str, *, narrow: str) -> str:
    """The first lines of a text, as many as a reply may hold."""
    if len(text) <= MAX_CHARACTERS:
        return text
    room = MAX_CHARACTERS - 200 - len(narrow)
    end = text.rfind("\n", 0, room)
    shown = text[: end if end > 0 else room]
    lines, total = shown.count("\n") + 1, text.count("\n") + 1
    return f"{shown}\n… {lines} of {total} lines shown ({len(text)} characters). {narrow}"


def fitting(data: dict[str, Any], *, narrow: str) -> tuple[dict[str, Any], str]:
    """The data and its text; clipped where a reply could not hold it, and `truncated` says so."""
    text = compact(data)
    size = len(text)
    if size <= MAX_CHARACTERS:
        return data, text
    for longest, most in _CLIPS:
        note = f"Shortened from {size} characters. {narrow}"
        shorter = {**_clip(data, longest, most), "truncated": note}
        text = compact(shorter)
        if len(text) <= MAX_CHARACTERS:
            return shorter, text
    only = {"truncated": f"{size} characters are too many, even shortened. {narrow}"}
    return only, compact(only)


def page(make: Callable[[int], dict[str, Any]], *, limit: int) -> dict[str, Any]:
    """A page of a list, shorter than asked for where a reply could not hold it.

    Unlike a clipped one it keeps its cursor right.

    Args:
        make: gives the page with at most so many items.
        limit: how many are asked for.
    """
    while True:
        data = make(limit)
        if limit == 1 or len(compact(data)) <= MAX_CHARACTERS:
            return data
        limit //= 2


def _clip(value: Any, longest: int, most: int) -> Any:
    if isinstance(value, str) and len(value) > longest:
        return f"{value[:longest]}… [{len(value) - longest} more characters]"
    if isinstance(value, dict):
        kept = {key: _clip(item, longest, most) for key, item in [*value.items()][:most]}
        return kept | _left_out(len(value) - most, "keys")
    if isinstance(value, list):
        items = [_clip(item, longest, most) for item in value[:most]]
        return [*items, *_left_out(len(value) - most, "items").values()]
    return value


def _left_out(count: int, what: str) -> dict[str, Any]:
    return {"…": f"[{count} more {what}]"} if count > 0 else {}
