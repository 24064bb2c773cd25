"""A timeline as a picture: an SVG of our own, or a PNG that matplotlib draws.

A picture stands alone: no script, no font, no address of anything outside it. Every text in it came
from user code or may have, so it is made safe to show and escaped. matplotlib is an extra and is
imported only here, when a PNG is asked for.
"""

from __future__ import annotations

import importlib
import io
import warnings
from collections.abc import Iterator
from html import escape
from typing import Any

from kitaru.errors import KitaruUsageError
from kitaru.models import CallStatus
from kitaru.redaction import safe_text
from kitaru.timeline import Row, Segment, Timeline, duration, marks, rows, state

_WIDTH, _MARGIN, _HEAD, _LINE = 960, 24, 92, 24
_BAR, _LEAST_BAR = 12, 2.5
#: Of text in the picture's font, per character, and the room that labels may take, in pixels, and
#: what stands behind the bars.
_CHARACTER, _LEAST_LABELS, _MOST_LABELS = 6.9, 80, 300
_LENGTHS, _MOST_LENGTHS = 132, 420
_MARKS = 8

#: Class of a bar -> its colour on a light and on a dark page.
_COLOURS = {
    "checkpoint": ("#2f6feb", "#5b93ff"),
    "wait": ("#a371f7", "#b78cff"),
    "sleep": ("#9aa4b0", "#6e7a88"),
    "child": ("#1a9c8a", "#2fbfa9"),
    "failed": ("#d1344b", "#ff6b7d"),
    "cancelled": ("#c98a1b", "#e0a63a"),
}
_SCENE = {
    "ground": ("#ffffff", "#14181f"),
    "band": ("#f5f7fa", "#1a2029"),
    "text": ("#1c2330", "#e4e9f0"),
    "soft": ("#667085", "#98a4b5"),
    "grid": ("#e2e7ee", "#2a323e"),
}
_STYLE = """
text { font-family: system-ui, sans-serif; font-size: 12px; }
.title { font-size: 17px; font-weight: 600; }
.number { font-variant-numeric: tabular-nums; text-anchor: end; }
.mark { font-size: 11px; text-anchor: middle; }
line { stroke-width: 1; }
.open { fill-opacity: 0.55; }
"""


def svg(timeline: Timeline) -> str:
    """A timeline as a standalone SVG, which follows the reader's choice of a light or dark page."""
    made, notes = rows(timeline)
    longest = max((len(_text(row.label)) for row in made), default=0)
    left = _MARGIN + min(max(longest * _CHARACTER, _LEAST_LABELS), _MOST_LABELS) + 12
    bottom = _HEAD + _LINE * max(len(made), 1)
    height = bottom + 16 + 18 * len(notes) + 8
    beside = max((len(length(row)) for row in made), default=0) * _CHARACTER + 12
    lengths = min(max(beside, _LENGTHS), _MOST_LENGTHS)
    scale = (_WIDTH - _MARGIN - lengths - left) / (timeline.seconds or 1)
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height}" '
        f'width="{_WIDTH}" height="{height}" role="img">',
        f"<title>{_escaped(f'Timeline of {timeline.exec_id}')}</title>",
        f"<style>{_style()}</style>",
        f'<rect class="ground" width="{_WIDTH}" height="{height}" rx="8"/>',
        f'<text class="title text" x="{_MARGIN}" y="36">{_escaped(timeline.flow_name)}</text>',
        f'<text class="soft" x="{_MARGIN}" y="56">{_escaped(about(timeline))}</text>',
        *_legend(made),
        *(_band(_HEAD + _LINE * number) for number in range(0, len(made), 2)),
        *_grid(timeline, left=left, scale=scale, bottom=bottom),
    ]
    for number, row in enumerate(made):
        lines += _bars(row, left=left, scale=scale, top=_HEAD + _LINE * number)
    for number, note in enumerate(notes, 1):
        at = bottom + 8 + 18 * number
        lines.append(f'<text class="soft" x="{_MARGIN}" y="{at}">{_escaped(note)}</text>')
    return "\n".join([*lines, "</svg>", ""])


def about(timeline: Timeline) -> str:
    """An execution's id, status and times in a line."""
    begun = timeline.started_at.strftime("%Y-%m-%d %H:%M:%SZ")
    return f"{timeline.exec_id} · {timeline.status} · {duration(timeline.seconds)} from {begun}"


def kind(row: Row, status: CallStatus) -> str:
    """What a bar is coloured as: its kind, or how it went wrong."""
    return str(status) if status in (CallStatus.FAILED, CallStatus.CANCELLED) else row.kind


def length(row: Row) -> str:
    """What stands beside a row: its state where that is not the usual, its time, its tokens."""
    parts = [] if row.status is CallStatus.COMPLETED else [state(row.kind, row.status)]
    parts.append(duration(row.seconds))
    return ", ".join([*parts, *([row.usage.told] if row.usage else [])])


def _style() -> str:
    light, dark = (
        " ".join(
            f".{name} {{ {'stroke' if name == 'grid' else 'fill'}: {pair[at]}; }}"
            for name, pair in (_SCENE | _COLOURS).items()
        )
        for at in (0, 1)
    )
    return f"{_STYLE}{light}\n@media (prefers-color-scheme: dark) {{ {dark} }}\n"


def _legend(made: list[Row]) -> Iterator[str]:
    shown = {kind(row, segment.status) for row in made for segment in row.segments}
    names = [name for name in _COLOURS if name in shown]
    x = _WIDTH - _MARGIN - sum(len(name) * _CHARACTER + 26 for name in names) + 14
    for name in names:
        yield f'<rect class="{name}" x="{x:.1f}" y="26" width="10" height="10" rx="2"/>'
        yield f'<text class="soft" x="{x + 15:.1f}" y="35">{name}</text>'
        x += len(name) * _CHARACTER + 26


def _grid(timeline: Timeline, *, left: float, scale: float, bottom: int) -> Iterator[str]:
    for at, mark in marks(timeline.seconds or 1, most=_MARKS):
        x = left + at * scale
        yield f'<line class="grid" x1="{x:.1f}" y1="{_HEAD - 4}" x2="{x:.1f}" y2="{bottom + 4}"/>'
        yield f'<text class="mark soft" x="{x:.1f}" y="{_HEAD - 10}">{mark}</text>'


def _band(top: int) -> str:
    return (
        f'<rect class="band" x="{_MARGIN - 8}" y="{top}" width="{_WIDTH - 2 * _MARGIN + 16}" '
        f'height="{_LINE}" rx="4"/>'
    )


def _bars(row: Row, *, left: float, scale: float, top: int) -> Iterator[str]:
    base = top + _LINE / 2 + 4
    label = _text(row.label)
    room = int((left - 12 - _MARGIN) / _CHARACTER)
    short = label if len(label) <= room else f"{label[: room - 1]}…"
    yield f"<g><title>{_escaped(f'{label}: {length(row)}')}</title>"
    yield f'<text class="text" x="{_MARGIN}" y="{base}">{_escaped(short)}</text>'
    for segment in row.segments:
        yield _bar(row, segment, left=left, scale=scale, top=top)
    number = f'<text class="number soft" x="{_WIDTH - _MARGIN}" y="{base}">{length(row)}</text>'
    yield f"{number}</g>"


def _bar(row: Row, segment: Segment, *, left: float, scale: float, top: int) -> str:
    width = max((segment.end - segment.start) * scale, _LEAST_BAR)
    look = kind(row, segment.status)
    if segment.status is CallStatus.RUNNING:
        look += " open"
    return (
        f'<rect class="{look}" x="{left + segment.start * scale:.1f}" '
        f'y="{top + (_LINE - _BAR) / 2}" width="{width:.1f}" height="{_BAR}" '
        f'rx="{min(3, width / 2):.1f}"/>'
    )


def _text(text: str) -> str:
    """Text on one line as XML may hold it."""
    line = safe_text(text).replace("\n", "\\n").replace("\t", "\\t")
    return "".join(char for char in line if ord(char) & 0xFFFE != 0xFFFE)


def _escaped(text: str) -> str:
    return escape(_text(text))


def png(timeline: Timeline) -> bytes:
    """A timeline as a PNG.

    Raises:
        KitaruUsageError: matplotlib, which draws it, is not installed.
    """
    try:
        figure: Any = importlib.import_module("matplotlib.figure")
    except ImportError:
        raise KitaruUsageError(
            "A PNG needs matplotlib, which is not installed: pip install 'kitaru-mcp[plot]'. "
            "An SVG needs nothing."
        ) from None
    made, notes = rows(timeline)
    height = 1.3 + 0.26 * max(len(made), 1) + 0.2 * len(notes)
    page = figure.Figure(figsize=(10, height), layout="constrained")
    _plot(page, timeline, made=made, notes=notes)
    file = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # characters that its font does not have are boxes
        page.savefig(file, format="png", dpi=160)
    return file.getvalue()


def _plot(page: Any, timeline: Timeline, *, made: list[Row], notes: list[str]) -> None:
    axes = page.add_subplot()
    whole = timeline.seconds or 1
    for number, row in enumerate(made):
        axes.broken_barh(
            [(each.start, max(each.end - each.start, whole / 400)) for each in row.segments],
            (number - 0.28, 0.56),
            facecolors=[_COLOURS[kind(row, each.status)][0] for each in row.segments],
            alpha=0.55 if row.status is CallStatus.RUNNING else 1,
        )
    labels = [_text(row.label) for row in made]
    short = [label if len(label) <= 44 else f"{label[:43]}…" for label in labels]
    axes.set_yticks(range(len(made)), short, parse_math=False)
    axes.set_xticks(*zip(*marks(whole, most=_MARKS), strict=True))
    axes.set(xlim=(0, whole * 1.005), ylim=(max(len(made), 1) - 0.4, -0.6))
    beside = axes.secondary_yaxis("right")
    beside.set_yticks(range(len(made)), [length(row) for row in made])
    for each in (axes, beside):
        each.tick_params(length=0, labelsize=9)
        each.spines[:].set_visible(False)
    axes.grid(axis="x", color=_SCENE["grid"][0])
    axes.set_axisbelow(True)
    title = f"{_text(timeline.flow_name)}\n{_text(about(timeline))}"
    axes.set_title(title, loc="left", fontsize=10, parse_math=False)
    if notes:
        page.supxlabel("\n".join(notes), fontsize=8, color=_SCENE["soft"][0])
