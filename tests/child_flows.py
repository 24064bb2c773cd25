"""Flows that run other flows, for processes that are killed, stopped and overtaken.

A process that `KITARU_TESTS_DIE` tells so kills itself where a child is started: `before` the
commit that records it, or right `after`. `KITARU_TESTS_GRACE` is how long, in seconds, its runner
is patient with what it has cancelled.
"""

from __future__ import annotations

import asyncio
import os
import signal
from typing import Any

import kitaru
from kitaru import checkpoint, config, flow
from kitaru.nested import ChildRun
from tests import flows
from tests.flows import breaks, effect, gated, pass_gate


def _die(*_: Any) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


if "KITARU_TESTS_GRACE" in os.environ:
    config.CANCEL_GRACE_SECONDS = float(os.environ["KITARU_TESTS_GRACE"])
if os.environ.get("KITARU_TESTS_DIE") == "after":
    ChildRun.drive = _die  # type: ignore[method-assign]
if os.environ.get("KITARU_TESTS_DIE") == "before":
    _create = ChildRun.create

    def _create_and_die(self: ChildRun, *given: Any) -> str:
        _create(self, *given)
        _die()
        return ""

    ChildRun.create = _create_and_die  # type: ignore[method-assign]


@checkpoint
def work(name: str) -> str:
    effect()
    return f"work of {name}"


@flow
def child(name: str) -> str:
    return work(name)


@flow
def fans_out(names: list[str]) -> list[str]:
    """Children beside each other."""
    handles = [child.run(name) for name in names]
    return [handle.wait() for handle in handles]


@flow
def gated_child(name: str) -> str:
    return gated(name) + work(name)


@flow
def of_gated(name: str = "a") -> str:
    """One child, which waits for a gate."""
    return gated_child.run(name).wait()


@flow
def asks(timeout: float = 0.0) -> str:
    return work(kitaru.wait(name="approve", schema=str, timeout=timeout))


@flow
def of_asking(timeout: float = 0.0) -> str:
    """One child, which waits for an answer."""
    return "parent of " + asks.run(timeout).wait()


@flow
def of_of_asking(timeout: float = 0.0) -> str:
    """A child of a child, which waits for an answer."""
    return "grand" + of_asking.run(timeout).wait()


@flow
def fails(when: str = "always") -> list[str]:
    """A checkpoint, and one that fails until it is mended."""
    return [work(when), breaks()]


@flow
def of_failing() -> list[str]:
    """One child, which fails until it is mended."""
    return fails.run().wait()


@flow
def forgives() -> str:
    """A child that fails, which its flow does not mind."""
    try:
        fails.run().wait()
    except kitaru.KitaruUserCodeError as exc:
        return work(str(exc.exec_id))
    return work("nothing failed")


@flow
def forgets(names: list[str]) -> str:
    """Children that nobody waits for."""
    for name in names:
        child.run(name)
    return "done"


@flow
def forgets_a_failing() -> str:
    """A failing child and another one that nobody waits for."""
    fails.run()
    gated_child.run("a")
    return "done"


@flow
def other(name: str) -> str:
    return flows.steps(1, name, flows.Witness())


@flow
def of_another_module() -> list[str]:
    return flows.gate.run("a", 0, 0).wait()


@flow
async def awaits(names: list[str]) -> list[str]:
    """Children of an async flow."""
    handles = [child.run(name) for name in names]
    return [await handle for handle in handles]


@flow
async def awaits_an_answer() -> str:
    return "async parent of " + await asks.run()


@checkpoint
def blocks(name: str) -> str:
    pass_gate(name)
    return name


@flow
def blocked_child() -> str:
    return blocks("never") + work("after")


@flow
def of_blocked() -> str:
    """A child in a checkpoint that does not end."""
    return blocked_child.run().wait()


@flow
def waits_for_the_first(names: list[str]) -> list[str]:
    """A child that asks is waited for before others, which end by themselves."""
    first = asks.run()
    handles = [child.run(name) for name in names]
    return [first.wait(), *(handle.wait() for handle in handles)]


@flow
def replayed() -> str:
    """A child, a checkpoint, a child."""
    first = child.run("a").wait()
    second = work("b")
    return f"{first} {second} {child.run('c').wait()}"


@flow
def naps(seconds: float = 0.02) -> str:
    kitaru.sleep(seconds, timeout=0)
    return work("rested")


@flow
async def gathers(names: list[str]) -> list[str]:
    """Children of an async flow that are awaited in tasks of their own."""
    return [*await asyncio.gather(*(child.run(name) for name in names))]


@flow
async def awaits_gated() -> str:
    return await gated_child.run("a")


@flow
async def gives_up(timeout: float) -> str:
    """Stops waiting for a child, which goes on, and then takes it all the same."""
    handle = gated_child.run("a")
    try:
        return await asyncio.wait_for(handle, timeout)
    except TimeoutError:
        (flows.home() / "gate-a").touch()
        return "late " + await handle


@flow
async def forgets_a_failing_async() -> str:
    """A failing child and another one that nobody awaits."""
    fails.run()
    gated_child.run("a")
    return "done"
