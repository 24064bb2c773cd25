"""Draws the plots of docs/performance.md: `plots.py JSON FOLDER`, by a Python with matplotlib.

It imports nothing else, so that it runs where the rest of this project is not installed. The same
figures always give the same files.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import matplotlib as mpl

mpl.use("svg")
mpl.rcParams |= {
    "svg.hashsalt": "kitaru",
    "svg.fonttype": "none",
    "font.family": "sans-serif",
    "font.size": 10,
    "axes.grid": True,
    "grid.color": "#dddddd",
    "axes.edgecolor": "#555555",
    "figure.facecolor": "white",
    "axes.axisbelow": True,
}

import matplotlib.pyplot as plt  # noqa: E402 - the backend is chosen first

#: Distinct without red against green; a peer has the same on each plot.
OURS = (("#0072b2", "o"), ("#56b4e9", "s"), ("#332288", "D"))
PEERS = (("#d55e00", "^"), ("#e69f00", "v"), ("#cc79a7", "P"), ("#009e73", "X"), ("#7f7f7f", "<"))
FLOORS = ("bare", "reading")

#: Where on the plot, and what is told there.
Points = list[tuple[float, dict[str, Any]]]


def lines(tables: list[dict[str, Any]], prefix: str) -> dict[str, Points]:
    """The points of each side."""
    found: dict[str, Points] = {}
    for table in tables:
        if table["key"].startswith(f"{prefix}/"):
            for name, told in table["sides"].items():
                found.setdefault(name, []).append((table["at"], told))
    return found


def styled(names: list[str]) -> dict[str, dict[str, Any]]:
    """A look for each side; a floor is thin and dashed, and has the colour of ours above it."""
    styles: dict[str, dict[str, Any]] = {}
    ours, peers = iter(OURS), iter(PEERS)
    floors = [name for name in names if name.startswith(FLOORS)]
    for name in names:
        if name not in floors:
            is_ours = name.startswith("Kitaru")
            colour, mark = next(ours if is_ours else peers)
            width = 2.2 if is_ours else 1.4
            styles[name] = {"color": colour, "marker": mark, "linewidth": width, "markersize": 5}
    for floor in floors:
        above = floor.replace("bare SQLite", "Kitaru")
        colour = styles[above]["color"] if above in styles else "#333333"
        styles[floor] = {"color": colour, "linestyle": "--", "linewidth": 1.2}
    return {name: styles[name] for name in names}


def draw(
    path: Path,
    found: dict[str, Points],
    *,
    x: str,
    y: str,
    log: bool = True,
) -> None:
    """Lines of medians; the whiskers are the least and the most."""
    figure, axes = plt.subplots(figsize=(7.2, 4.2))
    for name, style in styled(list(found)).items():
        points = found[name]
        at = [one for one, _ in points]
        middle = [told["median"] for _, told in points]
        below = [told["median"] - told["min"] for _, told in points]
        above = [told["max"] - told["median"] for _, told in points]
        axes.errorbar(
            at, middle, yerr=[below, above], label=name, capsize=2, elinewidth=0.8, **style
        )
    if log:
        axes.set_xscale("log")
        axes.set_yscale("log")
        values = [told["median"] for points in found.values() for _, told in points]
        if max(values) < 300 * min(values):  # decades alone would be too few
            axes.yaxis.set_major_locator(mpl.ticker.LogLocator(subs=(1, 2, 5)))
        axes.yaxis.set_major_formatter(lambda value, _: f"{value:,g}")
    else:
        axes.set_ylim(bottom=0)
    ticks = sorted({one for points in found.values() for one, _ in points})
    axes.set_xticks(ticks, [f"{one:,}" for one in ticks])
    axes.minorticks_off()
    axes.set_xlabel(x)
    axes.set_ylabel(y)
    axes.legend(loc="center left", bbox_to_anchor=(1.0, 0.5), frameon=False, fontsize=9)
    figure.savefig(path, bbox_inches="tight", metadata={"Date": None, "Creator": None})
    plt.close(figure)


def main() -> None:
    """Draw all of them."""
    cases = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))["cases"]
    folder = Path(sys.argv[2])
    folder.mkdir(exist_ok=True)
    draw(folder / "steps.svg", lines(cases["sequential"], "step"), x="steps", y="ms per step")
    draw(
        folder / "processes.svg",
        lines(cases["at_once"], "processes"),
        x="processes on one store",
        y="executions of 10 steps per second",
        log=False,
    )
    draw(
        folder / "resume.svg",
        lines(cases["resume"], "resume"),
        x="recorded checkpoints",
        y="ms from resume to the next line",
    )
    questions = {}
    for key, words in (("list", "list"), ("get", "get"), ("statistics", "statistics")):
        for name, points in lines(cases["queries"], key).items():
            questions[f"{name}, {words}"] = points
    draw(folder / "queries.svg", questions, x="executions in the store", y="ms")


if __name__ == "__main__":
    main()
