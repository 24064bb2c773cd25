"""The form of tagged nodes, checked in one place for all who read records.

A tagged node is `{"$": tag, "v": payload}`; user types add `"t"`, their name, and models what they
hold beside their fields. Nodes of any other form are refused here, so that readers need not doubt.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from kitaru.codec.refusal import Refused
from kitaru.codec.scalars import SCALARS

SEQUENCES: dict[str, Callable[[list[Any]], Any]] = {
    "tuple": tuple,
    "set": set,
    "frozenset": frozenset,
}
MEMBERS = ("enum", "flag")
RECORDS = ("dataclass", "namedtuple", "model")

_BUILT_IN = frozenset({"$", "v"})
_USER = frozenset({"$", "t", "v"})
_MODEL = frozenset({"$", "t", "v", "set"})

#: part of a node -> the type it must have
_PARTS: dict[str, type] = {"t": str, "private": dict, "set": list}

#: tag -> (keys it must have, keys it may have, type of its payload)
_FORMS: dict[str, tuple[frozenset[str], frozenset[str], type]] = {
    **dict.fromkeys(SCALARS, (_BUILT_IN, _BUILT_IN, object)),
    **dict.fromkeys((*SEQUENCES, "dict"), (_BUILT_IN, _BUILT_IN, list)),
    "enum": (_USER, _USER, str),
    "flag": (_USER, _USER, list),
    **dict.fromkeys(RECORDS, (_USER, _USER, dict)),
    "model": (_MODEL, _MODEL | {"private", "extra"}, dict),
}


def tag_of(node: dict[str, Any]) -> str:
    """The tag of a node that has one, once its form is right."""
    tag = node["$"]
    form = _FORMS.get(tag) if type(tag) is str else None
    if form is None:
        raise Refused(f"has the unknown tag {tag!r:.40}: it is damaged, or of a newer Kitaru")
    needed, allowed, payload = form
    if not (needed <= node.keys() <= allowed and isinstance(node["v"], payload)) or any(
        key in _PARTS and type(part) is not _PARTS[key] for key, part in node.items()
    ):
        raise Refused(f"is damaged: a {tag} is misshapen")
    return str(tag)
