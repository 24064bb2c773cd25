"""The tree of a record's JSON nodes back to the value.

Builds what the tags say from fixed tables and declared types, and nothing else; what is damaged,
not declared or no longer fits its class is refused with the path to it. User code that rebuilding
cannot avoid (hashes of set items, defaults of new fields) may fail without harm to the caller.
"""

from __future__ import annotations

from collections.abc import Callable
from types import NoneType
from typing import Any, ClassVar

from kitaru.codec.declared import DeclaredTypes
from kitaru.codec.nodes import MEMBERS, RECORDS, SEQUENCES, tag_of
from kitaru.codec.records import State, find_member, kind_of, rebuild
from kitaru.codec.refusal import MAX_DEPTH, TOO_DEEP, Refused, step
from kitaru.codec.scalars import SCALARS


class Decoder:
    """Turns a tree of JSON nodes back into the value."""

    def __init__(self, types: DeclaredTypes) -> None:
        self._types = types

    def value(self, node: Any, depth: int = 0) -> Any:
        """The value of a node that is this many levels deep."""
        kind = type(node)
        if kind is list:
            return self._items(node, depth)
        if kind is not dict:
            return node
        if "$" not in node:
            return self._dict(node, depth)
        tag = tag_of(node)
        try:
            if tag in SCALARS:
                return SCALARS[tag].unpack(node["v"])
            return self._TAGS[tag](self, node, depth)
        except (Refused, RecursionError):
            raise
        except Exception as error:  # libraries and user code (hashes, defaults, enums) run here
            raise Refused(f"was recorded as a {tag} that cannot be rebuilt: {error}") from error

    def _items(self, nodes: list[Any], depth: int) -> list[Any]:
        if depth >= MAX_DEPTH:
            raise Refused(TOO_DEEP)
        values: list[Any] = []
        try:
            for node in nodes:
                values.append(self.value(node, depth + 1))
        except Refused as refused:
            refused.trail.append((f"[{len(values)}]", nodes))
            raise
        return values

    def _dict(
        self, nodes: dict[str, Any], depth: int, *, step: Callable[[str], str] = step
    ) -> dict[str, Any]:
        if depth >= MAX_DEPTH:
            raise Refused(TOO_DEEP)
        values = {}
        try:
            for key, node in nodes.items():
                values[key] = self.value(node, depth + 1)
        except Refused as refused:
            refused.trail.append((step(key), nodes))  # pyright: ignore[reportPossiblyUnboundVariable]
            raise
        return values

    def _fields(self, nodes: dict[str, Any], depth: int) -> dict[str, Any]:
        return self._dict(nodes, depth, step=lambda name: f".{name}")

    def _sequence(self, node: dict[str, Any], depth: int) -> Any:
        values = self._items(node["v"], depth)
        built = SEQUENCES[node["$"]](values)
        if len(built) != len(values):
            raise Refused(f"is damaged: a {node['$']} holds an item twice")
        return built

    def _pairs(self, node: dict[str, Any], depth: int) -> dict[Any, Any]:
        values = self._items(node["v"], depth)
        built = dict(zip(values[::2], values[1::2], strict=True))
        if 2 * len(built) != len(values):
            raise Refused("is damaged: a dict holds a key twice")
        return built

    def _member(self, node: dict[str, Any], _: int) -> Any:
        return find_member(self._class(node), node["v"])

    def _record(self, node: dict[str, Any], depth: int) -> Any:
        fields = self._fields(node["v"], depth)
        state = State(fields)
        if node["$"] == "model":
            state = self._model_state(node, fields=fields, depth=depth)
        return rebuild(self._class(node), node["$"], state)

    def _model_state(self, node: dict[str, Any], *, fields: dict[str, Any], depth: int) -> State:
        extra = self._fields({"model_extra": node.get("extra")}, depth)["model_extra"]
        private = self._fields(node["private"], depth) if "private" in node else None
        fields_set = self._items(node["set"], depth)
        if type(extra) not in (dict, NoneType) or any(type(name) is not str for name in fields_set):
            raise Refused("is damaged: the state of a model is misshapen")
        return State(fields, fields_set, extra, private)

    def _class(self, node: dict[str, Any]) -> type:
        cls = self._types.find(node["t"])
        if kind_of(cls) != node["$"]:
            raise Refused(
                f"was recorded as a {node['$']} {node['t']}, which is now another kind of type: "
                f"bring it back, or replay from the call that made the value"
            )
        return cls

    _TAGS: ClassVar[dict[str, Callable[[Decoder, dict[str, Any], int], Any]]] = {
        **dict.fromkeys(SEQUENCES, _sequence),
        **dict.fromkeys(MEMBERS, _member),
        **dict.fromkeys(RECORDS, _record),
        "dict": _pairs,
    }
