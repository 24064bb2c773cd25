"""The end of a process with running flows: what it leaves behind, what it says, how it exits."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from kitaru import Execution, KitaruClient, targets
from tests import drives, support
from tests.support import DEADLINE_SECONDS, ROOT, is_running, query, until

pytestmark = pytest.mark.skipif(os.name == "nt", reason="signals of POSIX")

HELD = ("plain", "coroutine", "isolated", "asks", "sleeps_long", "fan", "fan_async", "parent")


class Script:
    """`tests/ending.py` in a process of its own, its flows under way."""

    def __init__(self, home: Path, flows: Sequence[str], end: str, **environment: str) -> None:
        self.home = home
        env = os.environ | {"KITARU_HOME": str(home), **environment}
        env["PYTHONWARNINGS"] = "ignore:This process:DeprecationWarning"  # of a fork beside threads
        self.process = subprocess.Popen(
            [sys.executable, str(ROOT / "tests" / "ending.py"), ",".join(flows), end],
            cwd=ROOT,
            env=env,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self.exec_ids = self.line().split()

    def line(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline()

    def end(self, number: int | None = None) -> int:
        """Its exit code, after a signal; what it printed is kept."""
        if number is not None:
            self.process.send_signal(number)
        self.out, self.err = support.outputs(self.process)
        return self.process.returncode

    def told(self) -> list[str]:
        """The executions that it says can be resumed, in order of their ids."""
        lines = [line for line in self.err.splitlines() if line.startswith("Stopped kr-")]
        ids = [line.split()[1].rstrip(":") for line in lines]
        for line, exec_id in zip(lines, ids, strict=True):
            assert f"`kitaru executions resume {exec_id}`" in line
        return sorted(ids)

    def open(self) -> None:
        """Let go on what is held."""
        (self.home / "open").touch()

    def resumed(self) -> list[Any]:
        """The results of its executions, resumed at once."""
        self.open()
        query(self.home, "UPDATE calls SET due_at = 1 WHERE due_at NOT NULL")  # slept enough
        handles = []
        for exec_id in self.exec_ids:
            found = get(exec_id)
            if found.status == "waiting":
                KitaruClient().executions.input(exec_id, wait="approve", value="asks")
            target = f"tests/ending.py:{found.flow_name}"
            handles.append(drives.again("resume", targets.load(target, root=str(ROOT)), exec_id))
        return [handle.wait(30) for handle in handles]


def get(exec_id: str) -> Execution:
    return KitaruClient().executions.get(exec_id)


def statuses(script: Script) -> list[str]:
    return [get(exec_id).status for exec_id in script.exec_ids]


def wal_is_folded(home: Path) -> bool:
    return not (home / "kitaru.db-wal").exists()


@pytest.mark.parametrize(
    ("place", "number"),
    [
        ("wait", signal.SIGINT),
        ("wait", signal.SIGTERM),
        ("sleep", signal.SIGINT),
        ("choose", signal.SIGTERM),
        ("compute", signal.SIGINT),
    ],
)
def test_a_signal_ends_the_process_and_leaves_every_flow_resumable(
    home: Path, place: str, number: int
) -> None:
    script = Script(home, HELD, place)
    child = int((home / "at-isolated").read_text())
    assert script.end(number) == -number
    until(lambda: not is_running(child), "the isolated checkpoint's process is gone")
    (nested,) = query(home, "SELECT exec_id FROM executions WHERE parent_exec_id NOT NULL")
    assert script.told() == sorted([*script.exec_ids, *nested]), script.err
    assert statuses(script) == ["waiting" if name == "asks" else "running" for name in HELD]
    assert script.resumed() == [*HELD]


def test_flows_that_have_ended_meanwhile_are_not_told_of(home: Path) -> None:
    script = Script(home, ["steps", "plain"], "sleep")
    until(lambda: statuses(script)[0] == "completed", "the first has ended")
    assert script.end(signal.SIGTERM) == -signal.SIGTERM
    assert script.told() == [script.exec_ids[1]]


def test_a_flow_that_waits_for_an_answer_is_told_of_with_how_to_answer(home: Path) -> None:
    script = Script(home, ["asks"], "sleep")
    until(lambda: statuses(script) == ["waiting"], "it asks")
    script.end(signal.SIGINT)
    assert f"`kitaru executions input {script.exec_ids[0]} --value" in script.err


def test_a_second_ctrl_c_ends_the_process_at_once(home: Path) -> None:
    script = Script(home, ["asks", "plain"], "sleep", GRACE=f"{2 * DEADLINE_SECONDS}")
    script.process.send_signal(signal.SIGINT)
    assert script.process.stderr is not None
    until(lambda: "Stopped" in script.process.stderr.readline(), "the first has stopped")
    assert script.end(signal.SIGINT) == -signal.SIGINT
    assert script.told() == script.exec_ids[1:]
    assert script.resumed() == ["asks", "plain"]


def test_a_second_sigterm_ends_the_process_at_once(home: Path) -> None:
    script = Script(home, ["asks", "plain"], "sleep", GRACE=f"{2 * DEADLINE_SECONDS}")
    script.process.send_signal(signal.SIGTERM)
    until(lambda: get(script.exec_ids[0]).stalled is False, "a flow has stopped")
    until(lambda: not KitaruClient().executions.continues(script.exec_ids[0]), "it is left")
    assert script.end(signal.SIGTERM) == -signal.SIGTERM
    assert script.resumed() == ["asks", "plain"]


def test_ctrl_c_while_an_ended_script_waits_for_its_flows_stops_them(home: Path) -> None:
    script = Script(home, ["asks", "plain"], "end")
    until(lambda: not KitaruClient().executions.continues(script.exec_ids[0]), "a wait lets go")
    assert script.end(signal.SIGINT) == -signal.SIGINT
    assert script.told() == script.exec_ids[1:]
    assert script.resumed() == ["asks", "plain"]


def test_a_handler_of_the_users_is_left_alone(home: Path) -> None:
    script = Script(home, ["plain"], "use_own_handler")
    assert script.line() == "set\n"
    assert script.end(signal.SIGTERM) == 0
    assert (script.out, statuses(script)) == ("own handler\n", ["completed"])


def test_a_host_that_catches_ctrl_c_stops_only_the_flow_it_waits_for(home: Path) -> None:
    script = Script(home, ["plain", "fan"], "go_on")
    for _ in range(2):
        assert script.line() == "ready\n"
        script.process.send_signal(signal.SIGINT)
        assert script.line() == "running running\n"
    assert script.end() == 0
    assert script.told() == script.exec_ids[:1]
    assert statuses(script) == ["running", "completed"]


SLOW_TO_TELL = """
import sys, threading
from tests import ending, support

class Slow:
    def write(self, text):
        said.set()
        threading.Event().wait(0.2)
        sys.__stderr__.write(text)

    def flush(self):
        sys.__stderr__.flush()

said = threading.Event()
handle = ending.plain.run()
support.until((ending.home() / "at-plain").exists, "it is held")
sys.stderr = Slow()
kitaru_exits = sys.modules["kitaru.exits"]
kitaru_exits.stop([handle._driver])
(ending.home() / "open").touch()
said.wait()
"""


def test_a_process_does_not_end_while_it_tells_how_a_flow_goes_on(home: Path) -> None:
    process = support.spawn(home, "-c", SLOW_TO_TELL, stderr=subprocess.PIPE)
    assert process.communicate(timeout=DEADLINE_SECONDS)[1].startswith("Stopped kr-")
    assert process.returncode == 0


def test_flows_that_another_thread_has_started_are_stopped_too(home: Path) -> None:
    script = Script(home, [], "start_in_thread")
    script.exec_ids = script.line().split()
    until(lambda: (home / "at-plain").exists(), "it is held")
    assert script.end(signal.SIGINT) == -signal.SIGINT
    assert script.told() == script.exec_ids
    assert script.resumed() == ["plain"]


# --- the ordinary end ----------------------------------------------------------------------------


def test_a_script_that_ends_lets_its_flows_finish(home: Path) -> None:
    names = ["plain", "coroutine", "isolated", "sleeps", "fan", "fan_async", "parent"]
    script = Script(home, [*names, "steps", "children", "asks", "sleeps_long"], "end")
    script.open()
    assert (script.end(), script.err) == (0, "")
    assert wal_is_folded(home)
    assert statuses(script) == ["completed"] * 9 + ["waiting"] * 2
    assert [get(exec_id).result for exec_id in script.exec_ids[:7]] == names


@pytest.mark.parametrize(("end", "code"), [("leave", 3), ("fail", 1)])
def test_the_exit_code_is_that_of_main(home: Path, end: str, code: int) -> None:
    script = Script(home, ["plain"], end)
    script.open()
    assert script.end() == code
    assert wal_is_folded(home)
    assert statuses(script) == ["completed"]


def test_what_a_vanished_process_leaves_is_resumable_at_once(home: Path) -> None:
    script = Script(home, ["plain", "fan"], "vanish")
    assert script.end() == 4
    assert [get(exec_id).stalled for exec_id in script.exec_ids] == [True, True]
    assert script.resumed() == ["plain", "fan"]


def test_a_thread_that_outlives_main_may_answer_and_start_flows(home: Path) -> None:
    script = Script(home, ["asks"], "work_on")
    assert (script.end(), script.err) == (0, "")
    answered, started = script.out.split()
    assert (answered, get(started).status) == ("asks", "completed")


def test_forked_children_end_for_themselves(home: Path) -> None:
    script = Script(home, ["plain"], "fork")
    assert (script.end(), script.err) == (0, "")
    assert script.out.splitlines() == ["child 3540", f"{-signal.SIGTERM} 0 0"]
    assert statuses(script) == ["completed"]


def test_exit_handlers_can_read_the_store(home: Path) -> None:
    script = Script(home, ["steps"], "read_at_exit")
    assert (script.end(), script.err) == (0, "")
    assert script.out == "completed\n" * 2


@pytest.mark.parametrize("end", ["start_at_exit", "start_late"])
def test_a_flow_that_is_started_last_of_all_finishes_or_can_be_resumed(
    home: Path, end: str
) -> None:
    script = Script(home, ["plain"], end)
    script.open()
    assert (script.end(), script.err) == (0, "")
    found = get(script.out.strip())
    assert found.status == "completed" or found.stalled
    assert found.status == "completed" or end == "start_at_exit"


# --- a runner ------------------------------------------------------------------------------------


def test_a_runner_that_is_ended_stops_its_flow_and_the_children(home: Path) -> None:
    target = "tests/ending.py:parent_asleep"
    exec_id = KitaruClient().executions.run(target, {}, root=str(ROOT)).exec_id
    until(lambda: (home / "at-sleeps_long").exists(), "the child sleeps")
    runner = int((home / "at-sleeps_long").read_text())
    os.kill(runner, signal.SIGTERM)
    until(lambda: not is_running(runner), "the runner has ended")
    held = query(home, "SELECT runner FROM leases")
    assert (held, get(exec_id).status) == ([(None,), (None,)], "running")
    query(home, "UPDATE calls SET due_at = 1 WHERE due_at NOT NULL")
    flow = targets.load(target, root=str(ROOT))
    assert drives.again("resume", flow, exec_id).wait(30) == "sleeps_long"
