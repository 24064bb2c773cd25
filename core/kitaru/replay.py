"""What a replay reuses and what it replaces: selectors and the plan; pure.

A selector is a call id (`research#2`; `research#1` is the first), or a name that was called once.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from kitaru import codec, ids
from kitaru.errors import KitaruStateError, KitaruUsageError
from kitaru.store.journal import CallRecord

_OVERRIDE_PREFIX = "checkpoint."


def encoded(overrides: Mapping[str, Any] | None) -> dict[str, bytes]:
    """Overrides with their values as records.

    Raises:
        KitaruUsageError: they are no mapping.
        KitaruSerializationError: a value cannot be recorded.
    """
    if overrides is not None and not isinstance(overrides, Mapping):
        raise KitaruUsageError(
            f"overrides is {overrides!r:.60}; give a dict: "
            "{'checkpoint.<name or call id>': value}."
        )
    return {key: codec.encode_any(value, path=str(key)) for key, value in (overrides or {}).items()}


@dataclass(frozen=True, slots=True)
class ReplayPlan:
    """Calls before `from_seq` are reused; `overrides` (call id -> encoded value) are replaced.

    `copied_before` is the part of the record that is reused whatever comes: all calls before
    `from_seq` and before the first overridden one.
    """

    from_seq: int
    overrides: Mapping[str, bytes]
    copied_before: int

    def dump(self) -> dict[str, Any]:
        """The plan as JSON data."""
        return {
            "from_seq": self.from_seq,
            "overrides": {call: data.decode() for call, data in self.overrides.items()},
            "copied_before": self.copied_before,
        }


def load_plan(data: Mapping[str, Any] | None) -> ReplayPlan | None:
    """The plan of a replay's row; `None` for any other execution."""
    if data is None:
        return None
    overrides = {call: text.encode() for call, text in data["overrides"].items()}
    return ReplayPlan(data["from_seq"], overrides, data["copied_before"])


def make_plan(
    records: Sequence[CallRecord], *, exec_id: str, from_: str, overrides: Mapping[str, bytes]
) -> ReplayPlan:
    """Turn selectors into a plan.

    Raises:
        KitaruUsageError: an override's key is not `checkpoint.<name or call id>`.
        KitaruStateError: a selector fits no call, or several.
    """
    if not isinstance(from_, str) or not from_.strip():
        raise KitaruUsageError("`from_` is empty; give a checkpoint name or a call id.")
    start = select(records, from_, exec_id=exec_id)
    chosen: dict[str, bytes] = {}
    places = [start.seq]
    for key, data in overrides.items():
        selector = key.removeprefix(_OVERRIDE_PREFIX)
        if selector == key or not selector.strip():
            raise KitaruUsageError(
                f"Override {key!r} is not of the form 'checkpoint.<name or call id>'. "
                "Waits are asked anew in a replay; flow inputs are given as arguments."
            )
        record = select(records, selector, exec_id=exec_id)
        if record.kind != "checkpoint":
            raise KitaruUsageError(
                f"Override {key!r} names a wait; only checkpoints can be replaced."
            )
        if record.call_id in chosen:
            raise KitaruUsageError(
                f"Override {key!r} replaces {record.call_id!r} a second time; give one of them."
            )
        chosen[record.call_id] = data
        places.append(record.seq)
    return ReplayPlan(start.seq, chosen, min(places))


def select(records: Sequence[CallRecord], selector: str, *, exec_id: str) -> CallRecord:
    """The one call a selector names."""
    selector = selector.strip()
    name, _, number = selector.partition("#")
    wanted = name if number == "1" else selector
    named = [record for record in records if ids.call_name(record.call_id) == selector]
    if len(named) > 1:
        ids_named = [f"{name}#1" if r.call_id == name else r.call_id for r in named]
        candidates = ", ".join(ids_named)
        raise KitaruStateError(
            f"{selector!r} was called {len(named)} times in {exec_id}; name one: {candidates}."
        )
    for record in records:
        if record.call_id == wanted:
            return record
    known = [record.call_id for record in records]
    if not known:
        raise KitaruStateError(f"Execution {exec_id} has no recorded calls to replay from.")
    near = difflib.get_close_matches(selector, known, n=3, cutoff=0.4) or known[:10]
    raise KitaruStateError(
        f"Execution {exec_id} has no call {selector!r}. Nearest: {', '.join(near)}."
    )
