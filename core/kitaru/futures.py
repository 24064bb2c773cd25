"""Submitted checkpoint calls: a future for one, a group for several."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar, cast

R = TypeVar("R")


@dataclass(frozen=True, slots=True)
class Recorded:
    """How a call ended: its encoded result, or its stored failure and the exception behind it."""

    result: bytes | None = None
    failure: dict[str, Any] | None = None
    cause: BaseException | None = None


class CheckpointFuture(Generic[R]):
    """A checkpoint call that was submitted and may still be running.

    Args:
        call_id: the call's id in its execution.
        deliver: turns what was recorded into the value, or raises.
    """

    def __init__(self, call_id: str, deliver: Callable[[Recorded], Any]) -> None:
        self.call_id = call_id
        self._deliver = deliver
        self._ended = threading.Event()
        self._recorded: Recorded | None = None
        self._unwind: BaseException | None = None
        self.observed = False

    def done(self) -> bool:
        """Whether the call has ended."""
        return self._ended.is_set()

    def result(self, timeout: float | None = None) -> R:
        """The call's value, when it has ended; raises what the checkpoint raised.

        Args:
            timeout: seconds to wait at most.

        Raises:
            TimeoutError: it has not ended in time.
        """
        self._wait(timeout)
        self.observed = True
        if self._unwind is not None:
            raise self._unwind
        assert self._recorded is not None
        return cast(R, self._deliver(self._recorded))

    def exception(self, timeout: float | None = None) -> BaseException | None:
        """What the checkpoint raised, when it has ended; `None` for a result.

        Args:
            timeout: seconds to wait at most.

        Raises:
            TimeoutError: it has not ended in time.
        """
        self._wait(timeout)
        try:
            self.result()
        except Exception as exc:  # of user code's, a TimeoutError too
            return exc
        return None

    def _wait(self, timeout: float | None) -> None:
        if not self._ended.wait(timeout):
            raise TimeoutError(f"Call {self.call_id!r} has not ended after {timeout} seconds.")

    def settle(self, recorded: Recorded) -> None:
        """The call has ended; for its driver."""
        self._recorded = recorded
        self._ended.set()

    def abandon(self, unwind: BaseException) -> None:
        """The call's drive is over before it ended; for its driver."""
        self._unwind = unwind
        self._ended.set()

    @property
    def failed(self) -> bool:
        """Whether the call has ended in a failure."""
        return self._recorded is not None and self._recorded.failure is not None


class CheckpointGroup(Generic[R]):
    """The futures of one `map`, in the order of its items."""

    def __init__(self, futures: Sequence[CheckpointFuture[R]]) -> None:
        self._futures = tuple(futures)

    def __iter__(self) -> Iterator[CheckpointFuture[R]]:
        return iter(self._futures)

    def __len__(self) -> int:
        return len(self._futures)

    def __getitem__(self, index: int) -> CheckpointFuture[R]:
        return self._futures[index]

    def result(self) -> list[R]:
        """All values in order; raises what the first failed call raised, after all have ended."""
        return self.results()

    def results(self, return_exceptions: bool = False) -> list[R]:
        """All values in order, when all calls have ended.

        Args:
            return_exceptions: put exceptions in the list instead of raising the first.
        """
        outcomes: list[Any] = []
        first: Exception | None = None
        for future in self._futures:
            try:
                outcomes.append(future.result())
            except Exception as exc:  # of user code's; raised when all have ended
                first = first or exc
                outcomes.append(exc)
        if first is not None and not return_exceptions:
            raise first
        return outcomes
