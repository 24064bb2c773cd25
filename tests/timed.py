"""Flows that tests of time and caching run in processes of their own."""

from __future__ import annotations

from typing import Any

import kitaru
from kitaru import checkpoint, flow
from tests.flows import effect, gated


class Ratio:
    """What only pickle can hold."""

    def __init__(self, of: int) -> None:
        self.of = of


@checkpoint(cache=True)
def shared(n: int) -> str:
    effect()
    return f"shared {n}"


@flow
def shares(n: int) -> str:
    return shared(n)


@flow
def sleeper(seconds: float) -> str:
    gated("asleep")
    kitaru.sleep(seconds)
    return "rested"


@checkpoint(retries=1, retry_delay=0)
def fails_once() -> str:
    call = kitaru.current_checkpoint()
    assert call is not None
    if call.attempt == 1:
        gated.fn("attempt")
    if call.attempt == 2:
        raise ValueError("second attempt")
    return f"attempt {call.attempt}"


@flow
def persists() -> str:
    return fails_once()


@checkpoint(serializer="pickle")
def third() -> Any:
    effect()
    return Ratio(3)


@flow
def learns() -> list[str]:
    ratio = third()
    kitaru.wait(name="go", timeout=0)
    return [type(ratio).__name__, str(ratio.of)]


@flow
def submits() -> str:
    return gated.submit("never").result()
