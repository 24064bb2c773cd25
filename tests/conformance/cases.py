"""The table of the conformance suite: one more `Case` in `CASES` is all a flow needs."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from kitaru import Flow
from tests.conformance import flows


@dataclass(frozen=True)
class Case:
    """A flow, how it is taken to its end, and how it ends undisturbed.

    Args:
        name: what the case is called in the tests' ids.
        flow: the flow; a flow may have several cases.
        inputs: its inputs.
        expected: the result as JSON data.
        error: or the name of the exception it fails with.
        answers: what each wait is answered, by its call id.
        polls: whether it is answered while its driver polls, or once that has let go.
        retries: how often it is retried after it failed; the home is `mended` before.
        replay: arguments of `Flow.replay`; the case is then a replay of a completed run.
        in_flight: how many of its calls run at the same time.
        shows_running: its long calls are recorded as running by themselves; without it they never
            are, however slow the machine, so that each run makes the same commits.
        differs: what may differ from the undisturbed run, as tables (`artifacts`,
            `logs`) or columns (`calls.status`) of the store; times and attempts always may.
    """

    name: str
    flow: Flow[..., Any]
    inputs: dict[str, Any] = field(default_factory=dict)
    expected: Any = None
    error: str | None = None
    answers: dict[str, Any] = field(default_factory=dict)
    polls: bool = False
    retries: int = 0
    replay: dict[str, Any] | None = None
    in_flight: int = 1
    shows_running: bool = False
    differs: frozenset[str] = frozenset()


LARGE = 70_000

CASES: list[Case] = [
    Case("sequence", flows.sequence, {"start": 5}, expected=15),
    Case("condition-yes", flows.condition, {"number": 10}, expected=10),
    Case("condition-no", flows.condition, {"number": 9}, expected=14),
    Case("loop", flows.loop, {"limit": 20}, expected=[1, 2, 4, 8, 16, 32]),
    Case("tries", flows.tries, {"number": 8}, expected=5),
    Case(
        "catches",
        flows.catches,
        {"numbers": [7, 8, 9]},
        expected=["7 is odd", "half of it is 4", "9 is odd", "3"],
    ),
    Case("fails", flows.fails, {"number": 7}, error="ValueError"),
    Case("raises", flows.raises, {"number": 7}, error="LookupError"),
    Case("retried-in-vain", flows.fails, {"number": 7}, error="ValueError", retries=2),
    Case("retried", flows.is_mended, {"number": 8}, expected=5, retries=1),
    Case("drives-again", flows.drives_again, {"number": 8}, expected=5),
    Case("submits", flows.submits, {"number": 10}, expected=[11, 12, 13, 23], in_flight=3),
    Case("submits-and-forgets", flows.forgets, {"number": 7}, error="ValueError", in_flight=2),
    Case("maps", flows.maps, {"numbers": [1, 2, 3]}, expected=[4, 8, 12], in_flight=3),
    Case(
        "maps-bad-items",
        flows.maps_bad_items,
        {"numbers": [2, 3, 4, 5]},
        expected=["1", "3 is odd", "2", "5 is odd"],
        in_flight=4,
    ),
    Case(
        "asks-and-polls",
        flows.asks,
        {"number": 1, "timeout": 60.0},
        answers={"double": True},
        polls=True,
        expected=4,
    ),
    Case(
        "asks-and-lets-go",
        flows.asks,
        {"number": 1, "timeout": 0.0},
        answers={"double": False},
        expected=2,
    ),
    Case(
        "asks-again-and-polls",
        flows.asks_again,
        {"timeout": 60.0},
        answers={"more": "a", "more#2": "enough"},
        polls=True,
        expected=["a", "enough"],
    ),
    Case(
        "asks-again-and-lets-go",
        flows.asks_again,
        {"timeout": 0.0},
        answers={"more": "a", "more#2": "b", "more#3": "enough"},
        expected=["a", "b", "enough"],
    ),
    Case(
        "tells",
        flows.tells,
        {"topic": "ab"},
        expected={"first": {"topic": "ab", "letters": ["a", "b"]}, "second": "more ab"},
    ),
    Case(
        "fills",
        flows.fills,
        {"text": "c" * LARGE, "size": LARGE},
        expected=[LARGE, LARGE, LARGE + 1],
    ),
    Case("is-slow", flows.is_slow, {"number": 1}, expected=4, shows_running=True),
    Case("replays", flows.sequence, {"start": 5}, replay={"from_": "add#3"}, expected=15),
    Case(
        "replays-with-override",
        flows.sequence,
        {"start": 5},
        replay={"from_": "add#3", "overrides": {"checkpoint.add#2": 100}},
        expected=107,
    ),
    Case(
        "replays-an-answer",
        flows.asks,
        {"number": 1, "timeout": 0.0},
        answers={"double": True},
        replay={"from_": "add#2"},
        expected=4,
    ),
    Case(
        "replays-large-values",
        flows.fills,
        {"text": "c" * LARGE, "size": LARGE},
        replay={"from_": "fill#2", "size": 1},
        expected=[LARGE, LARGE, 2],
    ),
    Case(
        "replays-what-was-told",
        flows.tells,
        {"topic": "ab"},
        replay={"from_": "describe#2"},
        expected={"first": {"topic": "ab", "letters": ["a", "b"]}, "second": "more ab"},
    ),
]


def by_name(name: str) -> Case:
    """A case of the table."""
    (found,) = [case for case in CASES if case.name == name]
    return found
