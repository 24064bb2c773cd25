"""When and how a failed attempt of a checkpoint is repeated, and how long one may take; pure."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from kitaru import config
from kitaru.errors import (
    KitaruContextError,
    KitaruSerializationError,
    KitaruUsageError,
)

#: Mistakes that a repetition cannot mend.
FINAL = (KitaruContextError, KitaruSerializationError, KitaruUsageError)


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """How often, how fast and after what an attempt is repeated; times in seconds."""

    retries: int = 0
    delay: float = config.RETRY_DELAY_SECONDS
    backoff: float = config.RETRY_BACKOFF
    timeout: float | None = None
    retry_on: tuple[type[BaseException], ...] = (BaseException,)

    def repeats(self, exc: BaseException, *, tried: int) -> bool:
        """Whether another attempt follows one that raised, as the `tried`-th (1-based)."""
        fits = isinstance(exc, self.retry_on) and not isinstance(exc, FINAL)
        return tried <= self.retries and fits

    def pause(
        self,
        attempt: int,
        *,
        asked: float | None = None,
        draw: Callable[[], float] = random.random,
    ) -> float:
        """Seconds to wait after the `attempt`-th failure (1-based).

        The pause grows by `backoff` each time up to a ceiling; a random half of it keeps
        concurrent calls from coming back together. A service that has `asked` for a pause gets no
        shorter one, and up to a tenth more.
        """
        if asked is not None:
            return asked * (1 + draw() / 10)
        # `backoff ** n` overflows long before `min` could cap it.
        grown = self.delay * self.backoff ** min(attempt - 1, 64)
        return min(grown, config.RETRY_DELAY_MAX_SECONDS) * (0.5 + draw() / 2)


def asked_by(exc: BaseException | None) -> float | None:
    """The seconds a failure asks to be left alone for, as its `retry_after` says; not too many."""
    seconds = getattr(exc, "retry_after", None)
    if isinstance(seconds, bool) or not isinstance(seconds, (int, float)):
        return None
    return min(float(seconds), config.RETRY_AFTER_MAX_SECONDS) if seconds >= 0 else None


def policy(
    *,
    retries: object,
    delay: object = config.RETRY_DELAY_SECONDS,
    backoff: object = config.RETRY_BACKOFF,
    timeout: object = None,
    retry_on: object = BaseException,
    owner: str,
) -> RetryPolicy:
    """A policy from a decorator's options.

    Raises:
        KitaruUsageError: an option is not of its kind, or not in its range.
    """
    if isinstance(retries, bool) or not isinstance(retries, int) or retries < 0:
        raise KitaruUsageError(f"{owner}: retries is {retries!r}; it must be a whole number >= 0.")
    classes: tuple[Any, ...] = retry_on if isinstance(retry_on, tuple) else (retry_on,)
    if not classes or not all(
        isinstance(each, type) and issubclass(each, BaseException) for each in classes
    ):
        raise KitaruUsageError(
            f"{owner}: retry_on is {retry_on!r:.80}; give exception classes, such as "
            "(TimeoutError, ConnectionError)."
        )
    return RetryPolicy(
        retries,
        seconds(delay, what=f"{owner}: retry_delay"),
        seconds(backoff, what=f"{owner}: retry_backoff", least=1),
        timeout_seconds(timeout, owner=owner),
        classes,
    )


def timeout_seconds(value: object, *, owner: str) -> float | None:
    """A timeout option: seconds > 0, or `None` for no limit.

    Raises:
        KitaruUsageError: it is neither.
    """
    if value is None:
        return None
    number = seconds(value, what=f"{owner}: timeout")
    if number == 0:
        raise KitaruUsageError(f"{owner}: timeout is {value!r}; it must be more than 0 seconds.")
    return number


def seconds(value: object, *, what: str, least: float = 0) -> float:
    """A number that is not below `least`, and no longer than a century.

    Raises:
        KitaruUsageError: it is no such number.
    """
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not value >= least:
        raise KitaruUsageError(f"{what} is {value!r:.60}; it must be a number >= {least}.")
    if value > config.MAX_SECONDS:  # a longer time cannot be waited for, nor be a date
        raise KitaruUsageError(f"{what} is too large; it must be at most {config.MAX_SECONDS:.0f}.")
    return float(value)
