"""The system's clock is set while flows run; `python3 dev chaos clocks` does it to real processes.

Only the wall clock jumps: what measures waits goes on as before, as it does in the system.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest

import kitaru
from kitaru import FlowHandle, KitaruClient, KitaruStateError, checkpoint, clock, config, flow
from kitaru.flow import Flow
from tests import drives
from tests.support import until

pytestmark = pytest.mark.usefixtures("home")

HOUR, DAY = 3600.0, 86_400.0


class SetClock(clock.Clock):
    """The system's clock, which is set to so many seconds `ahead` by hand."""

    ahead = 0.0

    def now_us(self) -> int:
        return super().now_us() + round(self.ahead * 1_000_000)


@pytest.fixture
def wall() -> Iterator[SetClock]:
    with clock.use(installed := SetClock()):
        yield installed


@pytest.fixture
def go() -> Iterator[threading.Event]:
    """What checkpoints wait for; set at the latest when the test ends."""
    yield (event := threading.Event())
    event.set()


@flow
def patient() -> str:
    kitaru.sleep(0.01)
    return fails_once() + str(kitaru.wait(name="ok", timeout=20))


@checkpoint(retries=1, retry_delay=0)
def fails_once() -> str:
    call = kitaru.current_checkpoint()
    assert call is not None
    wall = clock._clock
    assert isinstance(wall, SetClock)
    wall.ahead -= DAY
    if call.attempt == 1:
        raise ValueError("again")
    return "done "


def test_nothing_that_is_shown_has_ended_before_it_began(wall: SetClock) -> None:
    handle = patient.run()
    until(lambda: KitaruClient().executions.pending_waits(handle.exec_id), "it asks")
    wall.ahead -= DAY
    drives.answer(handle.exec_id, "ok", True)
    assert handle.wait(20) == "done True"
    execution = drives.get(handle)
    (call,) = [each for each in execution.checkpoints if each.call_id == "fails_once"]
    assert len(call.attempts) == 2
    for each in (execution, *execution.checkpoints, *call.attempts):
        assert each.started_at is not None
        assert each.ended_at is not None
        assert each.started_at <= each.ended_at
    executions = KitaruClient().executions
    timeline = executions.timeline(handle.exec_id)
    assert timeline.seconds >= 0
    assert all(span.seconds >= 0 and span.offset >= 0 for span in timeline.spans)
    shown = executions.statistics(
        metrics=["duration:duration:min", "queue:queue_time:min", "wait:wait_time:min"]
    )
    assert all(value >= 0 for group in shown.groups for value in group.metrics.values())


def held(go: threading.Event) -> tuple[Flow[[], bool], FlowHandle[bool]]:
    """A flow that runs, inside a checkpoint that is shown, and goes on when it may."""
    inside = threading.Event()

    @checkpoint
    def stays() -> bool:
        inside.set()
        return go.wait(20)

    @flow
    def waits() -> bool:
        return stays()

    handle = waits.run()
    assert inside.wait(20)
    shown = KitaruClient().executions.get
    until(lambda: shown(handle.exec_id).checkpoints, "it is shown, which renews the lease too")
    return waits, handle


@pytest.mark.parametrize("seconds", [2 * HOUR, -2 * HOUR, -DAY])
def test_a_driver_renews_its_lease_as_soon_as_the_clock_was_set(
    wall: SetClock, go: threading.Event, monkeypatch: pytest.MonkeyPatch, seconds: float
) -> None:
    monkeypatch.setattr(config, "LEASE_RENEW_SECONDS", HOUR)  # not because it is time to
    _, handle = held(go)
    wall.ahead = seconds
    executions, store = KitaruClient().executions, drives.store()
    until(lambda: not executions.get(handle.exec_id).stalled, "it is renewed")

    def left() -> float:
        row = store.lease_row(1)
        assert row is not None
        return float(row["expires_at"] - wall.now_us()) / 1_000_000

    until(lambda: 0 < left() <= config.LEASE_SECONDS, "it is held as long as usual")
    go.set()
    assert handle.wait(20) is True


def test_a_live_execution_is_not_taken_over_when_the_clock_was_set(
    wall: SetClock, go: threading.Event
) -> None:
    waits, handle = held(go)
    wall.ahead = 2 * HOUR
    with pytest.raises(KitaruStateError, match="its runner is alive"):
        drives.again("resume", waits, handle.exec_id)
    go.set()
    assert handle.wait(20) is True


def test_each_page_of_a_list_goes_on_where_the_last_one_ended(wall: SetClock) -> None:
    made = []
    for seconds in (0.0, 2 * HOUR, -DAY, 1.0, -DAY):
        wall.ahead += seconds
        handle = drives.load("@flow\ndef empty():\n    pass").run()
        handle.wait(20)
        made.append(handle.exec_id)
    client = KitaruClient()
    page = client.executions.list(limit=2)
    wall.ahead += DAY
    found = [each.exec_id for each in page]
    while page.next_cursor:
        page = client.executions.list(limit=2, cursor=page.next_cursor)
        found += [each.exec_id for each in page]
    assert sorted(found) == sorted(made)
    assert found == [each.exec_id for each in client.executions.list()]
