"""What the steps of a durable call ask for, apart from how it is done; pure.

The life of a call (its tries, its commits, its pauses) is written once, as a generator that yields
effects and is sent their outcomes. A sync flow's driver carries them out on the thread at hand, an
async flow's driver awaits them. Whatever carrying one out raises is raised inside the generator,
at its `yield`.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Generator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

from kitaru.context import CallRequest, CallScope

if TYPE_CHECKING:
    from kitaru.store import Transaction


@dataclass(slots=True)
class Commit:
    """Do the work in a transaction of the driver's, with what the call has told meanwhile.

    The transaction may be shared with other calls'.
    """

    work: Callable[[Transaction], None]
    call_id: str | None = None


@dataclass(slots=True)
class Try:
    """Run a checkpoint's code once; the outcome is a `Tried`."""

    request: CallRequest
    scope: CallScope


@dataclass(frozen=True, slots=True)
class Pause:
    """Let seconds pass between two attempts."""

    seconds: float


@dataclass(frozen=True, slots=True)
class Rest:
    """Let at most so many seconds pass, less when something has changed in the store."""

    seconds: float


@dataclass(frozen=True, slots=True)
class Ask:
    """Look for an answer in the terminal; the outcome is what `look` returns."""

    look: Callable[[], Any]


@dataclass(slots=True)
class Tried:
    """How an attempt ended: its encoded result, or its failure and the exception behind it.

    A `stopped` one was ended from outside before it came to an end of its own.
    """

    result: bytes | None = None
    failure: dict[str, Any] | None = None
    cause: BaseException | None = None
    stopped: bool = False


@dataclass(slots=True)
class Recorded:
    """How a call ended: its encoded result, or its stored failure and the exception behind it.

    `order` is its place among the calls that have ended; one that the flow called off has neither
    result nor failure.
    """

    result: bytes | None = None
    failure: dict[str, Any] | None = None
    cause: BaseException | None = None
    order: int | None = None

    @property
    def is_cancelled(self) -> bool:
        """Whether the flow called it off."""
        return self.result is None and self.failure is None


class CalledOff(BaseException):
    """Raised at a `yield`: the flow has cancelled the task or the future of this call."""


Effect: TypeAlias = Commit | Try | Pause | Rest | Ask
Steps: TypeAlias = Generator[Effect, Any, Recorded]


def walk(steps: Steps, perform: Callable[[Effect], Any]) -> Recorded:
    """Carry out the steps of a call on this thread."""
    try:
        effect = next(steps)
        while True:
            try:
                outcome = perform(effect)
            except BaseException as exc:
                effect = steps.throw(exc)
            else:
                effect = steps.send(outcome)
    except StopIteration as end:
        recorded: Recorded = end.value
        return recorded


async def await_steps(steps: Steps, perform: Callable[[Effect], Awaitable[Any]]) -> Recorded:
    """Carry out the steps of a call in this task."""
    try:
        effect = next(steps)
        while True:
            try:
                outcome = await perform(effect)
            except BaseException as exc:
                effect = steps.throw(exc)
            else:
                effect = steps.send(outcome)
    except StopIteration as end:
        recorded: Recorded = end.value
        return recorded
