"""The conformance suite's flows that are plain functions, one per behaviour.

`cases` has the table of their runs; `async_flows` and `child_flows` hold the others.

Each run of a checkpoint leaves its mark in the home's effects file (`effect` of `tests.flows`). A
flow depends on its inputs, its checkpoints' results and its answers only; a checkpoint that fails
at first goes by its recorded attempts or by whether the home is `mended`, so that a crash does not
change how it ends.
"""

from __future__ import annotations

import threading
from concurrent.futures import CancelledError
from typing import Any

import kitaru
from kitaru import KitaruClient, checkpoint, flow
from tests import support
from tests.flows import effect, home


def attempt() -> int:
    """Which recorded attempt of its call this is, counted from 1."""
    call = kitaru.current_checkpoint()
    assert call is not None
    return call.attempt


def has_ended(call_id: str) -> bool:
    """Whether another call of the execution has its end on record."""
    call = kitaru.current_checkpoint()
    assert call is not None
    calls = KitaruClient().executions.get(call.exec_id).checkpoints
    return any(each.call_id == call_id and each.ended_at is not None for each in calls)


@checkpoint
def add(left: int, right: int) -> int:
    effect()
    print(f"{left} + {right}")
    return left + right


@checkpoint
def double(number: int) -> int:
    effect()
    print(f"2 * {number}")
    return 2 * number


@checkpoint
def halve(number: int) -> int:
    effect()
    if number % 2:
        raise ValueError(f"{number} is odd")
    return number // 2


@checkpoint(retries=2, retry_delay=0)
def halve_at_third_try(number: int) -> int:
    effect()
    print(f"try of {number}")
    if attempt() < 3:
        raise ConnectionError("not yet")
    return number // 2


@checkpoint
def halve_at_second_try(number: int) -> int:
    effect()
    if attempt() < 2:
        raise ConnectionError("not yet")
    return number // 2


@checkpoint(retries=1, retry_delay=0)
def halve_once_mended(number: int) -> int:
    effect()
    if not (home() / "mended").exists():
        raise ConnectionError("not mended yet")
    return number // 2


@checkpoint(retries=4, retry_delay=0, retry_on=ConnectionError)
def fail_in_other_ways(number: int) -> int:
    effect()
    if attempt() < 2:
        raise ConnectionError("not yet")
    raise ValueError(f"{number} is wrong")


@checkpoint(timeout=0.1, retries=1, retry_delay=0)
def halve_in_time_at_second_try(number: int) -> int:
    effect()
    if attempt() < 2:
        threading.Event().wait()
    return number // 2


@checkpoint
def double_once_ended(call_id: str) -> str:
    effect()
    support.until(lambda: has_ended(call_id), f"{call_id} has ended")
    return 2 * call_id


@checkpoint(runtime="isolated")
def add_apart(left: int, right: int) -> int:
    effect()
    print(f"{left} + {right}, apart")
    kitaru.save("sum", left + right)
    return left + right


@checkpoint(cache=True)
def add_once(left: int, right: int) -> int:
    effect()
    kitaru.save("sum", left + right)
    return left + right


@checkpoint(serializer="pickle")
def turn(value: complex) -> complex:
    effect()
    return value * 1j


@checkpoint(type="report")
def describe(topic: str) -> dict[str, Any]:
    effect()
    print(f"about {topic}")
    kitaru.log(topic=topic, scores={topic: len(topic)})
    kitaru.save("draft", {"topic": topic}, type="context", tags=["early"])
    kitaru.save("prompt", f"write about {topic}", type="prompt")
    return {"topic": topic, "letters": sorted(set(topic))}


@checkpoint
def fill(letter: str, size: int) -> str:
    effect()
    kitaru.save("copy", letter.upper() * size)
    return letter * size


@checkpoint
def add_slowly(left: int, right: int) -> int:
    effect()
    call = kitaru.current_checkpoint()
    assert call is not None
    client = KitaruClient()

    def is_shown() -> bool:
        calls = client.executions.get(call.exec_id).checkpoints
        return (call.call_id, call.attempt) in [(c.call_id, len(c.attempts)) for c in calls]

    support.until(is_shown, "this attempt is recorded as running")
    print(f"{left} + {right}, slowly")
    return left + right


@flow
def sequence(start: int) -> int:
    """One checkpoint after the other; the next needs the one before."""
    total = start
    for number in (1, 2, 3, 4):
        total = add(total, number)
    return total


@flow
def condition(number: int) -> int:
    """What a checkpoint returns decides which ones follow."""
    if add(number, 1) > 10:
        return halve(number * 2)
    return add(add(number, 2), 3)


@flow
def loop(limit: int) -> list[int]:
    """What checkpoints return decides how many there are."""
    values = [1]
    while values[-1] < limit:
        values.append(add(values[-1], values[-1]))
    return values


@flow
def tries(number: int) -> int:
    """A checkpoint that fails and then succeeds by its own retries."""
    return add(halve_at_third_try(add(number, 0)), 1)


@flow
def catches(numbers: list[int]) -> list[str]:
    """Failures that the flow expects."""
    outcomes = []
    for number in numbers:
        try:
            outcomes.append(f"half of it is {halve(number)}")
        except ValueError as exc:
            outcomes.append(str(exc))
    return [*outcomes, str(add(1, 2))]


@flow
def fails(number: int) -> int:
    """A checkpoint's failure that the flow does not expect."""
    return add(halve(add(number, 0)), 1)


@flow
def raises(number: int) -> int:
    """A failure of the flow's own code."""
    raise LookupError(f"nothing for {add(number, 1)}")


@flow
def is_mended(number: int) -> int:
    """A checkpoint that fails until somebody mends what it needs, and retries the execution."""
    return add(halve_once_mended(add(number, 0)), 1)


@flow(retries=2)
def drives_again(number: int) -> int:
    """A checkpoint's failure that the flow's own retries mend."""
    print("a try")
    return add(halve_at_second_try(add(number, 0)), 1)


@flow
def submits(number: int) -> list[int]:
    """Calls beside each other and beside the flow."""
    first, second = add.submit(number, 1), add.submit(number, 2)
    third = add(number, 3)
    return [first.result(), second.result(), third, add(first.result(), second.result())]


@flow
def forgets(number: int) -> int:
    """A submitted call that fails, and nobody asks for its result."""
    halve.submit(number)
    return add(number, 1)


@flow
def maps(numbers: list[int]) -> list[int]:
    """A fan-out, and another from its results."""
    return double.map(double.map(numbers).result()).result()


@flow
def maps_bad_items(numbers: list[int]) -> list[str]:
    """A fan-out in which some items fail."""
    return [str(each) for each in halve.map(numbers).results(return_exceptions=True)]


@flow
def asks(number: int, timeout: float) -> int:
    """A question between checkpoints."""
    before = add(number, 1)
    if kitaru.wait(name="double", question=f"Double {before}?", timeout=timeout):
        return add(before, before)
    return before


@flow
def asks_again(timeout: float) -> list[str]:
    """Questions of one name, until the answer is enough."""
    heard: list[str] = []
    while "enough" not in heard:
        answer = kitaru.wait(name="more", question="What else?", schema=str, timeout=timeout)
        heard.append(answer)
        add(len(heard), 0)
    return heard


@flow
def tells(topic: str) -> dict[str, Any]:
    """Metadata, artifacts and lines, of checkpoints and of the flow's body."""
    print("begin")
    kitaru.log(stage="first", seen={"topic": topic})
    described = describe(topic)
    print("between")
    kitaru.log(stage="second", seen={"letters": len(described["letters"])})
    described_again = describe(f"more {topic}")
    print("end")
    return {"first": described, "second": described_again["topic"]}


@flow
def fills(text: str, size: int) -> list[int]:
    """Values too large for a row: an input, results and artifacts."""
    return [len(text), len(fill("a", size)), len(fill("b", size + 1))]


@flow
def is_slow(number: int) -> int:
    """Calls that last long enough to be recorded as running."""
    return add_slowly(add_slowly(number, 1), 2)


@flow
def fails_in_other_ways(number: int) -> str:
    """A checkpoint that is tried again after some exceptions only."""
    try:
        return str(fail_in_other_ways(number))
    except ValueError as exc:
        return f"{exc}, {add(number, 1)}"


@flow
def is_late(number: int) -> int:
    """A checkpoint that is over its time at first."""
    return add(halve_in_time_at_second_try(number), 1)


@flow
def multiplies(numbers: list[int]) -> list[int]:
    """A fan-out over combinations."""
    return add.product(numbers, [10, 20]).result()


@flow
def calls_off(number: int) -> list[str]:
    """A submitted call that is cancelled before it starts."""
    first, second = double_once_ended.map(["double_once_ended#2", "none"], max_workers=1)
    second.cancel()
    try:
        return [second.result()]
    except CancelledError:
        return [first.result(), str(add(number, 3))]


@flow
def sleeps(number: int, timeout: float) -> int:
    """A durable pause between checkpoints."""
    before = add(number, 1)
    kitaru.sleep(0.02, timeout=timeout)
    return add(before, 2)


@flow
def goes_apart(number: int) -> int:
    """A checkpoint in a process of its own."""
    return add_apart(number, 1) + 1


@flow
def caches(number: int) -> list[int]:
    """Equal calls, of which one runs."""
    return [add_once(number, 1), add_once(number, 1), add_once(number, 2), add_once(number, 1)]


@flow
def pickles(number: int) -> str:
    """Values that JSON does not hold."""
    return str(turn(turn(complex(number, 1))))


@flow
def tells_beside(number: int) -> int:
    """Lines of the body beside calls that run."""
    print("begin")
    first = add.submit(number, 1)
    print("between")
    second = add(number, 2)
    print("after")
    third = add.submit(second, 3)
    print("waits")
    total = first.result() + third.result()
    print("end")
    return total
