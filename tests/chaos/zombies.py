"""A driver is stopped past its lease, overtaken, and continued: it must not write a byte.

Its lease is ended by hand in the file, so that nobody has to wait for it. What the store holds
when the overtaker has completed is compared, row by row, with what it holds after the stopped
driver woke up and ended.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from kitaru import KitaruClient
from tests import support
from tests.chaos.trial import Trial

#: What is stopped somewhere on its way.
FLOWS: tuple[tuple[str, dict[str, Any]], ...] = (
    ("chain", {"length": 50}),
    ("fan", {"rounds": 6, "width": 8}),
    ("asks", {"length": 10, "timeout": 60.0}),
)


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
    """Stop drivers at random moments, half of them runners, half processes of a user's."""
    done = 0
    while done < rounds:
        flow, inputs = FLOWS[done % len(FLOWS)]
        marks = rng.randint(1, 20)
        done += (_stop_runner if rng.random() < 0.5 else _stop_own)(home, flow, inputs, marks)
    return f"{rounds} rounds"


def _stop_runner(home: Path, flow: str, inputs: dict[str, Any], marks: int) -> bool:
    executions = KitaruClient(home=home).executions
    started = executions.run(f"tests.flows:{flow}", inputs, root=str(support.ROOT))
    _let_run(home, started.exec_id, marks)
    return check_runner(home, started.exec_id)


def _stop_own(home: Path, flow: str, inputs: dict[str, Any], marks: int) -> bool:
    process, exec_id = support.start(home, flow, **inputs)
    _let_run(home, exec_id, marks)
    with stopped(home, process.pid) as is_stopped:
        if is_stopped:
            overtake(home, exec_id)
        before = support.dump(home)
    assert not is_stopped or support.dump(home) == before
    # Whoever waits in the overtaken process is told how the execution ended.
    assert json.loads(support.finish(process)) == _result(home, exec_id)
    return is_stopped


def _let_run(home: Path, exec_id: str, marks: int) -> None:
    executions = KitaruClient(home=home).executions
    support.until(
        lambda: (
            len(support.effects(home, exec_id)) >= marks
            or executions.get(exec_id).status != "running"
        ),
        f"{exec_id} makes progress",
    )


def _result(home: Path, exec_id: str) -> Any:
    return KitaruClient(home=home).executions.get(exec_id).result


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
