"""One thread at a time, in an order and at times that a seed chooses.

Threads hand a baton over where they would wait or write; who has none stands still. Time passes
only here: a little at each turn, and up to the next thing that is due when everybody waits. Code
that is run so sees `clock` and its own name `threading` replaced, and is otherwise as it is.
"""

from __future__ import annotations

import contextlib
import random
import threading
import types
from collections.abc import Callable, Iterator
from typing import Any, Protocol
from unittest import mock

from kitaru import clock, futures, heart, pool, runtime
from kitaru.store import groups

_FIRST_US = 1_700_000_000_000_000
_TURN_US = 1500
#: How often the thread that could go on does: handing over takes time.
_GOES_ON = 0.6
#: Modules whose threads and waits are the baton's.
_MODULES = (futures, groups, heart, pool, runtime)


class Died(BaseException):
    """This thread's process was killed long ago, and the run is over: leave."""


class Process(Protocol):
    """What threads belong to; it runs again from a time on, or never (`None`)."""

    back_us: int | None


class _Runner:
    """A thread, what it waits for, and until when at most."""

    def __init__(self, process: Process | None) -> None:
        self.process = process
        self.go = threading.Lock()
        self.go.acquire()
        self.ready: Callable[[], object] = lambda: True
        self.until: int | None = None


_local = threading.local()


class Baton(clock.Clock):
    """Who has it runs; made by the thread that runs first and judges in the end."""

    def __init__(self, rng: random.Random) -> None:
        self._rng = rng
        self._us = _FIRST_US
        self._judge = _Runner(None)
        self._runners = [self._judge]
        self._stuck = False
        self.is_over = False
        self.turns = 0
        self.failures: list[BaseException] = []
        _local.runner = self._judge

    # --- time --------------------------------------------------------------------------------

    def now_us(self) -> int:
        return self._us

    def monotonic(self) -> float:
        return (self._us - _FIRST_US) / 1_000_000

    def wait(self, event: threading.Event, seconds: float) -> bool:
        self.rest(event.is_set, seconds=seconds)
        return event.is_set()

    # --- turns -------------------------------------------------------------------------------

    @property
    def here(self) -> _Runner:
        """The thread that runs."""
        runner: _Runner = _local.runner
        return runner

    def rest(
        self, ready: Callable[[], object] = lambda: True, *, seconds: float | None = None
    ) -> None:
        """Let others run until this is so, or the time is over."""
        me = self.here
        me.ready = ready
        me.until = None if seconds is None else self._us + round(seconds * 1_000_000)
        if self.is_over:
            raise Died
        if (chosen := self._next()) is not me:
            chosen.go.release()
            me.go.acquire()
        if self.is_over and me is not self._judge:
            raise Died
        assert not self._stuck, "everybody waits for ever"

    def _next(self) -> _Runner:
        self.turns += 1
        self._us += self._rng.randint(1, _TURN_US)
        while not (able := [each for each in self._runners if self._is_able(each)]):
            times = [time for each in self._runners if (time := self._time(each)) is not None]
            if not times:
                self._stuck = True
                return self._judge
            self._us = max(self._us, min(times))
        if _local.runner in able and self._rng.random() < _GOES_ON:
            here: _Runner = _local.runner
            return here
        return self._rng.choice(able)

    def _is_able(self, runner: _Runner) -> bool:
        if runner.process is not None:
            back = runner.process.back_us
            if back is None or back > self._us:
                return False
        return bool(runner.ready()) or (runner.until is not None and runner.until <= self._us)

    def _time(self, runner: _Runner) -> int | None:
        """When a thread may run that may not now, if time alone decides it."""
        back = self._us if runner.process is None else runner.process.back_us
        if back is None:
            return None
        times = [] if runner.until is None else [max(back, runner.until)]
        return min([*times, back] if runner.ready() else times, default=None)

    def has_threads(self, process: Process) -> bool:
        """Whether any thread of a process has not ended."""
        return any(runner.process is process for runner in self._runners)

    def let_all_leave(self) -> None:
        """End the run: whoever still waits leaves, one after the other."""
        self.is_over = True
        while others := [each for each in self._runners if each is not self._judge]:
            others[-1].go.release()
            self._judge.go.acquire()

    def start(self, work: Callable[[], Any], process: Process | None) -> _Runner:
        """A thread of a process; it runs when its turn comes."""
        runner = _Runner(process)

        def run() -> None:
            _local.runner = runner
            runner.go.acquire()
            try:
                if not self.is_over:
                    work()
            except Died:
                pass
            except BaseException as exc:  # whoever judges hears of it; the others go on
                if not self.is_over:
                    self.failures.append(exc)
            self._runners.remove(runner)
            (self._judge if self.is_over else self._next()).go.release()

        self._runners.append(runner)
        threading.Thread(target=run, daemon=True).start()
        return runner

    def has_ended(self, runner: _Runner) -> bool:
        """Whether a thread has ended."""
        return runner not in self._runners

    @contextlib.contextmanager
    def installed(self) -> Iterator[None]:
        """While Kitaru's threads and times are this baton's."""
        names = types.SimpleNamespace(**vars(threading))
        names.Thread = lambda **given: _Thread(self, given["target"])
        names.Event = lambda: _Event(self)
        names.Condition = lambda: _Condition(self)
        names.Lock = lambda: _Lock(self)
        with contextlib.ExitStack() as stack:
            stack.enter_context(clock.use(self))
            for module in _MODULES:
                stack.enter_context(mock.patch.object(module, "threading", names))
            yield


class _Lock:
    def __init__(self, baton: Baton) -> None:
        self._baton = baton
        self._is_free = True

    def acquire(self) -> None:
        if not self._is_free:
            self._baton.rest(lambda: self._is_free)
        self._is_free = False

    def release(self) -> None:
        self._is_free = True

    def __enter__(self) -> None:
        self.acquire()

    def __exit__(self, *exc_info: object) -> None:
        self.release()


class _Thread:
    def __init__(self, baton: Baton, work: Callable[[], Any]) -> None:
        self._baton = baton
        self._work = work
        self._runner: _Runner | None = None

    def start(self) -> None:
        self._runner = self._baton.start(self._work, self._baton.here.process)

    def is_alive(self) -> bool:
        return self._runner is not None and not self._baton.has_ended(self._runner)


class _Event(threading.Event):
    def __init__(self, baton: Baton) -> None:
        super().__init__()
        self._baton = baton

    def wait(self, timeout: float | None = None) -> bool:
        self._baton.rest(self.is_set, seconds=timeout)
        return self.is_set()


class _Condition(threading.Condition):
    def __init__(self, baton: Baton) -> None:
        super().__init__()
        self._baton = baton

    def wait_for(self, predicate: Callable[[], Any], timeout: float | None = None) -> Any:
        self.release()
        try:
            self._baton.rest(predicate, seconds=timeout)
        finally:
            self.acquire()
        return predicate()
