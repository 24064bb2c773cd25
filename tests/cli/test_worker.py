"""`kitaru worker`: what could go on does, by itself."""

from __future__ import annotations

import itertools
import json
import signal
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import kitaru
from kitaru import KitaruClient, clock, config, worker
from kitaru.errors import KitaruStateError, KitaruUsageError
from kitaru.store import due
from tests import child_flows, drives, support
from tests.chaos import claims
from tests.drives import left
from tests.support import until

pytestmark = pytest.mark.usefixtures("home")


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(config, "WORKER_POLL_SECONDS", 0.005)
    monkeypatch.setattr(config, "WORKER_LOOK_SECONDS", 0.02)


def executions() -> Any:
    return KitaruClient().executions


def ended(exec_id: str) -> Any:
    until(lambda: executions().get(exec_id).status.is_finished, f"{exec_id} has ended")
    return executions().get(exec_id)


def answered() -> str:
    """An execution that asked, was left, and has its answer."""
    exec_id = asking()
    drives.answer(exec_id, "approve", "yes")
    return exec_id


def asking() -> str:
    exec_id: str = child_flows.asks.run().exec_id
    left(exec_id)
    return exec_id


def slept() -> str:
    exec_id: str = child_flows.naps.run().exec_id
    left(exec_id)
    return exec_id


def killed(home: Path, copies: int = 1) -> list[str]:
    """Executions whose process was killed inside a checkpoint that waits for gate `a`."""
    process, first = support.start(home, "gate", copies=copies)
    assert process.stdout is not None
    found = [first, *(process.stdout.readline().strip() for _ in range(copies - 1))]
    for exec_id in found:
        until(lambda exec_id=exec_id: "gated" in support.effects(home, exec_id), "at the gate")  # type: ignore[misc]
    support.kill(process)
    return found


def drivers(exec_id: str) -> int:
    """How many drivers an execution has had."""
    return len(executions().logs(exec_id, source="runner"))


def once(**options: Any) -> list[worker.Event]:
    return list(worker.serve(KitaruClient(), once=True, **options))


class Resident:
    """A worker on a thread of its own; `events` are what it has told."""

    def __init__(self, client: KitaruClient | None = None, **options: Any) -> None:
        self.events: list[worker.Event] = []
        self._stop = threading.Event()
        told = worker.serve(client or KitaruClient(), stop=self._stop, **options)
        self._thread = threading.Thread(target=lambda: self.events.extend(told))
        self._thread.start()

    def __enter__(self) -> Resident:
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()


@pytest.fixture
def process(home: Path) -> Iterator[subprocess.Popen[str]]:
    """`kitaru worker` in a process of its own."""
    started = support.spawn(home, "-m", "kitaru.cli", "worker", "-o", "json")
    yield started
    support.kill(started)


def test_once_takes_up_what_is_due_and_ends_and_tells_of_each(cli: Any, home: Path) -> None:
    (stalled,) = killed(home)
    (home / "gate-a").touch()
    asks, has_answer, rested = asking(), answered(), slept()
    until(lambda: len(due_now()) == 3, "its sleep is over")
    lines = cli.good("worker", "--once").splitlines()
    assert sorted(lines) == sorted(
        [
            f"Resumed {stalled} (gate): its driver is gone",
            f"Resumed {has_answer} (asks): its question is answered",
            f"Resumed {rested} (naps): it has slept",
        ]
    )
    assert ended(stalled).result[1] == "a"
    assert ended(has_answer).result == "work of yes"
    assert ended(rested).result == "work of rested"
    assert executions().get(asks).status == "waiting"
    assert cli.good("worker", "--once") == ""


def due_now() -> list[due.Due]:
    with drives.store().snapshot() as conn:
        return due.undriven(conn)


def test_what_comes_up_later_is_taken_up_by_itself() -> None:
    with Resident():
        handle = child_flows.of_of_asking.run()
        rests = slept()
        (middle,) = until(lambda: executions().get(handle.exec_id).children, "a child")
        (last,) = until(lambda: executions().get(middle).children, "a child of the child")
        left(handle.exec_id)
        drives.answer(last, "approve", "yes")
        assert ended(handle.exec_id).result == "grandparent of work of yes"
        assert ended(rests).result == "work of rested"


def test_what_is_out_of_time_while_it_waits_fails(home: Path) -> None:
    exec_id = child_flows.asks.with_options(timeout=3600).run().exec_id
    left(exec_id)
    support.query(home, "UPDATE executions SET deadline_at = 1")
    (told,) = once()
    assert told.reason == "its time is up"
    assert "timeout" in ended(exec_id).failure.message


def test_a_driver_that_dies_is_noticed_without_a_change_in_the_store(home: Path) -> None:
    process, exec_id = support.start(home, "gate")
    until(lambda: "gated" in support.effects(home, exec_id), "at the gate")
    with Resident():
        support.kill(process)
        until(lambda: support.effects(home, exec_id).count("gated") == 2, "it was taken up")
        (home / "gate-a").touch()
        assert ended(exec_id).status == "completed"


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 0), (signal.SIGINT, 130)])
def test_a_signal_ends_it_and_its_runner_goes_on(
    home: Path, process: subprocess.Popen[str], number: signal.Signals, code: int
) -> None:
    (exec_id,) = killed(home)
    assert process.stdout is not None
    told = json.loads(process.stdout.readline())
    assert told == {
        "event": "resumed",
        "exec_id": exec_id,
        "flow_name": "gate",
        "reason": "its driver is gone",
    }
    process.send_signal(number)
    assert process.wait(20) == code
    assert support.is_running(support.runner_pid(home, exec_id))
    (home / "gate-a").touch()
    assert ended(exec_id).status == "completed"


def test_no_more_runners_live_at_a_time_than_the_limit(home: Path) -> None:
    found = killed(home, copies=3)
    with Resident(limit=2) as resident:
        until(lambda: [support.effects(home, e).count("gated") for e in found].count(2) == 2, "two")
        look_again()
        assert len(resident.events) == 2
        (home / "gate-a").touch()
        for exec_id in found:
            assert ended(exec_id).status == "completed"


def look_again() -> None:
    """Let the worker of this process look a few times more."""
    looks: list[int] = []
    real = due.undriven

    def counted(conn: Any) -> list[due.Due]:
        looks.append(1)
        return real(conn)

    due.undriven = counted
    try:
        until(lambda: len(looks) >= 5, "it looks again")
    finally:
        due.undriven = real


def tries_of(client: KitaruClient, monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """When a worker with this client tries to take something up, as it comes."""
    tries: list[float] = []
    real = client.executions.resume

    def resume(exec_id: str) -> Any:
        tries.append(clock.monotonic())
        return real(exec_id)

    monkeypatch.setattr(client.executions, "resume", resume)
    return tries


def test_a_parent_is_shown_with_its_children_and_with_no_command_that_is_of_no_use_yet(
    cli: Any,
) -> None:
    parent = child_flows.of_asking.run().exec_id
    left(parent)
    (child,) = executions().get(parent).children
    shown = cli.good("executions", "get", parent)
    assert shown.splitlines()[-1] == f"  Children: {child}"
    assert "Continue it with" not in shown
    assert f"  Parent: {parent}" in cli.good("executions", "get", child)
    assert cli.json("executions", "get", parent).item["children"] == [child]
    drives.answer(child, "approve", "yes")
    assert f"kitaru executions resume {parent}" in cli.good("executions", "get", parent)


def test_two_workers_take_up_each_execution_once() -> None:
    found = [answered() for _ in range(4)]
    with Resident() as one, Resident() as other:
        for exec_id in found:
            assert ended(exec_id).status == "completed"
            assert drivers(exec_id) == 2
        until(lambda: len(one.events) + len(other.events) == len(found), "each is told once")


def test_each_worker_has_an_order_of_its_own_so_that_few_want_the_same(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    claims.make_stalled(home, 20)

    def order() -> list[str]:
        tries: list[str] = []

        def refuse(exec_id: str) -> None:
            tries.append(exec_id)
            raise KitaruStateError("Another worker was quicker.")

        monkeypatch.setattr((client := KitaruClient()).executions, "resume", refuse)
        list(worker.serve(client, once=True, limit=1))
        return tries

    one, other = order(), order()
    assert one != other
    assert sorted(one) == sorted(other)


class SwiftClock(clock.Clock):
    """A clock whose waits pass at once, as far as it can tell; it is set `ahead` by hand."""

    def __init__(self) -> None:
        self.passed = 0.0
        self.ahead = 0.0

    def now_us(self) -> int:
        return super().now_us() + round(self.ahead * 1_000_000)

    def monotonic(self) -> float:
        return self.passed

    def wait(self, event: threading.Event, seconds: float) -> bool:
        self.passed += max(seconds, 0.001)
        return event.wait(0.0001)


@pytest.mark.parametrize("seconds", [7200.0, -86_400.0])
def test_when_the_clock_was_set_drivers_have_time_to_renew_their_leases(
    home: Path, monkeypatch: pytest.MonkeyPatch, seconds: float
) -> None:
    claims.make_stalled(home, 1)
    tries: list[float] = []

    def refuse(exec_id: str) -> None:
        tries.append(clock.monotonic())
        raise KitaruStateError("Its runner is alive.")

    client = KitaruClient()
    monkeypatch.setattr(client.executions, "resume", refuse)
    swift = SwiftClock()
    with clock.use(swift):
        served = worker.serve(client, once=True)
        swift.ahead = seconds
        assert list(served) == []
    assert tries[0] >= config.WORKER_PAUSE_SECONDS


def test_an_execution_whose_code_cannot_be_found_is_told_once_and_tried_ever_less_often(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    @kitaru.flow
    def nowhere() -> Any:
        return kitaru.wait(name="approve", timeout=0)

    exec_id = nowhere.run().exec_id
    left(exec_id)
    drives.answer(exec_id, "approve", True)
    client = KitaruClient()
    tries = tries_of(client, monkeypatch)
    with clock.use(SwiftClock()):
        resident = Resident(client)
        until(lambda: len(tries) >= 6, "it tries again and again")
        resident.__exit__()
    (told,) = resident.events
    assert (told.event, told.exec_id) == ("refused", exec_id)
    assert "inside a function" in told.reason
    pauses = [later - earlier for earlier, later in itertools.pairwise(tries)]
    assert all(pause >= 2**number for number, pause in enumerate(pauses)), pauses
    assert executions().get(exec_id).status == "waiting"


def test_an_execution_that_dies_again_at_once_is_left_alone_for_a_while(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KITARU_TESTS_DIE", "before")
    process = support.spawn(home, "-m", "tests.support", "tests.child_flows:of_asking", "{}", "1")
    process.wait()
    support.kill(process)
    (found,) = executions().list()
    client = KitaruClient()
    tries = tries_of(client, monkeypatch)
    with Resident(client):
        until(lambda: drivers(found.exec_id) == 2, "it was taken up")
        until(lambda: executions().get(found.exec_id).stalled, "it has died again")
        look_again()
    assert len(tries) == 1


@pytest.mark.parametrize("limit", [0, -1, True, "2"])
def test_a_limit_that_cannot_be_right_is_refused(limit: Any) -> None:
    with pytest.raises(KitaruUsageError, match="limit"):
        worker.serve(KitaruClient(), limit=limit)


def test_a_limit_below_one_is_no_command_line(cli: Any) -> None:
    assert cli("worker", "--limit", "0").code == 2


def test_finding_what_is_due_reads_no_whole_table() -> None:
    asked: list[str] = []
    with drives.store().snapshot() as conn:
        conn.set_trace_callback(asked.append)
        due.undriven(conn)
        due.next_at(conn)
        due.is_due(conn, 1)
        conn.set_trace_callback(None)
        for sql in asked:
            plan = [row[3] for row in conn.execute(f"EXPLAIN QUERY PLAN {sql}").fetchall()]
            tables = ("calls", "executions", "waits", "parent", "child", "leases")
            assert not [
                line for line in plan if line.startswith(tuple(f"SCAN {t}" for t in tables))
            ]
    assert len(asked) == 4
