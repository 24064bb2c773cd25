"""What all values that Kitaru hands out have in common: they are JSON-ready.

By itself, for what reads settings needs no more of the values.
"""

from __future__ import annotations

import binascii
import dataclasses
from collections.abc import Collection, Mapping
from datetime import datetime
from enum import Enum
from functools import cache
from typing import Any

_PLAIN = (str, int, float, bool)


def to_json(value: Any) -> Any:
    """A model's field as plain JSON data."""
    if value is None or type(value) in _PLAIN:
        return value
    if isinstance(value, Model):
        return value.to_dict()
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, bytes):
        return binascii.b2a_base64(value, newline=False).decode()
    if isinstance(value, Mapping):
        return {str(key): to_json(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [to_json(item) for item in value]
    return value


class Model:
    """Base of the frozen values that people get."""

    __slots__ = ()

    def to_dict(self, *, without: Collection[str] = ()) -> dict[str, Any]:
        """The model as JSON-ready data; times are ISO 8601 with a zone, bytes are base64.

        Args:
            without: fields to leave out.
        """
        model: Any = type(self)
        return {
            name: to_json(getattr(self, name))
            for name in _public_fields(model)
            if name not in without
        }


@cache
def _public_fields(model: type[Any]) -> tuple[str, ...]:
    fields = dataclasses.fields(model)
    return tuple(field.name for field in fields if not field.name.startswith("_"))
