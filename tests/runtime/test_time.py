"""Time limits of attempts, and the pauses between attempts."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import anyio
import pytest

import kitaru
from kitaru import KitaruClient, checkpoint, flow
from kitaru.errors import KitaruContextError, KitaruUsageError
from kitaru.models import CallStatus
from tests import drives, isolated, timed
from tests.support import TurnedClock, is_running, kill, query, spawn, until

pytestmark = pytest.mark.usefixtures("home")

HOUR = 3600.0


def error_of(act: Callable[[], object]) -> Exception:
    """What somebody who acts is told."""
    try:
        value = act()
    except Exception as exc:
        return exc
    raise AssertionError(f"it gave {value!r}")


def attempts(handle: drives.Handle, call: int = 0) -> list[tuple[str, str | None]]:
    """The attempts of one call: how each ended, and with what exception."""
    return [
        (each.status, each.failure.exception_type if each.failure else None)
        for calls in drives.get(handle).checkpoints[call : call + 1]
        for each in calls.attempts
    ]


class Stuck:
    """A checkpoint's code that stays until it is let go."""

    def __init__(self) -> None:
        self.runs = 0
        self.inside = threading.Event()
        self.go = threading.Event()

    def __call__(self, *, once: bool = False) -> str:
        self.runs += 1
        if self.runs == 1 or not once:
            self.inside.set()
            assert self.go.wait(20)
        return f"run {self.runs}"

    def entered(self) -> None:
        assert self.inside.wait(20)


@pytest.fixture
def stuck() -> Iterator[Stuck]:
    """Let go at the latest when the test ends."""
    yield (made := Stuck())
    made.go.set()


# --- the time limit of an attempt -----------------------------------------------------------------


def test_a_plain_checkpoint_over_its_time_is_left_behind_and_nothing_more_is_recorded(
    turned: TurnedClock, stuck: Stuck
):
    refused: list[Exception] = []
    ended = threading.Event()

    @checkpoint(timeout=60)
    def slow() -> str:
        print("in time")
        stuck()
        print("too late")
        refused.append(error_of(lambda: kitaru.log(late=True)))
        refused.append(error_of(lambda: kitaru.save("late", 1)))
        refused.append(error_of(lambda: kitaru.load("kr-1", "late")))
        ended.set()
        return "late"

    @checkpoint
    def meanwhile() -> None:
        stuck.go.set()
        assert ended.wait(20)

    @flow
    def patient() -> str:
        try:
            return slow()
        except TimeoutError as exc:
            meanwhile()
            return str(exc)

    handle = patient.run()
    stuck.entered()
    turned.turn(60)
    assert handle.wait(20) == (
        "Checkpoint 'slow' did not end within 60 seconds; its thread was left behind."
    )
    assert [type(each) for each in refused] == [KitaruContextError] * 3
    assert "slow was over its time, and nothing more of it is recorded" in str(refused[0])
    call = drives.get(handle).checkpoints[0]
    assert (call.status, call.metadata, call.artifacts) == (CallStatus.FAILED, {}, ())
    assert call.failure is not None
    assert (call.failure.exception_type, call.failure.origin) == ("TimeoutError", "runtime")
    lines = KitaruClient().executions.logs(handle.exec_id)
    assert [line.message for line in lines if line.checkpoint_name] == ["in time"]


@pytest.mark.parametrize(
    ("retry_on", "ended"),
    [
        (TimeoutError, [("failed", "TimeoutError"), ("completed", None)]),
        ((KeyError, OSError), [("failed", "TimeoutError"), ("completed", None)]),
        (ValueError, [("failed", "TimeoutError")]),
    ],
)
def test_an_attempt_over_its_time_is_repeated_as_the_policy_says(
    turned: TurnedClock, stuck: Stuck, retry_on: Any, ended: list[Any]
):
    @checkpoint(timeout=60, retries=3, retry_delay=0, retry_on=retry_on)
    def slow_once() -> str:
        return stuck(once=True)

    @flow
    def persists() -> str:
        return slow_once()

    handle = persists.run()
    stuck.entered()
    turned.turn(60)
    if len(ended) == 2:
        assert handle.wait(20) == "run 2"
    else:
        assert isinstance(drives.error_of(handle).__cause__, TimeoutError)
    assert attempts(handle) == ended


@pytest.mark.parametrize("retry_on", [None, (), "ValueError", [ValueError], (ValueError, 3), int])
def test_exceptions_to_repeat_after_are_classes_of_exceptions(retry_on: Any):
    with pytest.raises(KitaruUsageError, match="give exception classes"):
        checkpoint(retry_on=retry_on)


@pytest.mark.parametrize(
    ("retry_on", "raised", "runs"),
    [
        (ConnectionError, ConnectionResetError, 3),
        ((KeyError, ConnectionError), KeyError, 3),
        (ConnectionError, TimeoutError, 1),
        (BaseException, SystemExit, 3),
        (Exception, SystemExit, 1),
    ],
)
def test_an_attempt_is_repeated_after_the_exceptions_that_the_policy_names(
    retry_on: Any, raised: type[BaseException], runs: int
):
    ran = []

    @checkpoint(retries=2, retry_delay=0, retry_on=retry_on)
    def fails() -> None:
        ran.append(1)
        raise raised("again")

    @flow
    def tries() -> None:
        fails()

    handle = tries.run()
    drives.error_of(handle)
    assert len(ran) == len(attempts(handle)) == runs


@pytest.mark.parametrize("option", ["timeout", "retry_delay"])
@pytest.mark.parametrize("value", [-1, float("nan"), float("inf"), 1e12, 10**400, True, "1"])
def test_a_time_that_cannot_be_right_is_refused(option: str, value: Any):
    with pytest.raises(KitaruUsageError, match=f"@checkpoint: {option} is "):
        checkpoint(**{option: value})


def test_a_coroutine_over_its_time_is_cancelled():
    cleaned = []

    @checkpoint(timeout=0.01)
    async def endless() -> None:
        try:
            await anyio.sleep_forever()
        finally:
            cleaned.append(1)

    @flow
    def waits() -> str:
        try:
            endless()  # type: ignore[unused-coroutine]
        except TimeoutError as exc:
            return str(exc)
        return "ended"

    text = "Checkpoint 'endless' did not end within 0.01 seconds; it was cancelled."
    assert waits.run().wait(20) == text
    assert cleaned == [1]


def test_an_isolated_checkpoint_over_its_time_is_killed_with_its_own_children(
    turned: TurnedClock, tmp_path: Path
):
    @flow
    def persists() -> str:
        limited = checkpoint(runtime="isolated", timeout=60)(isolated.stays.fn)
        try:
            return str(limited(str(tmp_path)))
        except TimeoutError as exc:
            return str(exc)

    handle = persists.run()
    until((tmp_path / "pids").exists, "the process has started")
    pids = [int(pid) for pid in (tmp_path / "pids").read_text().split()]
    turned.turn(60)
    assert handle.wait(20) == (
        "Checkpoint 'stays' did not end within 60 seconds; its process was killed."
    )
    until(lambda: not any(map(is_running, pids)), "both processes are gone")
    assert attempts(handle) == [("failed", "TimeoutError")]
    assert drives.get(handle).checkpoints[0].metadata == {"stays": True}


def test_the_flow_sees_a_timeout_as_the_same_exception_on_every_drive(
    turned: TurnedClock, stuck: Stuck
):
    seen: list[Exception] = []
    mended = threading.Event()

    @checkpoint(timeout=60)
    def slow() -> str:
        return stuck()

    @checkpoint
    def instead() -> None:
        if not mended.is_set():
            raise ValueError("not yet")

    @flow
    def falls_back() -> None:
        try:
            slow()
        except TimeoutError as exc:
            seen.append(exc)
        instead()

    handle = falls_back.run()
    stuck.entered()
    turned.turn(60)
    drives.error_of(handle)
    mended.set()
    drives.again("retry", falls_back, handle.exec_id).wait(20)
    assert [type(each) for each in seen] == [TimeoutError, TimeoutError]
    assert str(seen[0]) == str(seen[1])
    assert stuck.runs == 1


# --- pauses between attempts ----------------------------------------------------------------------


def test_a_cancel_ends_a_pause_between_attempts_at_once():
    failed = threading.Event()

    @checkpoint(retries=5, retry_delay=HOUR)
    def fails() -> None:
        failed.set()
        raise ValueError("once")

    @flow
    def tries() -> None:
        fails()

    handle = tries.run()
    assert failed.wait(20)
    until(lambda: attempts(handle) == [("failed", "ValueError")], "the attempt is recorded")
    KitaruClient().executions.cancel(handle.exec_id)
    assert drives.error_of(handle).status == "cancelled"  # type: ignore[attr-defined]
    assert attempts(handle) == [("failed", "ValueError")]


def test_a_pause_lasts_as_long_as_the_clock_says(turned: TurnedClock):
    ran = threading.Semaphore(0)

    @checkpoint(retries=1, retry_delay=60)
    def fails() -> None:
        ran.release()
        raise ValueError("twice")

    @flow
    def tries() -> None:
        fails()

    handle = tries.run()
    assert ran.acquire(timeout=20)
    until(lambda: any(30 <= seconds <= 60 for seconds in turned.waits), "it pauses")
    assert attempts(handle) == [("failed", "ValueError")]
    assert drives.get(handle).checkpoints[0].status is CallStatus.RUNNING
    turned.turn(60)
    drives.error_of(handle)
    assert attempts(handle) == [("failed", "ValueError")] * 2


def test_an_attempt_that_a_crash_interrupts_does_not_count(home: Path):
    program = "from tests import timed; h = timed.persists.run(); print(h.exec_id, flush=True)"
    process = spawn(home, "-c", f"{program}; h.wait()")
    assert process.stdout is not None
    exec_id = process.stdout.readline().strip()
    running = "SELECT 1 FROM calls WHERE status = 'running'"
    until(lambda: (home / "kitaru.db").exists() and query(home, running), "it is shown as running")
    kill(process)
    handle = drives.again("resume", timed.persists, exec_id)
    assert handle.wait(20) == "attempt 3"
    assert attempts(handle) == [("failed", None), ("failed", "ValueError"), ("completed", None)]
