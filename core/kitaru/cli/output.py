"""The building blocks of text answers: titled fields, tables, times, and lines that stay lines.

Whatever came from user code goes through `line` or `block`, so that it can neither steer a
terminal nor pass for a field of its own.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any

from kitaru.cli import characters, style

NOT_AVAILABLE = "not available"


def fields(title: str, pairs: Iterable[tuple[str, Any]]) -> str:
    """A title and one indented `name: value` a line."""
    return "\n".join([title, *(f"  {name}: {line(str(value))}" for name, value in pairs)])


def table(
    title: str,
    headings: Sequence[str],
    rows: Sequence[Sequence[str]],
    *,
    none: str,
    bars: Sequence[float] | None = None,
) -> str:
    """A title and an indented table; without rows, the line that says so.

    On a terminal it has colours, fits the width, and shows `bars` beside its rows; elsewhere it
    is plain text.
    """
    if not rows:
        return f"{title}\n  {none}: none found"
    cells = [[line(cell) for cell in row] for row in rows]
    if style.is_terminal():
        return style.table(title, headings, cells, bars=bars)
    widths = [max(map(style.cells, column)) for column in zip(headings, *cells, strict=True)]
    shown = [headings, ["-" * width for width in widths], *cells]
    return "\n".join([title, *(_row(row, widths) for row in shown)])


def _row(cells: Sequence[str], widths: Sequence[int]) -> str:
    padded = (style.fitted(cell, width) for cell, width in zip(cells, widths, strict=True))
    return f"  {'   '.join(padded)}".rstrip()


def line(text: str) -> str:
    """Text on one line, with everything escaped that is not plainly visible."""
    from kitaru.render import safe_text

    return characters.showable(safe_text(text).replace("\n", "\\n").replace("\t", "\\t"))


def block(text: str, *, indent: str = "") -> str:
    """Text on as many lines as it has, with control characters escaped."""
    from kitaru.render import safe_text

    return "\n".join(indent + each for each in safe_text(text).split("\n"))


def moment(time: datetime | None, *, separator: str = "T", missing: str = NOT_AVAILABLE) -> str:
    """A UTC time to the second, with its zone."""
    if time is None:
        return missing
    return time.strftime(f"%Y-%m-%d{separator}%H:%M:%SZ")


def size(count: int) -> str:
    """A number of bytes in the largest unit that it fills."""
    for power, unit in ((3, "GB"), (2, "MB"), (1, "kB")):
        if count >= 1000**power:
            return f"{count / 1000**power:.1f} {unit}"
    return f"{count} bytes" if count != 1 else "1 byte"
