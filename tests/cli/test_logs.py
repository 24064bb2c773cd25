"""`kitaru executions logs`: how lines look, and following them to the end."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from typing import Any

import pytest

import kitaru
from kitaru import checkpoint, clock, config, flow
from kitaru.store import executions, open_store
from kitaru.store import logs as stored
from kitaru.store.logs import LogRecord
from tests import drives, support
from tests.cli.conftest import Cli
from tests.support import until
from tests.terminals import Terminal

KITARU = [sys.executable, "-m", "kitaru.cli", "executions", "logs"]

_gate = threading.Event()
_tries: list[int] = []


@checkpoint
def say(*words: str) -> None:
    for word in words:
        print(word)


@checkpoint
def fails() -> None:
    _tries.append(1)
    print("try", len(_tries))
    if len(_tries) == 1:
        raise ValueError("no luck")


@flow
def talks() -> None:
    say("one", "two\nlines")
    print("between")
    say("three")


@flow
def gated() -> None:
    say("before")
    assert _gate.wait(60)
    say("after")


@flow
def asks(first: str = "left", second: str = "right", timeout: float = 60.0) -> None:
    for name in (first, second):
        say(str(kitaru.wait(name=name, schema=int, timeout=timeout)))


@flow
def unlucky() -> None:
    fails()


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(config, "LOOK_SECONDS", 0.02)
    _gate.clear()
    _tries.clear()
    yield
    _gate.set()


class Follower:
    """A process that follows an execution, with pipes for what it says."""

    def __init__(self, *args: str) -> None:
        self.process = subprocess.Popen(
            [*KITARU, *args, "--follow"],
            env=os.environ | {"PYTHONPATH": str(support.ROOT / "core")},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def line(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline().rstrip("\n")

    def event(self) -> tuple[str, Any]:
        said = json.loads(self.line())
        assert said["command"] == "executions.logs"
        return said["event"], said["item"]

    def rest(self) -> tuple[str, str, int]:
        out, err = support.outputs(self.process)
        return out, err, self.process.returncode


@pytest.fixture
def follower() -> Iterator[Any]:
    started: list[Follower] = []

    def start(*args: str) -> Follower:
        started.append(Follower(*args))
        return started[-1]

    yield start
    for each in started:
        each.process.kill()
        each.process.communicate()


def talked() -> str:
    handle = talks.run()
    handle.wait(60)
    return handle.exec_id


# --- how lines look ---------------------------------------------------------------------------


def test_verbose_lines_have_their_time_and_level_and_twice_their_checkpoint(cli: Cli):
    exec_id = talked()
    times = [
        entry.timestamp.strftime("%Y-%m-%d %H:%M:%SZ")
        for entry in cli.client.executions.logs(exec_id)
    ]
    assert cli.good("executions", "logs", exec_id, "-v").splitlines() == [
        f"{time} INFO  {message}"
        for time, message in zip(times, ["one", "two", "lines", "between", "three"], strict=True)
    ]
    assert cli.good("executions", "logs", exec_id, "-vv").splitlines()[2:4] == [
        f"{times[2]} INFO  [say] lines",
        f"{times[3]} INFO  between",
    ]


def test_a_message_of_several_lines_cannot_pass_for_several(cli: Cli):
    exec_id = talked()
    store = open_store(cli.client.home)
    with store.write() as conn:
        row = executions.find(conn, exec_id)
        record = LogRecord(clock.now_us(), "ERROR", "a\n2026-01-01 00:00:00Z INFO  b\x1b[2J")
        stored.add(conn, row.id, [record])
    shown = cli.good("executions", "logs", exec_id, "-v", "--level", "error").splitlines()
    assert shown[0].endswith(" ERROR a")
    assert shown[1] == "  2026-01-01 00:00:00Z INFO  b\\x1b[2J"


def test_grouped_lines_stand_under_headings_as_wide_as_a_page(cli: Cli):
    lines = cli.good("executions", "logs", talked(), "--grouped").splitlines()
    head = "── checkpoint: say ".ljust(80, "─")
    assert lines == [head, "one", "two", "lines", "three", "── flow ".ljust(80, "─"), "between"]


def test_what_has_no_lines_says_so_however_it_is_asked(cli: Cli):
    handle = flow(lambda: None, name="mute").run()
    handle.wait(60)
    for options in ([], ["--grouped"], ["-vv"]):
        said = cli.good("executions", "logs", handle.exec_id, *options)
        assert said == f"No log entries found for execution {handle.exec_id}.\n"


def test_headings_are_ascii_where_the_encoding_is(home: Any):
    exec_id = talked()
    said = subprocess.run(
        [*KITARU, exec_id, "--grouped", "--follow"],
        env=os.environ | {"LC_ALL": "C", "PYTHONIOENCODING": "ascii", "PYTHONUTF8": "0"},
        capture_output=True,
        check=True,
    ).stdout.decode("ascii")
    assert said.splitlines()[0] == "-- checkpoint: say ".ljust(80, "-")
    assert said.splitlines()[-1] == "[Execution completed successfully]"


def test_an_empty_line_is_a_line(cli: Cli):
    handle = flow(lambda: say(" "), name="blank").run()
    handle.wait(60)
    with open_store(cli.client.home).write() as conn:
        row = executions.find(conn, handle.exec_id)
        stored.add(conn, row.id, [LogRecord(clock.now_us(), "INFO", "")])
    assert cli.good("executions", "logs", handle.exec_id, "--tail", "1") == "\n"


def test_levels_have_colours_on_a_terminal_only(cli: Cli):
    @flow
    def warns() -> None:
        print("careful", file=sys.stderr)

    handle = warns.run()
    handle.wait(60)
    assert "\x1b" not in cli.good("executions", "logs", handle.exec_id, "-v")
    for environment, is_yellow in (({}, True), ({"NO_COLOR": "1"}, False)):
        terminal = Terminal([*KITARU, handle.exec_id, "-v"], env=environment)
        assert ("\x1b[33mWARNING" in terminal.all()) is is_yellow
        terminal.close()


# --- following --------------------------------------------------------------------------------


def test_lines_come_as_they_are_stored_until_the_end(follower: Any, home: Any):
    handle = gated.run()
    following = follower(handle.exec_id)
    assert following.line() == "before"
    _gate.set()
    out, err, code = following.rest()
    assert (out, err, code) == ("after\n[Execution completed successfully]\n", "", 0)


@pytest.mark.parametrize("ref", ["whole", "prefix", "latest"])
def test_what_has_ended_is_told_at_once(cli: Cli, ref: str):
    exec_id = talked()
    ref = {"whole": exec_id, "prefix": exec_id[:9]}.get(ref, ref)
    assert cli.good("executions", "logs", ref, "--follow", "--grouped").splitlines() == [
        "── checkpoint: say ".ljust(80, "─"),
        *("one", "two", "lines"),
        "── flow ".ljust(80, "─"),
        "between",
        "── checkpoint: say ".ljust(80, "─"),
        "three",
        "[Execution completed successfully]",
    ]


def test_a_failure_and_a_cancellation_end_with_1(cli: Cli):
    failed = unlucky.run()
    drives.error_of(failed)
    said = cli("executions", "logs", failed.exec_id, "--follow")
    assert said.code == 1
    assert said.out == "try 1\n[Execution failed: ValueError: no luck]\n"

    asking = asks.run(timeout=0.0)
    drives.left(asking.exec_id)
    cli.client.executions.cancel(asking.exec_id)
    said = cli("executions", "logs", asking.exec_id, "--follow")
    assert (said.code, said.out) == (1, "[Execution cancelled]\n")


def test_each_question_is_told_once_and_its_answer_lets_it_go_on(follower: Any, cli: Cli):
    handle = asks.run()
    following, machine = follower(handle.exec_id), follower(handle.exec_id, "-o", "json")
    assert following.line() == "[Execution is waiting for input on: left]"
    name, item = machine.event()
    assert (name, item["name"], item["schema"]) == ("waiting", "left", {"type": "integer"})
    cli.client.executions.input(handle.exec_id, wait="left", value=1)
    assert following.line() == "1"
    assert following.line() == "[Execution is waiting for input on: right]"
    assert [machine.event()[0], machine.event()[1]["name"]] == ["log", "right"]
    cli.client.executions.input(handle.exec_id, wait="right", value=2)
    assert following.rest() == ("2\n[Execution completed successfully]\n", "", 0)
    assert machine.event()[1]["message"] == "2"
    assert machine.event() == (
        "terminal",
        {"status": "completed", "message": "Execution completed successfully"},
    )
    assert machine.rest() == ("", "", 0)


def test_questions_that_are_open_together_are_all_told(follower: Any, cli: Cli):
    @flow
    async def asks_twice() -> None:
        waits = (kitaru.wait(name=name, schema=int, timeout=0) for name in ("left", "right"))
        await asyncio.gather(*waits)

    handle = asks_twice.run()
    drives.left(handle.exec_id)
    following = follower(handle.exec_id)
    assert {following.line(), following.line()} == {
        "[Execution is waiting for input on: left]",
        "[Execution is waiting for input on: right]",
    }
    cli.client.executions.cancel(handle.exec_id)
    assert following.rest() == ("[Execution cancelled]\n", "", 1)


def test_a_failed_one_that_is_retried_is_followed_from_its_first_line(follower: Any, cli: Cli):
    handle = unlucky.run()
    drives.error_of(handle)
    again = drives.again("retry", unlucky, handle.exec_id)
    assert follower(handle.exec_id).rest() == (
        "try 1\ntry 2\n[Execution completed successfully]\n",
        "",
        0,
    )
    again.wait(60)


def test_a_dead_driver_is_told_once_with_what_helps(follower: Any, home: Any):
    process, exec_id = support.start(home, "gate")
    following = follower(exec_id, "-o", "json")
    until(lambda: "gated" in support.effects(home, exec_id), "at the gate")
    support.kill(process)
    assert following.process.stderr is not None
    said = json.loads(following.process.stderr.readline())
    assert (said["command"], said["event"]) == ("executions.logs", "stalled")
    assert f"kitaru executions resume {exec_id}" in said["item"]["message"]
    kitaru.KitaruClient().executions.cancel(exec_id)
    out, err, code = following.rest()
    assert (json.loads(out.splitlines()[-1])["item"]["status"], err, code) == ("cancelled", "", 1)


def test_an_answer_that_nobody_takes_up_is_told_with_what_helps(follower: Any, cli: Cli):
    handle = asks.run(timeout=0.0)
    drives.left(handle.exec_id)
    following = follower(handle.exec_id)
    assert "left" in following.line()
    cli.client.executions.input(handle.exec_id, wait="left", value=1)
    assert "nobody drives it" in following.process.stderr.readline()
    drives.again("resume", asks, handle.exec_id)
    assert [following.line(), following.line()] == [
        "1",
        "[Execution is waiting for input on: right]",
    ]


def test_ctrl_c_ends_with_130(follower: Any, home: Any):
    handle = gated.run()
    for options, last in (([], ""), (["-o", "json"], "interrupted")):
        following = follower(handle.exec_id, *options)
        assert "before" in following.line()
        following.process.send_signal(signal.SIGINT)
        out, err, code = following.rest()
        assert (code, err) == (130, "" if last else "\n")
        assert (json.loads(out)["event"] if last else out) == last


def test_it_ends_quietly_once_nobody_reads(follower: Any, home: Any):
    handle = gated.run()
    following = follower(handle.exec_id)
    assert following.line() == "before"
    following.process.stdout.close()  # and no further line comes
    assert following.process.wait(60) == 1
    assert following.process.stderr.read() == ""


def test_one_that_is_deleted_meanwhile_is_no_longer_there(follower: Any, home: Any):
    handle = asks.run(timeout=0.0)
    drives.left(handle.exec_id)
    following = follower(handle.exec_id)
    assert "left" in following.line()
    support.query(home, "DELETE FROM executions WHERE exec_id = ?", handle.exec_id)
    out, err, code = following.rest()
    assert (out, code) == ("", 1)
    assert err.startswith(f"Error: No execution '{handle.exec_id}'")


def test_what_cannot_be_followed_is_refused(cli: Cli):
    assert "No execution 'kr-zzz'" in cli("executions", "logs", "kr-zzz", "--follow").err
    for option in ("--tail", "--limit"):
        assert cli("executions", "logs", "kr-1", "--follow", option, "3").code == 2


def test_following_and_watching_can_be_stopped(cli: Cli):
    exec_id = talked()
    executions = cli.client.executions
    assert [event.event for event in executions.follow(exec_id, stop=lambda: True)] == ["log"] * 5
    assert [*executions.watch(exec_id, stop=lambda: True)] == []


def test_more_lines_than_a_page_all_come_in_order(cli: Cli, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(config, "FOLLOW_PAGE", 7)

    @flow
    def counts() -> None:
        say(*map(str, range(50)))
        assert _gate.wait(60)
        say(*map(str, range(50, 100)))

    handle = counts.run()
    events = cli.client.executions.follow(handle.exec_id)
    first = [next(events) for _ in range(50)]
    _gate.set()
    lines = [*first, *events]
    assert [line.entry.message for line in lines[:-1]] == [*map(str, range(100))]
    assert lines[-1].event == "terminal"
