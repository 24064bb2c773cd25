"""Isolated checkpoints in flows: values, crashes, output; what ends a drive ends them too."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from pathlib import Path
from typing import Any

import pytest

from kitaru import Checkpoint, KitaruClient, checkpoint, flow
from kitaru.errors import KitaruRuntimeError, KitaruUsageError
from kitaru.models import ExecutionStatus
from tests import drives, isolated
from tests.isolated import Color, Doc, Note, TooLong
from tests.support import is_running, kill, spawn, until

pytestmark = [
    pytest.mark.usefixtures("home"),
    pytest.mark.skipif(sys.platform == "win32", reason="signals and process groups"),
]


def apart(call: Checkpoint[..., Any], **options: Any) -> Checkpoint[..., Any]:
    """A checkpoint of `tests.isolated`, in a process of its own."""
    return checkpoint(runtime="isolated", **options)(call.fn)


def pids_in(folder: Path) -> list[int]:
    until((folder / "pids").exists, "the process has started")
    return [int(pid) for pid in (folder / "pids").read_text().split()]


def are_gone(pids: list[int]) -> bool:
    until(lambda: not any(map(is_running, pids)), "the process and its own child are gone")
    return True


def test_values_of_user_types_go_in_and_come_back_from_several_processes_at_once():
    doc = Doc("title", Color.RED)

    @flow
    def outer() -> int:
        notes = apart(isolated.annotates)(doc, Note(text="a", doc=doc))
        assert notes == [doc, Note(text="a", doc=doc), Note(text="new", doc=doc)]
        assert apart(isolated.greets).map(["Ada", "Bob"]).result() == ["Hello, Ada", "Hello, Bob"]
        return len(notes)

    handle = outer.run()
    assert handle.wait(30) == 3
    calls = [(call.call_id, len(call.attempts)) for call in drives.get(handle).checkpoints]
    assert calls == [("annotates", 1), ("greets", 1), ("greets#2", 1)]


def test_the_flow_catches_the_exception_class_that_was_raised_there():
    @flow
    def outer() -> int:
        try:
            apart(isolated.refuses, retries=1, retry_delay=0, retry_on=TooLong)(3)
        except TooLong as exc:
            return exc.limit
        return 0

    handle = outer.run()
    assert handle.wait(30) == 3
    (call,) = drives.get(handle).checkpoints
    assert [each.status for each in call.attempts] == ["failed", "failed"]


@pytest.mark.parametrize(
    ("crash", "told"),
    [
        (lambda: apart(isolated.crashes, retries=1, retry_delay=0)(), "ended by SIGSEGV"),
        (lambda: apart(isolated.leaves, retries=1, retry_delay=0)(7), "ended with exit code 7"),
    ],
    ids=["segfault", "os._exit"],
)
def test_a_crash_is_a_failed_attempt_that_is_repeated(crash: Any, told: str):
    @flow
    def outer() -> None:
        crash()

    handle = outer.run()
    cause = drives.error_of(handle).__cause__
    assert isinstance(cause, KitaruRuntimeError)
    assert told in str(cause)
    (call,) = drives.get(handle).checkpoints
    assert [each.status for each in call.attempts] == ["failed", "failed"]
    if "SIGSEGV" in told:
        assert call.metadata == {"tokens": 7}
        (saved,) = KitaruClient().artifacts.list(handle.exec_id)
        assert (saved.name, saved.load()) == ("draft", ["kept"])


def test_output_is_recorded_once_and_shown_once(capfd: pytest.CaptureFixture[str]):
    @flow
    def outer() -> None:
        apart(isolated.speaks)()

    handle = outer.run()
    handle.wait(30)
    recorded = [line.message for line in KitaruClient().executions.logs(handle.exec_id)]
    shown = capfd.readouterr()
    for text in ("one é", "a warning", "at info"):
        assert recorded.count(text) == 1
    assert (shown.out.count("one é"), shown.out.count("zwei ü")) == (1, 1)
    assert shown.err.count("a warning") == 1


def test_what_it_gathers_is_the_call_s_and_it_can_load_from_other_executions():
    @flow
    def first() -> str:
        return str(isolated.greets("Ada"))

    @flow
    def second(other: str) -> str:
        return str(apart(isolated.gathers)(other))

    source = first.run()
    source.wait(20)
    handle = second.run(source.exec_id)
    assert handle.wait(30) == "loaded Hello, Ada"
    (call,) = drives.get(handle).checkpoints
    assert call.metadata == {"cost": {"usd": 1, "tokens": 2}, "step": "b"}
    names = [ref.name for ref in KitaruClient().artifacts.list(handle.exec_id)]
    assert names == ["first", "second", "gathers"]


def test_a_closure_is_refused_with_the_reason():
    @checkpoint(runtime="isolated")
    def inner() -> None:
        return None

    @flow
    def outer() -> None:
        inner()

    error = drives.error_of(outer.run())
    assert isinstance(error.__cause__, KitaruUsageError)
    assert "is defined inside a function; move it to module level" in str(error)


@pytest.mark.parametrize("submitted", [False, True])
def test_cancelling_the_execution_kills_it_at_once(tmp_path: Path, submitted: bool):
    stays = apart(isolated.stays, retries=3)

    @flow
    def outer() -> None:
        stays.submit(str(tmp_path)).result() if submitted else stays(str(tmp_path))

    handle = outer.run()
    pids = pids_in(tmp_path)
    KitaruClient().executions.cancel(handle.exec_id)
    assert drives.error_of(handle).status == "cancelled"  # type: ignore[attr-defined]
    assert are_gone(pids)
    (call,) = drives.get(handle).checkpoints
    assert (call.status, len(call.attempts)) == ("cancelled", 1)


STAYS = """
import os
from kitaru import checkpoint, flow
from tests import isolated

stays = checkpoint(runtime="isolated")(isolated.stays.fn)

@flow
def outer(submitted: bool) -> None:
    folder = os.environ["FOLDER"]
    stays.submit(folder).result() if submitted else stays(folder)

if __name__ == "__main__":
    handle = outer.run({submitted})
    print(handle.exec_id, flush=True)
    handle.wait()
"""


@pytest.mark.parametrize(("number", "submitted"), [(signal.SIGINT, True), (signal.SIGTERM, False)])
def test_stopping_the_script_kills_it_and_leaves_the_execution_resumable(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, submitted: bool
):
    monkeypatch.setenv("FOLDER", str(tmp_path))
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(sys.path))
    script = tmp_path / "script.py"
    script.write_text(STAYS.format(submitted=submitted))
    process = spawn(home, str(script), stderr=-3)
    assert process.stdout is not None
    exec_id = process.stdout.readline().strip()
    pids = pids_in(tmp_path)
    process.send_signal(number)
    until(lambda: process.poll() is not None, "the script ends")
    kill(process)
    assert are_gone(pids)
    found = KitaruClient().executions.get(exec_id)
    assert found.status is ExecutionStatus.RUNNING
    assert found.stalled


def test_an_async_flow_awaits_them_beside_each_other_and_kills_one_it_cancels(tmp_path: Path):
    @flow
    async def outer() -> list[str]:
        stuck = apart(isolated.stays).submit(str(tmp_path))
        found = await asyncio.gather(*apart(isolated.greets).map(["Ada", "Bob"]))
        while not (tmp_path / "pids").exists():
            await asyncio.sleep(0.005)
        assert stuck.cancel()
        try:
            await stuck
        except asyncio.CancelledError:
            found.append("cancelled")
        return found

    assert outer.run().wait(30) == ["Hello, Ada", "Hello, Bob", "cancelled"]  # type: ignore[comparison-overlap]
    assert are_gone(pids_in(tmp_path))


def test_an_async_flow_kills_one_that_it_awaits_when_its_task_is_cancelled(tmp_path: Path):
    @flow
    async def outer() -> str:
        task = asyncio.ensure_future(apart(isolated.stays_awaiting)(str(tmp_path)))
        while not (tmp_path / "pids").exists():
            await asyncio.sleep(0.005)
        task.cancel()
        try:
            await task
        except asyncio.CancelledError:
            return "cancelled"
        return "ended"

    handle = outer.run()
    assert handle.wait(30) == "cancelled"
    assert are_gone(pids_in(tmp_path))
    (call,) = drives.get(handle).checkpoints
    assert (call.status, [each.status for each in call.attempts]) == ("cancelled", ["cancelled"])


SCRIPT = """
from dataclasses import dataclass
from kitaru import checkpoint, flow

@dataclass
class Doc:
    title: str

class Odd(Exception):
    pass

@checkpoint(runtime="isolated")
def work(doc: Doc) -> Doc:
    if not doc.title:
        raise Odd("no title")
    return Doc(doc.title + "!")

@flow
def agent() -> str:
    try:
        work(Doc(""))
    except Odd as exc:
        return f"{work(Doc('t')).title} {exc}"

if __name__ == "__main__":
    print(agent.run().wait())
"""


def test_a_script_s_own_checkpoint_and_types_are_found(home: Path, tmp_path: Path):
    (tmp_path / "script.py").write_text(SCRIPT)
    process = spawn(home, str(tmp_path / "script.py"))
    out, _ = process.communicate(timeout=30)
    assert out == "t! no title\n"
