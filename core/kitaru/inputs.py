"""Inputs: bound to parameters, of their types where they came as JSON, and shown; pure."""

from __future__ import annotations

import functools
import inspect
import json
import typing
from collections.abc import Callable, Mapping
from typing import Any

from kitaru import codec, config, redaction
from kitaru.errors import KitaruBackendError, KitaruSerializationError, KitaruUsageError

#: How many functions' parameters are kept.
_REMEMBERED = 256
#: Characters of one argument in a message.
_SHOWN = 80
#: How much of bytes is read for that: more than is shown, so that no secret is cut and missed.
_LOOKED_AT = 4096
#: Types whose values any check would leave as they are.
_PLAIN = (bool, float, int, str)
#: What parameters of any number are where none was given.
_NONE_GIVEN: dict[object, Callable[[], Any]] = {
    inspect.Parameter.VAR_POSITIONAL: tuple,
    inspect.Parameter.VAR_KEYWORD: dict,
}


#: The signature of a flow's function, which each of its runs asks for several times.
signature = functools.lru_cache(maxsize=_REMEMBERED)(inspect.signature)


class Parameters:
    """The parameters of a function whose calls are many; read once."""

    def __init__(self, fn: Callable[..., Any]) -> None:
        self.signature = inspect.signature(fn)
        parameters = self.signature.parameters.values()
        self._is_plain = all(each.kind is each.POSITIONAL_OR_KEYWORD for each in parameters)
        self._names = self.signature.parameters.keys()

    def arguments(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> dict[str, Any]:
        """Arguments by parameter name and in that order, defaults included.

        Raises:
            TypeError: they do not fit the parameters.
        """
        if self._is_plain and len(args) + len(kwargs) == len(self._names):
            given = dict(zip(self._names, args, strict=False))
            if not kwargs:
                return given
            given |= kwargs
            if given.keys() == self._names:
                return {name: given[name] for name in self._names}
        bound = self.signature.bind(*args, **kwargs)
        bound.apply_defaults()
        return dict(bound.arguments)

    def passed(self, arguments: Mapping[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """The same arguments as they are passed: by place, and by name."""
        if self._is_plain:
            return tuple(arguments.values()), {}
        bound = self.signature.bind_partial()
        bound.arguments.update(arguments)
        return bound.args, bound.kwargs


def bind(
    fn: Callable[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any], *, name: str
) -> dict[str, Any]:
    """A flow's arguments by parameter name, defaults included.

    Raises:
        KitaruUsageError: they do not fit the flow's parameters.
    """
    parameters = signature(fn)
    try:
        bound = parameters.bind(*args, **kwargs)
    except TypeError as exc:
        raise KitaruUsageError(
            f"Flow {name!r} cannot be run: {exc}. Its parameters are {masked(parameters)}."
        ) from None
    bound.apply_defaults()
    return dict(bound.arguments)


def masked(signature: inspect.Signature) -> inspect.Signature:
    """A signature as messages may show it: defaults of secrets are masked."""
    parameters = signature.parameters.values()
    return signature.replace(
        parameters=[
            each.replace(default=redaction.MASK)
            if each.default is not each.empty and redaction.is_secret(each.name, each.default)
            else each
            for each in parameters
        ]
    )


def bind_json(fn: Callable[..., Any], arguments: Mapping[str, Any], *, name: str) -> dict[str, Any]:
    """Arguments that came as JSON by name, bound each as its parameter's kind asks for.

    A list is what `*args` gets, an object what `**kwargs` gets; names that no parameter has are
    `**kwargs` too.

    Raises:
        KitaruUsageError: they do not fit the flow's parameters.
    """
    given = from_json(fn, arguments)
    bound = signature(fn).bind_partial()
    known = bound.signature.parameters
    bound.arguments.update((key, value) for key, value in given.items() if key in known)
    bound.apply_defaults()
    others = {key: value for key, value in given.items() if key not in known}
    return bind(fn, bound.args, {**bound.kwargs, **others}, name=name)


def rebind(
    fn: Callable[..., Any], recorded: Mapping[str, Any], changed: Mapping[str, Any], *, name: str
) -> dict[str, Any]:
    """Recorded arguments with some of them replaced.

    Raises:
        KitaruUsageError: the flow has no such parameter, or lacks one that was not recorded.
    """
    parameters = signature(fn).parameters
    unknown = [key for key in changed if key not in parameters]
    if unknown:
        raise KitaruUsageError(
            f"Flow {name!r} has no input {unknown[0]!r}; it has: {', '.join(parameters) or 'none'}."
        )
    merged = {**recorded, **changed}
    arguments = {}
    for key, parameter in parameters.items():
        if key in merged:
            arguments[key] = merged[key]
        elif parameter.default is not parameter.empty:
            arguments[key] = parameter.default
        elif parameter.kind in _NONE_GIVEN:
            arguments[key] = _NONE_GIVEN[parameter.kind]()
        else:
            raise KitaruUsageError(
                f"Flow {name!r} now needs input {key!r}, which was not recorded; give it."
            )
    return arguments


def unbind(
    fn: Callable[..., Any], recorded: Mapping[str, Any], *, name: str
) -> inspect.BoundArguments:
    """Recorded arguments, ready for a call.

    Raises:
        KitaruUsageError: the flow's parameters are no longer those that were recorded.
    """
    gone = recorded.keys() - signature(fn).parameters.keys()
    if gone:
        raise KitaruUsageError(
            f"Flow {name!r} no longer has input {min(gone)!r}, which was recorded. Restore the "
            "parameter, or replay with the new code."
        )
    bound = signature(fn).bind_partial()
    bound.arguments.update(rebind(fn, recorded, {}, name=name))
    return bound


def types(fn: Callable[..., Any]) -> codec.DeclaredTypes:
    """The user types a flow's inputs may hold."""
    return codec.declared_types(*(annotation(fn, name) for name in signature(fn).parameters))


def annotation(fn: Callable[..., Any], name: str) -> Any:
    """What a parameter (or `return`) is annotated with; `Any` where that cannot be told."""
    try:
        return _hints(fn).get(name, Any)
    except Exception:  # user code: a name that exists for type checkers only, or no Python at all
        return Any


@functools.lru_cache(maxsize=_REMEMBERED)
def _hints(fn: Callable[..., Any]) -> dict[str, Any]:
    return typing.get_type_hints(fn, include_extras=True)


def from_json(fn: Callable[..., Any], arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Arguments that came as JSON, as the flow's declared types.

    Raises:
        KitaruUsageError: one does not fit its annotation.
    """
    return {
        key: _argument(fn, key, value, parameter=_parameter(fn, key))
        for key, value in arguments.items()
    }


def _parameter(fn: Callable[..., Any], key: str) -> inspect.Parameter | None:
    """The parameter a name goes to: its own, or `**kwargs`."""
    parameters = signature(fn).parameters
    rest = (each for each in parameters.values() if each.kind is each.VAR_KEYWORD)
    return parameters.get(key) or next(rest, None)


def _argument(
    fn: Callable[..., Any], key: str, value: Any, *, parameter: inspect.Parameter | None
) -> Any:
    what = f"Input {key!r}"
    if parameter is None:
        return value
    declared = annotation(fn, parameter.name)
    if parameter.name == key and parameter.kind is parameter.VAR_POSITIONAL:
        if not isinstance(value, list | tuple):
            raise KitaruUsageError(f"{what} is *{key}; give a list.")
        return tuple(
            conform(item, declared, what=f"{what}[{index}]") for index, item in enumerate(value)
        )
    if parameter.name == key and parameter.kind is parameter.VAR_KEYWORD:
        if not isinstance(value, Mapping):
            raise KitaruUsageError(f"{what} is **{key}; give an object.")
        return {
            name: conform(item, declared, what=f"{what}[{name!r}]") for name, item in value.items()
        }
    return conform(value, declared, what=what)


def _type_name(declared: Any) -> str:
    return declared.__name__ if isinstance(declared, type) else str(declared)


def conform(value: Any, declared: Any, *, what: str) -> Any:
    """A value that came as JSON, as the annotated type.

    Raises:
        KitaruUsageError: it does not fit the annotation.
    """
    if declared is Any or (type(value) is declared and declared in _PLAIN):
        return value  # most often, and without loading pydantic
    from pydantic import PydanticUserError, TypeAdapter, ValidationError

    try:
        return TypeAdapter(declared).validate_python(value)
    except PydanticUserError:  # a type pydantic does not know is taken as it is
        return value
    except ValidationError as exc:
        first = exc.errors(include_url=False)[0]
        where = "".join(f"[{part!r}]" for part in first["loc"])
        raise KitaruUsageError(
            f"{what}{where} does not fit {_type_name(declared)}: {first['msg']}."
        ) from None
    except Exception as exc:  # a validator is user code
        raise KitaruUsageError(
            f"{what} cannot be checked against {declared!r}: {type(exc).__name__}: {exc}."
        ) from exc


def shown(arguments: Mapping[str, Any]) -> str:
    """Arguments as messages may show them: short, with secrets masked."""
    parts = (f"{key}={_shown(key, value)}" for key, value in arguments.items())
    return ", ".join(parts)[: config.INPUTS_SHOWN]


def _shown(key: str, value: Any) -> str:
    if redaction.is_secret(key, value):
        return redaction.MASK
    try:
        return _text(key, value)
    except KitaruBackendError:  # a keyring that is away stops no flow
        return redaction.MASK


def _text(key: str, value: Any) -> str:
    if type(value) is str:
        return repr(redaction.masked(value)[:_SHOWN])[:_SHOWN]
    if type(value) is bytes:
        return redaction.masked(repr(value[:_LOOKED_AT]))[:_SHOWN]
    if value is None or type(value) in (bool, float):
        return repr(value)
    if type(value) is int and value.bit_length() < 64:  # beyond some thousand digits `repr` raises
        return repr(value)
    try:
        data = codec.plain(codec.encode_any(value, path=key))
    except KitaruSerializationError:  # one of those that are pickled
        return f"<{type(value).__qualname__}>"
    return json.dumps(redaction.shown_value(data), ensure_ascii=False)[:_SHOWN]
