"""The same work on every side, in turn, for some rounds; and the figures that come of it.

Each round does the work once on each side, in an order that moves on by one each time, so that a
busy machine is busy for all of them; those that may be slow come behind the others, which are so
measured within moments of their floor. A figure is the least, the median and the most of its
rounds. A ratio is that of two sides in one round; what is told is the median of the rounds' own
ratios, which is steadier than the ratio of two medians.
"""

from __future__ import annotations

import statistics
import time
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

#: A side that may be slow and has taken longer than that takes no part in further rounds.
MOST_SECONDS = 6.0
#: A round does short work several times, but for no longer than that.
SECONDS_OF_A_ROUND = 1.0
DIGITS = 4

Figures = Mapping[str, float]


class LeftOut(Exception):
    """A side cannot do this work; the message says why."""


@dataclass(frozen=True)
class Side:
    """One way of doing the work.

    Args:
        name: what it is called in tables.
        go: does the work once, and gives its figures.
        floor: the side it is measured against.
        may_be_slow: whether it takes part in fewer rounds where it is.
    """

    name: str
    go: Callable[[], Figures]
    floor: str | None = None
    may_be_slow: bool = False


@dataclass
class Samples:
    """What each side gave, by round; `None` where it took no part."""

    sides: Sequence[Side]
    rounds: dict[str, list[Figures | None]] = field(default_factory=lambda: defaultdict(list))
    left_out: dict[str, str] = field(default_factory=dict)

    def table(
        self,
        key: str,
        *,
        title: str,
        column: str,
        figure: str | Callable[[Figures], float],
        unit: str,
        better: Literal["less", "more"] = "less",
        at: float | None = None,
        names: Sequence[str] | None = None,
    ) -> dict[str, Any]:
        """One column of a table as plain data: a figure of every side that has it.

        Args:
            key: what it is found by.
            title: its table.
            column: its column.
            figure: the figure's name, or what makes it of a round's figures.
            unit: what it is counted in.
            better: whether less of it is better, or more.
            at: where it stands on a plot.
            names: the sides; all by default.
        """
        made: dict[str, dict[str, Any]] = {}
        for side in self.sides:
            if names is not None and side.name not in names:
                continue
            own = self._values(side.name, figure)
            if not any(value is not None for value in own):
                continue
            made[side.name] = spread([value for value in own if value is not None])
            if side.floor is not None:
                floor = self._values(side.floor, figure)
                pairs = zip(own, floor, strict=True)
                ratios = [a / b for a, b in pairs if a is not None and b]
                if ratios:
                    made[side.name] |= {"floor": side.floor, "ratio": spread(ratios)}
        left_out = {
            name: why for name, why in self.left_out.items() if names is None or name in names
        }
        where = {"key": key, "title": title, "column": column}
        told = {"unit": unit, "better": better, "at": at}
        return {**where, **told, "sides": made, "left_out": left_out}

    def _values(self, name: str, figure: str | Callable[[Figures], float]) -> list[float | None]:
        return [
            None if round_ is None or not _has(round_, figure) else _value(round_, figure)
            for round_ in self.rounds[name]
        ]


def _has(figures: Figures, figure: str | Callable[[Figures], float]) -> bool:
    return callable(figure) or figure in figures


def _value(figures: Figures, figure: str | Callable[[Figures], float]) -> float:
    return figure(figures) if callable(figure) else figures[figure]


def interleave(sides: Sequence[Side], *, rounds: int, times: int = 1, warm: bool = True) -> Samples:
    """Do the work of all sides in turn.

    Args:
        sides: who does it.
        rounds: how often each.
        times: how often in one round, of which the median counts; less where it takes long.
        warm: whether each does it once before, which is not counted.
    """
    found = Samples(sides)
    spent: dict[str, float] = defaultdict(float)
    for number in range(-1 if warm else 0, rounds):
        for side in _order(sides, number):
            if side.name in found.left_out:
                continue
            # It has at least one round that counts.
            too_slow = (
                side.may_be_slow
                and spent[side.name] > MOST_SECONDS
                and any(found.rounds[side.name])
            )
            begun = time.perf_counter()
            try:
                gone = None if too_slow else _several(side.go, times if number >= 0 else 1)
            except LeftOut as reason:
                found.left_out[side.name] = str(reason)
                continue
            spent[side.name] += time.perf_counter() - begun
            if number >= 0:
                found.rounds[side.name].append(gone)
    for name in found.left_out:
        found.rounds[name] = [None] * rounds
    return found


def _order(sides: Sequence[Side], number: int) -> list[Side]:
    """The order of a round."""
    order = []
    for are_slow in (False, True):
        some = [side for side in sides if side.may_be_slow is are_slow]
        turn = number % max(1, len(some))
        order += [*some[turn:], *some[:turn]]
    return order


def _several(go: Callable[[], Figures], times: int) -> Figures:
    """The median of each figure."""
    begun = time.perf_counter()
    gone = [go()]
    while len(gone) < times and time.perf_counter() - begun < SECONDS_OF_A_ROUND:
        gone.append(go())
    return {name: statistics.median(each[name] for each in gone) for name in gone[0]}


def spread(values: Sequence[float]) -> dict[str, Any]:
    """Least, median and most, in as many digits as mean something."""
    return {
        "min": rounded(min(values)),
        "median": rounded(statistics.median(values)),
        "max": rounded(max(values)),
        "rounds": len(values),
    }


def rounded(value: float) -> float:
    """A figure to a few digits."""
    return float(f"{value:.{DIGITS}g}")
