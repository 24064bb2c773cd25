"""What must hold: a limit for some figures of Kitaru's, and whether a run reached it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

Cases = Mapping[str, list[dict[str, Any]]]


@dataclass(frozen=True)
class Aim:
    """A limit for one figure.

    Args:
        what: the figure in words.
        case: where it is measured.
        key: in which column.
        side: whose it is.
        limit: how much it may be, or must be.
        of: whether the ratio to the floor is meant, or the figure itself.
        least: whether the limit is the least.
    """

    what: str
    case: str
    key: str
    side: str
    limit: float
    of: Literal["ratio", "figure"] = "figure"
    least: bool = False

    def found(self, cases: Cases) -> tuple[dict[str, float], str]:
        """The figure and its unit."""
        (table,) = [table for table in cases[self.case] if table["key"] == self.key]
        told = table["sides"][self.side]
        return (told["ratio"], "x") if self.of == "ratio" else (told, table["unit"])

    def is_reached(self, cases: Cases) -> bool:
        """Whether the median is within the limit."""
        median = self.found(cases)[0]["median"]
        return median >= self.limit if self.least else median <= self.limit


FULL, NORMAL = "Kitaru, FULL", "Kitaru, NORMAL"
IN_FLOW, IN_CHECKPOINT = "Kitaru, in a flow", "Kitaru, ten in a checkpoint"
AIMS = (
    Aim("1,000 steps, FULL, against the floor", "sequential", "step/1000", FULL, 1.3, "ratio"),
    Aim("1,000 steps, NORMAL, against the floor", "sequential", "step/1000", NORMAL, 4, "ratio"),
    Aim("execution of 1 step, FULL", "sequential", "whole/1", FULL, 3),
    Aim("commits of an execution of 1 step", "sequential", "commits/1", FULL, 5),
    Aim(
        "100 executions of 10 steps at once, FULL, threads, against one row a commit",
        "at_once",
        "steps/FULL",
        "Kitaru, threads",
        2,
        "ratio",
        least=True,
    ),
    Aim(
        "the same, async",
        "at_once",
        "steps/FULL",
        "Kitaru, async",
        2,
        "ratio",
        least=True,
    ),
    Aim("100 steps of 50 ms at once, threads", "fan_out", "whole", "Kitaru, threads", 80),
    Aim("100 steps of 50 ms at once, async", "fan_out", "whole", "Kitaru, async", 80),
    Aim("resume over 10,000 recorded checkpoints", "resume", "resume/10000", "Kitaru", 300),
    Aim("each of 10,000 against each of 1,000", "resume", "growth", "Kitaru", 1.2, "ratio"),
    Aim("kill -9 to the next line, by a client", "crash", "resumed", "Kitaru, by a client", 300),
    Aim("the same, by the command", "crash", "resumed", "Kitaru, by the command", 300),
    Aim("import, CPU", "startup", "import", "Kitaru", 60),
    Aim("first durable step, whole process", "startup", "first step", "Kitaru", 150),
    Aim("memory after a durable step", "startup", "memory", "Kitaru", 40),
    Aim("answer to next line, same process", "answers", "answer", "Kitaru, the same process", 20),
    Aim("answer to next line, other process", "answers", "answer", "Kitaru, another process", 20),
    Aim("`kitaru.llm` in a flow, over the SDK alone", "models", "extra/OpenAI", IN_FLOW, 2),
    Aim("the same, ten in a checkpoint", "models", "extra/OpenAI", IN_CHECKPOINT, 2),
    Aim("bytes of the store for a small checkpoint", "size", "bytes", "Kitaru", 400),
)


def rows(cases: Cases) -> Iterator[tuple[Aim, dict[str, float], str, bool]]:
    """Every aim whose case was measured: what was found, its unit, and whether it was reached."""
    for aim in AIMS:
        if aim.case not in cases:
            continue
        found, unit = aim.found(cases)
        yield aim, found, unit, aim.is_reached(cases)
