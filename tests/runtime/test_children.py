"""Child executions: started once, and their outcomes part of their parents' records."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import kitaru
from kitaru.errors import (
    KitaruDivergenceError,
    KitaruStateError,
    KitaruUsageError,
    KitaruUserCodeError,
)
from tests import child_flows, drives, support
from tests.drives import error_of, left
from tests.offspring import answer, children, executions, has, only_child, start
from tests.support import until

pytestmark = pytest.mark.usefixtures("home")


# --- started once, waited for -------------------------------------------------------------------


def test_children_run_beside_each_other_and_are_shown_with_their_parent() -> None:
    handle = child_flows.fans_out.run(["a", "b", "c"])
    assert handle.wait(20) == ["work of a", "work of b", "work of c"]
    found = executions().get(handle.exec_id)
    assert len(found.children) == 3
    for exec_id, name in zip(found.children, "abc", strict=True):
        child = executions().get(exec_id)
        assert (child.parent_exec_id, child.inputs) == (handle.exec_id, {"name": name})
    assert found.checkpoints == ()


@pytest.mark.parametrize("flow", [child_flows.awaits, child_flows.gathers, child_flows.fans_out])
def test_a_drive_from_the_top_takes_children_from_the_record(home: Path, flow: Any) -> None:
    handle = flow.run(["a", "b"])
    assert handle.wait(20) == ["work of a", "work of b"]
    before = children(handle)
    support.query(home, "UPDATE executions SET status = 'running' WHERE parent_exec_id IS NULL")
    again = drives.again("resume", flow, handle.exec_id)
    assert again.wait(20) == ["work of a", "work of b"]
    assert children(handle) == before
    assert len(executions().list()) == 3


def test_a_child_is_started_once_over_any_number_of_crashes(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KITARU_TESTS_DIE", "before")
    process, _ = start(home, "fans_out", names=["a"])
    process.wait()
    support.kill(process)
    (found,) = executions().list()
    exec_id = found.exec_id
    assert children(exec_id) == ()
    for when, started in [("before", 0), ("after", 1), ("after", 1)]:
        monkeypatch.setenv("KITARU_TESTS_DIE", when)
        executions().resume(exec_id)
        pid = support.runner_pid(home, exec_id)
        until(lambda pid=pid: not support.is_running(pid), "the runner has killed itself")
        assert len(children(exec_id)) == started
    monkeypatch.delenv("KITARU_TESTS_DIE")
    child = only_child(exec_id)
    assert executions().get(child).stalled
    executions().resume(exec_id)
    assert has(exec_id, "completed").result == ["work of a"]
    assert only_child(exec_id) == child
    assert support.effects(home, child) == ["work"]
    assert len(executions().list()) == 2


@pytest.mark.parametrize("flow", ["of_gated", "awaits_gated"])
def test_a_child_that_dies_with_its_parent_goes_on_with_it(home: Path, flow: str) -> None:
    process, exec_id = start(home, flow)
    child = only_child(exec_id)
    until(lambda: support.effects(home, child), "the gate is reached")
    support.kill(process)
    (home / "gate-a").touch()
    executions().resume(exec_id)
    assert has(exec_id, "completed").result == "awork of a"
    assert support.effects(home, child) == ["gated", "gated", "work"]


def test_a_child_that_ended_while_nobody_drove_its_parent_is_not_run_again(home: Path) -> None:
    process, exec_id = start(home, "of_gated")
    child = only_child(exec_id)
    until(lambda: support.effects(home, child), "the gate is reached")
    support.kill(process)
    (home / "gate-a").touch()
    executions().resume(child)
    has(child, "completed")
    executions().resume(exec_id)
    assert has(exec_id, "completed").result == "awork of a"
    assert support.effects(home, child) == ["gated", "gated", "work"]


def test_a_parent_that_is_taken_over_waits_for_the_child_its_first_driver_drives(
    home: Path,
) -> None:
    process, exec_id = start(home, "of_gated")
    child = only_child(exec_id)
    until(lambda: support.effects(home, child), "the gate is reached")
    sql = "UPDATE leases SET expires_at = 0 WHERE execution = 1"
    support.query(home, sql)
    executions().resume(exec_id)
    (home / "gate-a").touch()
    assert has(exec_id, "completed").result == "awork of a"
    assert support.effects(home, child) == ["gated", "work"]
    support.rest(process)


def test_a_flow_ends_after_the_children_it_has_not_waited_for() -> None:
    handle = child_flows.forgets.run(["a", "b"])
    assert handle.wait(20) == "done"
    assert [executions().get(child).status for child in children(handle)] == ["completed"] * 2


@pytest.mark.parametrize(
    "flow", [child_flows.forgets_a_failing, child_flows.forgets_a_failing_async]
)
def test_a_child_nobody_waited_for_fails_its_parent_when_all_others_have_ended(
    home: Path, flow: Any
) -> None:
    handle = flow.run()
    until(lambda: len(children(handle)) == 2, "both are started")
    failed, gated = children(handle)
    has(failed, "failed")
    assert handle.status == "running"
    (home / "gate-a").touch()
    error = error_of(handle)
    assert type(error) is KitaruUserCodeError
    assert failed in str(error)
    assert executions().get(gated).status == "completed"


def test_a_child_whose_awaiting_is_given_up_goes_on_and_can_be_awaited_again() -> None:
    handle = child_flows.gives_up.run(0.02)
    assert handle.wait(20) == "late awork of a"
    assert executions().get(only_child(handle)).status == "completed"


def test_a_script_that_ends_lets_parents_and_children_end(home: Path) -> None:
    script = """
from tests import child_flows
print(child_flows.of_gated.run("a").exec_id, flush=True)
"""
    process = support.spawn(home, "-c", script)
    assert process.stdout is not None
    exec_id = process.stdout.readline().strip()
    until(lambda: support.effects(home, only_child(exec_id)), "the gate is reached")
    (home / "gate-a").touch()
    support.rest(process)
    assert executions().get(exec_id).status == "completed"


def test_a_child_of_another_module_goes_on_by_itself(home: Path) -> None:
    process, exec_id = start(home, "of_another_module")
    child = only_child(exec_id)
    until(lambda: "gated" in support.effects(home, child), "the gate is reached")
    support.kill(process)
    (home / "gate-a").touch()
    executions().resume(child)
    assert has(child, "completed").frozen_execution_spec["target"] == "tests.flows:gate"
    executions().resume(exec_id)
    assert has(exec_id, "completed").result == executions().get(child).result


def test_a_hundred_children_run_beside_each_other() -> None:
    handle = child_flows.fans_out.run([str(number) for number in range(100)])
    assert handle.wait(60) == [f"work of {number}" for number in range(100)]


# --- a child that waits -------------------------------------------------------------------------


@pytest.mark.parametrize("flow", [child_flows.of_asking, child_flows.awaits_an_answer])
def test_a_parent_whose_child_waits_lets_go_and_names_it(flow: Any) -> None:
    handle = flow.run()
    found = left(handle.exec_id)
    child = only_child(handle)
    assert (found.status, found.pending_wait) == ("waiting", None)
    assert child in str(found.status_reason)
    with pytest.raises(KitaruStateError) as refused:
        executions().resume(handle.exec_id)
    assert f"its child {child} waits" in str(refused.value)
    assert f"kitaru executions input {child} --wait approve" in str(refused.value)
    with pytest.raises(KitaruStateError) as told:
        handle.wait(20)
    assert f"kitaru executions input {child} --wait approve" in str(told.value)
    assert executions().obstacle(handle.exec_id) is not None

    answer(child)
    executions().resume(handle.exec_id)
    assert has(handle.exec_id, "completed").result.endswith("parent of work of yes")
    assert executions().get(child).status == "completed"
    assert only_child(handle) == child


def test_a_child_that_was_resumed_by_itself_completes_its_parent() -> None:
    handle = child_flows.of_asking.run()
    left(handle.exec_id)
    child = only_child(handle)
    answer(child)
    executions().resume(child)
    executions().resume(handle.exec_id)  # whether the child has ended by now or not
    assert has(handle.exec_id, "completed").result == "parent of work of yes"


def test_a_child_of_a_child_that_waits_lets_all_go_and_resuming_the_first_completes_all() -> None:
    handle = child_flows.of_of_asking.run()
    left(handle.exec_id)
    middle = only_child(handle)
    last = only_child(middle)
    assert left(middle).status == "waiting"
    with pytest.raises(KitaruStateError, match=f"{middle} waits: its child {last} waits: its wait"):
        executions().resume(handle.exec_id)
    answer(last)
    executions().resume(handle.exec_id)
    assert has(handle.exec_id, "completed").result == "grandparent of work of yes"
    assert len(executions().list()) == 3


def test_an_answer_to_a_child_whose_driver_polls_needs_no_resume() -> None:
    handle = child_flows.of_of_asking.run(timeout=60)
    last = only_child(only_child(handle))
    answer(last)
    assert handle.wait(20) == "grandparent of work of yes"


def test_a_parent_that_still_runs_takes_up_a_child_that_was_left(home: Path) -> None:
    process, exec_id = start(home, "of_asking", timeout=60)
    child = only_child(exec_id)
    until(lambda: executions().pending_waits(child), "it asks")
    support.kill(process)
    answer(child)
    with pytest.raises(KitaruStateError, match=r"its runner is alive|it is completed"):
        executions().resume(executions().resume(exec_id).exec_id)
    assert has(exec_id, "completed").result == "parent of work of yes"


def test_a_child_that_ends_while_another_is_waited_for_is_no_reason_to_resume() -> None:
    handle = child_flows.waits_for_the_first.run(["a"])
    left(handle.exec_id)
    asking, other = children(handle)
    has(other, "completed")
    with pytest.raises(KitaruStateError, match=f"{asking} waits"):
        executions().resume(handle.exec_id)
    answer(asking)
    again = drives.again("resume", child_flows.waits_for_the_first, handle.exec_id)
    assert again.wait(20) == ["work of yes", "work of a"]


# --- the handle in a flow -----------------------------------------------------------------------


def test_the_handle_of_a_child_tells_status_and_result_and_takes_no_timeout(home: Path) -> None:
    seen: list[Any] = []

    @kitaru.flow
    def agent() -> str:
        handle = child_flows.gated_child.run("a")
        try:
            handle.get()
        except KitaruStateError as exc:
            seen.append(exc)
        try:
            handle.wait(timeout=1)
        except KitaruUsageError as exc:
            seen.append(exc)
        (home / "gate-a").touch()
        assert handle.wait() == handle.get() == handle.wait()
        assert repr(handle) == f"<FlowHandle {handle.exec_id}>"
        return str(handle.status)

    assert agent.run().wait(20) == "completed"
    assert "has not finished" in str(seen[0])
    assert "with_options(timeout=" in str(seen[1])


def test_a_child_of_an_async_flow_is_awaited_and_not_waited_for() -> None:
    @kitaru.flow
    async def agent() -> str:
        handle = child_flows.child.run("a")
        with pytest.raises(KitaruUsageError, match="`await` its handle"):
            handle.wait()
        return await handle

    assert agent.run().wait(20) == "work of a"


# --- other code, other record -------------------------------------------------------------------


CHANGED = """
@flow
def agent(name: str) -> str:
    return flows.FLOW.run(name).wait()
"""


def test_another_flow_at_the_place_of_a_child_is_a_divergence(home: Path) -> None:
    first, second = (
        drives.load(CHANGED.replace("FLOW", name), flows=child_flows) for name in ("child", "other")
    )
    handle = first.run("a")
    handle.wait(20)
    support.query(home, "UPDATE executions SET status = 'running' WHERE parent_exec_id IS NULL")
    error = error_of(drives.again("resume", second, handle.exec_id))
    assert isinstance(error, KitaruDivergenceError)
    assert "child" in str(error)
    assert "other" in str(error)
    assert len(executions().list()) == 2


def test_a_replay_reuses_children_before_its_start_and_runs_new_ones_after(home: Path) -> None:
    handle = child_flows.replayed.run()
    assert handle.wait(20) == "work of a work of b work of c"
    replay = child_flows.replayed.replay(handle.exec_id, "work")
    assert replay.wait(20) == "work of a work of b work of c"
    old, new = children(handle), children(replay)
    assert old[0] == new[0]
    assert old[1] != new[1]
    assert executions().get(new[1]).parent_exec_id == replay.exec_id
    assert support.effects(home, old[0]) == ["work"]
