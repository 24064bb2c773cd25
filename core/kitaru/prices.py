"""What an answer costs: what its provider reports, else an estimate from `genai-prices`.

That package is an extra, whose list of prices comes with it and is never fetched. A model that it
does not know has no price; ours is never a guess.
"""

from __future__ import annotations

import functools
import importlib
from typing import Any

from kitaru.usage import Cost, Tokens

_LABEL = "genai-prices"


def cost(
    provider: str | None, model: str | None, tokens: Tokens, *, actual: float | None = None
) -> tuple[Cost, str | None]:
    """What an answer costs, and a warning where that could not be worked out.

    Args:
        provider: who has answered.
        model: which of its models.
        tokens: what the answer took.
        actual: US dollars, where the provider says so.
    """
    if actual is not None:
        return Cost(actual=actual, source="provider_reported", source_label=provider), None
    prices = _package()
    if prices is None or model is None or tokens.input is None or tokens.output is None:
        return Cost(), None
    try:
        estimate = _estimate(prices, provider, model, tokens=tokens)
    except LookupError:
        return Cost(), f"genai-prices knows no price of {provider}/{model}"
    except Exception as exc:  # foreign code, whose fault must not cost the answer
        warning = f"genai-prices failed on {provider}/{model}: {type(exc).__name__}"
        return Cost(source="calculator_error", source_label=_LABEL), warning
    found = Cost(
        estimated=estimate,
        source="calculator",
        source_label=_LABEL,
        pricing_version=_version(),
    )
    return found, None


def _estimate(prices: Any, provider: str | None, model: str, *, tokens: Tokens) -> float:
    counts = {
        "input_tokens": tokens.input,
        "output_tokens": tokens.output,
        "cache_read_tokens": tokens.cached,
        "cache_write_tokens": tokens.cache_written,
    }
    usage = prices.Usage(**{name: count for name, count in counts.items() if count is not None})
    return float(prices.calc_price(usage, model, provider_id=provider).total_price)


@functools.cache
def _package() -> Any:
    try:
        return importlib.import_module("genai_prices")
    except ModuleNotFoundError:
        return None


@functools.cache
def _version() -> str:
    from importlib.metadata import version

    return version(_LABEL)
