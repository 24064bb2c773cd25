"""Fan-out: how many run at a time, what a cancelled future is, and what a retry runs again."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
from concurrent.futures import CancelledError
from pathlib import Path
from typing import Any

import pytest

from kitaru import KitaruClient, checkpoint, config, flow
from kitaru.errors import KitaruSerializationError
from kitaru.models import CallStatus
from tests import drives, isolated
from tests.support import effects, is_running, kill, spawn, until

pytestmark = pytest.mark.usefixtures("home")


class Meter:
    """Counts who is inside at a time; all stay until `full` of them have met."""

    def __init__(self, full: int) -> None:
        self.most = 0
        self._inside = 0
        self._lock = threading.Lock()
        self._meeting = threading.Barrier(full, timeout=20)

    def visit(self) -> None:
        with self._lock:
            self._inside += 1
            self.most = max(self.most, self._inside)
        self._meeting.wait()
        with self._lock:
            self._inside -= 1


@pytest.mark.parametrize(
    ("limit", "items"), [(1, 3), (3, 9), (None, 2 * config.MAX_WORKERS), (40, 40)]
)
def test_as_many_run_at_a_time_as_the_limit_says_and_never_more(limit: int | None, items: int):
    full = config.MAX_WORKERS if limit is None else limit
    meter = Meter(full)

    @checkpoint
    def visit(n: int) -> int:
        meter.visit()
        return n

    @flow
    def crowd() -> list[int]:
        return visit.map(range(items), max_workers=limit).result()

    assert crowd.run().wait(20) == [*range(items)]
    assert meter.most == full


def test_a_product_has_its_limit_and_the_order_of_its_combinations():
    meter = Meter(2)

    @checkpoint
    def join(a: str, b: int) -> str:
        meter.visit()
        return f"{a}{b}"

    @flow
    def grid() -> list[str]:
        return join.product("ab", [1, 2], max_workers=2).result()

    handle = grid.run()
    assert handle.wait(20) == ["a1", "a2", "b1", "b2"]
    assert meter.most == 2
    calls = [call.call_id for call in drives.get(handle).checkpoints]
    assert calls == ["join", "join#2", "join#3", "join#4"]


def test_only_the_branch_that_failed_runs_again_on_retry():
    ran: list[int] = []
    mended = threading.Event()

    @checkpoint
    def branch(n: int) -> int:
        ran.append(n)
        if n == 2 and not mended.is_set():
            raise ValueError(n)
        return n

    @flow
    def fan() -> list[int]:
        return branch.map([1, 2, 3]).result()

    handle = fan.run()
    drives.error_of(handle)
    statuses = [call.status for call in drives.get(handle).checkpoints]
    assert statuses == ["completed", "failed", "completed"]
    mended.set()
    ran.clear()
    assert drives.again("retry", fan, handle.exec_id).wait(20) == [1, 2, 3]
    assert ran == [2]


def test_calls_that_end_together_share_commits():
    size = config.MAX_WORKERS
    waiting = threading.Barrier(size + 1, timeout=20)
    store = drives.store()
    commits: list[str] = []

    @checkpoint
    def ends(n: int) -> int:
        waiting.wait()
        return n

    @flow
    def fan() -> list[int]:
        return ends.map(range(size)).result()

    handle = fan.run()
    with store.write() as conn:
        conn.set_trace_callback(commits.append)
        waiting.wait()
        until(lambda: len(store.line) >= size - 1, "all but the first stand in line")
    assert handle.wait(20) == [*range(size)]
    with store.write() as conn:
        conn.set_trace_callback(None)
    begun = [statement for statement in commits if statement.startswith("BEGIN")]
    assert 1 <= len(begun) < size / 2  # with those of the drive's end


# --- futures --------------------------------------------------------------------------------------


def is_cancelled(future: Any) -> bool:
    """Whether a future is cancelled, by all that it tells."""
    for ask in (future.result, future.exception):
        try:
            ask()
        except CancelledError:
            continue
        return False
    return bool(future.done() and future.cancelled())


class Queue:
    """A flow with one call that runs and one behind it that is cancelled."""

    def __init__(self) -> None:
        self.ran: list[str] = []
        self.told: list[Any] = []
        self.inside, self.go, self.mended = (threading.Event() for _ in range(3))

        @checkpoint
        def step(name: str) -> str:
            self.ran.append(name)
            if name == "first":
                self.inside.set()
                assert self.go.wait(20)
            if name == "last" and not self.mended.is_set():
                raise ValueError(name)
            return name

        @flow
        def queue() -> list[Any]:
            first, second = step.map(["first", "second"], max_workers=1)
            assert self.inside.wait(20)
            self.told.append((first.cancel(), first.cancelled(), second.cancel()))
            self.go.set()
            return [first.result(), is_cancelled(second), is_cancelled(first), step("last")]

        self.flow = queue


def test_a_call_that_waits_in_line_can_be_cancelled_and_one_that_runs_cannot():
    case = Queue()
    case.mended.set()
    handle = case.flow.run()
    assert handle.wait(20) == ["first", True, False, "last"]
    assert case.told == [(False, False, True)]
    assert case.ran == ["first", "last"]
    call = drives.get(handle).checkpoints[1]
    assert (call.status, call.started_at, call.attempts) == (CallStatus.CANCELLED, None, ())
    assert call.ended_at is not None


def test_a_cancelled_call_stays_cancelled_when_the_flow_is_driven_again():
    case = Queue()
    handle = case.flow.run()
    drives.error_of(handle)
    case.mended.set()
    case.ran.clear()
    again = drives.again("retry", case.flow, handle.exec_id)
    assert again.wait(20) == ["first", True, False, "last"]
    assert case.ran == ["last"]


def test_cancelling_an_isolated_call_kills_it_and_it_stays_cancelled(tmp_path: Path):
    mended = threading.Event()
    stays = checkpoint(runtime="isolated")(isolated.stays.fn)

    @checkpoint
    def last() -> str:
        if not mended.is_set():
            raise ValueError("last")
        return "last"

    @flow
    def outer() -> list[Any]:
        future = stays.submit(str(tmp_path))
        until(lambda: (tmp_path / "pids").exists() or future.done(), "it runs")
        return [future.cancel(), is_cancelled(future), future.cancel(), last()]

    handle = outer.run()
    drives.error_of(handle)
    pids = [int(pid) for pid in (tmp_path / "pids").read_text().split()]
    until(lambda: not any(map(is_running, pids)), "both processes are gone")
    call = drives.get(handle).checkpoints[0]
    assert call.status is CallStatus.CANCELLED
    assert [each.status for each in call.attempts] == ["cancelled"]
    (tmp_path / "pids").unlink()
    mended.set()
    assert drives.again("retry", outer, handle.exec_id).wait(20) == [True, True, True, "last"]
    assert not (tmp_path / "pids").exists()


def test_an_isolated_call_can_be_cancelled_while_it_pauses_between_attempts():
    fails = checkpoint(runtime="isolated", retries=5, retry_delay=3600)(isolated.refuses.fn)
    failed = threading.Event()

    @flow
    def outer() -> bool:
        future = fails.submit(3)
        assert failed.wait(20)
        return future.cancel() and is_cancelled(future)

    handle = outer.run()
    until(
        lambda: any(
            len(call.attempts) == 1 and call.attempts[0].ended_at
            for call in drives.get(handle).checkpoints
        ),
        "its first attempt is recorded",
    )
    failed.set()
    assert handle.wait(20) is True
    (call,) = drives.get(handle).checkpoints
    assert (call.status, [each.status for each in call.attempts]) == ("cancelled", ["failed"])


def test_a_submitted_call_that_cannot_be_made_fails_the_flow_though_nobody_looks():
    @checkpoint(serializer="pickle", cache=True)
    def takes(value: Any) -> None:
        raise AssertionError("it must not run")

    @flow
    def careless() -> str:
        takes.submit(lambda: None)
        return "done"

    error = drives.error_of(careless.run())
    assert isinstance(error.__cause__, KitaruSerializationError)


@pytest.mark.skipif(sys.platform == "win32", reason="signals")
def test_a_submitted_call_does_not_keep_a_script_that_was_interrupted(home: Path):
    program = "from tests import timed; h = timed.submits.run(); print(h.exec_id, flush=True)"
    process = spawn(home, "-c", f"{program}; h.wait()", stderr=subprocess.DEVNULL)
    assert process.stdout is not None
    exec_id = process.stdout.readline().strip()
    until(lambda: effects(home, exec_id), "the call runs")
    process.send_signal(signal.SIGINT)
    until(lambda: process.poll() is not None, "the script ends")
    kill(process)
    assert KitaruClient().executions.get(exec_id).stalled
