"""What calls of models have used, as records: tokens, money, and whether it was new.

Owns the shape of an `llm_usage_v1` record, and how a provider's own counts become one set of names.
A cost is what the provider has reported, or an estimate that names its source, or nothing: no
number is made up. All of it is pure.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

#: Where the records of a call are in its metadata.
KEY = "llm_usage_v1"
VERSION = 1

Reuse = Literal["checkpoint_cache_hit", "replay_reused"]
Status = Literal["completed", "failed", "interrupted"]
#: Whether a provider charges for it: no for what it has refused, unknown where it was cut off.
_BILLING = {"completed": "incurred", "failed": "not_incurred", "interrupted": "unknown"}
REUSED = "reused_not_incurred"
NOT_INCURRED = "not_incurred"
#: No count and no cost is larger; beyond it sums are no numbers any more.
MOST_COUNT = 10**15
TOKENS = ("total_tokens", "input_tokens", "output_tokens")
COSTS = ("actual_cost_usd", "estimated_cost_usd", "display_cost_usd")
#: What sums and pictures need of a record.
_PARTS: dict[str, Any] = {
    "adapter": str,
    "billing_effect": str,
    "usage": dict,
    "cost": dict,
    "warnings": list,
    "model": (str, type(None)),
    "resolved_model": (str, type(None)),
}


@dataclass(frozen=True, slots=True)
class Tokens:
    """What one answer of a model took, in tokens; `None` where the provider did not say.

    `input` are all tokens that went in, those read from and written to a provider's cache too;
    `raw` are the counts under the provider's own names.
    """

    input: int | None = None
    output: int | None = None
    total: int | None = None
    cached: int | None = None
    cache_written: int | None = None
    reasoning: int | None = None
    raw: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def of(cls, counts: Mapping[str, Any]) -> Tokens:
        """The same of whatever provider's counts.

        Args:
            counts: what an answer's `usage` says: OpenAI's (`prompt_tokens` or `input_tokens`),
                or Anthropic's, whose `input_tokens` leave out what concerns its cache.
        """
        raw = _numbers(counts)
        given = _integer(raw, "prompt_tokens", "input_tokens")
        output = _integer(raw, "completion_tokens", "output_tokens")
        details = _part(raw, "prompt_tokens_details", "input_tokens_details")
        cached = _integer(details, "cached_tokens")
        written = _integer(details, "cache_write_tokens")
        if "cache_read_input_tokens" in raw or "cache_creation_input_tokens" in raw:
            cached = _integer(raw, "cache_read_input_tokens")
            written = _integer(raw, "cache_creation_input_tokens")
            given = (given or 0) + (cached or 0) + (written or 0)
        return cls(
            input=given,
            output=output,
            total=_integer(raw, "total_tokens") or _sum(given, output),
            cached=cached,
            cache_written=written,
            reasoning=_integer(
                _part(raw, "completion_tokens_details", "output_tokens_details"),
                "reasoning_tokens",
                "thinking_tokens",
            ),
            raw=raw,
        )


def _numbers(counts: Mapping[str, Any]) -> dict[str, Any]:
    """The numbers of a provider's counts, and nothing else of them."""
    found: dict[str, Any] = {}
    for key, value in counts.items():
        if isinstance(value, Mapping):
            if inner := _numbers(value):
                found[str(key)] = inner
        elif is_number(value):
            found[str(key)] = value
    return found


def is_number(value: object) -> bool:
    """Whether it is one that can be added up, as no damaged or hostile one can."""
    return (
        isinstance(value, (int, float)) and not isinstance(value, bool) and 0 <= value <= MOST_COUNT
    )


def _part(counts: Mapping[str, Any], *names: str) -> Mapping[str, Any]:
    return next((counts[name] for name in names if isinstance(counts.get(name), dict)), {})


def _integer(counts: Mapping[str, Any], *names: str) -> int | None:
    return next((int(counts[name]) for name in names if is_number(counts.get(name))), None)


def _sum(*numbers: int | None) -> int | None:
    known = [number for number in numbers if number is not None]
    return sum(known) if known else None


@dataclass(frozen=True, slots=True)
class Cost:
    """What an answer cost in US dollars, and who says so; nothing that nobody has said."""

    actual: float | None = None
    estimated: float | None = None
    source: Literal["provider_reported", "calculator", "calculator_error", "none"] = "none"
    source_label: str | None = None
    pricing_version: str | None = None

    @property
    def display(self) -> float | None:
        """The actual cost, else the estimate, else nothing."""
        return self.estimated if self.actual is None else self.actual


@dataclass(frozen=True, slots=True)
class Interaction:
    """One request to a provider and what came of it; `latency_ms` is how long that took."""

    adapter: str
    surface: str
    call_name: str
    provider: str | None
    model: str | None
    requested_model: str | None
    resolved_model: str | None
    tokens: Tokens = Tokens()
    cost: Cost = Cost()
    latency_ms: float | None = None
    status: Status = "completed"
    finish_reason: str | None = None
    warnings: tuple[str, ...] = ()

    def record(self, record_id: str, *, call_id: str, call_name: str) -> dict[str, Any]:
        """The `llm_usage_v1` record of it, on a checkpoint's call."""
        tokens, cost = self.tokens, self.cost
        return {
            "schema_version": VERSION,
            "record_id": record_id,
            "adapter": self.adapter,
            "surface": self.surface,
            "call_name": self.call_name,
            "event_id": None,
            "checkpoint_id": call_id,
            "checkpoint_name": call_name,
            "provider": self.provider,
            "model": self.model,
            "requested_model": self.requested_model,
            "resolved_model": self.resolved_model,
            "usage": {
                "input_tokens": tokens.input,
                "output_tokens": tokens.output,
                "total_tokens": tokens.total,
                "cached_input_tokens": tokens.cached,
                "reasoning_tokens": tokens.reasoning,
                "raw": tokens.raw,
            },
            "cost": {
                "actual_cost_usd": cost.actual,
                "estimated_cost_usd": cost.estimated,
                "display_cost_usd": cost.display,
                "currency": "USD",
                "source": cost.source,
                "source_label": cost.source_label,
                "pricing_version": cost.pricing_version,
            },
            "latency_ms": self.latency_ms,
            "status": self.status,
            "finish_reason": self.finish_reason,
            "billing_effect": _BILLING[self.status],
            "cache_status": "executed",
            "warnings": list(self.warnings),
        }


def of_call(
    metadata: Mapping[str, Any], attempts: Iterable[Mapping[str, Any]], *, reuse: Reuse | None
) -> list[dict[str, Any]]:
    """The records of a call: of each of its attempts, or of the only one, which has no row.

    Args:
        metadata: the call's own.
        attempts: those of its attempts.
        reuse: why nothing was paid again, where the call was taken over from another one.
    """
    sources = [*attempts] or [metadata]
    found = [record for each in sources for record in _values(each.get(KEY)) if _is_whole(record)]
    return found if reuse is None else [reused(record, reuse) for record in found]


def _values(records: object) -> Iterable[Any]:
    return records.values() if isinstance(records, dict) else ()


def _is_whole(record: object) -> bool:
    """Whether it is a record; what is damaged must not keep an execution from its end."""
    return (
        isinstance(record, dict)
        and record.get("schema_version") == VERSION
        and record.keys() >= _PARTS.keys()
        and all(isinstance(record[name], kind) for name, kind in _PARTS.items())
        and all(_is_count(record["usage"].get(name)) for name in TOKENS)
        and all(_is_count(record["cost"].get(name)) for name in COSTS)
    )


def _is_count(value: object) -> bool:
    return value is None or is_number(value)


def reused(record: Mapping[str, Any], reuse: Reuse) -> dict[str, Any]:
    """A record of what another call has paid for."""
    if record["billing_effect"] == NOT_INCURRED:
        return {**record, "cache_status": reuse}
    return {**record, "billing_effect": REUSED, "cache_status": reuse}


def reuse_of(*, original_call_id: str | None, cached_from: str | None) -> Reuse | None:
    """Why a call's records are reused ones, if they are."""
    if cached_from is not None:
        return "checkpoint_cache_hit"
    return None if original_call_id is None else "replay_reused"
