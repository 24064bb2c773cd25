"""Attempts in processes of their own: how they end, what comes from them, and that none is left."""

from __future__ import annotations

import io
import json
import os
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from kitaru import Checkpoint, codec, failures, flow
from kitaru.context import IsolatedTask as Task
from kitaru.effects import Tried
from kitaru.errors import (
    KitaruContextError,
    KitaruRuntimeError,
    KitaruSerializationError,
    KitaruUsageError,
)
from tests import isolated
from tests.isolated import Attempt, Color, Doc, Note, TooLong, make_task
from tests.support import TurnedClock, is_running, kill_pid, rest, run_python, spawn, until

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="signals and process groups")


@pytest.fixture(autouse=True)
def fresh(home: Path) -> None:
    """Every test here has a store of its own."""


def value_of(call: Checkpoint[..., Any], ended: Tried) -> Any:
    assert ended.failure is None, ended.failure["traceback"]
    assert ended.result is not None
    return codec.decode(ended.result, types=codec.return_types(call.fn))


def result_of(call: Checkpoint[..., Any], *args: Any, **kwargs: Any) -> Any:
    return value_of(call, Attempt().make(make_task(call, *args, **kwargs)))


def error_of(ended: Tried) -> Exception:
    assert ended.result is None
    assert ended.failure is not None
    exc = failures.rebuild(ended.failure, call="kr-1/work#2")
    assert (type(ended.cause), str(ended.cause)) == (type(exc), str(exc))
    return exc


def failure_of(call: Checkpoint[..., Any], *args: Any) -> tuple[Tried, Exception]:
    ended = Attempt().make(make_task(call, *args))
    return ended, error_of(ended)


def pids_in(folder: Path) -> list[int]:
    until((folder / "pids").exists, "the process has started")
    return [int(pid) for pid in (folder / "pids").read_text().split()]


# --- values ---------------------------------------------------------------------------------------


def test_the_value_comes_back():
    assert result_of(isolated.greets, "Ada", loud=True) == "Hello, ADA"


def test_user_types_go_in_and_come_back():
    doc = Doc("title", Color.RED)
    note = Note(text="a", doc=doc)
    assert result_of(isolated.annotates, doc, note) == [doc, note, Note(text="new", doc=doc)]


def test_large_values_pass_both_ways():
    assert result_of(isolated.returns_much, 5_000_000) == "ü" * 5_000_000
    assert result_of(isolated.takes_much, "x" * 5_000_000) == 5_000_000


def test_a_coroutine_function_is_run_to_its_end():
    work = Attempt()
    assert value_of(isolated.awaits, work.make(make_task(isolated.awaits, "text"))) == "text"
    assert [line.message for line in work.lines] == ["awaited"]


def test_the_code_knows_where_it_is(monkeypatch):
    monkeypatch.setenv("EXPECTED_CWD", os.getcwd())
    *who, same_folder, leads_session, typed = result_of(isolated.tells_who)
    assert who == ["kr-1", "work#2", "work", 4, "kr-1/work#2"]
    assert (same_folder, leads_session, typed) == (True, True, "")


SCRIPT = """
from dataclasses import dataclass
from kitaru import checkpoint, codec, failures

@dataclass
class Doc:
    title: str

class Odd(Exception):
    pass

@checkpoint
def work(doc: Doc) -> Doc:
    if not doc.title:
        raise Odd("no title")
    return Doc(doc.title + "!")

if __name__ == "__main__":
    from tests.isolated import Attempt, make_task

    ended = Attempt().make(make_task(work, Doc("t")))
    print(codec.decode(ended.result, types=codec.return_types(work.fn)) == Doc("t!"))
    failed = Attempt().make(make_task(work, Doc("")))
    print(type(failures.rebuild(failed.failure, call="kr-1/work")) is Odd)
"""


def test_a_checkpoint_of_a_script_gives_the_script_its_own_types(home: Path, tmp_path: Path):
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    program = f"import runpy; runpy.run_path({str(script)!r}, run_name='__main__')"
    assert run_python(home, program) == ["True", "True"]


def test_a_script_of_a_package_gets_its_own_types_too(home: Path, tmp_path: Path, monkeypatch):
    package = tmp_path / "package_of_scripts"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "script.py").write_text(SCRIPT)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path), *sys.path]))
    process = spawn(home, "-m", "package_of_scripts.script")
    assert rest(process) == ["True", "True"]


# --- failures -------------------------------------------------------------------------------------


def test_an_exception_comes_back_as_its_class():
    ended, exc = failure_of(isolated.refuses, 5)
    assert (type(exc), exc.args, exc.limit) == (TooLong, ("over 5",), 5)
    assert ended.failure["origin"] == "user_code"
    assert "raise TooLong(limit)" in ended.failure["traceback"]


def test_system_exit_is_an_exception():
    ended, _ = failure_of(isolated.exits)
    assert (ended.failure["message"], ended.failure["origin"]) == ("SystemExit: 3", "user_code")


@pytest.mark.parametrize(
    ("call", "kind", "says"),
    [
        (isolated.breaks, KitaruSerializationError, "result is a tests.isolated._Broken"),
        (isolated.nests, KitaruContextError, "not inside checkpoint 'work#2' of kr-1"),
    ],
)
def test_mistakes_come_back_as_what_they_are(call, kind, says):
    _, exc = failure_of(call)
    assert type(exc) is kind
    assert says in str(exc)


def test_a_crash_tells_what_it_was_and_keeps_what_was_gathered():
    work = Attempt()
    ended = work.make(make_task(isolated.crashes))
    exc = error_of(ended)
    assert type(exc) is KitaruRuntimeError
    assert "checkpoint 'crashes' (kr-1/work#2) was ended by SIGSEGV" in str(exc)
    assert "Segmentation fault" in str(exc)
    assert "in crashes" in str(exc)
    assert ended.failure["origin"] == "runtime"
    assert work.scope.metadata == {"tokens": 7}
    assert [(a.name, codec.decode(a.data)) for a in work.scope.artifacts] == [("draft", ["kept"])]
    assert [line.message for line in work.lines] == ["about to read"]


def test_an_exit_past_python_tells_its_code_and_the_last_lines():
    _, exc = failure_of(isolated.leaves, 3)
    assert type(exc) is KitaruRuntimeError
    assert "ended with exit code 3 before it gave a result" in str(exc)
    assert str(exc).endswith("line 98\nline 99")
    assert "line 69\n" not in str(exc)


@pytest.mark.parametrize(
    ("number", "says"), [(9, "SIGKILL before it gave a result. Often"), (40, "signal 40 before")]
)
def test_a_signal_is_named(number, says):
    _, exc = failure_of(isolated.kills, number)
    assert f"was ended by {says}" in str(exc)


# --- beginning ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("target", "says"),
    [
        ("tests.isolated:not_a_checkpoint", "names no checkpoint. Checkpoints in tests.isolated:"),
        ("tests.isolated:gone", "names no checkpoint"),
        ("tests.nowhere:work", "No module named 'tests.nowhere'"),
        ("nonsense", "write 'module:checkpoint'"),
    ],
)
def test_a_target_that_is_none_is_a_mistake(target, says):
    ended = Attempt().make(replace(make_task(isolated.greets, "x"), target=target))
    exc = error_of(ended)
    assert type(exc) is KitaruUsageError
    assert says in str(exc)


def test_a_module_that_crashes_or_exits_when_it_is_imported_is_told(tmp_path: Path):
    (tmp_path / "crashing.py").write_text("import os\nos.abort()\n")
    (tmp_path / "exiting.py").write_text("import sys\nsys.exit('not here')\n")
    crashed = Attempt().make(Task("f", "crashing.py:f", str(tmp_path), b"{}"))
    assert "was ended by SIGABRT" in str(error_of(crashed))
    exited = Attempt().make(Task("f", "exiting.py:f", str(tmp_path), b"{}"))
    assert "SystemExit: not here" in str(error_of(exited))


def test_arguments_that_cannot_be_rebuilt_are_a_mistake():
    arguments = codec.encode_any({"name": Doc("t", Color.RED)})
    ended = Attempt().make(replace(make_task(isolated.greets, "x"), arguments=arguments))
    exc = error_of(ended)
    assert type(exc) is KitaruSerializationError
    assert "the arguments of greets" in str(exc)
    assert "declare it" in str(exc)


def test_no_process_is_a_failure_too(monkeypatch):
    monkeypatch.setattr(sys, "executable", "/nowhere/python")
    ended = Attempt().make(make_task(isolated.greets, "x"))
    assert "No process could be started for checkpoint 'greets'" in str(error_of(ended))


# --- ends from outside ----------------------------------------------------------------------------


def test_a_late_attempt_is_killed_with_its_own_children(tmp_path: Path, turned: TurnedClock):
    work = Attempt()
    late = work.begin(make_task(isolated.stays, str(tmp_path)), timeout=300)
    pids = pids_in(tmp_path)
    turned.turn(300)
    ended = late()
    exc = error_of(ended)
    assert type(exc) is TimeoutError
    assert str(exc) == "Checkpoint 'stays' did not end within 300 seconds; its process was killed."
    assert (ended.failure["origin"], ended.stopped) == ("runtime", False)
    until(lambda: not any(map(is_running, pids)), "the killed are gone")
    assert work.scope.metadata == {"stays": True}


def test_a_stopped_attempt_is_killed_with_its_own_children(tmp_path: Path):
    work = Attempt()
    join = work.begin(make_task(isolated.stays, str(tmp_path)))
    pids = pids_in(tmp_path)
    work.stop.set()
    assert join() == Tried(stopped=True)
    until(lambda: not any(map(is_running, pids)), "the killed are gone")


def test_what_an_attempt_leaves_running_ends_with_it():
    pid = result_of(isolated.leaves_a_child)
    until(lambda: not is_running(pid), "its child is gone")


def test_the_process_ends_with_the_process_that_waits(home: Path):
    waiting = spawn(home, "-m", "tests.isolated")
    pids = pids_in(home)
    try:
        assert all(map(is_running, pids))
    finally:
        kill_pid(waiting.pid)
    until(lambda: not any(map(is_running, pids)), "nothing runs on")
    waiting.communicate()


def test_exit_handlers_run(tmp_path: Path):
    assert result_of(isolated.leaves_orderly, str(tmp_path / "note")) == "done"
    assert (tmp_path / "note").read_text() == "left"


# --- output ---------------------------------------------------------------------------------------


def test_lines_are_captured_and_still_shown(capsys):
    work = Attempt()
    value_of(isolated.speaks, work.make(make_task(isolated.speaks)))
    got = [(line.level, line.message.partition("\n")[0]) for line in work.lines]
    assert got == [
        ("INFO", "one é"),
        ("WARNING", "a warning"),
        ("INFO", "at info"),
        ("ERROR", "oops"),
        ("INFO", "unended \udcff"),
    ]
    assert all((line.call_id, line.attempt) == ("work#2", 4) for line in work.lines)
    lines = Path(isolated.__file__).read_text().splitlines()
    assert {line.filename for line in work.lines[:-1]} == {isolated.__file__}
    assert 'log.info("at %s", "info")' in lines[work.lines[2].lineno - 1]
    assert "print(" in lines[work.lines[0].lineno - 1]
    assert "ValueError: why" in work.lines[3].message
    shown = capsys.readouterr()
    assert shown.out == "one é\nzwei ü\nunended \\udcff"
    assert shown.err.startswith("a warning\npast python\noops\nTraceback")


def test_output_that_nobody_can_take_costs_nothing(monkeypatch):
    closed = io.StringIO()
    closed.close()
    monkeypatch.setattr(sys, "stdout", closed)
    monkeypatch.setattr(sys, "stderr", None)
    work = Attempt()
    ended = work.make(make_task(isolated.speaks))
    assert ended.failure is None
    assert len(work.lines) == 5


def test_a_narrow_stdout_gets_what_it_can_show(monkeypatch):
    narrow = io.TextIOWrapper(io.BytesIO(), encoding="ascii", newline="\n")
    monkeypatch.setattr(sys, "stdout", narrow)
    Attempt().make(make_task(isolated.speaks))
    narrow.flush()
    assert narrow.buffer.getvalue() == rb"one \xe9" b"\n" rb"zwei \xfc" b"\n" rb"unended \udcff"


def test_much_output_does_not_hold_it_up(capsys):
    work = Attempt()
    assert value_of(isolated.writes_much, work.make(make_task(isolated.writes_much, 500))) == 500
    shown = capsys.readouterr()
    assert (len(shown.out), len(shown.err)) == (500 * 1024, 500 * 1024)
    assert len(work.lines) == 1000


def test_metadata_and_artifacts_come_and_other_executions_can_be_read():
    @flow
    def first() -> int:
        return isolated.greets("Bo") and 1

    handle = first.run()
    handle.wait(20)
    work = Attempt()
    ended = work.make(make_task(isolated.gathers, handle.exec_id))
    assert value_of(isolated.gathers, ended) == "loaded Hello, Bo"
    assert work.scope.metadata == {"cost": {"usd": 1, "tokens": 2}, "step": "b"}
    one, two = work.scope.artifacts
    assert (one.name, one.kind, one.tags, codec.decode(one.data)) == (
        "first",
        "context",
        ("t",),
        (1, "ü"),
    )
    assert two.data == codec.encode_any(Doc("x", Color.RED))
    assert two.created_at >= one.created_at > 1_000_000


# --- odd code -------------------------------------------------------------------------------------


def test_closed_streams_cost_nothing():
    assert result_of(isolated.closes_streams) == "done"


def test_a_closed_channel_is_told():
    _, exc = failure_of(isolated.closes_everything)
    assert "closed the pipe it reports on, and was killed" in str(exc)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_forked_child_writes_past_the_answer(capsys):
    work = Attempt()
    assert value_of(isolated.forks, work.make(make_task(isolated.forks))) == "parent"
    assert "forked child\n" in capsys.readouterr().err
    assert work.lines == []


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_forked_child_that_returns_gives_no_answer():
    assert result_of(isolated.returns_twice) == "parent"


def test_the_failure_is_json():
    for call in (isolated.crashes, isolated.exits):
        ended, _ = failure_of(call)
        assert json.loads(json.dumps(ended.failure)) == ended.failure
