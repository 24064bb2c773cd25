"""`kitaru executions watch`: line by line, and as a tree on a terminal."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import kitaru
from kitaru import KitaruClient, checkpoint, config, flow
from tests import drives, support
from tests.cli import test_logs
from tests.cli.conftest import Cli
from tests.cli.test_logs import asks, talked, unlucky
from tests.support import QuickClock, until
from tests.terminals import Terminal

WATCH = [sys.executable, "-m", "kitaru.cli", "executions", "watch"]
HIDES, SHOWS = "\x1b[?25l", "\x1b[?25h"

_gate = threading.Event()
_tries: list[int] = []


@checkpoint
def quick(number: int) -> int:
    return number


@checkpoint(retries=1)
def flaky() -> None:
    _tries.append(1)
    if len(_tries) == 1:
        raise ValueError("no\nluck\x1b[2J")


@checkpoint
def gated() -> None:
    assert _gate.wait(60)


@flow
def mixed() -> None:
    quick(1)
    flaky()
    kitaru.sleep(0.001)
    talks_to.run().wait()


@flow
def talks_to() -> None:
    quick(2)


@flow
def held() -> None:
    quick(1)
    gated()


@flow
def many(count: int) -> None:
    for number in range(count):
        quick(number)
    gated()


@pytest.fixture(autouse=True)
def fast(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(config, "LOOK_SECONDS", 0.02)
    monkeypatch.setattr(config, "WATCH_SECONDS", 0.001)
    _gate.clear()
    _tries.clear()
    test_logs._tries.clear()
    yield
    _gate.set()


@pytest.fixture
def watcher() -> Iterator[Any]:
    started: list[subprocess.Popen[str]] = []

    def start(*args: str) -> subprocess.Popen[str]:
        pipe = subprocess.PIPE
        env = os.environ | {"PYTHONPATH": str(support.ROOT / "core")}
        started.append(
            subprocess.Popen([*WATCH, *args], env=env, stdout=pipe, stderr=pipe, text=True)
        )
        return started[-1]

    yield start
    for each in started:
        each.kill()
        each.communicate()


@pytest.fixture
def terminal() -> Iterator[Any]:
    started: list[Terminal] = []

    def start(*args: str, columns: int = 100, **env: str) -> Terminal:
        started.append(Terminal([*WATCH, *args], columns=columns, env=env))
        return started[-1]

    yield start
    for each in started:
        each.close()


def last_drawing(shown: str) -> list[str]:
    """The lines of the last tree that was drawn, without colours."""
    plain = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", shown).replace("\r", "")
    return plain[plain.rindex("kr-") :].splitlines()


# --- line by line ---------------------------------------------------------------------------------


def test_every_call_of_an_execution_that_has_ended_is_told_and_its_end(cli: Cli):
    with kitaru.clock.use(QuickClock()):
        handle = mixed.run()
        handle.wait(60)
    child = cli.client.executions.get(handle.exec_id).children[0]
    lines = cli.good("executions", "watch", handle.exec_id[:10]).splitlines()
    assert [re.sub(r"(?<= )[\d.]+m?s\b", "TIME", line) for line in lines] == [
        "checkpoint quick: completed, TIME",
        "checkpoint flaky: completed, TIME, attempt 2",
        "sleep: completed, TIME",
        f"child talks_to: completed, TIME, {child}",
        "[Execution completed successfully]",
    ]


def test_changes_are_told_as_they_come(watcher: Any, cli: Cli):
    handle = held.run()
    process = watcher(handle.exec_id, "-o", "json")
    events: list[tuple[str, Any]] = []
    while not events or events[-1][1].get("call_id") != "gated":
        said = json.loads(process.stdout.readline())
        assert said["command"] == "executions.watch"
        events.append((said["event"], said["item"]))
    assert events[0] == ("status", {"status": "running", "stalled": False})
    assert (events[-1][0], events[-1][1]["status"]) == ("checkpoint", "running")
    _gate.set()
    out, err = support.outputs(process)
    ended, terminal = map(json.loads, out.splitlines())
    assert (ended["item"]["call_id"], ended["item"]["status"]) == ("gated", "completed")
    assert terminal["event"] == "terminal"
    assert (terminal["item"]["status"], err, process.returncode) == ("completed", "", 0)


def test_questions_and_their_answers_are_told(watcher: Any, cli: Cli):
    handle = asks.run()
    process = watcher(handle.exec_id)
    read = process.stdout.readline
    for name in ("left", "right"):
        until(lambda name=name: read() == f"waiting for {name}: no question\n", name)  # type: ignore[misc]
        cli.client.executions.input(handle.exec_id, wait=name, value=1)
    out, _ = support.outputs(process)
    assert re.search(r"^wait right: completed, ", out, re.MULTILINE)
    assert process.returncode == 0


def test_a_failure_ends_with_1_and_its_attempts_are_told(cli: Cli):
    handle = unlucky.run()
    drives.error_of(handle)
    said = cli("executions", "watch", "latest:failed")
    assert said.code == 1
    assert re.fullmatch(
        r"checkpoint fails: failed, \S+, ValueError: no luck\n"
        r"\[Execution failed: ValueError: no luck\]\n",
        said.out,
    )


def test_a_call_that_runs_again_after_it_failed_is_seen(home: Path):
    @checkpoint
    def second_time() -> None:
        _tries.append(1)
        if len(_tries) == 1:
            raise ValueError("no luck")
        assert _gate.wait(60)

    @flow(retries=1)
    def retried() -> None:
        second_time()

    with kitaru.clock.use(QuickClock()):
        handle = retried.run()
        changes = KitaruClient().executions.watch(handle.exec_id)
        seen: list[Any] = []
        while len(_tries) < 2 or not seen or seen[-1].status != "running":
            seen += next(changes).calls
        _gate.set()
        seen += [call for progress in changes for call in progress.calls]
    assert (seen[-1].status, len(seen[-1].attempts)) == ("completed", 2)


def test_a_retried_execution_is_watched_to_its_new_end(cli: Cli):
    handle = unlucky.run()
    drives.error_of(handle)
    again = drives.again("retry", unlucky, handle.exec_id)
    lines = cli.good("executions", "watch", handle.exec_id).splitlines()
    assert lines[-1] == "[Execution completed successfully]"
    assert re.fullmatch("checkpoint fails: completed, .*, attempt 2", lines[-2])
    again.wait(60)


def test_a_dead_driver_is_told_once(watcher: Any, home: Path):
    process, exec_id = support.start(home, "gate")
    watching = watcher(exec_id)
    until(lambda: "gated" in support.effects(home, exec_id), "at the gate")
    support.kill(process)
    assert f"kitaru executions resume {exec_id}" in watching.stderr.readline()
    KitaruClient().executions.cancel(exec_id)
    out, err = support.outputs(watching)
    assert (out.splitlines()[-1], err, watching.returncode) == ("[Execution cancelled]", "", 1)
    assert "status: running (stalled)" in out


def test_ctrl_c_and_a_reader_that_leaves_end_it(watcher: Any, home: Path):
    handle = held.run()
    process = watcher(handle.exec_id, "-o", "json")
    assert process.stdout.readline()
    process.send_signal(signal.SIGINT)
    out, _ = support.outputs(process)
    assert (json.loads(out.splitlines()[-1])["event"], process.returncode) == ("interrupted", 130)

    process = watcher(handle.exec_id)
    assert process.stdout.readline()
    process.stdout.close()
    assert (process.wait(60), process.stderr.read()) == (1, "")


def test_what_does_not_exist_is_refused(cli: Cli):
    assert "No execution 'kr-zzz'" in cli("executions", "watch", "kr-zzz").err


# --- on a terminal --------------------------------------------------------------------------------


def test_a_tree_shows_calls_attempts_and_the_end(terminal: Any, cli: Cli):
    with kitaru.clock.use(QuickClock()):
        handle = mixed.run()
        handle.wait(60)
    child = cli.client.executions.get(handle.exec_id).children[0]
    shown = terminal(handle.exec_id)
    lines = last_drawing(shown.all().replace(child, "CHILD"))
    assert lines[0].startswith(f"{handle.exec_id}  completed  ")
    assert [re.sub(r"(?<= )[\d.]+m?s\b", "TIME", line).rstrip() for line in lines[1:]] == [
        "├── ✓  quick  TIME",
        "├── ✓  flaky  TIME  2 attempts",
        "│   └── attempt 1  ValueError: no\\nluck\\x1b[2J",
        "├── ✓  sleep  TIME",
        "└── ✓  talks_to  child CHILD  TIME",
        "[Execution completed successfully]",
    ]
    assert "\x1b[32m✓" in shown.shown
    assert shown.process.returncode == 0


def test_a_question_stands_there_with_how_to_answer_it(terminal: Any, cli: Cli):
    handle = asks.run()
    shown = terminal(handle.exec_id, columns=150)
    shown.expect(f"kitaru executions input {handle.exec_id} --wait left --value")
    for name in ("left", "right"):
        until(lambda: cli.client.executions.pending_waits(handle.exec_id), name)
        cli.client.executions.input(handle.exec_id, wait=name, value=1)
        handle_is_on = f"{name} is taken"
        until(
            lambda name=name: (  # type: ignore[misc]
                name not in [w.name for w in cli.client.executions.pending_waits(handle.exec_id)]
            ),
            handle_is_on,
        )
    assert "[Execution completed successfully]" in shown.all()


def test_the_line_that_helps_is_whole_on_a_narrow_terminal(terminal: Any, home: Path):
    process, exec_id = support.start(home, "gate")
    until(lambda: "gated" in support.effects(home, exec_id), "at the gate")
    support.kill(process)
    shown = terminal(exec_id, columns=60)
    shown.expect("resume")
    shown.process.send_signal(signal.SIGINT)
    plain = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", shown.all())
    words = " ".join(line.strip("├└─ ") for line in plain.splitlines())
    assert f"Continue it with: kitaru executions resume {exec_id}" in words


def test_what_is_cut_has_a_mark(terminal: Any, home: Path):
    assert terminal(talked(), columns=30).all().count("…") >= 1


@pytest.mark.parametrize(("signal_", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_an_interrupted_tree_gives_the_cursor_back(
    terminal: Any, home: Path, signal_: int, code: int
):
    handle = held.run()
    shown = terminal(handle.exec_id)
    shown.expect("gated")
    shown.process.send_signal(signal_)
    shown.all()
    assert shown.process.returncode == code, shown.shown
    assert shown.shown.rindex(SHOWS) > shown.shown.rindex(HIDES)
    assert "Traceback" not in shown.shown


def test_of_many_calls_the_last_are_shown_and_the_others_counted(terminal: Any, home: Path):
    handle = many.run(450)
    until(lambda: KitaruClient().executions.summary(handle.exec_id).checkpoint_count > 450, "all")
    shown = terminal(handle.exec_id, columns=60)
    shown.expect("gated")
    _gate.set()
    lines = last_drawing(shown.all())
    assert len(lines) <= 40
    assert max(map(len, lines)) <= 60
    assert re.fullmatch(r"├── 4\d\d more above *", lines[1])
    assert lines[-3].startswith("├── ✓  quick#450")


def test_a_tree_is_ascii_where_the_encoding_is(terminal: Any, home: Path):
    exec_id = talked()
    shown = terminal(exec_id, LC_ALL="C", PYTHONIOENCODING="ascii", PYTHONUTF8="0").all()
    assert shown.isascii()
    assert "`-- " in shown


def test_a_dumb_terminal_gets_lines(terminal: Any, home: Path):
    shown = terminal(talked(), TERM="dumb").all()
    assert "checkpoint say: completed" in shown
    assert HIDES not in shown
