"""The usage records of an execution, added up: what it took, what was new, and what that cost.

Owns the summary an execution gets when it ends, its flat numbers, which statistics read, and how
both are told. All of it is pure.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import Any

from kitaru.usage import COSTS, KEY, NOT_INCURRED, REUSED, TOKENS, VERSION, is_number

SUMMARY_KEY = "llm_usage_summary_v1"
_FLAT = "kitaru_llm_{}_v1"
_COST_POLICY = (
    "display_cost_usd is the cost a provider has reported, else an estimate; reused records cost "
    "nothing again. It shows what was used and is no invoice."
)
#: The numbers of a summary that are metadata of their own, which statistics can add up.
_NUMBERS = (
    "usage_record_count",
    "incurred_usage_record_count",
    "reused_usage_record_count",
    "total_tokens",
    "incurred_total_tokens",
    "reused_total_tokens",
    "actual_cost_usd",
    "estimated_cost_usd",
    "display_cost_usd",
    "records_without_cost_count",
    "input_tokens",
    "output_tokens",
    "incurred_input_tokens",
    "incurred_output_tokens",
    "reused_input_tokens",
    "reused_output_tokens",
)
#: Names of flat numbers, by which statistics find them.
FLAT_KEYS = {name: _FLAT.format(name) for name in _NUMBERS}


def is_reserved(key: str) -> bool:
    """Whether a metadata key is written here only."""
    return key in (KEY, SUMMARY_KEY) or key in FLAT_KEYS.values()


def summary(records: Iterable[Mapping[str, Any]]) -> dict[str, Any] | None:
    """The `llm_usage_summary_v1` of an execution's records; `None` without any.

    What a provider has refused is counted apart: it took no tokens and no money.
    """
    models: dict[str, _Sums] = {}
    adapters: dict[str, None] = {}
    warnings: Counter[str] = Counter()
    failed = 0
    for record in records:
        adapters[str(record["adapter"])] = None
        warnings.update(record["warnings"])
        if record["billing_effect"] == NOT_INCURRED:
            failed += 1
            continue
        models.setdefault(model_of(record), _Sums()).add(record)
    if not adapters:
        return None
    by_model = {name: sums.numbers() for name, sums in models.items()}
    return {
        "schema_version": VERSION,
        **_whole(by_model.values()),
        "failed_usage_record_count": failed,
        "adapters": [*adapters],
        "models": [*by_model],
        "by_model": {
            name: {number: numbers[number] for number in _OF_MODEL}
            for name, numbers in by_model.items()
        },
        "cost_policy": _COST_POLICY,
        "warnings": [
            text if count == 1 else f"{text} ({count} times)" for text, count in warnings.items()
        ][:_MOST_WARNINGS],
    }


#: More different warnings than this are not told in a summary; each is on its own record.
_MOST_WARNINGS = 10


def model_of(record: Mapping[str, Any]) -> str:
    """The model a record is counted under, as `provider/name`."""
    named = record["resolved_model"] or record["model"]
    return str(named) if named else "unknown"


#: What is told of each model in a summary.
_OF_MODEL = (
    "usage_record_count",
    "reused_usage_record_count",
    "total_tokens",
    "incurred_total_tokens",
    "display_cost_usd",
    "records_without_cost_count",
)


def _whole(models: Collection[Mapping[str, int | float]]) -> dict[str, int | float]:
    """The numbers of all models together."""
    return {
        name: (math.fsum if name in COSTS else sum)(each[name] for each in models)
        for name in _NUMBERS
    }


class _Sums:
    """The numbers of some records, added up."""

    def __init__(self) -> None:
        self._counts: Counter[str] = Counter()
        self._costs: dict[str, list[float]] = {name: [] for name in COSTS}

    def add(self, record: Mapping[str, Any]) -> None:
        """Count one more."""
        is_reused = record["billing_effect"] == REUSED
        effect = "reused" if is_reused else "incurred"
        self._counts["usage_record_count"] += 1
        self._counts[f"{effect}_usage_record_count"] += 1
        for name in TOKENS:
            number = record["usage"].get(name) or 0
            self._counts[name] += number
            self._counts[f"{effect}_{name}"] += number
        if record["cost"].get("display_cost_usd") is None:
            self._counts["records_without_cost_count"] += 1
        elif not is_reused:
            for name, costs in self._costs.items():
                costs.append(record["cost"].get(name) or 0.0)

    def numbers(self) -> dict[str, int | float]:
        """All of them, by name."""
        return {
            name: math.fsum(self._costs[name]) if name in COSTS else self._counts[name]
            for name in _NUMBERS
        }


def flat(found: Mapping[str, Any]) -> dict[str, int | float]:
    """The numbers of a summary as metadata that statistics can read."""
    return {key: found[name] for name, key in FLAT_KEYS.items()}


def told(found: Mapping[str, Any]) -> str:
    """A summary in one line.

    Example:
        >>> from kitaru.usage_summary import FLAT_KEYS, told
        >>> told(dict.fromkeys(FLAT_KEYS, 0) | {"total_tokens": 36})
        '0 usage records (0 incurred, 0 reused), 36 tokens, no cost known'
    """
    count, incurred, again = (
        found[f"{which}usage_record_count"] for which in ("", "incurred_", "reused_")
    )
    records = (
        f"{count} usage record{'' if count == 1 else 's'} ({incurred} incurred, {again} reused)"
    )
    return ", ".join([records, f"{found['total_tokens']:,} tokens", *_told_cost(found)])


def _told_cost(found: Mapping[str, Any]) -> Iterator[str]:
    unknown = found["records_without_cost_count"]
    if found["display_cost_usd"] or (not unknown and found["usage_record_count"]):
        shown = {name: dollars(found[name]) for name in COSTS}
        yield (
            f"display cost {shown['display_cost_usd']} (actual {shown['actual_cost_usd']}, "
            f"estimated {shown['estimated_cost_usd']})"
        )
        if unknown:
            yield f"{unknown} without a known cost"
    else:
        yield "no cost known"


def told_shortly(found: Mapping[str, Any]) -> str:
    """Tokens and money in a few words; `+` says that some of it has no known cost.

    Example:
        >>> from kitaru.usage_summary import FLAT_KEYS, told_shortly
        >>> used = dict.fromkeys(FLAT_KEYS, 0) | {"total_tokens": 1234, "usage_record_count": 2}
        >>> told_shortly(used | {"display_cost_usd": 0.25})
        '1,234 tokens $0.2500'
        >>> told_shortly(used | {"display_cost_usd": 0.25, "records_without_cost_count": 1})
        '1,234 tokens $0.2500+'
        >>> told_shortly(used | {"reused_usage_record_count": 2})
        '1,234 tokens reused'
    """
    tokens, again = f"{found['total_tokens']:,} tokens", found["reused_total_tokens"]
    if is_all_reused(found):
        return f"{tokens} reused"
    reused = f" ({again:,} reused)" if again else ""
    return f"{tokens}{reused} {told_cost(found)}".rstrip()


def told_cost(found: Mapping[str, Any]) -> str:
    """The cost alone, in the same way; nothing where none is known."""
    cost = known_cost(found)
    if cost is None:
        return ""
    is_partial = found["records_without_cost_count"] and not is_all_reused(found)
    return f"{dollars(cost)}{'+' if is_partial else ''}"


def known_cost(found: Mapping[str, Any]) -> float | None:
    """The cost to show; `None` where nothing of it is known, which is not nothing."""
    cost = found["display_cost_usd"]
    is_unknown = not cost and found["records_without_cost_count"] and not is_all_reused(found)
    return None if is_unknown else cost


def is_all_reused(found: Mapping[str, Any]) -> bool:
    """Whether nothing of it was paid for now, so that no cost of it is unknown."""
    return bool(found["usage_record_count"] == found["reused_usage_record_count"])


def is_whole(found: object) -> bool:
    """Whether it is a summary that can be told; metadata may have been damaged."""
    return isinstance(found, dict) and all(is_number(found.get(name)) for name in _NUMBERS)


def dollars(amount: float) -> str:
    """An amount of money, small ones to a millionth.

    Example:
        >>> [dollars(each) for each in (0, 0.0000061, 0.25, 12.5)]
        ['$0.000000', '$0.000006', '$0.2500', '$12.50']
    """
    places = 6 if amount < 0.01 else 4 if amount < 1 else 2
    return f"${amount:,.{places}f}"
