"""Turns alone: results go out one at a time, in order, when the loop has come to rest."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from kitaru import config
from kitaru.turns import RestingSelector, Turns


def run(turns: Turns, main: Callable[[], Awaitable[Any]]) -> Any:
    """What the coroutine gives on a loop that hands out turns."""

    def loop() -> asyncio.AbstractEventLoop:
        return asyncio.SelectorEventLoop(RestingSelector(turns))

    with asyncio.Runner(loop_factory=loop) as runner:
        return runner.run(main())  # type: ignore[arg-type]


async def taking(turns: Turns, order: int, taken: list[Any], *, rounds: int = 0) -> None:
    await turns.turn(order)
    taken.append(order)
    for _ in range(rounds):
        await asyncio.sleep(0)
        taken.append(order)


def test_turns_are_taken_in_the_recorded_order_whoever_asks_first():
    turns, taken = Turns([1, 2, 3]), []

    async def main() -> None:
        await asyncio.gather(*[taking(turns, order, taken, rounds=3) for order in (3, 1, 2)])

    run(turns, main)
    assert taken == [*[1] * 4, *[2] * 4, *[3] * 4]


def test_a_place_that_is_unknown_or_taken_is_not_waited_for(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(config, "TURN_SECONDS", 0.01)
    turns = Turns([1])

    async def main() -> str:
        for order in (None, 7, 1, 1):
            await turns.turn(order)
        return "through"

    assert run(turns, main) == "through"


def test_places_are_added_from_threads_and_taken_in_order():
    turns, taken = Turns(()), []

    async def main() -> None:
        threads = [threading.Thread(target=turns.expect, args=(n,)) for n in range(1, 9)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert turns.has_results
        await asyncio.gather(*[taking(turns, order, taken) for order in range(8, 0, -1)])

    run(turns, main)
    assert taken == [*range(1, 9)]
    assert not turns.has_results


def test_who_is_cancelled_gives_its_turn_up():
    turns, taken = Turns([1, 2]), []

    async def main() -> None:
        lazy = asyncio.create_task(taking(Turns([1]), 1, taken))
        first = asyncio.create_task(taking(turns, 2, taken))
        await asyncio.sleep(0)
        lazy.cancel()
        turns.skip(1)
        await first

    run(turns, main)
    assert taken == [2]


def test_a_place_that_nobody_asks_for_is_passed_over_once_for_all(monkeypatch):
    monkeypatch.setattr(config, "TURN_SECONDS", 0.0)
    turns, taken = Turns(range(1, 100)), []

    async def main() -> None:
        await asyncio.gather(*[taking(turns, order, taken) for order in (99, 98, 97)])

    run(turns, main)
    assert taken == [97, 98, 99]


@pytest.mark.parametrize("asked", [1, 2])
def test_a_loop_that_never_rests_goes_on_all_the_same(asked, monkeypatch):
    monkeypatch.setattr(config, "TURN_ROUNDS", 10)
    monkeypatch.setattr(config, "TURN_SECONDS", 0.0)
    turns = Turns([1, 2])

    async def main() -> str:
        def spin() -> None:
            nonlocal spinning
            spinning = asyncio.get_running_loop().call_soon(spin)

        spinning = asyncio.get_running_loop().call_soon(spin)
        await turns.turn(asked)
        await turns.quiet()
        spinning.cancel()
        return "through"

    assert run(turns, main) == "through"


def test_quiet_comes_after_all_results_and_what_they_set_off():
    turns, taken = Turns([1, 2]), []

    async def main() -> None:
        async def quiet() -> None:
            await turns.quiet()
            taken.append("quiet")

        await asyncio.gather(quiet(), *[taking(turns, n, taken, rounds=5) for n in (1, 2)])

    run(turns, main)
    assert taken == [*[1] * 6, *[2] * 6, "quiet"]
