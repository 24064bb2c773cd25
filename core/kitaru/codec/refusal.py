"""Saying no to a value: the reason, and the path to what it is about.

A walk that meets something it cannot take raises `Refused`; each container on the way out adds its
step, so that a walk which succeeds pays nothing for paths. A value that contains itself shows only
as depth, and is told from a deep one by meeting the same container twice on that path.
"""

from __future__ import annotations

import json
from collections.abc import Coroutine, Iterable, Iterator, Mapping
from types import (
    AsyncGeneratorType,
    BuiltinFunctionType,
    FunctionType,
    GeneratorType,
    MethodType,
    ModuleType,
)

from kitaru.redaction import recordable

#: Containers inside containers.
MAX_DEPTH = 200
TOO_DEEP = (
    f"is nested deeper than Kitaru records ({MAX_DEPTH} levels, MAX_DEPTH) or than Python's stack "
    f"allows here: flatten it, for example into a list of items that name their parents"
)

_LONGEST_PATH_SHOWN = 400
_LONGEST_KEY_SHOWN = 40
_SAFE_INT = 2**63
_BUILT_INS = (
    *(bool, int, float, complex, str, bytes, bytearray, range),
    *(list, tuple, dict, set, frozenset),
)


class Refused(Exception):
    """Why a value does not fit, and the steps from it out to the value that was handed in."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason
        #: (step, container), innermost first
        self.trail: list[tuple[str, object]] = []

    def message(self, path: str) -> str:
        """The whole sentence, for a value that is called `path`."""
        seen: dict[int, str] = {}
        for step, container in reversed(self.trail):
            if id(container) in seen:
                return (
                    f"{_shortened(path)} is {_shortened(seen[id(container)])} again "
                    f"({type(container).__qualname__}): a value cannot contain itself; record an "
                    f"id in its place"
                )
            seen[id(container)] = path
            path += step
        return f"{_shortened(path)} {self.reason}"


def step(key: object) -> str:
    """How a dict key reads in a path; only of plain keys is the `repr` safe to ask for."""
    if type(key) is str:
        return f"[{json.dumps(recordable(key)[:_LONGEST_KEY_SHOWN])}]"
    if key is None or type(key) is bool or (type(key) is int and abs(key) < _SAFE_INT):
        return f"[{key}]"
    return f"[<{type(key).__qualname__}>]"


def unsupported(value: object) -> str:
    """What is wrong with a value of a type that is never recorded, and the way out."""
    cls = type(value)
    name = cls.__qualname__
    if isinstance(value, type):
        return f"is a class ({value.__qualname__}): record its name, or an instance"
    if isinstance(value, FunctionType | MethodType | BuiltinFunctionType):
        return f"is a {name} ({value.__qualname__}): record what it returns, or its name"
    if isinstance(value, ModuleType):
        return f"is a module ({value.__name__}): record its name"
    if isinstance(value, Coroutine | AsyncGeneratorType):
        return f"is a {name}: await it first, and record what comes out"
    if isinstance(value, GeneratorType | Iterator) and not hasattr(cls, "fileno"):
        return f"is a {name}, which can be read only once: record list(...) of it"
    if hasattr(cls, "fileno"):
        return f"is a {name}, which belongs to this process: record its path or its content"
    for base in _BUILT_INS:
        if isinstance(value, base):
            return (
                f"is a {name}, a subclass of {base.__name__}, and only exact types come back: "
                f"convert it with {base.__name__}(...)"
            )
    if isinstance(value, Mapping | Iterable):
        built_in = "dict" if isinstance(value, Mapping) else "list"
        return f"is a {name}, which is not a built-in type: convert it with {built_in}(...)"
    return (
        f"is a {cls.__module__}.{name}, which cannot be recorded: turn it into built-in values, a "
        f"dataclass, a pydantic model, a NamedTuple or an Enum"
    )


def _shortened(path: str) -> str:
    half = _LONGEST_PATH_SHOWN // 2
    return path if len(path) <= _LONGEST_PATH_SHOWN else f"{path[:half]} ... {path[-half:]}"
