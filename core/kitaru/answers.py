"""Answers to waits: their JSON, and whether it fits the question's schema; pure."""

from __future__ import annotations

import contextlib
import json
import re
import shlex
from collections.abc import Callable, Iterator
from functools import cache
from typing import Any

from kitaru import redaction
from kitaru.errors import KitaruWaitValidationError

_TOO_DEEP = "it is nested too deep"
#: Schemas that ask for nothing but a type, by the type.
_PLAIN: dict[type, tuple[dict[str, str], ...]] = {
    bool: ({"type": "boolean"},),
    int: ({"type": "integer"}, {"type": "number"}),
    float: ({"type": "number"},),
    str: ({"type": "string"},),
}


def encode(value: Any, *, wait: str) -> bytes:
    """An answer as JSON; models, dataclasses, enums and dates become what their schema says.

    Raises:
        KitaruWaitValidationError: it has no JSON form.
    """
    try:
        if not _is_json(value):
            from pydantic_core import to_jsonable_python

            value = to_jsonable_python(value, inf_nan_mode="constants")
            if '"**********"' in json.dumps(value):
                raise ValueError("pydantic masks the secret in it; give that as plain text")
        return json.dumps(value, allow_nan=False, separators=(",", ":")).encode("ascii")
    except (ValueError, RecursionError) as exc:  # pydantic's error is a ValueError
        raise KitaruWaitValidationError(
            f"The answer to {wait} is no JSON value ({exc}). The wait is still open; answer with "
            "JSON data."
        ) from None


def validate(data: bytes, schema: dict[str, Any] | None, *, wait: str) -> None:
    """Check an encoded answer against JSON Schema; without a schema only null fits.

    What Python cannot check, such as a pattern of another dialect, is left to the flow's own type.

    Raises:
        KitaruWaitValidationError: it does not fit; says where and why.
    """
    try:
        value = json.loads(data)
    except RecursionError:
        error: str | None = _TOO_DEEP
    else:
        if schema is None:
            if value is not None:
                raise KitaruWaitValidationError(
                    f"{wait} asks for a go-ahead only; answer with null. The wait is still open."
                )
            return
        error = misfit(value, schema, name=wait.rpartition("/")[2])
    if error is not None:
        raise KitaruWaitValidationError(
            f"The answer to {wait} does not fit its schema: {error}. Expected: "
            f"{json.dumps(schema, separators=(',', ':'))[:400]}. The wait is still open; answer "
            "with JSON that fits."
        )


def misfit(
    value: Any, schema: Any, *, root: dict[str, Any] | None = None, name: str = ""
) -> str | None:
    """Why a JSON value does not fit a JSON Schema; `None` when it does or cannot be checked.

    Args:
        value: the value.
        schema: what it should fit.
        root: the document that references in the schema point into, when that is another.
        name: what the value is called; one that looks like a secret's keeps it out of the text.
    """
    if isinstance(schema, dict) and schema in _PLAIN.get(type(value), ()):
        return None  # most often, and without loading what checks the rest

    import jsonschema
    from jsonschema.exceptions import UnknownType, best_match
    from referencing import Registry
    from referencing.exceptions import Unresolvable

    validator = _validator()(
        schema if root is None else root,
        format_checker=jsonschema.Draft202012Validator.FORMAT_CHECKER,
        registry=Registry(),  # else a reference to an address would be fetched from there
    )
    try:
        errors = validator.evolve(schema=schema).iter_errors(value)
        error = best_match(errors)
    except RecursionError:
        return _TOO_DEEP
    except (Unresolvable, UnknownType):
        return None
    if error is None:
        return None
    where = f"at {error.json_path}: " if error.absolute_path else ""
    hidden = any(redaction.is_secret(str(key), value) for key in (name, *error.absolute_path))
    shown = redaction.shown_value(error.instance, hidden=hidden)
    # JSON Schema speaks of JSON, its checker of Python's null, true and false.
    told = json.dumps(shown, ensure_ascii=False)
    message = error.message.replace(repr(error.instance), told)
    # The value, then what is wrong with it: both ends tell.
    short = message if len(message) <= 200 else f"{message[:80]} … {message[-120:]}"
    return f"{where}{short}"


@cache
def _validator() -> Any:
    """JSON Schema as pydantic writes it: its patterns are Rust's, which `re` may not know."""
    import jsonschema

    base = jsonschema.Draft202012Validator
    partial = ("pattern", "patternProperties", "additionalProperties", "unevaluatedProperties")
    keywords = {name: _where_checkable(base.VALIDATORS[name]) for name in (*partial, "multipleOf")}
    return jsonschema.validators.extend(base, keywords)  # type: ignore[no-untyped-call]


def _where_checkable(keyword: Callable[..., Any]) -> Callable[..., Iterator[Any]]:
    def check(*arguments: Any) -> Iterator[Any]:
        # OverflowError: a repetition or a number too large for Python's arithmetic.
        with contextlib.suppress(re.error, OverflowError):
            yield from keyword(*arguments) or ()

    return check


def _is_json(value: Any) -> bool:
    if isinstance(value, dict):
        return all(type(key) is str and _is_json(item) for key, item in value.items())
    if isinstance(value, list):
        return all(_is_json(item) for item in value)
    return value is None or type(value) in (bool, int, float, str)


def input_line(exec_id: str, wait: str) -> str:
    """The command that answers a wait."""
    return f"kitaru executions input {exec_id} --wait {shlex.quote(wait)} --value '…'"
