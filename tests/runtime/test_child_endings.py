"""How child executions end in ways of their own: cancelled, failed, retried."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

import kitaru
from kitaru.errors import KitaruExecutionError, KitaruUserCodeError
from kitaru.ledger import Ledger
from tests import child_flows, drives, support
from tests.drives import error_of, left
from tests.offspring import answer, children, executions, has, only_child, start
from tests.support import until

pytestmark = pytest.mark.usefixtures("home")


# --- cancel -------------------------------------------------------------------------------------


def test_a_cancellation_reaches_children_that_run_and_their_children(home: Path) -> None:
    handle = child_flows.of_gated.run()
    child = only_child(handle)
    until(lambda: support.effects(home, child), "the gate is reached")
    executions().cancel(handle.exec_id)
    assert error_of(handle).status == "cancelled"  # type: ignore[attr-defined]
    (home / "gate-a").touch()
    found = has(child, "cancelled")
    assert found.status_reason == "Cancelled."
    assert support.effects(home, child) == ["gated"]


@pytest.mark.parametrize("timeout", [0, 60])
def test_a_cancellation_reaches_nested_children_that_wait(timeout: float) -> None:
    handle = child_flows.of_of_asking.run(timeout=timeout)
    last = only_child(only_child(handle))
    until(lambda: executions().pending_waits(last), "it asks")
    if not timeout:
        left(handle.exec_id)
    executions().cancel(handle.exec_id)
    for exec_id in (handle.exec_id, only_child(handle), last):
        assert has(exec_id, "cancelled").pending_wait is None


def test_a_cancellation_reaches_the_children_of_a_child_that_has_failed() -> None:
    leaf = kitaru.flow(name="leaf")(lambda: kitaru.wait(name="approve", timeout=0))

    @kitaru.flow
    def middle() -> None:
        leaf.run()
        raise ValueError("failed beside its child")

    @kitaru.flow
    def top() -> bool:
        try:
            return middle.run().wait()
        except KitaruUserCodeError:
            return kitaru.wait(name="approve", timeout=0)

    handle = top.run()
    assert left(handle.exec_id).pending_wait is not None
    last = only_child(only_child(handle))
    executions().cancel(handle.exec_id)
    assert has(last, "cancelled").status_reason.startswith("Cancelled with")


def test_a_runner_whose_child_ignores_a_cancellation_is_ended(
    monkeypatch: pytest.MonkeyPatch, home: Path
) -> None:
    monkeypatch.setenv("KITARU_TESTS_GRACE", "0.05")
    exec_id = executions().run("tests.child_flows:of_blocked", root=str(support.ROOT)).exec_id
    child = only_child(exec_id)
    until(lambda: [*home.glob("at-never-*")], "the child's checkpoint blocks")
    pid = support.runner_pid(home, exec_id)
    executions().cancel(exec_id)
    assert has(exec_id, "cancelled")
    assert has(child, "cancelled")
    until(lambda: not support.is_running(pid), "the runner has ended")


def test_a_runner_that_is_told_to_stop_stops_its_children_too(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KITARU_TESTS_GRACE", "0.05")
    exec_id = executions().run("tests.child_flows:of_gated", root=str(support.ROOT)).exec_id
    child = only_child(exec_id)
    until(lambda: support.effects(home, child), "the gate is reached")
    pid = support.runner_pid(home, exec_id)
    os.kill(pid, signal.SIGTERM)
    until(lambda: not support.is_running(pid), "the runner has ended")
    assert executions().get(exec_id).stalled
    assert executions().get(child).stalled
    (home / "gate-a").touch()
    executions().resume(exec_id)
    assert has(exec_id, "completed").result == "awork of a"


def test_a_cancelled_child_is_a_failure_of_its_parent_that_names_both() -> None:
    handle = child_flows.of_asking.run(timeout=60)
    child = only_child(handle)
    until(lambda: executions().pending_waits(child), "it asks")
    executions().cancel(child)
    error = error_of(handle)
    assert isinstance(error, KitaruExecutionError)
    assert not isinstance(error, KitaruUserCodeError)
    assert child in str(error)
    assert handle.exec_id in str(error)
    assert "cancelled" in str(error)
    assert executions().get(handle.exec_id).status == "failed"


def test_a_retry_starts_another_child_in_the_place_of_a_cancelled_one() -> None:
    handle = child_flows.of_asking.run(timeout=60)
    first = only_child(handle)
    until(lambda: executions().pending_waits(first), "it asks")
    executions().cancel(first)
    error_of(handle)
    again = drives.again("retry", child_flows.of_asking, handle.exec_id)
    until(lambda: children(handle) != (first,), "another child is started")
    second = only_child(handle)
    answer(second)
    assert again.wait(20) == "parent of work of yes"
    assert executions().get(first).status == "cancelled"


def test_a_cancellation_that_a_driver_died_with_is_carried_out_by_the_next(home: Path) -> None:
    process, exec_id = start(home, "of_gated")
    child = only_child(exec_id)
    until(lambda: support.effects(home, child), "the gate is reached")
    executions().cancel(child)
    support.kill(process)
    executions().resume(child)
    assert has(child, "cancelled").status_reason == "Cancelled."
    assert support.effects(home, child) == ["gated"]


def test_a_parent_that_is_cancelled_while_it_starts_a_child_starts_none(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    real = Ledger.look

    def look_and_be_cancelled(ledger: Ledger) -> None:
        real(ledger)
        executions().cancel(ledger.exec_id)

    monkeypatch.setattr(Ledger, "look", look_and_be_cancelled)
    handle = child_flows.fans_out.run(["a"])
    assert error_of(handle).status == "cancelled"  # type: ignore[attr-defined]
    assert len(executions().list()) == 1


# --- failure ------------------------------------------------------------------------------------


def test_a_failed_child_fails_its_parent_with_an_error_that_names_both() -> None:
    handle = child_flows.of_failing.run()
    error = error_of(handle)
    child = only_child(handle)
    assert type(error) is KitaruUserCodeError
    assert child in str(error)
    assert handle.exec_id in str(error)
    assert "not mended yet" in str(error)
    assert executions().get(handle.exec_id).failure.origin == "user_code"


def test_a_retry_of_the_parent_retries_the_failed_child_where_it_failed(home: Path) -> None:
    handle = child_flows.of_failing.run()
    error_of(handle)
    child = only_child(handle)
    (home / "mended").touch()
    executions().retry(handle.exec_id)
    assert has(handle.exec_id, "completed").result == ["work of always", "mended"]
    assert only_child(handle) == child
    assert support.effects(home, child) == ["work", "breaks", "breaks", "breaks"]


def test_a_child_that_was_retried_by_itself_is_taken_by_a_retry_of_its_parent(home: Path) -> None:
    handle = child_flows.of_failing.run()
    error_of(handle)
    child = only_child(handle)
    (home / "mended").touch()
    executions().retry(child)
    has(child, "completed")
    assert executions().get(handle.exec_id).status == "failed"
    again = drives.again("retry", child_flows.of_failing, handle.exec_id)
    assert again.wait(20) == ["work of always", "mended"]
    assert support.effects(home, child).count("breaks") == 3


def test_each_retry_of_the_parent_retries_the_child_once_though_the_parent_dies(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    handle = child_flows.of_failing.run()
    error_of(handle)
    child = only_child(handle)
    monkeypatch.setenv("KITARU_TESTS_DIE", "after")
    executions().retry(handle.exec_id)
    pid = support.runner_pid(home, handle.exec_id)
    until(lambda: not support.is_running(pid), "it has died with the child taken")
    monkeypatch.delenv("KITARU_TESTS_DIE")
    executions().resume(child)
    has(child, "failed")
    executions().resume(handle.exec_id)
    has(handle.exec_id, "failed")
    assert support.effects(home, child) == ["work", *["breaks"] * 4]


def test_a_failure_the_flow_went_on_after_stays_though_the_child_is_retried(home: Path) -> None:
    handle = child_flows.forgives.run()
    child = only_child(handle)
    assert handle.wait(20) == f"work of {child}"
    (home / "mended").touch()
    executions().retry(child)
    has(child, "completed")
    support.query(home, "UPDATE executions SET status = 'running' WHERE parent_exec_id IS NULL")
    again = drives.again("resume", child_flows.forgives, handle.exec_id)
    assert again.wait(20) == f"work of {child}"
    assert support.effects(home, handle.exec_id) == ["work"]


def test_retries_of_the_parent_retry_the_child(home: Path) -> None:
    @kitaru.checkpoint
    def mends() -> None:
        (home / "mended").touch()

    @kitaru.flow(retries=1)
    def agent() -> list[str]:
        try:
            return child_flows.fails.run().wait()
        finally:
            (home / "mended").touch()

    handle = agent.run()
    with kitaru.clock.use(support.QuickClock()):
        assert handle.wait(20) == ["work of always", "mended"]
    assert len(executions().list()) == 2
