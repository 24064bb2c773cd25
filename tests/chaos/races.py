"""Two continue the same execution at the same moment: one drives, the other is refused.

A client's runners have imported the flow and wait at a gate right before they take the execution,
so that they really meet there; forked drivers are so quick that they meet by themselves.
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
from tests.chaos import drivers
from tests.chaos.history import History, check
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
    """One resume of two clients drives; nothing is recorded twice."""
    recorded = support.journal(home, exec_id)[:2]
    won, lost = resume_twice(home, exec_id)
    assert (len(won), len(lost)) == (1, 1), (won, lost)
    assert type(lost[0]) is KitaruStateError, lost
    assert exec_id in str(lost[0])
    executions = KitaruClient(home=home).executions
    support.until(lambda: executions.get(exec_id).status == "completed", "the winner completes")
    _check_record(home, exec_id, recorded)


def _check_record(home: Path, exec_id: str, recorded: list[tuple[object, ...]]) -> None:
    assert support.journal(home, exec_id)[:2] == recorded
    entries = KitaruClient(home=home).executions.logs(exec_id, source="runner")
    assert [entry.message.split()[0] for entry in entries] == ["Started", "Resumed"]
    runs = Counter(support.effects(home, exec_id))
    assert {call: count for call, count in runs.items() if count > 1} == {"gated": 2}
    epoch = "SELECT epoch FROM leases JOIN executions ON id = execution WHERE exec_id = ?"
    assert support.query(home, epoch, exec_id) == [(2,)]


def race_of_drivers(home: Path, exec_ids: list[str]) -> list[int]:
    """Two processes go through the same executions: each is driven by one of them.

    Returns:
        How many each has won.
    """
    recorded = {exec_id: support.journal(home, exec_id)[:2] for exec_id in exec_ids}
    rivals = [drivers.resume(home, *exec_ids) for _ in range(2)]
    taken = [rival.started() for rival in rivals]
    assert sorted(taken[0] + taken[1]) == sorted(exec_ids), "one was taken by both or by neither"
    for rival in rivals:
        assert all(ended.why == "complete" for ended in rival.ended())
    for exec_id in exec_ids:
        _check_record(home, exec_id, recorded[exec_id])
    return [len(each) for each in taken]


def run(home: Path, *, rounds: int) -> str:
    """Race over this many executions, some of them with clients."""
    History(home).begin()
    stalled = stalled_executions(home, rounds)
    by_clients, by_drivers = stalled[::5], [each for each in stalled if each not in stalled[::5]]
    for exec_id in by_clients:
        check_race(home, exec_id)
    won = race_of_drivers(home, by_drivers)
    return (
        f"{rounds} rounds, {len(by_clients)} with clients, the others won {won[0]} to {won[1]}; "
        f"{check(home)}"
    )


TRIALS = (Trial(name="races", run=lambda scope: run(scope.home, rounds=scope.times(100))),)
