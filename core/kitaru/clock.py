"""All time in Kitaru comes from here.

Wall time (`now`, `now_us`) is for display and for lease expiry; `monotonic` measures waits and is
never stored. Tests install their own clock with `use`, so nothing else may call `time` or
`datetime.now`.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class Clock:
    """The system's clock."""

    def now_us(self) -> int:
        """Microseconds since 1970-01-01 UTC."""
        return time.time_ns() // 1000

    def monotonic(self) -> float:
        """Seconds that never go backwards."""
        return time.monotonic()

    def wait(self, event: threading.Event, seconds: float) -> bool:
        """Wait until the event is set, at most `seconds`; return whether it is set."""
        return event.wait(seconds)


_clock = Clock()


def now_us() -> int:
    """Microseconds since 1970-01-01 UTC."""
    return _clock.now_us()


def not_before(moment: int) -> int:
    """Now in microseconds, or that moment, where the clock was set back behind it meanwhile."""
    return max(now_us(), moment)


def monotonic() -> float:
    """Seconds that never go backwards."""
    return _clock.monotonic()


def wait(event: threading.Event, seconds: float) -> bool:
    """Wait until the event is set, at most `seconds`; return whether it is set."""
    return _clock.wait(event, seconds)


def from_us(value: int) -> datetime:
    """The aware UTC time of a stored number of microseconds."""
    return _EPOCH + timedelta(microseconds=value)


def to_us(value: datetime) -> int:
    """Microseconds since 1970-01-01 UTC of an aware time."""
    return (value - _EPOCH) // timedelta(microseconds=1)


class Jumps:
    """Notices that the system's clock was set, or went on while the machine slept."""

    def __init__(self) -> None:
        self._ahead = _ahead()

    def has_jumped(self) -> bool:
        """Whether it did since this was asked last, by a second or more."""
        before, self._ahead = self._ahead, _ahead()
        return abs(self._ahead - before) >= _JUMP_SECONDS


_JUMP_SECONDS = 1.0


def _ahead() -> float:
    return now_us() / 1_000_000 - monotonic()


@contextlib.contextmanager
def use(clock: Clock) -> Iterator[Clock]:
    """Install another clock for the time of a `with` block."""
    global _clock
    previous, _clock = _clock, clock
    try:
        yield clock
    finally:
        _clock = previous
