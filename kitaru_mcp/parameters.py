"""What a tool accepts: its JSON Schema, and arguments brought to it.

A tool's signature is the one source. The schema made from it is flat and plain (no references,
no unions with null, no titles), since that is what every client takes. Arguments are read
leniently where clients are known to differ (numbers and objects as text, the word null) and
strictly everywhere else: an unknown argument is refused, never dropped.
"""

from __future__ import annotations

import difflib
import inspect
import json
import types
import typing
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from pydantic_core import from_json

from kitaru.errors import KitaruUsageError

Kind = Literal["text", "integer", "boolean", "texts", "object", "json"]

#: The longest text where any JSON may stand.
MAX_TEXT = 1_000_000

_KINDS: dict[Any, Kind] = {
    str: "text",
    int: "integer",
    bool: "boolean",
    list[str]: "texts",
    dict[str, Any]: "object",
    Any: "json",
}
_SCHEMAS: dict[Kind, dict[str, Any]] = {
    "text": {"type": "string"},
    "integer": {"type": "integer"},
    "boolean": {"type": "boolean"},
    "texts": {"type": "array", "items": {"type": "string"}},
    "object": {"type": "object"},
    # Of any type; a schema without a keyword is what some clients stumble over.
    "json": {"maxLength": MAX_TEXT},
}
_WANTED: dict[Kind, str] = {
    "text": "text",
    "integer": "a whole number",
    "boolean": "true or false",
    "texts": "a list of texts",
    "object": "a JSON object",
    "json": "JSON",
}
_JSON_TYPES = {
    str: "text that holds none",
    bool: "true or false",
    int: "a number",
    float: "a number",
    list: "a list",
    dict: "an object",
    type(None): "null",
}
#: What clients send for an optional argument they mean to leave out.
_LEFT_OUT = (None, "", "null", [None], ["null"])


@dataclass(frozen=True, slots=True)
class Between:
    """The range of a whole number, both ends included."""

    least: int
    most: int


@dataclass(frozen=True, slots=True)
class Parameter:
    """One argument of a tool."""

    name: str
    kind: Kind
    description: str
    required: bool
    choices: tuple[str, ...] = ()
    range: Between | None = None

    def schema(self) -> dict[str, Any]:
        """The argument's JSON Schema."""
        choices = {"enum": list(self.choices)} if self.choices else {}
        return {**_SCHEMAS[self.kind], **choices, "description": self.description}

    def leaves_out(self, value: Any) -> bool:
        """Whether a value means that there is none; as a text, Python's `None` may be searched."""
        is_python = value == "None" and (self.kind != "text" or bool(self.choices))
        return self.kind != "json" and (value in _LEFT_OUT or is_python)

    def read(self, value: Any) -> Any:
        """The argument's value.

        Raises:
            KitaruUsageError: it is of another type, out of range, or none of the choices.
        """
        if self.kind == "json":
            if isinstance(value, str) and len(value) > MAX_TEXT:
                raise KitaruUsageError(
                    f"{self.name} is {len(value)} characters; it must be at most {MAX_TEXT} "
                    "characters."
                )
            return value
        found: Any = _readers[self.kind](value)
        if found is None:
            self._refuse(value, _WANTED[self.kind])
        if self.kind == "text" and not found.strip():
            self._refuse(value, "text that is not empty")
        if self.choices:
            found = {choice.lower(): choice for choice in self.choices}.get(found.strip().lower())
            if found is None:
                self._refuse(value, f"one of {', '.join(self.choices)}")
        if self.range is not None and not self.range.least <= found <= self.range.most:
            self._refuse(value, f"from {self.range.least} to {self.range.most}")
        return found

    def _refuse(self, value: Any, wanted: str) -> typing.NoReturn:
        if self.kind == "object":  # a secret may be in it
            shown = _JSON_TYPES[type(value)]
        else:
            shown = json.dumps(value)
            shown = shown if len(shown) <= 60 else f"{shown[:60]}…"
        raise KitaruUsageError(f"{self.name} is {shown}; it must be {wanted}.")


def parameters_of(fn: Callable[..., Any]) -> tuple[Parameter, ...]:
    """The keyword-only parameters of a tool's function, as its callers see them."""
    hints = typing.get_type_hints(fn, include_extras=True)
    return tuple(
        _parameter(parameter, hints[parameter.name])
        for parameter in inspect.signature(fn).parameters.values()
        if parameter.kind is parameter.KEYWORD_ONLY
    )


def _parameter(parameter: inspect.Parameter, hint: Any) -> Parameter:
    declared, description, *extras = typing.get_args(hint)
    options = typing.get_args(declared)
    if types.NoneType in options:
        (declared,) = (option for option in options if option is not types.NoneType)
    choices = typing.get_args(declared) if typing.get_origin(declared) is Literal else ()
    return Parameter(
        parameter.name,
        "text" if choices else _KINDS[declared],
        description,
        required=parameter.default is parameter.empty,
        choices=choices,
        range=next((extra for extra in extras if isinstance(extra, Between)), None),
    )


def schema_of(parameters: Sequence[Parameter]) -> dict[str, Any]:
    """The JSON Schema of a tool's arguments."""
    required = [parameter.name for parameter in parameters if parameter.required]
    return {
        "type": "object",
        "properties": {parameter.name: parameter.schema() for parameter in parameters},
        **({"required": required} if required else {}),
    }


def accept(
    parameters: Sequence[Parameter], arguments: Mapping[str, Any], *, tool: str
) -> dict[str, Any]:
    """The arguments of a call, as the tool's function takes them; what was left out is missing.

    Raises:
        KitaruUsageError: one is unknown, missing, or cannot be read.
    """
    known = [parameter.name for parameter in parameters]
    # `from_` is Python's way to spell an argument that everybody else calls `from`.
    arguments = {f"{name}_" if f"{name}_" in known else name: arguments[name] for name in arguments}
    for name in arguments:
        if name not in known:
            raise KitaruUsageError(_unknown(name, known, tool=tool))
    accepted = {}
    for parameter in parameters:
        value = arguments.get(parameter.name)
        if not parameter.required and parameter.leaves_out(value):
            continue
        if parameter.name in arguments:
            accepted[parameter.name] = parameter.read(value)
        elif parameter.required:
            raise KitaruUsageError(
                f"{tool} needs {parameter.name}: {parameter.description.rstrip('.')}."
            )
    return accepted


def _unknown(name: str, known: Sequence[str], *, tool: str) -> str:
    near = difflib.get_close_matches(name, known, n=1, cutoff=0.6)
    hint = f"; did you mean {near[0]}?" if near else "."
    return f"{tool} has no argument {name[:60]!r}{hint} It takes: {', '.join(known) or 'none'}."


# --- readers: the value, or None where it is of another type -----------------------------------


def _text(value: Any) -> str | None:
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    return value if isinstance(value, str) else None


def _integer(value: Any) -> int | None:
    value = parsed(value, (int, float))
    if isinstance(value, float) and value.is_integer():
        return int(value)
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def _boolean(value: Any) -> bool | None:
    value = parsed(value, bool)
    return value if isinstance(value, bool) else None


def _texts(value: Any) -> list[str] | None:
    value = parsed(value, list)
    if isinstance(value, str):
        return [value]
    if isinstance(value, list) and all(isinstance(item, str) for item in value):
        return value
    return None


def _object(value: Any) -> dict[str, Any] | None:
    value = parsed(value, dict)
    return value if isinstance(value, dict) else None


def json_of(text: str) -> Any:
    """What a text holds as JSON, by the rules of the wire: no half characters, no NaN, 200 levels.

    Raises:
        ValueError: it is none.
    """
    return from_json(text, allow_inf_nan=False)


def parsed(value: Any, wanted: Any = object) -> Any:
    """What a text holds as JSON, where that is of the type wanted; else the value itself."""
    if isinstance(value, str):
        try:
            found = json_of(value if value not in ("True", "False") else value.lower())
        except ValueError:
            return value
        return found if isinstance(found, wanted) else value
    return value


_readers: dict[Kind, Callable[[Any], Any]] = {
    "text": _text,
    "integer": _integer,
    "boolean": _boolean,
    "texts": _texts,
    "object": _object,
}
