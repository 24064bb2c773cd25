"""Questions as dialogues: what is shown for a type, and what typed lines mean."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from enum import Enum, IntEnum
from typing import Annotated, Any, Literal, NotRequired

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, Field, TypeAdapter, create_model
from typing_extensions import TypedDict  # pydantic needs this one before Python 3.12

from kitaru import answers, prompts


class Size(Enum):
    SMALL = "s"
    LARGE = "l"


class Level(IntEnum):
    HIGH = 2
    LOW = 1


class Address(BaseModel):
    street: str
    number: int = Field(1, ge=1, description="Of the house")


class Order(BaseModel):
    """What to send."""

    size: Size = Size.SMALL
    address: Address
    billing: Address | None = None
    tags: list[str] = ["new"]
    lines: list[Address] = []
    note: str | None
    express: bool = True
    extra: dict[str, int] = Field(default_factory=dict)


class Node(BaseModel):
    name: str
    children: list[Node] = []


class Endless(BaseModel):
    again: Endless


@dataclass
class Pair:
    left: int
    right: str = "r"
    both: list[int] = field(default_factory=list)


class Options(TypedDict):
    dry: bool
    jobs: NotRequired[int]


def schema(type_: Any) -> dict[str, Any] | None:
    return None if type_ is None else TypeAdapter(type_).json_schema()


def played(type_: Any, *lines: str) -> tuple[Any, list[str]]:
    """The value that lines mean, and what was shown; each line is asked for, and no further."""
    asking = prompts.dialogue(schema(type_))
    shown = [next(asking)]
    for number, line in enumerate(lines, 1):
        try:
            shown.append(asking.send(line))
        except StopIteration as end:
            assert number == len(lines), f"lines left after {shown}"
            return end.value, shown
    raise AssertionError(f"it still asks: {shown}")


def value(type_: Any, *lines: str) -> Any:
    return played(type_, *lines)[0]


@pytest.mark.parametrize(
    ("type_", "line", "expected"),
    [
        *[(bool, line, True) for line in ("y", "YES", " true ")],
        *[(bool, line, False) for line in ("n", "No", "false")],
        (int, " -3 ", -3),
        (int, str(2**70), 2**70),
        (float, "1.5", 1.5),
        (float, "-2e3", -2000.0),
        (float, "3", 3),
        (str, "plain text", "plain text"),
        (str, " kept  as it is ", " kept  as it is "),
        (str, "true", "true"),
        (str, '"two\\nlines"', "two\nlines"),
        (str, '""', ""),
        (str, '":abort"', ":abort"),
        (str, '"Hi" they said', '"Hi" they said'),
        (date, "2026-11-20", "2026-11-20"),
        (datetime, "2026-11-20 18:00", "2026-11-20 18:00"),
        (timedelta, "PT90M", "PT90M"),
        (dict[str, int], '{"a": 1}', {"a": 1}),
        (tuple[int, str], '[1, "a"]', [1, "a"]),
        (int | str, '"3"', "3"),
        (Any, "[null]", [None]),
        (None, "", None),
        (type(None), "", None),
        (bool | None, "", None),
        (str | None, "null", None),
        (str | None, '"null"', "null"),
        (Annotated[int, Field(default=3)], "", 3),
        (Literal["a", "b"], "b", "b"),
        (Literal["a", "b"], "2", "b"),
        (Literal["a", None], "null", None),
        (Literal["3", 3], "3", 3),
        (Literal["3", 3], '"3"', "3"),
        (Size, "1", "s"),
        (Level, "1", 1),
        (Level, "2", 2),
    ],
)
def test_one_line_is_one_value(type_: Any, line: str, expected: Any):
    got = value(type_, line)
    assert (type(got), got) == (type(expected), expected)
    answers.validate(answers.encode(got, wait="w"), schema(type_), wait="w")


@pytest.mark.parametrize(
    ("type_", "bad", "told"),
    [
        (bool, "maybe", "type y or n"),
        (bool, "", "type y or n"),
        (int, "1.5", "type a whole number"),
        (int, "", "type a whole number"),
        (float, "many", "type a number, such as 1.5"),
        (float, "nan", "not JSON compliant"),
        (float, "1e999", "not JSON compliant"),
        (str, "", 'type a text; "" is the empty one'),
        (str, "\udcff", "characters that are no text"),
        (str, '"\\ud800"', "characters that are no text"),
        (Literal["a", "b"], "3", "type one of the choices"),
        (Literal["a", "b"], "", "type one of the choices"),
        (Level, "0", "type one of the choices"),
        (date, "2026-13-01", "month value is outside expected range"),
        (datetime, "tomorrow", "Input should be a valid datetime"),
        (dict[str, int], "a", "Type JSON"),
        (dict[str, int], '{"a": "b"}', "at $.a: \"b\" is not of type 'integer'"),
        (Any, "NaN", "not JSON compliant"),
        (Any, "[" * 100_000, "nested too deep"),
        (Annotated[int, Field(ge=3)], "2", "2 is less than the minimum of 3"),
        (Annotated[str, Field(max_length=2)], "abc", '"abc" is too long'),
        (Pair, '{"left": "x"}', "at $.left: \"x\" is not of type 'integer'"),
        (Pair, '{"left"', "Type JSON"),
        (None, "no", "Press Enter alone to continue, or type :abort"),
        (str, "dosg\x1b[D\x1b[D", "it holds a key that is no text, such as an arrow"),
    ],
)
def test_what_does_not_fit_is_asked_for_again_with_the_reason(type_: Any, bad: str, told: str):
    asking = prompts.dialogue(schema(type_))
    first = next(asking)
    again = asking.send(bad)
    assert told in again
    assert again.endswith(first.splitlines()[-1])


@pytest.mark.parametrize(
    ("type_", "shown"),
    [
        (bool, "[y/n] > "),
        (Annotated[bool, Field(default=True)], "[Y/n] > "),
        (Annotated[bool, Field(default=False)], "[y/N] > "),
        (bool | None, "[y/n] [null] > "),
        (int, "(whole number) > "),
        (float, "(number) > "),
        (str, "(text) > "),
        (Annotated[str, Field(default="v1", description="Of it")], "Of it\n(text) [v1] > "),
        (Literal["a", 3], "  1) a\n  2) 3\n(number or value) > "),
        (Level, "  - 2\n  - 1\n> "),
        (date, "(date, such as 2026-11-20) > "),
        (list[int], "1 (whole number) [end] > "),
        (dict[str, int], '(JSON for {"additionalProperties": {"type": "integer"}, "type": "obj'),
        (Any, '(JSON, such as 3, "text" or {"a": 1}) > '),
        (None, "Press Enter to continue.\n> "),
    ],
)
def test_a_prompt_tells_what_may_be_typed(type_: Any, shown: str):
    assert next(prompts.dialogue(schema(type_))).startswith(shown)


def test_an_object_is_asked_field_by_field():
    lines = ["2", "Elm", "", "n", "a", "b", "", "y", "Oak", "7", "n", "null", "n", ""]
    got, shown = played(Order, *lines)
    assert got == {
        "size": "l",
        "address": {"street": "Elm"},
        "tags": ["a", "b"],
        "lines": [{"street": "Oak", "number": 7}],
        "note": None,
        "express": False,
    }
    assert [each.splitlines()[-1] for each in shown] == [
        "Size (number or value) [s] > ",
        "Address / Street (text) > ",
        "Address / Number (whole number) [1] > ",
        "Billing (fill in? y/n) [null] > ",
        'Tags 1 (text) [["new"]] > ',
        "Tags 2 (text) [end] > ",
        "Tags 3 (text) [end] > ",
        "Lines 1 (add? y/n) [end] > ",
        "Lines 1 / Street (text) > ",
        "Lines 1 / Number (whole number) [1] > ",
        "Lines 2 (add? y/n) [end] > ",
        "Note (text) [null] > ",
        "Express [Y/n] > ",
        'Extra (JSON for {"additionalProperties": {"type": "integer"}, "type": "object"}) '
        "[optional] > ",
    ]
    assert shown[0].startswith(
        "Field by field, or all of it as one line of JSON:\nWhat to send.\n  1) s\n  2) l\n"
    )
    assert shown[2].startswith("Of the house\n")
    Order.model_validate(got)


@pytest.mark.parametrize(
    ("type_", "lines", "expected"),
    [
        (Pair, ["1", "", ""], Pair(1)),
        (Pair, ["1", "x", "2", "3", ""], Pair(1, "x", [2, 3])),
        (Pair, ['{"left": 4, "both": [5]}'], Pair(4, both=[5])),
        (Pair | None, [""], None),
        (Pair | None, ["n"], None),
        (Pair | None, ["null"], None),
        (Pair | None, ["y", "1", "", ""], Pair(1)),
        (Pair | None, ['{"left": 1}'], Pair(1)),
        (Options, ["y", ""], {"dry": True}),
        (Options, ["y", "4"], {"dry": True, "jobs": 4}),
        (list[int], ["1", "2", ""], [1, 2]),
        (list[int], [""], []),
        (list[int], ["[1, 2]"], [1, 2]),
        (list[int] | None, [""], None),
        (list[int] | None, ["[]"], []),
        (list[int | None], ["1", "null", ""], [1, None]),
        (list[str], ["a", '""', "[b]", ""], ["a", "", "[b]"]),
        (list[list[int]], ["[[1], []]"], [[1], []]),
        (set[int], ["1", "2", ""], {1, 2}),
        (Node, ["a", "y", "b", "", ""], Node(name="a", children=[Node(name="b")])),
    ],
)
def test_what_is_typed_for_a_type_makes_that_type(type_: Any, lines: list[str], expected: Any):
    data = answers.encode(value(type_, *lines), wait="w")
    assert TypeAdapter(type_).validate_json(data) == expected


def test_a_list_that_does_not_fit_starts_over():
    type_ = Annotated[set[int], Field(min_length=2)]
    got, shown = played(type_, "1", "", "1", "1", "", "1", "2", "")
    assert got == [1, 2]
    assert shown[2].startswith("Invalid input: [1] is too short.\nThe list starts over.\n1 (")
    assert shown[5].startswith("Invalid input: [1, 1] has non-unique elements.\nThe list starts")


def test_braces_at_a_first_field_of_json_are_that_field():
    model = create_model("M", counts=(dict[str, int], ...), n=(int, 0))
    assert value(model, '{"n": 1}', "2") == {"counts": {"n": 1}, "n": 2}


def test_a_type_that_holds_itself_without_end_can_be_asked_for():
    assert "JSON for" in next(prompts.dialogue(schema(Endless)))


def test_references_that_lead_nowhere_are_asked_for_as_json():
    circle = {"$defs": {"a": {"$ref": "#/$defs/a"}}, "$ref": "#/$defs/a"}
    assert next(prompts.dialogue(circle)).startswith("(JSON, such as")
    assert next(prompts.dialogue({"$ref": "#/$defs/a"})).startswith("(JSON, such as")


def test_control_characters_of_titles_descriptions_and_choices_are_shown_escaped():
    model = create_model(
        "M",
        a=(str, Field("d\x1b\n", title="t\x1b\n", description="x\x1b\u202e\n")),
        b=(Literal["c\x1b", "d"], ...),
    )
    _, shown = played(model, "", "d")
    assert shown[0].partition(":\n")[2] == "x\\x1b\\u202e\\n\nt\\x1b\\n (text) [d\\x1b\\n] > "
    assert shown[1].startswith("  1) c\\x1b\n")


# Hypothesis: a case is a type, the JSON value somebody means, and the lines they type for it.

Case = tuple[Any, Any, list[str]]


def typed(text: str) -> str:
    """A text as a line: plainly, unless that would mean something else."""
    plain = text.strip() not in ("", "null") and text.lstrip()[0] not in '"{['
    has_keys = any(ord(char) < 32 or ord(char) == 127 for char in text)
    return text if plain and not has_keys else json.dumps(text)


texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=4,
)
choices = st.lists(st.integers(-2, 4) | texts, min_size=1, max_size=4, unique=True)
scalars: st.SearchStrategy[Case] = st.one_of(
    st.sampled_from(["y", "n", "true", "NO"]).map(
        lambda line: (bool, line[0] in "yt", [line]),
    ),
    st.integers().map(lambda number: (int, number, [f" {number} "])),
    st.floats(allow_nan=False, allow_infinity=False).map(lambda x: (float, x, [repr(x)])),
    texts.map(lambda text: (str, text, [typed(text)])),
    st.dates().map(lambda day: (date, day.isoformat(), [day.isoformat()])),
    choices.map(lambda those: (Literal[tuple(those)], those[-1], [json.dumps(those[-1])])),
)


@st.composite
def lists(draw: st.DrawFn, items: st.SearchStrategy[Case]) -> Case:
    type_, item, lines = draw(items)
    count = draw(st.integers(0, 3))
    gate = ["y"] if isinstance(item, dict) else []
    return list[type_], [item] * count, [*(gate + lines) * count, ""]  # type: ignore[valid-type]


@st.composite
def objects(draw: st.DrawFn, parts: st.SearchStrategy[Case]) -> Case:
    fields: dict[str, Any] = {}
    value: dict[str, Any] = {}
    lines: list[str] = []
    for number, (type_, part, its_lines) in enumerate(
        draw(st.lists(parts, min_size=1, max_size=4))
    ):
        name = f"part_{number}"
        needs_gate = isinstance(part, dict)
        way = draw(st.sampled_from(["required", "optional", "default", "null"]))
        fields[name] = {
            "required": (type_, ...),
            "optional": (type_ | None, ...),
            "default": (type_, Field(default_factory=lambda part=part: part)),
            "null": (type_ | None, None),
        }[way]
        if way in ("default", "null") and draw(st.booleans()):
            lines += [""]
        else:
            value[name] = part
            lines += ["y"] * (needs_gate and way != "required") + its_lines
    return create_model("Generated", **fields), value, lines


cases = st.recursive(
    scalars,
    lambda inner: lists(scalars | objects(inner)).filter(lambda c: c[1] != []) | objects(inner),
    max_leaves=8,
)


@given(cases)
def test_what_is_typed_comes_back_as_the_value(case: Case):
    type_, meant, lines = case
    got = value(type_, *lines)
    assert got == meant
    data = answers.encode(got, wait="w")
    answers.validate(data, schema(type_), wait="w")
    TypeAdapter(type_).validate_json(data)


@given(objects(cases))
def test_a_whole_object_may_be_typed_as_json(case: Case):
    type_, meant, _ = case
    assert value(type_, json.dumps(meant)) == meant


@given(json_values)
def test_any_json_is_taken_where_anything_goes(meant: Any):
    assert value(Any, json.dumps(meant)) == meant


@given(cases, st.lists(texts))
def test_whatever_is_typed_is_taken_or_asked_for_again(case: Case, lines: list[str]):
    asking = prompts.dialogue(schema(case[0]))
    assert next(asking).endswith("> ")
    for line in lines:
        try:
            assert asking.send(line).endswith("> ")
        except StopIteration:
            return
