"""A flow's inputs: bound to its parameters, and of its types where they came as JSON; pure."""

from __future__ import annotations

import inspect
import typing
from collections.abc import Callable, Mapping
from typing import Any

from kitaru import codec
from kitaru.errors import KitaruUsageError


def bind(
    fn: Callable[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any], *, name: str
) -> dict[str, Any]:
    """A flow's arguments by parameter name, defaults included.

    Raises:
        KitaruUsageError: they do not fit the flow's parameters.
    """
    signature = inspect.signature(fn)
    try:
        bound = signature.bind(*args, **kwargs)
    except TypeError as exc:
        raise KitaruUsageError(
            f"Flow {name!r} cannot be run: {exc}. Its parameters are {signature}."
        ) from None
    bound.apply_defaults()
    return dict(bound.arguments)


def rebind(
    fn: Callable[..., Any], recorded: Mapping[str, Any], changed: Mapping[str, Any], *, name: str
) -> dict[str, Any]:
    """Recorded arguments with some of them replaced.

    Raises:
        KitaruUsageError: the flow has no such parameter, or lacks one that was not recorded.
    """
    parameters = inspect.signature(fn).parameters
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
    gone = recorded.keys() - inspect.signature(fn).parameters.keys()
    if gone:
        raise KitaruUsageError(
            f"Flow {name!r} no longer has input {min(gone)!r}, which was recorded. Restore the "
            "parameter, or replay with the new code."
        )
    bound = inspect.signature(fn).bind_partial()
    bound.arguments.update(rebind(fn, recorded, {}, name=name))
    return bound


def types(fn: Callable[..., Any]) -> codec.DeclaredTypes:
    """The user types a flow's inputs may hold."""
    return codec.declared_types(
        *(annotation(fn, name) for name in inspect.signature(fn).parameters)
    )


def annotation(fn: Callable[..., Any], name: str) -> Any:
    """What a parameter (or `return`) is annotated with; `Any` where that cannot be told."""
    try:
        return typing.get_type_hints(fn, include_extras=True).get(name, Any)
    except (NameError, TypeError, AttributeError):  # a name that exists for type checkers only
        return Any


def from_json(fn: Callable[..., Any], arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Arguments that came as JSON, as the flow's declared types.

    Raises:
        KitaruUsageError: one does not fit its annotation.
    """
    return {
        name: conform(value, annotation(fn, name), what=f"Input {name!r}")
        for name, value in arguments.items()
    }


def conform(value: Any, declared: Any, *, what: str) -> Any:
    """A value that came as JSON, as the annotated type.

    Raises:
        KitaruUsageError: it does not fit the annotation.
    """
    if declared is Any:
        return value
    from pydantic import PydanticUserError, TypeAdapter, ValidationError

    try:
        return TypeAdapter(declared).validate_python(value)
    except PydanticUserError:  # a type pydantic does not know is taken as it is
        return value
    except ValidationError as exc:
        first = exc.errors(include_url=False)[0]
        where = "".join(f"[{part!r}]" for part in first["loc"])
        raise KitaruUsageError(
            f"{what}{where} does not fit {declared!r}: {first['msg']}."
        ) from None
