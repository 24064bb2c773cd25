"""`kitaru executions timeline`: where an execution's time went, as bars in the terminal or a file.

The bars are characters, ASCII where the encoding of standard output has no others; how pictures
are drawn is in `kitaru.pictures`, and what there is to draw comes from the client.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import click

from kitaru.cli import characters, output, style
from kitaru.cli.command import Answer, Command, open_client

if TYPE_CHECKING:
    from kitaru.timeline import Row, Timeline

_FILE = click.Path(dir_okay=False, path_type=Path)
#: What fills the bar of each kind, and what does where the encoding is ASCII.
_FILL = {"checkpoint": "█", "wait": "░", "sleep": "╌", "child": "▒"}
_ASCII = {"checkpoint": "#", "wait": ".", "sleep": "-", "child": "="}
_COLOURS = {"checkpoint": "blue", "wait": "magenta", "sleep": None, "child": "cyan"}
_OTHER_COLOURS = {"failed": "red", "cancelled": "yellow"}
#: The part of a line that names may take, and the least that is left for bars.
_NAMES, _LEAST_BARS = 0.35, 10


@click.command("timeline", cls=Command)
@click.argument("exec_id", metavar="ID")
@click.option("--svg", type=_FILE, metavar="FILE", help="Write a picture as SVG instead.")
@click.option(
    "--png", type=_FILE, metavar="FILE", help="Write a picture as PNG instead; needs matplotlib."
)
@click.option("--force", is_flag=True, help="Replace a file that is there.")
def timeline(*, exec_id: str, svg: Path | None, png: Path | None, force: bool) -> Answer:
    """Show where an execution's time went: a bar for each attempt, wait, sleep and child.

    \b
    Example:
      kitaru executions timeline latest --svg timeline.svg
    """
    from kitaru import files, pictures, render

    if svg is not None and png is not None:
        raise click.UsageError("Give either --svg or --png.")
    found = open_client().executions.timeline(exec_id)
    file = svg or png
    if file is not None:
        picture = pictures.svg(found).encode() if svg is not None else pictures.png(found)
        with files.whole(file.absolute(), force=force) as made:
            made.write_bytes(picture)
    item = render.shown(found.to_dict()) | ({"file": str(file)} if file else {})
    return Answer(
        json=lambda: {"item": item},
        text=lambda: _written(found, file) if file else _Bars(found).text(),
    )


def _written(found: Timeline, file: Path) -> str:
    return output.line(f"Drew the timeline of execution {found.exec_id}: {file}")


class _Bars:
    """A timeline as lines of text."""

    def __init__(self, found: Timeline) -> None:
        from kitaru import pictures
        from kitaru.timeline import rows

        self._found = found
        self._rows, self._notes = rows(found)
        self._fill = _FILL if characters.can_show("".join(_FILL.values())) else _ASCII
        self._paint: Callable[[str, str | None], str] = style.painter()
        self._kind = pictures.kind
        self._lengths = [pictures.length(row) for row in self._rows]
        width, most = style.width(), max(map(len, self._lengths), default=0)
        names = max((style.cells(output.line(row.label)) for row in self._rows), default=0)
        self._names = min(names, int(width * _NAMES))
        self._bars = max(width - self._names - most - 6, _LEAST_BARS)

    def text(self) -> str:
        from kitaru import pictures

        about = pictures.about(self._found)
        if not characters.can_show(about):
            about = about.replace(" · ", ", ")
        lines = [output.line(self._found.flow_name), f"  {output.line(about)}"]
        if self._rows:
            lines += [*map(self._line, self._rows, self._lengths), self._scale(), self._legend()]
        else:
            lines.append("  Nothing has been called yet.")
        return "\n".join([*lines, *(f"  {note}" for note in self._notes)])

    def _line(self, row: Row, length: str) -> str:
        name = style.fitted(output.line(row.label), self._names)
        return f"  {name}  {self._bar(row)}  {length}".rstrip()

    def _bar(self, row: Row) -> str:
        """Each character is a piece of the time; what a span has touched is filled."""
        scale = self._bars / (self._found.seconds or 1)
        cells: list[str | None] = [None] * self._bars
        for segment in row.segments:
            first = min(int(segment.start * scale), self._bars - 1)
            end = max(min(round(segment.end * scale), self._bars), first + 1)
            look = self._kind(row, segment.status)
            cells[first:end] = [_OTHER_COLOURS.get(look) or _COLOURS[row.kind] or ""] * (
                end - first
            )
        return self._painted(cells, self._fill[row.kind])

    def _painted(self, cells: list[str | None], fill: str) -> str:
        """Cells as text, with one change of colour for each run."""
        text, start = "", 0
        for end in range(1, len(cells) + 1):
            if end == len(cells) or cells[end] != cells[start]:
                run, colour = end - start, cells[start]
                text += " " * run if colour is None else self._paint(fill * run, colour)
                start = end
        return text

    def _scale(self) -> str:
        from kitaru.timeline import marks

        line = ""
        for at, mark in marks(self._found.seconds or 1, most=max(self._bars // 10, 2)):
            place = int(at * self._bars / (self._found.seconds or 1))
            if place + len(mark) <= self._bars:
                line = line.ljust(place) + mark
        return f"  {' ' * self._names}  {line}"

    def _legend(self) -> str:
        there = {row.kind: None for row in self._rows}
        parts = [f"{self._paint(self._fill[kind], _COLOURS[kind])} {kind}" for kind in there]
        return f"  {' ' * self._names}  {'   '.join(parts)}"
