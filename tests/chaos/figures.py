"""How the trials tell times and shares in few words."""

from __future__ import annotations

from collections.abc import Iterable, Sequence


def times(seconds: Iterable[float]) -> str:
    """The middle, the slowest of a hundred and the slowest of all."""
    ordered = sorted(seconds)
    middle, slow = ordered[len(ordered) // 2], ordered[int(len(ordered) * 0.99)]
    return f"p50 {1000 * middle:.1f}, p99 {1000 * slow:.1f}, max {1000 * ordered[-1]:.0f} ms"


def shares(counts: Sequence[int]) -> str:
    """How evenly something was shared out."""
    low, high = (100 * share * len(counts) / sum(counts) for share in (min(counts), max(counts)))
    return f"shares {low:.0f} to {high:.0f} % of the mean"
