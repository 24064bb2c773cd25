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
from collections.abc import Callable, Iterable, Mapping
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

#: Makes a field's default, given the fields before it.
_Default = Callable[[dict[str, Any]], Any]


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
    members = list(cls.__members__.items())
    # Backwards, so that the first name of several for one value wins.
    named = {member._value_: name for name, member in reversed(members)}
    while bit <= rest:
        if rest & bit and bit in named:
            parts.append(named[bit])
            rest ^= bit
        bit <<= 1
    return [*parts, rest] if rest else parts


def find_member(cls: Any, recorded: Any) -> Any:
    """The member that `member_of` wrote down."""
    names = recorded if issubclass(cls, Flag) else [recorded]
    if type(names) is not list:
        raise Refused("is damaged: a flag is a list of names")
    bits = 0
    for name in names:
        if type(name) is int and names is recorded:
            bits |= name
        elif type(name) is str and name in cls.__members__:
            member = cls.__members__[name]
            if names is not recorded:
                return member
            bits |= member._value_
        else:
            raise Refused(
                f"was recorded as {cls.__qualname__}.{name}, which the class no longer has"
            )
    value = cls(bits)
    if type(value) is not cls:
        raise Refused(f"was recorded as a {cls.__qualname__}, which no longer holds bits {bits:#x}")
    return value


def state_of(value: Any, kind: str) -> State:
    """What an instance holds, field by field."""
    cls = type(value)
    if kind == "model":
        return _model_state(value)
    names = cls._fields if kind == "namedtuple" else [f.name for f in dataclasses.fields(cls)]
    _refuse_strays(value, names)
    if kind == "namedtuple":
        return State(dict(zip(names, tuple(value), strict=True)))
    return State({name: _field(value, name) for name in names})


def _model_state(value: Any) -> State:
    cls, held = type(value), value.__dict__
    names = cls.model_fields
    _refuse_strays(value, names)
    if missing := [name for name in names if name not in held]:
        raise Refused(f"is a {cls.__qualname__} whose field {missing[0]!r} has no value: set it")
    return State(
        {name: held[name] for name in names},
        value.__pydantic_fields_set__,
        value.__pydantic_extra__,
        value.__pydantic_private__,
    )


def _field(value: object, name: str) -> object:
    try:
        return getattr(value, name)
    except AttributeError:
        reason = f"is a {type(value).__qualname__} whose field {name!r} has no value: set it"
        raise Refused(reason) from None


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


def rebuild(cls: Any, state: State) -> Any:
    """An instance with this state; fields added since take their defaults."""
    kind = kind_of(cls)
    if kind == "model":
        return _rebuild_model(cls, state)
    if kind == "namedtuple":
        values = _complete(cls, state.fields, defaults=_namedtuple_defaults(cls))
        return tuple.__new__(cls, values.values())
    instance = object.__new__(cls)
    for name, value in _complete(cls, state.fields, defaults=_dataclass_defaults(cls)).items():
        object.__setattr__(instance, name, value)
    return instance


def _rebuild_model(cls: Any, state: State) -> Any:
    fields = _complete(cls, state.fields, defaults=_model_defaults(cls))
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


def _complete(
    cls: type, recorded: Mapping[str, Any], *, defaults: Mapping[str, _Default | None]
) -> dict[str, Any]:
    """The recorded fields in the order of the class, and defaults for those it gained."""
    gone = [name for name in recorded if name not in defaults]
    if gone:
        raise Refused(_changed(cls, f"fields {', '.join(gone)}, now gone"))
    lacking = [name for name, make in defaults.items() if name not in recorded and make is None]
    if lacking:
        raise Refused(_changed(cls, f"no fields {', '.join(lacking)}, now required"))
    values: dict[str, Any] = {}
    for name, make in defaults.items():
        values[name] = recorded[name] if make is None or name in recorded else make(values)
    return values


def _changed(cls: type, what: str) -> str:
    return (
        f"was recorded as a {cls.__qualname__} with {what}: bring the class back to that form, "
        f"give new fields defaults, or replay from the call that made the value"
    )


def _namedtuple_defaults(cls: Any) -> dict[str, _Default | None]:
    given = cls._field_defaults
    return {name: _constant(given[name]) if name in given else None for name in cls._fields}


def _dataclass_defaults(cls: Any) -> dict[str, _Default | None]:
    found: dict[str, _Default | None] = {}
    for field in dataclasses.fields(cls):
        if field.default is not dataclasses.MISSING:
            found[field.name] = _constant(field.default)
        elif field.default_factory is not dataclasses.MISSING:
            found[field.name] = functools.partial(_made, field.default_factory)
        else:
            found[field.name] = None
    return found


def _model_defaults(cls: Any) -> dict[str, _Default | None]:
    def default(field: Any) -> _Default:
        return lambda values: field.get_default(call_default_factory=True, validated_data=values)

    return {
        name: None if field.is_required() else default(field)
        for name, field in cls.model_fields.items()
    }


def _constant(value: object) -> _Default:
    return lambda _: value


def _made(factory: Callable[[], Any], _: dict[str, Any]) -> Any:
    return factory()
