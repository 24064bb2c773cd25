"""One driver at a time: races, overtaken drivers that wake up, and drivers that are only slow.

Drivers are stopped with SIGSTOP, and their leases ended by hand in the file; `python -m
tests.chaos` does the same at length.
"""

from __future__ import annotations

import json
import os
import random
import signal
from pathlib import Path

import pytest

import kitaru
from kitaru import KitaruClient, KitaruStateError, config, launch
from kitaru.ledger import Ledger
from tests import drives, support
from tests.chaos import claims, races, writers, zombies
from tests.flows import chain


def at_the_gate(home: Path) -> str:
    """An execution whose runner is inside its third checkpoint and waits there."""
    executions = KitaruClient().executions
    exec_id = executions.run("tests.flows:gate", root=str(support.ROOT)).exec_id
    support.until(lambda: "gated" in support.effects(home, exec_id), "the gate is reached")
    return exec_id


def test_of_two_resumes_at_the_same_moment_one_drives(home: Path) -> None:
    assert races.run(home, rounds=6).startswith("6 rounds, 2 with clients")


def test_many_processes_take_up_each_execution_once(home: Path) -> None:
    assert claims.run(home, executions=20, rng=random.Random(1), processes=2)


def test_a_live_execution_is_not_taken_over(home: Path) -> None:
    exec_id = at_the_gate(home)
    pid = support.runner_pid(home, exec_id)
    with pytest.raises(KitaruStateError, match="its runner is alive"):
        KitaruClient().executions.resume(exec_id)
    os.kill(pid, signal.SIGSTOP)  # slow is not dead: its lease has not run out
    with pytest.raises(KitaruStateError, match="its runner is alive"):
        KitaruClient().executions.resume(exec_id)
    os.kill(pid, signal.SIGCONT)
    (home / "gate-a").touch()
    support.see_through(home, exec_id)
    assert len(KitaruClient().executions.logs(exec_id, source="runner")) == 1


def test_an_overtaken_runner_writes_nothing_from_inside_a_checkpoint(home: Path) -> None:
    exec_id = at_the_gate(home)
    assert zombies.check_runner(home, exec_id)
    assert support.effects(home, exec_id).count("gated") == 2


def test_an_overtaken_runner_writes_nothing_from_a_polling_wait(home: Path) -> None:
    executions = KitaruClient().executions
    inputs = {"length": 2, "timeout": 60.0}
    exec_id = executions.run("tests.flows:asks", inputs, root=str(support.ROOT)).exec_id
    support.until(lambda: executions.pending_waits(exec_id), "it asks")
    assert zombies.check_runner(home, exec_id)


def test_an_overtaken_runner_writes_nothing_of_its_submitted_calls(home: Path) -> None:
    executions = KitaruClient().executions
    exec_id = executions.run(
        "tests.flows:fan", {"rounds": 40, "width": 8}, root=str(support.ROOT)
    ).exec_id
    support.until(lambda: len(support.effects(home, exec_id)) > 20, "some calls have run")
    assert zombies.check_runner(home, exec_id)


def test_who_waits_for_an_overtaken_run_gets_the_overtakers_result(home: Path) -> None:
    process, exec_id = support.start(home, "gate")
    support.until(lambda: "gated" in support.effects(home, exec_id), "the gate is reached")
    with zombies.stopped(home, process.pid):
        (home / "gate-a").touch()
        zombies.overtake(home, exec_id)
        before = support.dump(home)
    assert support.dump(home) == before
    result = KitaruClient().executions.get(exec_id).result
    assert json.loads(support.finish(process)) == result


def test_who_waits_is_told_when_the_overtaker_has_died(home: Path) -> None:
    process, exec_id = support.start(home, "gate")
    support.until(lambda: "gated" in support.effects(home, exec_id), "the gate is reached")
    with zombies.stopped(home, process.pid):
        KitaruClient().executions.resume(exec_id)
        overtaker = support.runner_pid(home, exec_id)
        support.until(lambda: support.effects(home, exec_id).count("gated") == 2, "it drives")
        os.kill(overtaker, signal.SIGKILL)
        support.until(lambda: not support.is_running(overtaker), "the overtaker is dead")
        before = support.dump(home)
        (home / "gate-a").touch()
    assert support.dump(home) == before
    assert json.loads(support.finish(process))["error"] == "KitaruLeaseError"
    assert KitaruClient().executions.get(exec_id).stalled


def test_a_driver_that_was_cancelled_while_it_was_stopped_writes_nothing(home: Path) -> None:
    exec_id = at_the_gate(home)
    executions = KitaruClient().executions
    with zombies.stopped(home, support.runner_pid(home, exec_id)):
        assert executions.cancel(exec_id).status == "cancelled"
        before = support.dump(home)
        (home / "gate-a").touch()
    assert support.dump(home) == before


def test_a_driver_past_its_lease_that_nobody_overtook_goes_on(home: Path) -> None:
    exec_id = at_the_gate(home)
    with zombies.stopped(home, support.runner_pid(home, exec_id)):
        assert KitaruClient().executions.get(exec_id).stalled
        (home / "gate-a").touch()
    assert KitaruClient().executions.get(exec_id).status == "completed"
    assert support.effects(home, exec_id).count("gated") == 1


def test_a_driver_renews_its_lease_while_a_checkpoint_runs(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(config, "LEASE_RENEW_SECONDS", 0.01)

    @kitaru.checkpoint
    def patient() -> bool:
        def expiry() -> int:
            return int(support.query(home, "SELECT expires_at FROM leases")[0][0])

        first = expiry()
        return support.until(lambda: expiry() > first, "the lease is renewed")

    @kitaru.flow
    def waits() -> bool:
        return patient()

    assert waits.run().wait() is True


def test_many_processes_write_one_store_and_none_is_locked_out(home: Path) -> None:
    assert writers.run(home, executions=10, length=3)


def test_a_cancel_that_comes_as_a_driver_leaves_is_carried_out_by_the_next(home: Path):
    store = drives.store()
    lease = launch.start(store, chain.definition, {"length": 1})
    KitaruClient().executions.cancel(lease.exec_id)
    Ledger(store, lease, {}).release()

    handle = drives.again("resume", chain, lease.exec_id)

    assert drives.error_of(handle).status == "cancelled"  # type: ignore[attr-defined]
