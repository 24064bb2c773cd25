"""The table of the conformance suite: one more `Case` in `CASES` is all a flow needs."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from kitaru import Flow
from tests.conformance import async_flows, child_flows, flows


@dataclass(frozen=True)
class Case:
    """A flow, how it is taken to its end, and how it ends undisturbed.

    Args:
        name: what the case is called in the tests' ids.
        flow: the flow; a flow may have several cases.
        inputs: its inputs.
        expected: the result as JSON data.
        error: or the name of the exception it fails with.
        answers: what each wait of the flow or its children is answered, by its call id.
        polls: whether it is answered while its driver polls, or once that has let go.
        retries: how often it is retried after it failed; the home is `mended` before.
        replay: arguments of `Flow.replay`; the case is then a replay of a completed run.
        in_flight: how many of its calls run at the same time, those of children too.
        shows_running: its long calls are recorded as running by themselves; without it they never
            are, however slow the machine, so that each run makes the same commits.
        differs: what may differ from the undisturbed run, as tables (`artifacts`,
            `logs`) or columns (`calls.status`) of the store; times and attempts always may, and
            the order of what tasks tell or made beside each other.
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
CHILD_FAILED = "kitaru.errors.KitaruUserCodeError"
#: Calls of branches beside each other are numbered as they come.
NUMBERED = frozenset({"calls.seq"})

_ASYNC = [
    Case("gathers", async_flows.gathers, {"numbers": [1, 2]}, expected=[2, 3, 6], in_flight=2),
    Case(
        "gathers-branches",
        async_flows.gathers_branches,
        {"numbers": [1, 2]},
        expected=[21, 31, 53],
        in_flight=2,
        differs=NUMBERED,
    ),
    Case(
        "groups",
        async_flows.groups,
        {"numbers": [1, 2]},
        expected=[53, 73],
        in_flight=4,
        differs=NUMBERED,
    ),
    Case(
        "starts-soon",
        async_flows.starts_soon,
        {"numbers": [1, 2]},
        expected=[21, 31],
        in_flight=2,
        differs=NUMBERED,
    ),
    Case(
        "takes-as-completed",
        async_flows.takes_as_completed,
        {"numbers": [1, 2, 3]},
        expected=[41, 31, 21],
        in_flight=3,
        # A call comes after whatever tasks have ended by then.
        differs=NUMBERED | {"calls.parents"},
    ),
    Case("races", async_flows.races, {"number": 1}, expected=21, in_flight=2),
    Case(
        "catches-in-branches",
        async_flows.catches_in_branches,
        {"numbers": [1, 2, 3]},
        expected=["1 is odd, 2", "3", "3 is odd, 4"],
        in_flight=3,
        differs=NUMBERED,
    ),
    Case(
        "catches-what-is-gathered",
        async_flows.catches_what_is_gathered,
        {"numbers": [1, 2]},
        expected=["1 is odd", "3", "1"],
        in_flight=2,
    ),
    Case(
        "branch-is-retried",
        async_flows.branch_is_mended,
        {"number": 1},
        expected=[21, 2],
        retries=1,
        in_flight=2,
        differs=NUMBERED,
    ),
    Case(
        "group-is-retried",
        async_flows.group_is_mended,
        {"number": 1},
        expected=[2, 2],
        retries=1,
        in_flight=2,
    ),
    Case(
        "submits-awaited",
        async_flows.submits_awaited,
        {"number": 1},
        expected=[2, 2, 2, 4],
        in_flight=3,
    ),
    Case(
        "maps-awaited",
        async_flows.maps_awaited,
        {"numbers": [1, 2]},
        expected=[3, 5, 3, 5],
        in_flight=2,
    ),
    Case(
        "catches-a-future",
        async_flows.catches_a_future,
        {"number": 1},
        expected="1 is odd, 2",
        in_flight=3,
    ),
    Case(
        "asks-twice-and-polls",
        async_flows.asks_twice,
        {"timeout": 60.0},
        answers={"left#1.1": 1, "right#2.1": 2},
        polls=True,
        expected=[2, 3],
        in_flight=2,
        differs=NUMBERED,
    ),
    Case(
        "asks-twice-and-lets-go",
        async_flows.asks_twice,
        {"timeout": 0.0},
        answers={"left#1.1": 1, "right#2.1": 2},
        expected=[2, 3],
        in_flight=2,
        differs=NUMBERED,
    ),
    Case(
        "asks-beside",
        async_flows.asks_beside,
        {"number": 1},
        answers={"number#1.1": 1},
        expected=[2, 22],
        in_flight=2,
        differs=NUMBERED,
    ),
    Case(
        "sleeps-beside",
        async_flows.sleeps_beside,
        {"number": 1},
        expected=[2, 21],
        in_flight=2,
        differs=NUMBERED,
    ),
    Case("is-late-awaited", async_flows.is_late_awaited, {"number": 1}, expected=3),
    Case(
        "drives-again-awaited",
        async_flows.drives_again_awaited,
        {"number": 1},
        expected=[3, 2],
        in_flight=2,
    ),
    Case(
        "tells-in-branches",
        async_flows.tells_in_branches,
        {"numbers": [1, 2]},
        expected=[21, 31],
        in_flight=2,
        differs=NUMBERED,
    ),
    Case(
        "shares",
        async_flows.shares,
        {"numbers": [1, 2]},
        expected=[21, 21],
        in_flight=2,
        differs=NUMBERED,
    ),
    Case(
        "replays-a-branch",
        async_flows.gathers_branches,
        {"numbers": [1, 2]},
        replay={"from_": "fetch#2.2"},
        expected=[21, 31, 53],
        in_flight=2,
        differs=NUMBERED,
    ),
    Case(
        "replays-a-branch-with-override",
        async_flows.gathers_branches,
        {"numbers": [1, 2]},
        replay={"from_": "fetch#1", "overrides": {"checkpoint.fetch#1.2": 5}},
        expected=[5, 31, 37],
        in_flight=2,
        differs=NUMBERED,
    ),
]

_CHILDREN = [
    Case("delegates", child_flows.delegates, {"number": 1}, expected=6),
    Case(
        "fans-out", child_flows.fans_out, {"numbers": [1, 2, 3]}, expected=[3, 5, 7, 1], in_flight=4
    ),
    Case("leaves-children", child_flows.leaves_children, {"number": 1}, expected=2, in_flight=2),
    Case(
        "catches-a-child",
        child_flows.catches_a_child,
        {"number": 1},
        expected="KitaruUserCodeError, 2",
    ),
    Case("child-is-retried", child_flows.child_is_mended, {"number": 8}, expected=6, retries=1),
    Case("child-fails", child_flows.child_fails, {"number": 1}, error=CHILD_FAILED),
    Case(
        "child-is-retried-in-vain",
        child_flows.child_fails,
        {"number": 1},
        error=CHILD_FAILED,
        retries=1,
    ),
    Case("drives-child-again", child_flows.drives_child_again, {"number": 8}, expected=6),
    Case("child-asks", child_flows.child_asks, {"number": 1}, answers={"more": 2}, expected=4),
    Case(
        "awaits-children",
        child_flows.awaits_children,
        {"numbers": [1, 2]},
        expected=[5, 6, 1],
        in_flight=3,
        differs=NUMBERED,
    ),
    Case(
        "awaits-asking-child",
        child_flows.awaits_asking_child,
        {"number": 1},
        answers={"more": 2, "number#2.1": 5},
        expected=[3, 6],
        in_flight=2,
        differs=NUMBERED,
    ),
    Case(
        "replays-after-child",
        child_flows.delegates,
        {"number": 1},
        replay={"from_": "add#2"},
        expected=6,
    ),
    Case(
        "replays-child", child_flows.delegates, {"number": 1}, replay={"from_": "part"}, expected=6
    ),
]

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
    Case("tells-beside", flows.tells_beside, {"number": 1}, expected=8, in_flight=2),
    Case("tries-some", flows.fails_in_other_ways, {"number": 1}, expected="1 is wrong, 2"),
    Case("is-late", flows.is_late, {"number": 8}, expected=5),
    Case(
        "multiplies", flows.multiplies, {"numbers": [1, 2]}, expected=[11, 21, 12, 22], in_flight=4
    ),
    Case(
        "calls-off",
        flows.calls_off,
        {"number": 1},
        expected=["double_once_ended#2double_once_ended#2", "4"],
        in_flight=2,
    ),
    Case("sleeps-and-holds", flows.sleeps, {"number": 1, "timeout": 60.0}, expected=4),
    Case("sleeps-and-lets-go", flows.sleeps, {"number": 1, "timeout": 0.0}, expected=4),
    Case("goes-apart", flows.goes_apart, {"number": 1}, expected=3),
    Case("caches", flows.caches, {"number": 1}, expected=[2, 2, 3, 2]),
    Case("pickles", flows.pickles, {"number": 2}, expected="(-2-1j)"),
    *_ASYNC,
    *_CHILDREN,
]


def by_name(name: str) -> Case:
    """A case of the table."""
    (found,) = [case for case in CASES if case.name == name]
    return found
