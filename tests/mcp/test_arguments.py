"""What arguments become, and how replies keep to their size; nothing runs here."""

from __future__ import annotations

import json
from typing import Annotated, Any, Literal

import pytest

from kitaru.errors import KitaruUsageError
from kitaru_mcp import replies
from kitaru_mcp.parameters import Between, accept, parameters_of, schema_of


def tool(
    desk: object,
    *,
    name: Annotated[str, "A name."],
    count: Annotated[int, "A number.", Between(1, 9)] = 3,
    kind: Annotated[Literal["a", "b"] | None, "A kind."] = None,
    tags: Annotated[list[str] | None, "Tags."] = None,
    args: Annotated[dict[str, Any] | None, "Arguments."] = None,
    sure: Annotated[bool, "Sure?"] = False,
    value: Annotated[Any, "Anything."] = None,
) -> str:
    return ""


PARAMETERS = parameters_of(tool)


def test_the_schema_is_flat() -> None:
    assert schema_of(PARAMETERS) == {
        "type": "object",
        "properties": {
            "name": {"type": "string", "description": "A name."},
            "count": {"type": "integer", "description": "A number."},
            "kind": {"type": "string", "enum": ["a", "b"], "description": "A kind."},
            "tags": {"type": "array", "items": {"type": "string"}, "description": "Tags."},
            "args": {"type": "object", "description": "Arguments."},
            "sure": {"type": "boolean", "description": "Sure?"},
            "value": {"maxLength": 1_000_000, "description": "Anything."},
        },
        "required": ["name"],
    }


@pytest.mark.parametrize("nothing", [None, "", "null", "None", [None], ["null"]])
@pytest.mark.parametrize("optional", ["count", "kind", "tags", "args", "sure"])
def test_what_means_nothing_is_left_out(optional: str, nothing: Any) -> None:
    assert accept(PARAMETERS, {"name": "n", optional: nothing}, tool="tool") == {"name": "n"}


@pytest.mark.parametrize(
    ("given", "taken"),
    [
        ({"name": "None"}, "None"),
        ({"count": "5"}, 5),
        ({"count": 5.0}, 5),
        ({"sure": "true"}, True),
        ({"sure": "False"}, False),
        ({"tags": "one"}, ["one"]),
        ({"tags": '["one", "two"]'}, ["one", "two"]),
        ({"args": '{"a": [1]}'}, {"a": [1]}),
        ({"name": 7}, "7"),
        ({"value": None}, None),
        ({"value": "null"}, "null"),
        ({"value": [None]}, [None]),
    ],
)
def test_the_forms_clients_send_are_understood(given: dict[str, Any], taken: Any) -> None:
    (name,) = given
    assert accept(PARAMETERS, {"name": "n", **given}, tool="tool")[name] == taken


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"count": True}, "count is true; it must be a whole number"),
        ({"count": 1.5}, "a whole number"),
        ({"count": 10}, "from 1 to 9"),
        ({"count": float("nan")}, "a whole number"),
        ({"kind": "c"}, "one of a, b"),
        ({"tags": [1]}, "a list of texts"),
        ({"args": "[1]"}, "a JSON object"),
        ({"sure": 1}, "true or false"),
        ({"name": " "}, "not empty"),
        ({"name": None}, "name is null; it must be text"),
        ({"value": "x" * 1_000_001}, "at most 1000000 characters"),
        ({"nmae": "n"}, "did you mean name?"),
        ({"qqq": "n"}, "It takes: name, count"),
    ],
)
def test_everything_else_is_refused(given: dict[str, Any], says: str) -> None:
    with pytest.raises(KitaruUsageError) as caught:
        accept(PARAMETERS, {"name": "n", **given}, tool="tool")
    assert says in str(caught.value)


def test_a_missing_argument_is_named_with_its_meaning() -> None:
    with pytest.raises(KitaruUsageError, match=r"tool needs name: A name\."):
        accept(PARAMETERS, {}, tool="tool")


@pytest.mark.parametrize(
    "data",
    [
        {"value": "x" * 1_000_000},
        {"value": ["x" * 100] * 100_000},
        {"value": {str(n): "x" * 1000 for n in range(1000)}},
        {"value": [[["x" * 1000] * 30] * 30] * 10},
        {"items": [{"text": "x" * 3000} for _ in range(100)]},
    ],
)
def test_a_result_that_is_too_large_is_shortened_and_says_so(data: dict[str, Any]) -> None:
    shown, text = replies.fitting(data, narrow="Ask for less.")
    assert len(text) <= replies.MAX_CHARACTERS
    assert json.loads(text) == shown
    assert shown["truncated"].endswith("Ask for less.")


def test_a_result_that_fits_is_untouched() -> None:
    data = {"value": "x" * 39_000}
    assert replies.fitting(data, narrow="")[0] is data


def test_a_long_text_is_cut_at_a_line() -> None:
    text = "\n".join(f"line {number}" for number in range(10_000))
    shown = replies.cut_lines(text, narrow="Ask for less.")
    assert len(shown) <= replies.MAX_CHARACTERS
    *lines, last = shown.splitlines()
    assert lines == text.splitlines()[: len(lines)]
    assert last.startswith(f"… {len(lines)} of 10000 lines shown")
    assert last.endswith("Ask for less.")


def test_a_long_error_keeps_its_head_and_its_tail() -> None:
    result = replies.failure("internal", "begin " + "x" * 1000 + " end")
    (content,) = result.content
    assert result.is_error
    assert content.text.startswith("internal: begin")  # type: ignore[union-attr]
    assert content.text.endswith("end")  # type: ignore[union-attr]
    assert len(content.text) <= replies.MAX_ERROR  # type: ignore[union-attr]
