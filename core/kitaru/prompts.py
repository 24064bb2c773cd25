"""A wait's question as a dialogue in lines: what to show, and which value the typed lines mean.

Yes or no, numbers, text, choices, objects field by field and lists item by item; whatever has no
such form is typed as JSON, and so may a whole object or list be. What is typed is checked against
its own part of the schema at once. Pure: the caller shows what a dialogue yields, sends it one
line for each, and looks out for the word that aborts. Never reads or writes anything itself.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass, replace
from datetime import date, datetime, time, timedelta
from typing import Any

from kitaru import answers, redaction

#: Yields text to show, is sent the line typed after it, and returns the JSON value.
Dialogue = Generator[str, str, Any]

#: The line that aborts a wait; where it is meant as a text it is typed in quotes.
ABORT = ":abort"

_MUST_BE_TYPED = object()
_LEFT_OUT = object()
_END_OF_LIST = object()
_WORDS = {"y": True, "yes": True, "true": True, "n": False, "no": False, "false": False}
_COMBINING = {"anyOf", "oneOf", "allOf", "not", "if", "prefixItems"}
_FORMATS = {
    "date": (date, "date, such as 2026-11-20"),
    "date-time": (datetime, "time, such as 2026-11-20T18:00:00Z"),
    "time": (time, "time of day, such as 18:00:00"),
    "duration": (timedelta, "duration, such as PT90M"),
}
_MAX_HINT = 200
#: Objects deeper than this are typed as JSON: a type may hold itself without an end.
_MAX_DEPTH = 8


@dataclass(frozen=True, slots=True)
class _Field:
    """A part of a schema; `plain` is it with its references followed and null taken out.

    `enter` is what Enter alone means, `shown` that in brackets.
    """

    label: str
    schema: Any
    root: dict[str, Any]
    plain: dict[str, Any]
    is_nullable: bool
    enter: Any
    shown: str
    depth: int

    def check(self, value: Any) -> Any:
        """The value, if it fits; the `ValueError` says why it does not."""
        try:
            text = json.dumps(value, ensure_ascii=False, allow_nan=False)
        except RecursionError:
            raise ValueError("it is nested too deep") from None
        if not redaction.is_storable(text):
            raise ValueError("it holds characters that are no text")
        error = answers.misfit(value, self.schema, root=self.root)
        if error is not None:
            raise ValueError(error)
        return value


def dialogue(schema: dict[str, Any] | None) -> Dialogue:
    r"""Ask for a value of a JSON Schema; without a schema only for a go-ahead.

    Each part is checked when it is typed, yet not what only the whole can be checked for: that is
    left to `answers.validate` and the declared type.

    Args:
        schema: as `PendingWait.schema` gives it.

    Example:
        >>> asking = dialogue({"type": "object", "properties": {"n": {"type": "integer"}}})
        >>> print(next(asking).strip())
        Field by field, or all of it as one line of JSON:
        N (whole number) [optional] >
        >>> asking.send("many")
        'Invalid input: type a whole number.\nN (whole number) [optional] > '
        >>> try:
        ...     asking.send("3")
        ... except StopIteration as end:
        ...     end.value
        {'n': 3}
    """
    if schema is not None:
        field = _field(schema, schema)
        takes_json = _kind(field) == "object" and not _opens_with_json(field)
        note = "Field by field, or all of it as one line of JSON:\n" if takes_json else ""
        return (yield from _ask(field, note))
    line = yield "Press Enter to continue.\n> "
    while line.strip():
        line = yield f"Press Enter alone to continue, or type {ABORT}.\n> "
    return None


def visible(text: str) -> str:
    """Text on one line, with everything escaped that a terminal would obey or hide."""
    return redaction.safe_message(text).replace("\n", "\\n").replace("\t", "\\t")


def _field(
    schema: Any, root: dict[str, Any], *, label: str = "", required: bool = True, depth: int = 0
) -> _Field:
    plain, is_nullable = _plain(schema, root)
    enter = plain.get("default", None if is_nullable else _MUST_BE_TYPED)
    shown = "" if enter is _MUST_BE_TYPED else f"[{visible(_as_typed(enter))}]"
    if not required:
        # Left out, the type takes its own default, which may be another than the schema shows.
        enter, shown = _LEFT_OUT, shown if "default" in plain else "[optional]"
    return _Field(label, schema, root, plain, is_nullable, enter, shown, depth)


def _plain(schema: Any, root: dict[str, Any]) -> tuple[dict[str, Any], bool]:
    is_nullable, followed = False, set()
    while isinstance(schema, dict):
        rest = dict(schema)
        variants = schema.get("anyOf", ())
        if "$ref" in schema:
            reference = rest.pop("$ref")
            if reference in followed:
                break
            followed.add(reference)
            target = _target(reference, root)
        elif len(variants) == 2 and {"type": "null"} in variants:
            del rest["anyOf"]
            (target,) = (each for each in variants if each != {"type": "null"})
            is_nullable = True
        else:
            return schema, is_nullable or schema.get("type") == "null"
        schema = {**target, **rest} if isinstance(target, dict) else None
    return {}, is_nullable


def _target(reference: str, root: dict[str, Any]) -> Any:
    found: Any = root
    for name in reference.removeprefix("#").split("/")[1:]:
        name = name.replace("~1", "/").replace("~0", "~")
        found = found.get(name) if isinstance(found, dict) else None
    return found


def _kind(field: _Field) -> str:
    plain = field.plain
    if "const" in plain or "enum" in plain:
        return "choice"
    if _COMBINING.isdisjoint(plain):
        match plain.get("type"):
            case "boolean" | "integer" | "number" | "string" as kind:
                return str(kind)
            case "object" if plain.get("properties") and field.depth < _MAX_DEPTH:
                return "object"
            case "array" if _kind_of_items(field) not in ("json", "list"):
                return "list"
    return "json"


def _kind_of_items(field: _Field) -> str:
    item = _item(field, 1)
    # Lists of lists are JSON; looking no deeper ends at types that hold themselves, too.
    return "list" if item.plain.get("type") == "array" else _kind(item)


def _ask(field: _Field, note: str = "") -> Dialogue:
    """Ask for one part; `note` is shown before its first prompt."""
    if "description" in field.plain:
        note += f"{visible(str(field.plain['description']))}\n"
    match _kind(field):
        case "object" if _opens_with_json(field):  # what `{` begins there is that first part
            return (yield from _object(field, note))
        case "object":
            return (yield from _or_json(field, _object(field, note), "{"))
        case "list":
            return (yield from _or_json(field, _list(field, note), "["))
        case "choice":
            return (yield from _choice(field, note))
        case "boolean":
            hints = {"[true]": "[Y/n]", "[false]": "[y/N]"}
            hint = hints.get(field.shown, f"[y/n] {field.shown}".strip())
            return (yield from _line(replace(field, shown=""), _bool, hint=hint, note=note))
        case "integer":
            return (yield from _line(field, _integer, hint="(whole number)", note=note))
        case "number":
            return (yield from _line(field, _number, hint="(number)", note=note))
        case "string" if field.plain.get("format") in _FORMATS:
            type_, hint = _FORMATS[field.plain["format"]]
            return (yield from _line(field, _point_in_time(type_), hint=f"({hint})", note=note))
        case "string":
            return (yield from _line(field, _text, hint="(text)", note=note))
    return (yield from _line(field, _json, hint=_json_hint(field), note=note))


def _line(field: _Field, read: Callable[[str], Any], *, hint: str, note: str) -> Dialogue:
    """Ask for a value on one line until it fits."""
    prompt = " ".join(filter(None, [visible(field.label), hint, field.shown, "> "]))
    while True:
        line = yield note + prompt
        text = line.strip()
        if not text and field.enter is not _MUST_BE_TYPED:
            return field.enter
        if text == "null" and field.is_nullable:
            return None
        try:
            return field.check(read(line))
        except ValueError as exc:
            note = _refused(exc)


def _or_json(field: _Field, steps: Dialogue, opening: str) -> Dialogue:
    """A dialogue whose first line may hold all of it as JSON."""
    prompt = next(steps)
    line = yield prompt
    while line.lstrip().startswith(opening):
        try:
            return field.check(_json(line))
        except ValueError as exc:
            line = yield _refused(exc) + prompt
    try:
        while True:
            line = yield steps.send(line)
    except StopIteration as end:
        return end.value


def _object(field: _Field, note: str) -> Dialogue:
    if field.enter is not _MUST_BE_TYPED:
        gate = replace(field, schema={"type": "boolean"})
        hint = "(add? y/n)" if field.enter is _END_OF_LIST else "(fill in? y/n)"
        wanted = yield from _line(gate, _bool, hint=hint, note=note)
        if wanted is not True:
            return field.enter if wanted is False else wanted
        note = ""
    value = {}
    for name, part in _parts(field):
        got = yield from _ask(part, note)
        note = ""
        if got is not _LEFT_OUT:
            value[name] = got
    return value


def _opens_with_json(field: _Field) -> bool:
    kind = _kind(field)
    if kind == "object" and field.enter is _MUST_BE_TYPED:
        return _opens_with_json(next(_parts(field))[1])
    return kind == "json"


def _parts(field: _Field) -> Iterator[tuple[str, _Field]]:
    for name, schema in field.plain["properties"].items():
        title = schema.get("title") if isinstance(schema, dict) else None
        title = title or name.replace("_", " ").title()  # as pydantic writes it
        label = " / ".join(filter(None, [field.label, str(title)]))
        required = name in field.plain.get("required", ())
        depth = field.depth + 1
        yield name, _field(schema, field.root, label=label, required=required, depth=depth)


def _list(field: _Field, note: str) -> Dialogue:
    values: list[Any] = []
    while True:
        got = yield from _ask(_item(field, len(values) + 1), note)
        note = ""
        if got is not _END_OF_LIST:
            values.append(got)
        elif not values and field.enter is not _MUST_BE_TYPED:
            return field.enter
        else:
            try:
                return field.check(values)
            except ValueError as exc:
                note, values = f"{_refused(exc)}The list starts over.\n", []


def _item(field: _Field, number: int) -> _Field:
    label = f"{field.label} {number}".strip()
    item = _field(field.plain.get("items"), field.root, label=label, depth=field.depth)
    is_default = number == 1 and field.shown not in ("", "[[]]")
    shown = field.shown if is_default else "[end]"
    return replace(item, enter=_END_OF_LIST, shown=shown)


def _choice(field: _Field, note: str) -> Dialogue:
    values = field.plain["enum"] if "enum" in field.plain else [field.plain["const"]]
    texts = [_as_typed(value) for value in values]
    numbers = [str(number) for number in range(1, len(values) + 1)]
    # Where a value could be taken for another one's number, there are no numbers.
    pairs = zip(texts, numbers, strict=True)
    is_numbered = all(text == number or text not in numbers for text, number in pairs)
    marks = [f"{number})" for number in numbers] if is_numbered else ["-"] * len(values)
    for mark, text in zip(marks, texts, strict=True):
        note += f"  {mark} {visible(text)}\n"

    def read(line: str) -> Any:
        typed = line.strip()
        exact = [json.dumps(value) for value in values]  # "3" is a text, 3 is a number
        for ways in (exact, texts, numbers if is_numbered else []):
            if typed in ways:
                return values[ways.index(typed)]
        raise ValueError("type one of the choices")

    return (
        yield from _line(field, read, hint="(number or value)" if is_numbered else "", note=note)
    )


def _as_typed(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def _json_hint(field: _Field) -> str:
    told = ("title", "description", "default")
    schema = {key: value for key, value in field.plain.items() if key not in told}
    if not schema:
        return '(JSON, such as 3, "text" or {"a": 1})'
    text = json.dumps(schema)
    return f"(JSON for {text if len(text) <= _MAX_HINT else f'{text[:_MAX_HINT]}…'})"


def _refused(exc: ValueError) -> str:
    return f"Invalid input: {visible(str(exc))}.\n"


def _bool(line: str) -> bool:
    value = _WORDS.get(line.strip().casefold())
    if value is None:
        raise ValueError("type y or n")
    return value


def _integer(line: str) -> int:
    try:
        return int(line)
    except ValueError:
        raise ValueError("type a whole number") from None


def _number(line: str) -> int | float:
    try:
        return int(line)
    except ValueError:
        pass
    try:
        return float(line)
    except ValueError:
        raise ValueError("type a number, such as 1.5") from None


def _text(line: str) -> str:
    """A line as it stands; one JSON string means its content: `""`, leading blanks, newlines."""
    if not line.strip():
        raise ValueError('type a text; "" is the empty one')
    if line.strip().startswith('"'):
        try:
            return str(json.loads(line))
        except ValueError:  # it only begins with a quotation
            pass
    if any(char != "\t" and not char.isprintable() and char.isascii() for char in line):
        raise ValueError("it holds a key that is no text, such as an arrow; type it again")
    return line


def _point_in_time(type_: type) -> Callable[[str], str]:
    def read(line: str) -> str:
        from pydantic import TypeAdapter, ValidationError

        try:
            TypeAdapter(type_).validate_json(json.dumps(line.strip()))
        except ValidationError as exc:
            raise ValueError(exc.errors()[0]["msg"]) from None
        return line.strip()

    return read


def _json(line: str) -> Any:
    try:
        return json.loads(line)
    except RecursionError:
        raise ValueError("it is nested too deep") from None
    except ValueError as exc:
        raise ValueError(f'{exc}. Type JSON; text stands in quotes: "text"') from None
