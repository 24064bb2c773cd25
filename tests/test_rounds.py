"""The rounds of the benchmarks: who comes when, what counts, and who is left out."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from benchmarks import page
from benchmarks.peers import PeerError, TooSlow
from benchmarks.rounds import LeftOut, Side, interleave
from benchmarks.scope import Scope


def sides(seen: list[str], **values: list[float]) -> list[Side]:
    """Sides that give these figures in turn; the first one is the others' floor."""
    floor = next(iter(values))

    def side(name: str) -> Side:
        left = iter(values[name])

        def go() -> dict[str, float]:
            seen.append(name)
            return {"seconds": next(left)}

        return Side(name, go, None if name == floor else floor)

    return [side(name) for name in values]


def column(samples: Any, **options: Any) -> dict[str, Any]:
    given = {"title": "Time", "column": "once", "figure": "seconds", "unit": "s", **options}
    return samples.table("time", **given)["sides"]


def test_each_round_begins_with_another_side() -> None:
    seen: list[str] = []
    interleave(sides(seen, a=[1] * 3, b=[1] * 3, c=[1] * 3), rounds=3, warm=False)
    assert "".join(seen) == "abcbcacab"


def test_those_that_may_be_slow_come_behind_the_others_in_each_round() -> None:
    seen: list[str] = []
    given = sides(seen, a=[1] * 2, x=[1] * 2, b=[1] * 2, y=[1] * 2)
    given = [dataclasses.replace(side, may_be_slow=side.name in "xy") for side in given]
    interleave(given, rounds=2, warm=False)
    assert "".join(seen) == "abxybayx"


def test_the_round_to_warm_up_is_not_counted() -> None:
    samples = interleave(sides([], a=[100, 1, 2, 6]), rounds=3)
    assert column(samples)["a"] == {"min": 1, "median": 2, "max": 6, "rounds": 3}


def test_a_ratio_is_the_median_of_the_rounds_own_ratios() -> None:
    samples = interleave(sides([], a=[1, 10, 2], b=[2, 10, 8]), rounds=3, warm=False)
    told = column(samples)["b"]
    assert told["median"] == 8
    assert told["floor"] == "a"
    assert told["ratio"] == {"min": 1, "median": 2, "max": 4, "rounds": 3}


def test_short_work_is_done_several_times_in_a_round_of_which_the_median_counts() -> None:
    samples = interleave(sides([], a=[9, 1, 2]), rounds=1, times=3, warm=False)
    assert column(samples)["a"]["median"] == 2


def test_a_peer_that_takes_too_long_is_left_out_of_further_rounds(monkeypatch) -> None:
    monkeypatch.setattr("benchmarks.rounds.MOST_SECONDS", 0)
    seen: list[str] = []
    ours, peer = sides(seen, ours=[5] * 4, peer=[5] * 4)
    peer = dataclasses.replace(peer, may_be_slow=True)
    samples = interleave([ours, peer], rounds=3)
    assert seen.count("peer") == 2  # one to warm up, and one that counts
    assert [column(samples)[name]["rounds"] for name in ("ours", "peer")] == [3, 1]


def test_a_side_that_cannot_do_the_work_is_left_out_with_its_reason() -> None:
    def refuse() -> dict[str, float]:
        raise LeftOut("it would take 90 s")

    given = [*sides([], a=[1] * 3), Side("slow", refuse, "a")]
    table = interleave(given, rounds=2).table(
        "time", title="Time", column="once", figure="seconds", unit="s"
    )
    assert "slow" not in table["sides"]
    assert table["left_out"] == {"slow": "it would take 90 s"}
    assert "slow, once: it would take 90 s" in "\n".join(page.markdown([table]))


def test_a_peer_that_fails_or_is_too_slow_is_left_out_with_few_words(monkeypatch, capsys):
    class Session:
        name = "DBOS"

        def run(self, case: str, *, steps: int) -> dict[str, float]:
            if steps > 1:
                raise TooSlow(f"DBOS: {case} would take 90 s.", seconds=90)
            raise PeerError("DBOS: a traceback of many lines")

    @contextmanager
    def opened(folder: Path) -> Iterator[Session]:
        assert folder == Path("here")
        yield Session()

    peer: Any = SimpleNamespace(name="DBOS", cases={"sequential"}, open=opened)
    given = Scope(Path("here"), 1, peers=[peer])
    with given.peer_sides("size", floor=None) as sides:
        assert sides(steps=1) == []
    with given.peer_sides("sequential", floor=None) as sides:
        left = [interleave(sides(steps=steps), rounds=2).left_out for steps in (1, 9)]
    assert left == [{"DBOS": "it failed in this run"}, {"DBOS": "sequential would take 90 s"}]
    assert capsys.readouterr().err == "DBOS: a traceback of many lines\n"
