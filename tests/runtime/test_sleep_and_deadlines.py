"""Time that passes in flows: sleep, and the time limit of an execution."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import kitaru
from kitaru import KitaruClient, checkpoint, clock, config, flow
from kitaru.errors import FailureOrigin, KitaruContextError, KitaruStateError, KitaruUsageError
from kitaru.models import CallStatus, ExecutionStatus
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


# --- sleep ----------------------------------------------------------------------------------------

BAD_TIMES = [-1, -0.001, float("nan"), float("inf"), 1e12, 10**400, True, "1", None]


@pytest.mark.parametrize("value", BAD_TIMES)
@pytest.mark.parametrize("name", ["seconds", "timeout"])
def test_a_sleep_that_cannot_be_right_is_refused_and_not_recorded(name: str, value: Any):
    @flow
    def naps() -> str:
        options: Any = {"seconds": 0, name: value}
        return str(error_of(lambda: kitaru.sleep(**options)))

    handle = naps.run()
    assert f"kitaru.sleep(): {name} is " in handle.wait(20)
    assert drives.get(handle).checkpoints == ()


def test_a_sleep_inside_a_checkpoint_is_refused():
    @checkpoint
    def naps() -> None:
        kitaru.sleep(0)

    @flow
    def outer() -> None:
        naps()

    error = drives.error_of(outer.run())
    assert isinstance(error.__cause__, KitaruContextError)
    assert "kitaru.sleep() works in the flow's body, not inside checkpoint 'naps'" in str(error)


@flow
def rests(seconds: float, hold: float) -> str:
    kitaru.sleep(seconds, timeout=hold)
    return "rested"


def due_times(home: Path) -> list[int]:
    """When the recorded sleeps end, in microseconds."""
    return [due for (due,) in query(home, "SELECT due_at FROM calls WHERE due_at NOT NULL")]


def test_a_sleep_ends_when_its_recorded_time_has_come(home: Path, turned: TurnedClock):
    before = clock.now_us()
    handle = rests.run(HOUR, 2 * HOUR)
    until(lambda: due_times(home), "the sleep is recorded")
    due = due_times(home)[0] - round(HOUR * 1_000_000)
    assert before <= due <= clock.now_us()
    assert handle.status is ExecutionStatus.RUNNING
    turned.turn(HOUR)
    assert handle.wait(20) == "rested"


def test_each_sleep_is_a_call_and_may_take_no_time(home: Path):
    @flow
    def naps() -> None:
        kitaru.sleep(0, timeout=0)
        kitaru.sleep(0.001)

    naps.run().wait(20)
    assert query(home, "SELECT call_id, status FROM calls ORDER BY seq") == [
        ("sleep", "completed"),
        ("sleep#2", "completed"),
    ]


def test_a_sleep_lets_go_of_its_process_and_goes_on_when_its_time_has_come(
    home: Path, turned: TurnedClock
):
    handle = rests.run(HOUR, 60)
    until(lambda: due_times(home), "the sleep is recorded")
    turned.turn(60)
    until(lambda: handle.status is ExecutionStatus.WAITING, "it lets go")
    execution = drives.get(handle)
    due = clock.from_us(due_times(home)[0]).replace(microsecond=0)
    assert execution.status_reason == f"Sleeping until {due.isoformat()}."
    told = str(error_of(handle.wait))
    assert due.isoformat() in told
    assert f"kitaru executions resume {handle.exec_id}" in told

    with pytest.raises(
        KitaruStateError, match=re.escape(f"it sleeps until {due.isoformat()}; `kitaru worker`")
    ):
        drives.again("resume", rests, handle.exec_id)
    with pytest.raises(
        KitaruStateError, match=re.escape(f"it sleeps until {due.isoformat()}; `kitaru worker`")
    ):
        KitaruClient().executions.resume(handle.exec_id)
    assert drives.get(handle).status is ExecutionStatus.WAITING

    turned.turn(HOUR - 60)
    assert drives.again("resume", rests, handle.exec_id).wait(20) == "rested"


def test_a_crash_in_the_middle_of_a_sleep_does_not_start_it_over(home: Path, turned: TurnedClock):
    program = "from tests import timed; h = timed.sleeper.run(3600); print(h.exec_id, flush=True)"
    process = spawn(home, "-c", f"{program}; h.wait()")
    assert process.stdout is not None
    exec_id = process.stdout.readline().strip()
    (home / "gate-asleep").touch()
    until(lambda: due_times(home), "the sleep is recorded")
    kill(process)
    recorded = due_times(home)
    turned.turn(HOUR / 2)
    handle = drives.again("resume", timed.sleeper, exec_id)
    turned.waits.clear()
    until(lambda: config.REST_SECONDS in turned.waits, "it sleeps again")
    assert due_times(home) == recorded
    turned.turn(HOUR / 2)
    assert handle.wait(20) == "rested"


def test_a_cancel_ends_a_sleep(home: Path):
    handle = rests.run(HOUR, HOUR)
    until(lambda: due_times(home), "it sleeps")
    KitaruClient().executions.cancel(handle.exec_id)
    assert drives.error_of(handle).status == "cancelled"  # type: ignore[attr-defined]


class CancelsAtLast(clock.Clock):
    """Cancels the execution in the moment in which its driver is about to let go."""

    def wait(self, event: threading.Event, seconds: float) -> bool:
        if seconds == 0 and not event.is_set():
            KitaruClient().executions.cancel("latest")
            event.set()
        return super().wait(event, seconds)


def test_a_cancel_that_comes_as_a_sleep_lets_go_of_its_process_is_carried_out(home: Path):
    with clock.use(CancelsAtLast()):
        assert drives.error_of(rests.run(HOUR, 0)).status == "cancelled"  # type: ignore[attr-defined]


# --- the time limit of an execution ---------------------------------------------------------------


def is_overdue(handle: drives.Handle) -> bool:
    """Whether it has failed because its time was over, and says so everywhere."""
    told = f"Execution {handle.exec_id} has not ended by "
    error = drives.error_of(handle)
    execution = drives.get(handle)
    assert execution.failure is not None
    assert told in execution.failure.message
    assert told in str(error)
    assert f"kitaru executions retry {handle.exec_id}" in str(error)
    assert execution.pending_wait is None
    assert execution.failure.origin is FailureOrigin.RUNTIME
    return execution.status is ExecutionStatus.FAILED


def test_a_flow_over_its_time_fails_when_its_running_checkpoint_has_ended(turned: TurnedClock):
    inside, go = threading.Event(), threading.Event()

    @checkpoint
    def slow() -> str:
        inside.set()
        assert go.wait(20)
        return "ran."

    @flow(timeout=60)
    def limited() -> str:
        return slow() + slow()

    handle = limited.run()
    assert inside.wait(20)
    turned.turn(60)
    go.set()
    assert is_overdue(handle)
    calls = [(call.call_id, call.status) for call in drives.get(handle).checkpoints]
    assert calls == [("slow", CallStatus.COMPLETED)]
    assert drives.again("retry", limited, handle.exec_id).wait(20) == "ran.ran."


def test_a_flow_that_returns_after_its_time_has_failed(turned: TurnedClock):
    @flow(timeout=60)
    def limited() -> str:
        turned.turn(60)
        return "late"

    assert is_overdue(limited.run())


def test_a_flow_over_its_time_fails_while_it_waits_for_an_answer(turned: TurnedClock):
    @flow(timeout=60)
    def asks() -> bool:
        return bool(kitaru.wait(name="ok"))

    handle = asks.run()
    until(lambda: handle.status is ExecutionStatus.WAITING, "it asks")
    turned.turn(60)
    assert is_overdue(handle)

    again = drives.again("retry", asks, handle.exec_id)
    until(lambda: handle.status is ExecutionStatus.WAITING, "it asks again")
    turned.turn(59)  # it has got the same time again
    drives.answer(handle.exec_id, "ok", True)
    assert again.wait(20) is True


def test_a_flow_over_its_time_fails_while_it_sleeps(home: Path, turned: TurnedClock):
    handle = rests.with_options(timeout=60).run(HOUR, HOUR)
    until(lambda: due_times(home), "it sleeps")
    turned.turn(60)
    assert is_overdue(handle)


def test_a_flow_over_its_time_kills_its_isolated_checkpoint(turned: TurnedClock, tmp_path: Path):
    @flow(timeout=60)
    def limited() -> None:
        checkpoint(runtime="isolated")(isolated.stays.fn)(str(tmp_path))

    handle = limited.run()
    until((tmp_path / "pids").exists, "the process has started")
    turned.turn(60)
    assert is_overdue(handle)
    pids = [int(pid) for pid in (tmp_path / "pids").read_text().split()]
    until(lambda: not any(map(is_running, pids)), "both processes are gone")


def test_a_flow_whose_time_ran_out_while_nobody_drove_it_fails_as_soon_as_it_is_resumed(
    turned: TurnedClock,
):
    drives_made = []

    @flow(timeout=60)
    def asks() -> bool:
        drives_made.append(1)
        return bool(kitaru.wait(name="ok", timeout=0))

    handle = asks.run()
    drives.left(handle.exec_id)
    with pytest.raises(KitaruStateError, match="has no answer yet"):
        drives.again("resume", asks, handle.exec_id)
    turned.turn(60)
    assert is_overdue(drives.again("resume", asks, handle.exec_id))
    assert drives_made == [1]


def test_children_of_a_flow_over_its_time_are_cancelled(turned: TurnedClock):
    @flow
    def child() -> None:
        kitaru.wait(name="never")

    @flow(timeout=60)
    def parent() -> None:
        child.run().wait()

    handle = parent.run()
    executions = KitaruClient().executions
    statuses = lambda: {each.flow_name: each.status for each in executions.list()}  # noqa: E731
    until(lambda: statuses().get("child") == "waiting", "the child asks")
    turned.turn(60)
    assert is_overdue(handle)
    assert statuses() == {"parent": "failed", "child": "cancelled"}


@pytest.mark.parametrize("value", [0, -1, float("nan"), float("inf"), 1e12, True, "1"])
def test_a_time_limit_of_a_flow_that_cannot_be_right_is_refused(value: Any):
    with pytest.raises(KitaruUsageError, match="@flow: timeout is "):
        flow(timeout=value)
    with pytest.raises(KitaruUsageError, match="run: timeout is "):
        rests.with_options(timeout=value)
