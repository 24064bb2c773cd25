"""What every line of the server must be, whatever it was asked: `judge` raises where one is not."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, NoReturn

from kitaru.redaction import safe_text
from tests.support import ROOT

MAX_TEXT = 50_000
MAX_ERROR = 400
CODES = {
    "bad_argument",
    "invalid_state",
    "not_allowed",
    "not_confirmed",
    "not_found",
    "read_only",
    "not_offered",
}
#: Words that only a fault's own text has.
_FAULTS = ("Traceback", "pydantic", "validation error", "For further information", "sqlite3.")


def parse(line: bytes) -> dict[str, Any]:
    """The message a line is."""
    message = json.loads(line.decode(), parse_constant=_no_constant)
    assert isinstance(message, dict), "no object"
    assert message.get("jsonrpc") == "2.0"
    if "method" in message:
        assert isinstance(message["method"], str)
    else:
        assert "id" in message
        assert ("result" in message) != ("error" in message)
    return message


def judge(message: Mapping[str, Any], *, method: str, tool: str | None, is_modern: bool) -> None:
    """Check the reply to a request."""
    if "error" in message:
        return judge_error(message["error"])
    result = message["result"]
    assert isinstance(result, dict)
    if is_modern:
        assert result["resultType"] in ("complete", "input_required")
    if method == "tools/call" and result.get("resultType") != "input_required":
        _judge_tool(result, tool=tool)
    for text in _texts(result.get("contents")) + _texts(
        [each["content"] for each in result.get("messages", ())]
    ):
        _judge_text(text)


def judge_error(error: Mapping[str, Any]) -> None:
    """Check a protocol error."""
    assert type(error["code"]) is int
    assert len(error["message"]) <= MAX_ERROR, "a long error"
    _judge_words(json.dumps(error, ensure_ascii=False))
    _judge_text(error["message"])


def _judge_tool(result: Mapping[str, Any], *, tool: str | None) -> None:
    texts = _texts(result["content"])
    assert texts, "no text"
    for text in texts:
        _judge_text(text)
    if result.get("isError"):
        (text,) = texts
        assert len(text) <= MAX_ERROR, "a long error"
        assert text.partition(":")[0] in CODES, "no known code word"
        assert "structuredContent" not in result
        return _judge_words(text)
    structured = result.get("structuredContent")
    if structured is None:
        assert tool in ("get_execution_logs", "kitaru_artifacts_get"), "no structured content"
    else:
        compact = json.dumps(structured, ensure_ascii=False, separators=(",", ":"))
        assert texts == [compact], "text and data differ"
    return None


def _texts(contents: Any) -> list[str]:
    return [each["text"] for each in contents or () if "text" in each]


def _judge_text(text: str) -> None:
    assert len(text) <= MAX_TEXT, "a long text"
    assert safe_text(text) == text, "hidden characters"


def _judge_words(text: str) -> None:
    for word in (*_FAULTS, str(ROOT / "core"), "site-packages"):
        assert word not in text, f"{word} in an error"


def _no_constant(name: str) -> NoReturn:
    raise AssertionError(f"{name} is no JSON")
