"""How long to pause before a checkpoint is tried again; pure."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass

from kitaru import config
from kitaru.errors import KitaruUsageError


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """How often and how fast a failed attempt is repeated; times in seconds."""

    retries: int = 0
    delay: float = config.RETRY_DELAY_SECONDS
    backoff: float = config.RETRY_BACKOFF

    def pause(self, attempt: int, *, draw: Callable[[], float] = random.random) -> float:
        """Seconds to wait after the `attempt`-th failure (1-based).

        The pause grows by `backoff` each time up to a ceiling; a random half of it keeps
        concurrent calls from coming back together.
        """
        # `backoff ** n` overflows long before `min` could cap it.
        grown = self.delay * self.backoff ** min(attempt - 1, 64)
        return min(grown, config.RETRY_DELAY_MAX_SECONDS) * (0.5 + draw() / 2)


def policy(*, retries: object, delay: object, backoff: object, owner: str) -> RetryPolicy:
    """A policy from a decorator's options.

    Raises:
        KitaruUsageError: an option is not a number in its range.
    """
    if isinstance(retries, bool) or not isinstance(retries, int) or retries < 0:
        raise KitaruUsageError(f"{owner}: retries is {retries!r}; it must be a whole number >= 0.")
    for name, value, least in (("retry_delay", delay, 0), ("retry_backoff", backoff, 1)):
        number = not isinstance(value, bool) and isinstance(value, (int, float))
        if not number or not least <= value < float("inf"):  # type: ignore[operator]
            raise KitaruUsageError(f"{owner}: {name} is {value!r}; it must be a number >= {least}.")
    return RetryPolicy(retries, float(delay), float(backoff))  # type: ignore[arg-type]
