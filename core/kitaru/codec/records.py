"""Instances of user types, taken apart into their state and put together again.

Moves the exact state: constructors, validators and `__post_init__` do not run again, and state
that is not in the fields is refused rather than lost. A class may have changed since the record:
new fields take their defaults, anything else is refused by name. Nothing here imports pydantic; a
model can only exist where somebody else has imported it.
"""

from __future__ import annotations

import dataclasses
import functools
import sys
import types
from collections.abc import Iterable, Mapping
from enum import Enum, Flag
from typing import Any, NamedTuple

from kitaru.codec.refusal import Refused

#: Attributes that `typing` and pydantic keep beside the fields.
_BOOKKEEPING = (
    "__orig_class__",
    "__pydantic_fields_set__",
    "__pydantic_extra__",
    "__pydantic_private__",
)


class State(NamedTuple):
    """What an instance holds; all but `fields` concerns pydantic models only."""

    fields: Mapping[str, Any]
    fields_set: Iterable[str] = ()
    extra: Mapping[str, Any] | None = None
    private: Mapping[str, Any] | None = None


def kind_of(cls: type) -> str | None:
    """Which kind of user type this is, or None where instances cannot be recorded."""
    if issubclass(cls, Enum):
        return "flag" if issubclass(cls, Flag) else "enum"
    if is_model(cls):
        return "model"
    if dataclasses.is_dataclass(cls):
        # State that a built-in base keeps (items, exception arguments) is not in the fields.
        inherited = any(b.__module__ == "builtins" and b is not object for b in cls.__mro__)
        return None if inherited else "dataclass"
    if issubclass(cls, tuple) and hasattr(cls, "_fields") and hasattr(cls, "_field_defaults"):
        return "namedtuple"
    return None


def name_of(cls: type) -> str:
    """The name a class is recorded under."""
    return f"{cls.__module__}:{cls.__qualname__}"


def is_model(cls: type) -> bool:
    """Whether this is a pydantic model."""
    pydantic = sys.modules.get("pydantic.main")
    return pydantic is not None and getattr(pydantic, "BaseModel", None) in cls.__mro__


def member_of(value: Enum) -> Any:
    """An enum member as its name, a flag as the names of its parts (and bits without one)."""
    cls, name = type(value), value._name_
    if name is not None and cls.__members__.get(name) is value:
        return [name] if isinstance(value, Flag) else name
    if not isinstance(value, Flag):
        raise Refused(f"is a member of {cls.__qualname__} that its class does not list")
    parts: list[Any] = []
    rest, bit = value._value_, 1
    # Backwards, so that the first name of several for one value wins.
    named = {member._value_: name for name, member in reversed(list(cls.__members__.items()))}
    while bit <= rest:
        if rest & bit and bit in named:
            parts.append(named[bit])
            rest ^= bit
        bit <<= 1
    return [*parts, rest] if rest else parts


def find_member(cls: Any, recorded: Any) -> Any:
    """The member that `member_of` wrote down."""
    if type(recorded) is str:
        return _member(cls, recorded)
    bits = 0
    for part in recorded:
        bits |= part if type(part) is int else _member(cls, part)._value_
    value = cls(bits)
    if type(value) is not cls:
        raise Refused(f"was recorded as a {cls.__qualname__}, which no longer holds bits {bits:#x}")
    return value


def _member(cls: Any, name: object) -> Any:
    if type(name) is not str or name not in cls.__members__:
        raise Refused(f"was recorded as {cls.__qualname__}.{name}, which the class no longer has")
    return cls.__members__[name]


def state_of(value: Any, kind: str) -> State:
    """What an instance holds, field by field."""
    names = _fields(type(value), kind)
    _refuse_strays(value, names)
    if kind == "namedtuple":
        return State(dict(zip(names, tuple(value), strict=True)))
    # A model's attributes may be descriptors that do more than read.
    read = value.__dict__.__getitem__ if kind == "model" else functools.partial(getattr, value)
    fields = {}
    for name in names:
        try:
            fields[name] = read(name)
        except (AttributeError, KeyError):
            reason = f"is a {type(value).__qualname__} whose field {name!r} has no value: set it"
            raise Refused(reason) from None
    if kind != "model":
        return State(fields)
    return State(
        fields,
        value.__pydantic_fields_set__,
        value.__pydantic_extra__,
        value.__pydantic_private__,
    )


def _refuse_strays(value: object, names: Iterable[str]) -> None:
    """Refuse state beside the fields; only a `cached_property` may be lost, it comes again."""
    cls, known = type(value), {*names, *_BOOKKEEPING}
    strays = [name for name in getattr(value, "__dict__", ()) if name not in known]
    for base in cls.__mro__:
        space = vars(base)
        strays = [n for n in strays if not isinstance(space.get(n), functools.cached_property)]
        if "__slots__" in space:
            slots = [n for n, v in space.items() if isinstance(v, types.MemberDescriptorType)]
            strays += [n for n in slots if n not in known and hasattr(value, n)]
    if strays:
        raise Refused(
            f"is a {cls.__qualname__} with an attribute {strays[0]!r} that is not a field and "
            f"would be lost: make it a field, or remove it"
        )


def rebuild(cls: Any, kind: str, state: State) -> Any:
    """An instance with this state; fields added since take their defaults."""
    fields = _complete(cls, kind, state.fields)
    if kind == "model":
        return _rebuild_model(cls, fields, state)
    if kind == "namedtuple":
        return tuple.__new__(cls, fields.values())
    instance = object.__new__(cls)
    for name, value in fields.items():
        object.__setattr__(instance, name, value)
    return instance


def _rebuild_model(cls: Any, fields: dict[str, Any], state: State) -> Any:
    extra = state.extra
    if cls.model_config.get("extra") == "allow":
        extra = extra or {}
    elif extra:
        raise Refused(_changed(cls, f"extra fields {', '.join(extra)}, which it now refuses"))
    # `__dict__` first: where the class annotates one of the others, that one lives in it.
    parts = {
        "__dict__": fields,
        "__pydantic_fields_set__": set(state.fields_set),
        "__pydantic_extra__": extra,
        "__pydantic_private__": _private(cls, state.private),
    }
    instance = cls.__new__(cls)
    for name, part in parts.items():
        object.__setattr__(instance, name, part)
    return instance


def _private(cls: Any, recorded: Mapping[str, Any] | None) -> dict[str, Any] | None:
    declared = cls.__private_attributes__
    gone = [name for name in recorded or () if name not in declared]
    if gone:
        raise Refused(_changed(cls, f"private attributes {', '.join(gone)}, now gone"))
    if not declared:
        return None
    undefined = sys.modules["pydantic_core"].PydanticUndefined
    values = {name: attribute.get_default() for name, attribute in declared.items()}
    values = {name: value for name, value in values.items() if value is not undefined}
    return {**values, **(recorded or {})}


def _complete(cls: Any, kind: str, recorded: Mapping[str, Any]) -> dict[str, Any]:
    """The recorded fields in the order of the class, and defaults for those it gained."""
    fields = _fields(cls, kind)
    if gone := [name for name in recorded if name not in fields]:
        raise Refused(_changed(cls, f"fields {', '.join(gone)}, now gone"))
    if lacking := [name for name, needed in fields.items() if needed and name not in recorded]:
        raise Refused(_changed(cls, f"no fields {', '.join(lacking)}, now required"))
    values: dict[str, Any] = {}
    for name in fields:
        known = name in recorded
        values[name] = recorded[name] if known else _default(cls, kind, name=name, before=values)
    return values


def _changed(cls: type, what: str) -> str:
    return (
        f"was recorded as a {cls.__qualname__} with {what}: bring the class back to that form, "
        f"give new fields defaults, or replay from the call that made the value"
    )


def _fields(cls: Any, kind: str) -> dict[str, bool]:
    """The fields of a class, and whether each has to be given."""
    if kind == "namedtuple":
        return dict.fromkeys(cls._fields, True) | dict.fromkeys(cls._field_defaults, False)
    if kind == "model":
        return {name: field.is_required() for name, field in cls.model_fields.items()}
    missing = dataclasses.MISSING
    return {
        field.name: field.default is missing and field.default_factory is missing
        for field in dataclasses.fields(cls)
    }


def _default(cls: Any, kind: str, *, name: str, before: dict[str, Any]) -> Any:
    """What a field takes that is not recorded, given the fields before it."""
    if kind == "namedtuple":
        return cls._field_defaults[name]
    if kind == "model":
        field = cls.model_fields[name]
        return field.get_default(call_default_factory=True, validated_data=before)
    field = cls.__dataclass_fields__[name]
    return field.default_factory() if field.default is dataclasses.MISSING else field.default
