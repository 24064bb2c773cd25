"""One value to the bytes of its record.

Accepts exact types only and refuses everything else; writes the same bytes for the same value in
every process. Built for values that are mostly JSON already: those cost one look at their type.
Never calls into user code beyond reading fields.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Iterable, Mapping, Set
from math import isfinite
from typing import Any, ClassVar

from kitaru.codec import pieces
from kitaru.codec.declared import DeclaredTypes
from kitaru.codec.nodes import MEMBERS
from kitaru.codec.records import kind_of, member_of, name_of, state_of
from kitaru.codec.refusal import MAX_DEPTH, TOO_DEEP, Refused, step, unsupported
from kitaru.codec.scalars import INT_LIMIT, SCALARS, pack_text, scalar_tag

_FORMAT: dict[str, Any] = {
    "ensure_ascii": False,
    "check_circular": False,
    "allow_nan": False,
    "separators": (",", ":"),
}
_JSON = json.JSONEncoder(**_FORMAT).encode
_SORTED_JSON = json.JSONEncoder(**_FORMAT, sort_keys=True).encode
_BINARY = ("bytes", "bytearray")
_LARGE = (str, bytes, bytearray)


def within(data: bytes, limit: int) -> bytes:
    """The bytes of a record, refused where there are too many."""
    if len(data) > limit:
        raise _too_large(str(len(data)), limit=limit)
    return data


def _too_large(size: str, *, limit: int) -> Refused:
    return Refused(
        f"is {size} bytes when recorded, over the limit of {limit} bytes (MAX_VALUE_BYTES): keep "
        f"it in a file or an object store, and record where it is"
    )


class Encoder:
    """Turns one value into a tree of JSON nodes. `types` None: user types need no declaration."""

    def __init__(self, types: DeclaredTypes | None, *, room: int, ordered: bool = True) -> None:
        self._types = types
        self._ordered = ordered
        self._json = _JSON if ordered else _SORTED_JSON
        # Counted down as the walk goes, so that a hopeless value is refused before it is copied.
        self._limit = self._room = room

    def write(self, value: object) -> bytes:
        """The bytes of a value."""
        # Subclasses are refused below, like everything that is not exactly of its type.
        if isinstance(value, _LARGE) and type(value) in _LARGE and len(value) > pieces.PIECE:
            self._spend(len(value))
            if (data := pieces.write(value)) is not None:
                return within(data, self._limit)
        return within(self._json(self._tree(value, 0)).encode(), self._limit)

    def _tree(self, value: Any, depth: int) -> Any:
        kind = type(value)
        if kind is str:
            self._spend(len(value))
            return value if value.isascii() else pack_text(value)
        if value is None or kind is bool:
            return value
        if kind is int:
            return value if -INT_LIMIT <= value < INT_LIMIT else _tagged("int", value)
        if kind is float:
            return value if isfinite(value) else _tagged("float", value)
        walk = self._CONTAINERS.get(kind)
        if walk is not None:
            if depth >= MAX_DEPTH:
                raise Refused(TOO_DEEP)
            self._spend(len(value))
            return walk(self, value, depth + 1)
        tag = scalar_tag(kind)
        if tag is None:
            return self._instance(value, depth)
        if tag in _BINARY:
            self._spend(len(value))
        return _tagged(tag, value)

    def _spend(self, size: int) -> None:
        self._room -= size
        if self._room < 0:
            raise _too_large(f"more than {self._limit}", limit=self._limit)

    def _list(self, value: Collection[Any], depth: int, *, step: str = "[{}]") -> list[Any]:
        nodes: list[Any] = []
        try:
            for item in value:
                nodes.append(self._tree(item, depth))
        except Refused as refused:
            refused.trail.append((step.format(len(nodes)), value))
            raise
        return nodes

    def _tuple(self, value: tuple[Any, ...], depth: int) -> dict[str, Any]:
        return {"$": "tuple", "v": self._list(value, depth)}

    def _set(self, value: Set[Any], depth: int) -> dict[str, Any]:
        nodes = self._list(value, depth, step="{{...}}")
        # The order of a set differs between processes.
        return {"$": type(value).__name__, "v": sorted(nodes, key=self._json)}

    def _dict(self, value: dict[Any, Any], depth: int) -> dict[str, Any]:
        if not _all_plain(value):
            return self._pairs(value, depth)
        nodes = {}
        try:
            for key, item in value.items():
                self._spend(len(key))
                nodes[key] = self._tree(item, depth)
        except Refused as refused:
            refused.trail.append((step(key), value))  # pyright: ignore[reportPossiblyUnboundVariable]
            raise
        return nodes

    def _pairs(self, value: dict[Any, Any], depth: int) -> dict[str, Any]:
        pairs: list[tuple[Any, Any]] = []
        where = ""
        try:
            for key, item in value.items():
                where = f".keys()[{len(pairs)}]"
                node = self._tree(key, depth)
                where = step(key)
                pairs.append((node, self._tree(item, depth)))
        except Refused as refused:
            refused.trail.append((where, value))
            raise
        if not self._ordered:
            pairs.sort(key=self._json)
        return {"$": "dict", "v": [node for pair in pairs for node in pair]}

    def _instance(self, value: Any, depth: int) -> dict[str, Any]:
        cls = type(value)
        kind = kind_of(cls)
        if kind is None:
            raise Refused(unsupported(value))
        if self._types is not None:
            name = self._types.name(cls)
        else:
            name = name_of(cls) if self._ordered else cls.__qualname__
        node: dict[str, Any] = {"$": kind, "t": name}
        if kind in MEMBERS:
            return {**node, "v": member_of(value)}
        if depth >= MAX_DEPTH:
            raise Refused(TOO_DEEP)
        state = state_of(value, kind)
        node["v"] = self._fields(value, state.fields, depth + 1)
        if state.private is not None:
            node["private"] = self._fields(value, state.private, depth + 1)
        if state.extra is not None:
            extra = {"model_extra": state.extra}
            node["extra"] = self._fields(value, extra, depth + 1)["model_extra"]
        if kind == "model" and self._ordered:
            node["set"] = self._tree(sorted(state.fields_set), depth)
        return node

    def _fields(self, owner: object, fields: Mapping[str, Any], depth: int) -> dict[str, Any]:
        nodes = {}
        try:
            for name, value in fields.items():
                nodes[name] = self._tree(value, depth)
        except Refused as refused:
            refused.trail.append((f".{name}", owner))  # pyright: ignore[reportPossiblyUnboundVariable]
            raise
        return nodes

    _CONTAINERS: ClassVar[dict[type, Callable[[Encoder, Any, int], Any]]] = {
        dict: _dict,
        list: _list,
        tuple: _tuple,
        set: _set,
        frozenset: _set,
    }


def _tagged(tag: str, value: object) -> dict[str, Any]:
    try:
        return {"$": tag, "v": SCALARS[tag].pack(value)}
    except ValueError as error:
        raise Refused(f"is a {type(value).__qualname__} that cannot be recorded: {error}") from None


def _all_plain(keys: Iterable[Any]) -> bool:
    for key in keys:
        if type(key) is not str or key == "$":
            return False
        if not key.isascii() and pack_text(key) is not key:
            return False
    return True
