"""What a flow, checkpoint or wait may be called; pure."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable
from typing import Any

from kitaru import config
from kitaru.errors import KitaruUsageError


def checked(name: object, *, what: str, without: str = "#/") -> str:
    """A name that can stand in ids: printable, without certain marks, at most 128 characters.

    Raises:
        KitaruUsageError: it is not such a name.
    """
    good = isinstance(name, str) and name.strip() == name and 0 < len(name) <= config.MAX_NAME
    if not good or not str(name).isprintable() or any(mark in str(name) for mark in without):
        marks = f" without {' and '.join(map(repr, without))}" if without else ""
        raise KitaruUsageError(
            f"{what} name {name!r:.60} cannot be used: it must be 1 to {config.MAX_NAME} printable "
            f"characters{marks}, and no outer spaces."
        )
    return str(name)


def of_function(fn: Callable[..., Any], name: str | None, *, what: str) -> str:
    """The name given, or the function's own.

    Raises:
        KitaruUsageError: it is not a function, or has no usable name.
    """
    if not callable(fn) or not hasattr(fn, "__code__"):
        raise KitaruUsageError(f"@{what} decorates functions; got {type(fn).__name__}.")
    if name is None and fn.__name__ == "<lambda>":
        raise KitaruUsageError(f"@{what} needs a named function; a lambda cannot be found again.")
    return checked(fn.__name__ if name is None else name, what=f"@{what}")


def refuse_generators(fn: Callable[..., Any], *, what: str) -> None:
    """Refuse generator functions, whose calls do not do their work.

    Raises:
        KitaruUsageError: the function is one.
    """
    if inspect.isgeneratorfunction(fn) or inspect.isasyncgenfunction(fn):
        raise KitaruUsageError(
            f"@{what} {fn.__qualname__}: a generator cannot be recorded; collect it in a list "
            "inside a plain function or an `async def`."
        )


def nearest(name: object, names: Iterable[str]) -> str:
    """A sentence for those who named what is not there: what is named nearly so, or some names."""
    known = sorted(names)
    import difflib  # only a wrong name needs it

    near = difflib.get_close_matches(str(name), known) or known[:5]
    return f"The nearest: {', '.join(near)}." if near else "There are none yet."
