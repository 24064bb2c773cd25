"""Submitted checkpoint calls: a future for one, a group for several."""

from __future__ import annotations

import threading
from collections.abc import Awaitable, Callable, Generator, Iterator, Sequence
from typing import Any, Generic, Literal, TypeVar, cast, overload

from kitaru import clock
from kitaru.effects import Recorded
from kitaru.errors import KitaruUsageError

R = TypeVar("R", covariant=True)


class CheckpointFuture(Generic[R]):
    """A checkpoint call that was submitted and may still be running; awaitable in an async flow.

    Args:
        call_id: the call's id in its execution.
        deliver: turns what was recorded into the value, or raises.
        call_off: records that the call was cancelled before it ran.
        interrupt: stops the running call, and returns whether that is possible.
        awaits: how an async flow waits for the call.
    """

    def __init__(
        self,
        call_id: str,
        *,
        deliver: Callable[[Recorded], Any],
        call_off: Callable[[], Recorded],
        interrupt: Callable[[], bool] = lambda: False,
        awaits: Callable[[CheckpointFuture[Any]], Awaitable[Any]] | None = None,
    ) -> None:
        self.call_id = call_id
        self.observed = False
        self._deliver = deliver
        self._call_off = call_off
        self._interrupt = interrupt
        self._awaits = awaits
        self._lock = threading.Lock()
        self._started = False
        self._ended = threading.Event()
        self._recorded: Recorded | None = None
        self._unwind: BaseException | None = None
        self._callbacks: list[Callable[[], None]] = []

    def done(self) -> bool:
        """Whether the call has ended."""
        return self._ended.is_set()

    def cancelled(self) -> bool:
        """Whether the call was cancelled."""
        return self._recorded is not None and self._recorded.is_cancelled

    def cancel(self) -> bool:
        """Call the checkpoint off, if it has not started or can be stopped; it is recorded.

        Coroutines and isolated checkpoints can be stopped at any time, plain functions only
        before they start. What was cancelled raises `CancelledError` where its result is asked
        for, and runs again only when the whole execution fails and is retried.

        Returns:
            Whether the call was cancelled; in an async flow, whether it was asked to stop.
        """
        if self.start():
            self.settle(self._call_off())
        elif not self.done():
            return self._interrupt()
        return self.cancelled()

    def result(self, timeout: float | None = None) -> R:
        """The call's value, when it has ended; raises what the checkpoint raised.

        Args:
            timeout: seconds to wait at most.

        Raises:
            TimeoutError: it has not ended in time.
            CancelledError: it was cancelled (`concurrent.futures.CancelledError`).
            KitaruUsageError: the result must be awaited here.
        """
        self._wait(timeout)
        return self.outcome()

    def exception(self, timeout: float | None = None) -> BaseException | None:
        """What the checkpoint raised, when it has ended; `None` for a result.

        Args:
            timeout: seconds to wait at most.

        Raises:
            TimeoutError: it has not ended in time.
            CancelledError: it was cancelled.
        """
        from concurrent.futures import CancelledError

        self._wait(timeout)
        try:
            self.outcome()
        except CancelledError:
            raise
        except Exception as exc:  # of user code's, a TimeoutError too
            return exc
        return None

    def __await__(self) -> Generator[Any, Any, R]:
        if self._awaits is None:
            raise KitaruUsageError(
                f"Call {self.call_id!r} is awaited in a flow that is no `async def`; "
                "take its value with .result()."
            )
        return self._awaits(self).__await__()

    def _wait(self, timeout: float | None) -> None:
        if self._awaits is not None and not self.done():
            raise KitaruUsageError(
                f"Call {self.call_id!r} has not ended, and waiting for it here would stop the "
                "async flow that it is part of; `await` it."
            )
        ended = self._ended.wait() if timeout is None else clock.wait(self._ended, timeout)
        if not ended:
            raise TimeoutError(f"Call {self.call_id!r} has not ended after {timeout} seconds.")

    # --- for the driver ----------------------------------------------------------------------

    def start(self) -> bool:
        """The call is to run now; whether it may, for it may have been cancelled."""
        with self._lock:
            first, self._started = not self._started, True
        return first

    def settle(self, recorded: Recorded) -> None:
        """The call has ended."""
        self._recorded = recorded
        self._end()

    def abandon(self, unwind: BaseException) -> None:
        """The call's drive is over before it ended."""
        self._unwind = unwind
        self._end()

    def _end(self) -> None:
        with self._lock:
            self._ended.set()
        for callback in self._callbacks:
            callback()

    def wait_cancelled(self) -> bool:
        """Wait for the end of a call that was interrupted; whether that cancelled it."""
        self._ended.wait()
        return self.cancelled()

    def on_end(self, callback: Callable[[], None]) -> None:
        """Call this once the call has ended, from whatever thread ends it."""
        with self._lock:
            if not self._ended.is_set():
                self._callbacks.append(callback)
                return
        callback()

    def outcome(self) -> R:
        """The value of a call that has ended."""
        self.observed = True
        if self._unwind is not None:
            raise self._unwind
        assert self._recorded is not None
        return cast(R, self._deliver(self._recorded))

    @property
    def order(self) -> int | None:
        """The ended call's place among all that have ended."""
        return self._recorded.order if self._recorded else None

    @property
    def failed(self) -> bool:
        """Whether the call has ended in a failure."""
        if self._recorded is None:  # it could not be made at all, or the drive is over
            return isinstance(self._unwind, Exception)
        return self._recorded.failure is not None


class CheckpointGroup(Generic[R]):
    """The futures of one `map` or `product`, in the order of its items.

    In an async flow it is awaited for the list of all values.
    """

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

    @overload
    def results(self, return_exceptions: Literal[False] = ...) -> list[R]: ...
    @overload
    def results(self, return_exceptions: bool) -> list[R | Exception]: ...
    def results(self, return_exceptions: bool = False) -> list[Any]:
        """All values in order, when all calls have ended.

        Args:
            return_exceptions: put exceptions in the list instead of raising the first.
        """
        outcomes: list[Any] = []
        for future in self._futures:
            try:
                outcomes.append(future.result())
            except Exception as exc:  # of user code's; raised when all have ended
                outcomes.append(_Raised(exc))
        return _values(outcomes, return_exceptions)

    def __await__(self) -> Generator[Any, Any, list[R]]:
        outcomes: list[Any] = []
        for future in self._futures:
            try:
                outcomes.append((yield from future.__await__()))
            except Exception as exc:  # of user code's; raised when all have ended
                outcomes.append(_Raised(exc))
        return _values(outcomes, return_exceptions=False)

    def cancel(self) -> None:
        """Call off whatever has not ended and can be stopped."""
        for future in self._futures:
            future.cancel()


class _Raised:
    """An exception in a value's place."""

    def __init__(self, exc: Exception) -> None:
        self.exc = exc


def _values(outcomes: list[Any], return_exceptions: bool) -> list[Any]:
    raised = [each.exc for each in outcomes if isinstance(each, _Raised)]
    if raised and not return_exceptions:
        raise raised[0]
    return [each.exc if isinstance(each, _Raised) else each for each in outcomes]
