"""Two clients continue the same execution at the same moment: one drives, the other is refused.

Both runners have imported the flow and wait at a gate right before they take the execution, so
that they really meet there.
"""

from __future__ import annotations

import os
import threading
from collections import Counter
from functools import partial
from pathlib import Path
from unittest import mock

from kitaru import Execution, KitaruClient, KitaruError, KitaruStateError
from tests import support
from tests.chaos.trial import Trial


def stalled_executions(home: Path, count: int) -> list[str]:
    """Executions whose driver was killed inside their third checkpoint."""
    process, first = support.start(home, "gate", copies=count)
    assert process.stdout is not None
    exec_ids = [first, *(process.stdout.readline().strip() for _ in range(count - 1))]
    for exec_id in exec_ids:
        support.until(partial(_is_gated, home, exec_id), "the gate is reached")
    support.kill(process)
    (home / "gate-a").touch()
    return exec_ids


def _is_gated(home: Path, exec_id: str) -> bool:
    return "gated" in support.effects(home, exec_id)


def resume_twice(home: Path, exec_id: str) -> tuple[list[Execution], list[KitaruError]]:
    """Resume an execution from two runners at once; what each client got."""
    won: list[Execution] = []
    lost: list[KitaruError] = []

    def resume() -> None:
        try:
            won.append(KitaruClient(home=home).executions.resume(exec_id))
        except KitaruError as exc:
            lost.append(exc)

    gate = f"start-{exec_id}"
    clients = [threading.Thread(target=resume) for _ in range(2)]
    with mock.patch.dict(os.environ, {"KITARU_TESTS_START_GATE": gate}):
        for client in clients:
            client.start()
        support.until(lambda: len(list(home.glob(f"at-{gate}-*"))) == 2, "both are at the start")
    (home / f"gate-{gate}").touch()
    for client in clients:
        client.join()
    return won, lost


def check_race(home: Path, exec_id: str) -> None:
    """One resume of two drives; nothing is recorded twice."""
    recorded = support.journal(home, exec_id)[:2]
    won, lost = resume_twice(home, exec_id)
    assert (len(won), len(lost)) == (1, 1), (won, lost)
    assert type(lost[0]) is KitaruStateError, lost
    assert exec_id in str(lost[0])
    executions = KitaruClient(home=home).executions
    support.until(lambda: executions.get(exec_id).status == "completed", "the winner completes")
    assert support.journal(home, exec_id)[:2] == recorded
    lines = [entry.message for entry in executions.logs(exec_id, source="runner")]
    assert [line.split()[0] for line in lines] == ["Started", "Resumed"]
    runs = Counter(support.effects(home, exec_id))
    assert {call: count for call, count in runs.items() if count > 1} == {"gated": 2}
    epoch = "SELECT epoch FROM leases JOIN executions ON id = execution WHERE exec_id = ?"
    assert support.query(home, epoch, exec_id) == [(2,)]


def run(home: Path, *, rounds: int) -> str:
    """Race over this many executions."""
    for exec_id in stalled_executions(home, rounds):
        check_race(home, exec_id)
    return f"{rounds} rounds"


TRIALS = (Trial(name="races", run=lambda scope: run(scope.home, rounds=scope.times(100))),)
