"""docs/performance.md, made of docs/performance.json alone: `python -m benchmarks.page`.

Every figure on the page is one of that file, rounded; the text around them holds none. What a run
prints on the terminal is made of the same tables.
"""

from __future__ import annotations

import subprocess
from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby
from typing import Any

from benchmarks import aims, prose, recording
from benchmarks.prose import TITLES
from benchmarks.worker import ROOT, Broken

__all__ = ["TITLES", "made", "plain", "write"]

#: What a reader wants to know first: the words, the case, the column, our side and the floor.
FIRST = (
    ("a durable step, of 1,000 in a row", "sequential", "step/1000", "bare SQLite, FULL"),
    ("a whole execution of one step", "sequential", "whole/1", "bare SQLite, FULL"),
    ("a new process with its first durable step", "startup", "first step", "Python alone"),
    ("memory of that process", "startup", "memory", "Python alone"),
)
OURS = ("Kitaru, FULL", "Kitaru")
PLOTS = {
    "sequential": ("steps", "ms per step against steps"),
    "at_once": ("processes", "executions per second against processes"),
    "resume": ("resume", "time of a resume against recorded checkpoints"),
    "queries": ("queries", "time of a question against executions"),
}

Table = dict[str, Any]


def number(value: float) -> str:
    """A figure in about three digits."""
    size = abs(value)
    if size >= 100 or (size >= 1 and value == int(value)):
        return f"{value:,.0f}"
    if size >= 10:
        return f"{value:.1f}"
    return f"{value:.2f}" if size >= 1 else f"{value:#.2g}"


def cell(told: Mapping[str, Any], unit: str) -> str:
    """A side's figure: median (least to most), and its ratio to the floor."""
    unit = f" {unit}" if unit and unit != "/s" else unit
    text = number(told["median"]) + unit
    if told["min"] != told["max"]:
        text += f" ({number(told['min'])} to {number(told['max'])})"
    if "ratio" in told:
        text += f" · **{number(told['ratio']['median'])} x**"
    return text


def titled(tables: Sequence[Table]) -> Iterator[tuple[str, list[Table]]]:
    """The columns of each table."""
    for title, columns in groupby(tables_in_order(tables), key=lambda table: str(table["title"])):
        yield title, list(columns)


def tables_in_order(tables: Sequence[Table]) -> list[Table]:
    """Columns of one table beside each other, tables as they came."""
    order = list(dict.fromkeys(table["title"] for table in tables))
    return sorted(tables, key=lambda table: order.index(table["title"]))


def markdown(columns: Sequence[Table]) -> Iterator[str]:
    """One table: a row for each side, a column for each size or figure."""
    names = list(dict.fromkeys(name for column in columns for name in column["sides"]))
    yield f"| | {' | '.join(column['column'] for column in columns)} |"
    yield "|---|" + "---|" * len(columns)
    for name in names:
        cells = [
            cell(column["sides"][name], column["unit"]) if name in column["sides"] else "-"
            for column in columns
        ]
        yield f"| {name} | {' | '.join(cells)} |"
    left = {
        f"{name}, {column['column']}: {why}"
        for column in columns
        for name, why in column["left_out"].items()
    }
    if left:
        yield ""
        yield "Left out: " + "; ".join(sorted(left)) + "."


def plain(tables: Sequence[Table]) -> Iterator[str]:
    """The tables for a terminal: a line for each figure."""
    for title, columns in titled(tables):
        yield f"  {title}"
        for column in columns:
            for name, told in column["sides"].items():
                text = cell(told, column["unit"]).replace("*", "")
                yield f"    {column['column']:28}{name:36}{text}"
            for name, why in column["left_out"].items():
                yield f"    {column['column']:28}{name:36}left out: {why}"


def made(figures: Mapping[str, Any]) -> str:
    """The whole page."""
    parts = [
        prose.HEAD,
        _measured(figures),
        *_first(figures),
        *_aims(figures),
        *_cases(figures),
        *_durability(figures),
        prose.AGAIN,
        prose.NOT,
    ]
    return "\n\n".join(part.strip("\n") for part in parts) + "\n"


def _measured(figures: Mapping[str, Any]) -> str:
    machine = figures["machine"]
    others = [f"{name} {told['version']}" for name, told in figures["peers"].items()]
    told = (
        f"Measured on {figures['date']} at commit `{figures['commit']}`: {machine['system']}, "
        f"{machine['cores']} cores shared with other work, {machine['memory_gib']} GiB of memory, "
        f"all files on {machine['file_system']}; Python {machine['python']}, SQLite "
        f"{machine['sqlite']}, Kitaru {machine['kitaru']}. {figures['rounds']} rounds."
    )
    beside = f" Beside it: {'; '.join(others)}." if others else ""
    missing = "".join(f"\n\nLeft out: {line}" for line in figures["missing"])
    return told + beside + missing


def _column(figures: Mapping[str, Any], case: str, key: str) -> Table:
    found: Table
    (found,) = [table for table in figures["cases"][case] if table["key"] == key]
    return found


def _first(figures: Mapping[str, Any]) -> Iterator[str]:
    yield "## In short"
    names = ["floor", "Kitaru", *figures["peers"]]
    lines = [f"| | {' | '.join(names)} |", "|---|" + "---|" * len(names)]
    for words, case, key, floor in FIRST:
        column = _column(figures, case, key)
        sides = column["sides"]
        ours = next(name for name in OURS if name in sides)
        cells = [
            _short(sides[name], column["unit"]) if name in sides else "-"
            for name in (floor, ours, *figures["peers"])
        ]
        lines.append(f"| {words} | {' | '.join(cells)} |")
    yield "\n".join(lines)
    yield prose.SHORT


def _short(told: Mapping[str, Any], unit: str) -> str:
    text = f"{number(told['median'])} {unit}"
    return f"{text} · {number(told['ratio']['median'])} x" if "ratio" in told else text


def _aims(figures: Mapping[str, Any]) -> Iterator[str]:
    yield "## What must hold"
    yield prose.AIMS
    lines = ["| | aim | reached | |", "|---|---|---|---|"]
    for aim, found, unit, is_reached in aims.rows(figures["cases"]):
        unit = f" {unit}" if unit else ""
        limit = f"{'≥' if aim.least else '≤'} {aim.limit:g}{unit}"
        reached = f"{number(found['median'])}{unit}"
        if found["min"] != found["max"]:
            reached += f" ({number(found['min'])} to {number(found['max'])})"
        lines.append(f"| {aim.what} | {limit} | {reached} | {'yes' if is_reached else '**no**'} |")
    lines += [
        f"| {aim.what} | {'≥' if aim.least else '≤'} {aim.limit:g} | not measured yet | |"
        for aim in aims.AIMS
        if aim.case not in figures["cases"]
    ]
    yield "\n".join(lines)


def _cases(figures: Mapping[str, Any]) -> Iterator[str]:
    for case, tables in figures["cases"].items():
        yield f"## {TITLES[case]}"
        yield prose.CASES[case]
        if case in figures.get("apart", {}):
            apart = figures["apart"][case]
            yield (
                f"Measured by itself on {apart['date']} at commit `{apart['commit']}`, in "
                f"{apart['rounds']} rounds."
            )
        for title, columns in titled(tables):
            yield f"**{title}**"
            yield "\n".join(markdown(columns))
        if case in PLOTS:
            name, words = PLOTS[case]
            yield f"![{words}]({recording.PLOTS.name}/{name}.svg)"


def _durability(figures: Mapping[str, Any]) -> Iterator[str]:
    yield "## Who makes what durable, and when"
    yield prose.DURABILITY
    lines = ["| | |", "|---|---|", *(f"| {name} | {text} |" for name, text in prose.OWN.items())]
    for name, told in figures["peers"].items():
        text = " ".join(told["durability"].split()).replace("|", "/")
        lines.append(f"| {name} {told['version']} | {text} |")
    yield "\n".join(lines)


def write() -> None:
    """Write the page, and draw its plots with the peers' Python."""
    recording.PAGE.write_text(made(recording.committed()), encoding="utf-8")
    if not recording.PEERS_PYTHON.exists():
        print(f"left out: the plots, which need matplotlib; {recording.BRING}")
        return
    program = ROOT / "benchmarks" / "plots.py"
    command = [recording.PEERS_PYTHON, program, recording.JSON, recording.PLOTS]
    if code := subprocess.run(command).returncode:
        raise Broken(f"The plots were not drawn (exit code {code}).")


if __name__ == "__main__":
    write()
