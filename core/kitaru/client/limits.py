"""Sizes that callers ask for: whole numbers in their range, or a clear refusal."""

from __future__ import annotations

from kitaru.errors import KitaruUsageError


def checked(value: int, *, most: int, least: int = 1, name: str = "limit") -> int:
    """The value, if it is a whole number in the range.

    Raises:
        KitaruUsageError: it is not.

    Example:
        >>> checked(20, most=200)
        20
    """
    if type(value) is not int or not least <= value <= most:
        raise KitaruUsageError(f"{name} is {value!r:.40}; it must be from {least} to {most}.")
    return value
