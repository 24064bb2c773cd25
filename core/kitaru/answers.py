"""Answers to waits: their JSON, and whether it fits the question's schema; pure."""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Callable, Iterator
from functools import cache
from typing import Any

from kitaru.errors import KitaruWaitValidationError


def encode(value: Any, *, wait: str) -> bytes:
    """An answer as JSON; models, dataclasses, enums and dates become what their schema says.

    Raises:
        KitaruWaitValidationError: it has no JSON form.
    """
    try:
        if not _is_json(value):
            from pydantic_core import to_jsonable_python

            value = to_jsonable_python(value, inf_nan_mode="constants")
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
        _check(data, schema, wait=wait)
    except RecursionError:
        raise KitaruWaitValidationError(
            f"The answer to {wait} is nested too deep. The wait is still open; answer with "
            "flatter data."
        ) from None


def _check(data: bytes, schema: dict[str, Any] | None, *, wait: str) -> None:
    value = json.loads(data)
    if schema is None:
        if value is not None:
            raise KitaruWaitValidationError(
                f"{wait} asks for a go-ahead only; answer with null. The wait is still open."
            )
        return
    import jsonschema

    validator = _validator()(schema, format_checker=jsonschema.Draft202012Validator.FORMAT_CHECKER)
    error = jsonschema.exceptions.best_match(validator.iter_errors(value))
    if error is not None:
        where = f" at {error.json_path}" if error.absolute_path else ""
        expected = json.dumps(schema, separators=(",", ":"))
        raise KitaruWaitValidationError(
            f"The answer to {wait} does not fit its schema{where}: {error.message[:200]}. "
            f"The wait is still open; expected: {expected[:400]}"
        )


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
