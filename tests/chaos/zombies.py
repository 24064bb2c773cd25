"""Drivers are stopped past their lease, overtaken, and continued: they must not write a byte.

Leases are ended by hand in the file, so that nobody has to wait for them. What the store holds
when the overtakers have completed is compared, row by row, with what it holds after the stopped
drivers woke up and ended; each of them ends with a named error.
"""

from __future__ import annotations

import contextlib
import os
import random
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from kitaru import KitaruClient
from tests import support
from tests.chaos import drivers
from tests.chaos.history import History, check
from tests.chaos.trial import Trial

#: What is stopped somewhere on its way.
FLOWS: tuple[tuple[str, dict[str, Any]], ...] = (
    ("chain", {"length": 50}),
    ("fan", {"rounds": 6, "width": 8}),
    ("asks", {"length": 10, "timeout": 60.0}),
)
#: Executions that one process drives, and that are stopped with it.
TOGETHER = 5


@contextlib.contextmanager
def stopped(home: Path, pid: int) -> Iterator[bool]:
    """Stop a driver past its lease, unless it has ended; at the end it runs on to its own end."""
    is_stopped = _stop(home, pid)
    support.expire_leases(home)
    try:
        yield is_stopped
    finally:
        if is_stopped:
            os.kill(pid, signal.SIGCONT)
    support.until(lambda: not support.is_running(pid), "the continued driver has ended")


def overtake(home: Path, exec_id: str) -> None:
    """Drive an execution to its end in another process."""
    executions = KitaruClient(home=home).executions
    if executions.get(exec_id).status != "waiting":
        assert executions.get(exec_id).stalled
        executions.resume(exec_id)
    support.see_through(home, exec_id)
    execution = executions.get(exec_id)
    assert execution.status == "completed", f"{execution.status}: {execution.failure}"
    pid = support.runner_pid(home, exec_id)
    support.until(lambda: not support.is_running(pid), "the overtaker has ended")


def check_runner(home: Path, exec_id: str) -> bool:
    """Overtake a stopped runner; whether there was one to stop. Opens the gate of `gate`."""
    with stopped(home, support.runner_pid(home, exec_id)) as is_stopped:
        (home / "gate-a").touch()
        if is_stopped:
            overtake(home, exec_id)
        before = support.dump(home)
    if is_stopped:
        assert support.dump(home) == before
        log = home / "runners" / f"{exec_id}.log"
        assert log.read_text().startswith("KitaruLeaseError: "), log.read_text()
    return is_stopped


def run(home: Path, *, rounds: int, rng: random.Random) -> str:
    """Stop drivers at random moments: some runners of clients, mostly processes with several."""
    History(home).begin()
    done, turn = 0, 0
    while done < rounds:
        flow, inputs = FLOWS[turn % len(FLOWS)]
        if turn % 10 == 0:
            done += _stop_runner(home, flow, inputs, rng.randint(1, 20))
        else:
            done += _stop_several(home, flow, inputs, rng.randint(1, 20 * TOGETHER))
        turn += 1
    return f"{done} stopped drivers overtaken, 0 stale writes; {check(home)}"


def _stop_runner(home: Path, flow: str, inputs: dict[str, Any], marks: int) -> int:
    executions = KitaruClient(home=home).executions
    exec_id = executions.run(f"tests.flows:{flow}", inputs, root=str(support.ROOT)).exec_id
    _let_run(home, [exec_id], marks)
    return check_runner(home, exec_id)


def _stop_several(home: Path, flow: str, inputs: dict[str, Any], marks: int) -> int:
    driver = drivers.start(home, f"tests.flows:{flow}", copies=TOGETHER, **inputs)
    exec_ids = driver.started()
    _let_run(home, exec_ids, marks)
    with stopped(home, driver.pid):
        left = [each for each in exec_ids if not _is_over(home, each)]
        _overtake_all(home, left)
        before = support.dump(home)
    assert support.dump(home) == before, "a continued driver has written"
    for ended in driver.ended():
        overtaken = ended.exec_id in left
        assert (ended.why, ended.error) == (
            ("lost", "KitaruLeaseError") if overtaken else ("complete", None)
        )
        # Whoever waits in the overtaken process is told how the execution ended.
        assert ended.result == KitaruClient(home=home).executions.get(ended.exec_id).result
    return len(left)


def _overtake_all(home: Path, exec_ids: list[str]) -> None:
    """Drive executions to their ends in another process."""
    executions = KitaruClient(home=home).executions
    for exec_id in exec_ids:
        for asked in executions.pending_waits(exec_id):
            value = f"answer to {asked.name}"
            executions.input(exec_id, wait=asked.name, value=value)
            History(home).note("answered", f"{exec_id}/{asked.name}", value)
    driver = drivers.resume(home, *exec_ids)
    assert driver.started() == exec_ids
    for exec_id in exec_ids:
        support.see_through(home, exec_id)
        assert executions.get(exec_id).status == "completed"
    driver.ended()


def _is_over(home: Path, exec_id: str) -> bool:
    return KitaruClient(home=home).executions.get(exec_id).status.is_finished


def _let_run(home: Path, exec_ids: list[str], marks: int) -> None:
    """Wait until so many checkpoints have run, or none of the executions runs on by itself."""
    executions = KitaruClient(home=home).executions
    support.until(
        lambda: (
            sum(len(support.effects(home, each)) for each in exec_ids) >= marks
            or all(executions.get(each).status != "running" for each in exec_ids)
        ),
        f"{exec_ids} make progress",
    )


def _stop(home: Path, pid: int) -> bool:
    """Stop a process outside its writes: inside one it would hold the file lock for ever."""
    try:
        while True:
            os.kill(pid, signal.SIGSTOP)
            support.until(lambda: support.thread_states(pid) <= {"T"}, "every thread has stopped")
            if not support.is_running(pid):
                return False
            if support.write_lock_is_free(home):
                return True
            os.kill(pid, signal.SIGCONT)
    except ProcessLookupError:
        return False


TRIALS = (
    Trial(
        name="zombies", run=lambda scope: run(scope.home, rounds=scope.times(200), rng=scope.rng)
    ),
)
