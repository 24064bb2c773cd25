"""What dies is continued: killed processes, answers that come too late, code that cannot be loaded.

Real processes are killed with SIGKILL; `python -m tests.chaos` does the same at length.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from kitaru import Execution, KitaruClient, KitaruStateError, KitaruUsageError
from kitaru.models import CallStatus, ExecutionStatus
from tests import support
from tests.chaos.kills import SCENARIOS, KillLoop, Scenario


def killed_in_its_gate(home: Path) -> str:
    """An execution whose process was killed inside its third checkpoint."""
    process, exec_id = support.start(home, "gate")
    support.until(lambda: "gated" in support.effects(home, exec_id), "the gate is reached")
    support.kill(process)
    return exec_id


def is_asked(exec_id: str, name: str) -> bool:
    """Whether an execution waits for this answer now."""
    return name in [asked.name for asked in KitaruClient().executions.pending_waits(exec_id)]


def has(exec_id: str, status: str) -> Execution:
    """The execution, as soon as it has this status."""
    client = KitaruClient()
    support.until(lambda: client.executions.get(exec_id).status == status, f"it is {status}")
    return client.executions.get(exec_id)


@pytest.mark.parametrize(
    ("scenario", "kills"),
    list(zip(SCENARIOS, (7, 3, 3, 3, 3, 3), strict=True)),
    ids=[scenario.name for scenario in SCENARIOS],
)
def test_a_flow_killed_again_and_again_ends_as_if_undisturbed(
    home: Path, scenario: Scenario, kills: int
) -> None:
    tally = KillLoop(home, scenario, rng=random.Random(7)).run(kills=kills)
    assert tally.kills == kills


def test_a_killed_execution_is_seen_as_stalled_at_once(home: Path) -> None:
    exec_id = killed_in_its_gate(home)
    executions = KitaruClient().executions
    found = executions.get(exec_id)
    assert (found.status, found.stalled) == ("running", True)
    assert [each.stalled for each in executions.list(status="running")] == [True]
    assert not executions.continues(exec_id)


def test_resume_continues_a_killed_execution_and_runs_only_what_was_in_flight(home: Path) -> None:
    exec_id = killed_in_its_gate(home)
    (home / "gate-a").touch()
    resumed = KitaruClient().executions.resume(exec_id)
    assert not resumed.stalled
    assert has(exec_id, "completed").checkpoints[2].call_id == "gated"
    runs = Counter(support.effects(home, exec_id))
    assert {call: count for call, count in runs.items() if count > 1} == {"gated": 2}


def test_an_interrupted_attempt_stays_in_the_record(home: Path) -> None:
    process, exec_id = support.start(home, "gate")
    shown = "SELECT 1 FROM calls WHERE call_id = 'gated' AND status = 'running'"
    support.until(lambda: support.query(home, shown), "the long call is shown as running")
    support.kill(process)
    (home / "gate-a").touch()
    KitaruClient().executions.resume(exec_id)
    first, second = has(exec_id, "completed").checkpoints[2].attempts
    assert first.status is CallStatus.FAILED
    assert first.failure is not None
    assert "Interrupted" in first.failure.message
    assert second.status is CallStatus.COMPLETED


def test_a_stalled_execution_is_cancelled_at_once(home: Path) -> None:
    exec_id = killed_in_its_gate(home)
    cancelled = KitaruClient().executions.cancel(exec_id)
    assert (cancelled.status, cancelled.stalled) == ("cancelled", False)
    with pytest.raises(KitaruStateError, match="it is cancelled"):
        KitaruClient().executions.resume(exec_id)


def test_an_answer_after_the_kill_is_kept_for_resume(home: Path) -> None:
    executions = KitaruClient().executions
    inputs = {"length": 2, "timeout": 60.0}
    exec_id = executions.run("tests.flows:asks", inputs, root=str(support.ROOT)).exec_id
    support.until(lambda: executions.pending_waits(exec_id), "the first question is asked")
    support.kill_pid(support.runner_pid(home, exec_id))

    with pytest.raises(KitaruStateError, match="has no answer yet"):
        executions.resume(exec_id)
    answered = executions.input(exec_id, wait="first", value="go")
    assert (answered.status, answered.pending_wait) == ("waiting", None)
    with pytest.raises(KitaruStateError, match="already in"):
        executions.input(exec_id, wait="first", value="again")

    executions.resume(exec_id)
    support.see_through(home, exec_id)
    assert executions.get(exec_id).status == "completed"
    assert max(Counter(support.effects(home, exec_id)).values()) == 1


def test_an_answer_to_a_polling_driver_needs_no_resume(home: Path) -> None:
    process, exec_id = support.start(home, "asks", length=1, timeout=60.0)
    executions = KitaruClient().executions
    for name in ("first", "second"):
        support.until(partial(is_asked, exec_id, name), f"{name} is asked")
        executions.input(exec_id, wait=name, value="go")
    support.finish(process)
    assert executions.get(exec_id).status == "completed"
    assert len(executions.logs(exec_id, source="runner")) == 1


def test_retry_runs_the_failed_checkpoint_again_and_keeps_its_attempts(home: Path) -> None:
    process, exec_id = support.start(home, "fragile")
    support.finish(process)
    failed = KitaruClient().executions.get(exec_id)
    assert failed.status is ExecutionStatus.FAILED
    (home / "mended").touch()

    KitaruClient().executions.retry(exec_id)
    completed = has(exec_id, "completed")
    assert completed.failure is None
    attempts = completed.checkpoints[1].attempts
    assert [each.status.value for each in attempts] == ["failed", "failed", "completed"]
    assert attempts[:2] == failed.checkpoints[1].attempts
    assert Counter(support.effects(home, exec_id)) == {"step": 1, "breaks": 3, "step#2": 1}


FLOW_FILE = """
import time
from pathlib import Path
from kitaru import checkpoint, flow

@checkpoint
def work(here: str) -> str:
    (Path(here) / "working").touch()
    while not (Path(here) / "fail").exists():
        time.sleep(0.002)
    raise ValueError("as asked")

@flow
def agent(here: str) -> str:
    return work(here)
"""

BROKEN_FILES: dict[str, str | None] = {
    "removed": None,
    "raising": "raise RuntimeError('at import')",
    "exiting": "import sys; sys.exit(0)",
    "exiting hard": "import os; os._exit(0)",
    "killed": "import os, signal; os.kill(os.getpid(), signal.SIGKILL)",
    "not Python": "def agent(:",
    "printing": 'print(\'{"exec_id": "kr-false"}\', flush=True); agent = 1',
    "without the flow": "import kitaru",
    "with a flow of another name": FLOW_FILE.replace("@flow", "@flow(name='other')"),
    "with other inputs": FLOW_FILE.replace("agent(here: str)", "agent(there: str, here: str)"),
}


@pytest.fixture(params=["resume", "retry"])
def left_behind(
    home: Path, tmp_path: Path, request: pytest.FixtureRequest
) -> tuple[Callable[[], Execution], str]:
    """A stalled execution and `resume`, or a failed one and `retry`; its code is `flow_file.py`."""
    (tmp_path / "flow_file.py").write_text(FLOW_FILE)
    client = KitaruClient()
    exec_id = client.executions.run(
        "flow_file.py:agent", {"here": str(tmp_path)}, root=str(tmp_path)
    ).exec_id
    support.until((tmp_path / "working").exists, "the checkpoint runs")
    if request.param == "resume":
        support.kill_pid(support.runner_pid(home, exec_id))
    else:
        (tmp_path / "fail").touch()
        has(exec_id, "failed")
    action = getattr(client.executions, request.param)
    return (lambda: action(exec_id)), exec_id


def test_an_import_that_fails_leaves_the_execution_as_it_was(
    home: Path, tmp_path: Path, left_behind: tuple[Callable[[], Execution], str]
) -> None:
    act, exec_id = left_behind
    for name, text in BROKEN_FILES.items():
        (tmp_path / "flow_file.py").unlink(missing_ok=True)
        if text is not None:
            (tmp_path / "flow_file.py").write_text(text)
        before = support.dump(home)
        with pytest.raises(KitaruUsageError):
            pytest.fail(f"its file is {name}, and it went on: {act()}")
        assert support.dump(home) == before, name

    (tmp_path / "flow_file.py").write_text(FLOW_FILE)
    (tmp_path / "fail").touch()
    act()
    assert has(exec_id, "failed").checkpoints[0].attempts[-1].failure is not None
