"""How answers look on a terminal: colour, width, and bars for long work.

Where standard output is no terminal nothing of this is used, so that what a script reads never
changes. Rich is imported only here, and only when there is a terminal to draw on; it honours
`NO_COLOR` and `TERM=dumb` by itself.
"""

from __future__ import annotations

import sys
import unicodedata
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, TextIO

from kitaru.cli import charts
from kitaru.cli.characters import can_show

if TYPE_CHECKING:
    from rich.console import Console, OverflowMethod, RenderableType

#: How statuses, those of calls too, are coloured wherever they stand.
STATUSES = {
    "completed": "green",
    "failed": "red",
    "cancelled": "yellow",
    "waiting": "magenta",
    "running": "cyan",
    "running (stalled)": "bold red",
    "pending": "dim",
}
#: Between columns, and how far a column may be cut before another is left out; in characters.
#: A time that is cut so far still has its minute.
_GAP, _LEAST = 2, 17
_LEAST_BAR, _LONGEST_BAR = 12, 40
#: How wide text is where no terminal says so.
PLAIN_WIDTH = 80


def is_terminal(stream: TextIO | None = None) -> bool:
    """Whether somebody looks at standard output, or at another stream, on a terminal."""
    stream = sys.stdout if stream is None else stream
    try:
        return stream is not None and stream.isatty()
    except ValueError:  # closed
        return False


def is_live() -> bool:
    """Whether standard output is a terminal where what stands there can be drawn again."""
    return is_terminal() and not console().is_dumb_terminal


def console(stream: TextIO | None = None) -> Console:
    """Where to draw: standard output by default. Text in it is never read as markup."""
    from rich.console import Console

    return Console(file=stream or sys.stdout, markup=False, highlight=False, emoji=False)


def drawn(renderable: RenderableType) -> str:
    """What a terminal shows of it, as text with its colours."""
    shown_on = console()
    with shown_on.capture() as capture:
        shown_on.print(renderable)
    return capture.get().removesuffix("\n")


def table(
    title: str,
    headings: Sequence[str],
    rows: Sequence[Sequence[str]],
    *,
    bars: Sequence[float] | None = None,
) -> str:
    """A titled table that fits the terminal: long cells are cut, then columns left out.

    Args:
        title: what stands above.
        headings: one for each column.
        rows: the cells.
        bars: a number for each row, shown as a bar behind it where there is room.
    """
    from rich.table import Table
    from rich.text import Text

    columns = [(heading, *cells) for heading, *cells in zip(headings, *rows, strict=True)]
    shown = _fitting(columns, width=console().width)
    space = min(console().width - sum(shown) - _GAP * len(shown), _LONGEST_BAR)
    left_out = ", ".join(headings[len(shown) :])
    drawing = Table(
        title=Text(title, style="bold"),
        title_justify="left",
        caption=Text(f"No room for: {left_out}", style="dim") if left_out else None,
        caption_justify="left",
        box=None,
        padding=(0, _GAP, 0, 0),
        pad_edge=False,
    )
    cut: OverflowMethod = "ellipsis" if can_show("…") else "crop"
    for (heading, *_), width in zip(columns, shown, strict=False):
        drawing.add_column(heading, no_wrap=True, overflow=cut, width=width)
    shown_bars = [""] * len(rows)
    if bars is not None and space >= _LEAST_BAR:
        shown_bars = charts.bars(bars, width=space)
        drawing.add_column("")
    for row, bar in zip(rows, shown_bars, strict=True):
        cells = [Text(cell, style=STATUSES.get(cell, "")) for cell in row[: len(shown)]]
        drawing.add_row(*[*cells, Text(bar, style="cyan")][: len(drawing.columns)])
    return drawn(drawing)


def _fitting(columns: Sequence[Sequence[str]], *, width: int) -> list[int]:
    """How wide the columns become that fit; the first one names the rows and stays whole."""
    from rich.cells import cell_len

    wanted = [max(map(cell_len, column)) for column in columns]
    least = [wanted[0], *(min(each, _LEAST) for each in wanted[1:])]
    while len(least) > 1 and sum(least) + _GAP * (len(least) - 1) > width:
        least.pop()
    missing = sum(wanted[: len(least)]) + _GAP * (len(least) - 1) - width
    shown = wanted[: len(least)]
    while missing > 0 and (longest := max(range(1, len(shown)), key=shown.__getitem__, default=0)):
        shown[longest] -= 1
        missing -= 1
    return shown


def painter() -> Callable[[str, str | None], str]:
    """What gives text a colour where a terminal shows colours, and leaves it alone elsewhere."""
    if not is_terminal() or (screen := console()).no_color or screen.color_system is None:
        return lambda text, colour: text
    from click import style

    return lambda text, colour: style(text, fg=colour) if colour else text


def width() -> int:
    """How many characters a line has: the terminal's width, 80 elsewhere."""
    return console().width if is_terminal() else PLAIN_WIDTH


def cells(text: str) -> int:
    """How many characters of a terminal a line takes: wide ones take two, combining ones none."""
    if text.isascii():
        return len(text)
    return sum(
        0 if unicodedata.combining(char) else 1 + (unicodedata.east_asian_width(char) in "WF")
        for char in text
    )


def fitted(text: str, width: int) -> str:
    """A line made exactly this wide: padded, or cut with a mark that it goes on."""
    if cells(text) > width:
        mark = "…" if can_show("…") else "~"
        while text and cells(text) > width - 1:
            text = text[:-1]
        text += mark
    return text + " " * (width - cells(text))


def rule(title: str) -> str:
    """A line across with a title in it."""
    dash = "─" if can_show("─") else "-"
    return f"{dash * 2} {title} ".ljust(width(), dash)


@contextmanager
def progress(what: str, total: int | None = None) -> Iterator[Callable[[int], None]]:
    """A bar on standard error while work goes on; without a terminal there it is not seen.

    Args:
        what: what is being done, such as `Deleting executions`.
        total: how many steps there are, where that is known.
    """
    if not is_terminal(sys.stderr):
        yield lambda steps: None
        return
    from rich.progress import Progress

    with Progress(console=console(sys.stderr), transient=True) as bars:
        bar = bars.add_task(what, total=total)
        yield lambda steps: bars.advance(bar, steps)
