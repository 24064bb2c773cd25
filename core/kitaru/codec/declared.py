"""The user types a value may hold: those reachable from annotations of loaded code.

A recorded name is only ever compared with the types found here, so data can never choose what is
imported or called. Annotations that cannot be resolved declare nothing; the reason is kept, and
given when a value would have needed them. Nothing here imports what an annotation names.
"""

from __future__ import annotations

import dataclasses
import functools
import inspect
import sys
import types
import typing
from collections.abc import Callable, Iterable, Mapping
from enum import Enum
from typing import Any

from kitaru.codec.records import kind_of, name_of
from kitaru.codec.refusal import Refused

_CACHED_ANNOTATIONS = 1024


class DeclaredTypes:
    """The user types reachable from some annotations, and what could not be resolved in them."""

    __slots__ = ("_by_name", "_names", "unresolved")

    def __init__(self, classes: Iterable[type], unresolved: Iterable[str] = ()) -> None:
        self._names = {cls: name_of(cls) for cls in classes}
        self.unresolved = tuple(unresolved)
        self._by_name: dict[str, list[type]] = {}
        for cls, name in self._names.items():
            self._by_name.setdefault(name, []).append(cls)

    def find(self, name: str) -> type:
        """The class recorded under this name: exactly so, or else the only one so qualified.

        A script is `__main__` when it is run and has another name when it is imported.
        """
        found = self._by_name.get(name)
        if found is None:
            qualname = name.partition(":")[2]
            found = [cls for cls in self._names if cls.__qualname__ == qualname]
        if len(found) == 1:
            return found[0]
        if found:
            raise Refused(f"was recorded as a {name}, and {len(found)} declared types match that")
        raise Refused(f"was recorded as a {name}, {self._advice(name.rpartition(':')[2])}")

    def name(self, cls: type) -> str:
        """The name to record an instance of this class under."""
        name = self._names.get(cls)
        if name is None:
            raise Refused(self._undeclared(cls))
        if len(self._by_name[name]) > 1:
            raise Refused(f"is a {name}, a name that two declared types share: rename one of them")
        return name

    def _undeclared(self, cls: type) -> str:
        name = cls.__qualname__
        bases = [base.__qualname__ for base in self._names if issubclass(cls, base)]
        if bases:
            return (
                f"is a {name}, but only its base {bases[0]} is declared and nothing but exact "
                f"types comes back: annotate with {bases[0]} | {name}"
            )
        return f"is a {name} ({name_of(cls)}), {self._advice(name)}"

    def _advice(self, name: str) -> str:
        if self.unresolved:
            return (
                f"and the annotation could not be resolved ({'; '.join(self.unresolved)}): make "
                f"{name} importable at run time, not only under TYPE_CHECKING"
            )
        return (
            f"which is not a declared type: declare it, annotate the parameter, field or return "
            f"value with {name}"
        )


def declared_types(*annotations: object) -> DeclaredTypes:
    """The user types reachable from resolved annotations."""
    try:
        found = _cached(annotations)
    except TypeError:  # not hashable
        return _walked(annotations)
    # What could not be resolved may have become resolvable.
    return _walked(annotations) if found.unresolved else found


def return_types(fn: Callable[..., Any]) -> DeclaredTypes:
    """The user types in a function's return annotation; a missing one declares nothing."""
    while isinstance(fn, functools.partial):
        fn = fn.func
    fn = inspect.unwrap(fn)
    if not inspect.isroutine(fn) and not isinstance(fn, type):
        fn = type(fn).__call__
    try:
        annotations = inspect.get_annotations(fn)
    except Exception as error:  # annotations may be evaluated only now, and they are user code
        return DeclaredTypes((), [str(error)])
    wanted = {name: annotations[name] for name in annotations if name == "return"}
    found, failures = _resolve(wanted, namespace=_namespace(fn))
    return DeclaredTypes((), failures) if failures else declared_types(*found.values())


def _walked(annotations: Iterable[object]) -> DeclaredTypes:
    walk = _Walk()
    walk.visit(annotations)
    return DeclaredTypes(walk.classes, walk.unresolved)


_cached = functools.lru_cache(maxsize=_CACHED_ANNOTATIONS)(_walked)


def _namespace(fn: Callable[..., Any]) -> dict[str, Any]:
    """What a function's annotations may name: globals, and the locals around it that it uses."""
    namespace = dict(getattr(fn, "__globals__", {}))
    code, cells = getattr(fn, "__code__", None), getattr(fn, "__closure__", None) or ()
    for name, cell in zip(code.co_freevars if code else (), cells, strict=False):
        try:
            namespace[name] = cell.cell_contents
        except ValueError:  # a local name that has no value yet
            continue
    return namespace


def _resolve(
    annotations: Mapping[str, Any], *, namespace: dict[str, Any]
) -> tuple[dict[str, Any], list[str]]:
    """Annotations as objects, and why some of them cannot be had."""
    found: dict[str, Any] = {}
    failures = []
    for name, annotation in annotations.items():
        holder = type("_", (), {"__annotations__": {name: annotation}})
        try:
            found |= typing.get_type_hints(holder, namespace, {}, include_extras=True)
        except Exception as error:  # evaluating an annotation runs user code
            failures.append(f"{name}: {error}")
    return found, failures


class _Walk:
    """One pass over annotations; every object is entered once, so recursion ends."""

    def __init__(self) -> None:
        self.classes: dict[type, None] = {}
        self.unresolved: list[str] = []
        self._seen: dict[int, object] = {}

    def visit(self, annotations: Iterable[object]) -> None:
        todo = list(annotations)
        while todo:
            annotation = todo.pop()
            if id(annotation) not in self._seen:
                self._seen[id(annotation)] = annotation
                todo.extend(self._inside(annotation))

    def _inside(self, annotation: Any) -> Iterable[object]:
        origin = typing.get_origin(annotation)
        if origin is typing.Literal:
            return [type(arg) for arg in typing.get_args(annotation) if isinstance(arg, Enum)]
        if origin is typing.Annotated:
            return [annotation.__origin__]
        if origin is not None:
            return [origin, *typing.get_args(annotation)]
        if isinstance(annotation, type):
            return self._inside_class(annotation)
        if isinstance(annotation, str | typing.ForwardRef):
            name = getattr(annotation, "__forward_arg__", annotation)
            self.unresolved.append(f"name {name!r} has no module to look it up in")
            return []
        if isinstance(annotation, list | tuple):  # the parameters of a Callable
            return annotation
        if isinstance(annotation, typing.TypeVar):
            return [annotation.__bound__, *annotation.__constraints__]
        if isinstance(annotation, typing.NewType):
            return [annotation.__supertype__]
        if isinstance(annotation, dataclasses.InitVar):
            return [annotation.type]
        if type(annotation).__name__ == "TypeAliasType":
            return [annotation.__value__]
        return []

    def _inside_class(self, cls: type) -> Iterable[object]:
        kind = kind_of(cls)
        if kind is None:
            return self._hints(cls) if _is_typed_dict(cls) else []
        self.classes[cls] = None
        if kind == "model":
            return self._inside_model(cls)
        return [] if kind in ("enum", "flag") else self._hints(cls)

    def _inside_model(self, cls: Any) -> Iterable[object]:
        if not cls.__pydantic_complete__:
            cls.model_rebuild(raise_errors=False)  # pydantic itself would, at the first use
        generic = cls.__pydantic_generic_metadata__
        inside = [field.annotation for field in cls.model_fields.values()]
        inside += [generic["origin"], *generic["args"]]
        names = [*cls.__private_attributes__, "__pydantic_extra__"]
        return [*inside, *self._hints(cls, names=names)]

    def _hints(self, cls: type, *, names: Iterable[str] | None = None) -> Iterable[object]:
        found: dict[str, Any] = {}
        for base in reversed(cls.__mro__):
            if base.__module__.partition(".")[0] in ("builtins", "pydantic", "typing"):
                continue
            try:
                own = inspect.get_annotations(base)
            except Exception as error:  # as above: user code
                self.unresolved.append(f"{base.__qualname__}: {error}")
                continue
            wanted = {name: own[name] for name in own if names is None or name in names}
            module = vars(sys.modules.get(base.__module__, types))
            namespace = {**vars(base), **module, base.__name__: base}
            resolved, failures = _resolve(wanted, namespace=namespace)
            found |= resolved
            self.unresolved += [f"{base.__qualname__}.{failure}" for failure in failures]
        return found.values()


def _is_typed_dict(cls: type) -> bool:
    return issubclass(cls, dict) and hasattr(cls, "__required_keys__")


NOTHING_DECLARED = DeclaredTypes(())
