"""What must not break a drive: odd inputs, odd exceptions, faults beside it, a store that goes."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import textwrap
import threading
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel, field_validator

import kitaru
from kitaru import KitaruClient, checkpoint, config, flow
from kitaru.errors import (
    KitaruBackendError,
    KitaruCorruptionError,
    KitaruExecutionError,
    KitaruRuntimeError,
)
from kitaru.heart import Heart, Tick
from kitaru.journal import Journal
from kitaru.pool import Pool
from tests import drives
from tests.support import QuickClock, query, until

pytestmark = pytest.mark.usefixtures("home")


def test_each_try_of_a_flow_gets_its_inputs_as_they_were_recorded():
    tries: list[int] = []

    @flow(retries=1)
    def counts(items: list[int]) -> int:
        count = len(items)
        items.clear()
        tries.append(count)
        if len(tries) == 1:
            raise ConnectionError("away")
        return count

    with kitaru.clock.use(QuickClock()):
        assert counts.run([1, 2, 3]).wait(20) == 3
    assert tries == [3, 3]


UNLOADED = """
import sys
import kitaru

class Mine(Exception):
    pass

@kitaru.checkpoint
def parse() -> None:
    import configparser
    raise configparser.NoSectionError("s")

@kitaru.checkpoint
def own() -> None:
    raise Mine("my own")

@kitaru.flow
def agent() -> list[str]:
    seen = []
    try:
        parse()
    except Exception as exc:
        seen.append(f"{type(exc).__name__}: {exc} {exc.args}")
    try:
        own()
    except Mine as exc:
        seen.append(f"{type(exc).__name__}: {exc}")
    kitaru.log(seen=seen)
    kitaru.wait(name="go", schema=None, timeout=0)
    return seen

if __name__ == "__main__":
    handle = agent.run()
    try:
        handle.wait()
    except kitaru.KitaruStateError:
        print(handle.exec_id)
"""


def test_exceptions_read_the_same_in_a_process_that_has_not_loaded_their_classes(tmp_path):
    script = tmp_path / "script.py"
    script.write_text(UNLOADED)
    ran = subprocess.run(
        [sys.executable, script], capture_output=True, text=True, check=True, cwd=tmp_path
    )
    exec_id = ran.stdout.strip()
    executions = KitaruClient().executions
    first = executions.get(exec_id).metadata["seen"]
    assert first == ["NoSectionError: No section: 's' ('s',)", "Mine: my own"]
    executions.input(exec_id, wait="go", value=None)
    executions.resume(exec_id)
    until(lambda: executions.get(exec_id).status.is_finished, "it has ended")
    assert executions.get(exec_id).result == first


class _Odd(Exception):
    @property
    def __dict__(self) -> Any:
        raise RuntimeError("no state for you")


def test_an_exception_whose_state_cannot_be_read_fails_its_checkpoint_like_any_other():
    @checkpoint
    def odd() -> None:
        raise _Odd("odd")

    @flow
    def agent() -> None:
        odd()

    error = drives.error_of(agent.run())
    assert isinstance(error, kitaru.KitaruUserCodeError)
    assert "odd" in str(error)


class Share(BaseModel):
    of: int

    @field_validator("of")
    @classmethod
    def _divides(cls, value: int) -> int:
        return 1 // value and value


def test_an_answer_that_makes_a_validator_raise_anything_is_asked_for_again():
    @flow
    def agent() -> int:
        return kitaru.wait(name="share", schema=Share, timeout=30).of

    handle = agent.run()
    drives.answer(handle.exec_id, "share", {"of": 0})
    executions = KitaruClient().executions
    until(
        lambda: "division" in (executions.get(handle.exec_id).status_reason or ""), "it is refused"
    )
    drives.answer(handle.exec_id, "share", {"of": 1})
    assert handle.wait(20) == 1


@pytest.mark.parametrize("when", ["it is asked", "it writes"])
def test_one_drives_fault_does_not_stop_the_heart_of_the_others(when: str):
    beats, faults = threading.Event(), []

    class Drive:
        store, execution, rests = drives.store(), 1, False
        ended = threading.Event()

        def notice(self, lease: Any, *, answered: bool) -> None: ...

        def is_due(self, now: float, *, has_jumped: bool) -> bool:
            return True

    class Faulty(Drive):
        def is_due(self, now: float, *, has_jumped: bool) -> bool:
            if when == "it is asked":
                raise ValueError("odd")
            return True

        def tick(self) -> Tick:
            yield from ()
            raise ValueError("odd")

        def fault(self, exc: Exception) -> None:
            faults.append(str(exc))

    class Sound(Drive):
        def tick(self) -> Tick:
            yield from ()
            if faults:
                beats.set()

        def fault(self, exc: Exception) -> None:
            raise AssertionError(exc)

    heart, sound = Heart(), Sound()
    heart.add(Faulty())
    heart.add(sound)
    assert beats.wait(20)
    heart.remove(sound)
    assert faults == ["odd"]


def test_a_fault_of_our_own_ends_the_execution_with_a_typed_error(monkeypatch):
    def broken(self: Journal) -> None:
        raise ZeroDivisionError("a fault")

    @flow
    def agent() -> int:
        return 1

    with monkeypatch.context() as patch:
        patch.setattr(Journal, "unreached", broken)
        handle = agent.run()
        error = drives.error_of(handle)
    assert isinstance(error, KitaruExecutionError)
    assert "failed inside Kitaru: ZeroDivisionError: a fault" in str(error)
    assert drives.again("retry", agent, handle.exec_id).wait(20) == 1


def test_a_pool_that_gets_no_thread_says_so_and_does_not_wait_for_ever(monkeypatch):
    def refuse(self: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    pool = Pool(2)
    monkeypatch.setattr(threading.Thread, "start", refuse)
    with pytest.raises(KitaruRuntimeError, match="No thread could be started"):
        pool.run(lambda: None)
    pool.join()
    assert pool.is_idle()


def test_a_retry_that_cannot_read_the_journal_leaves_status_and_failure(home):
    flow_ = drives.load(
        """
        @checkpoint
        def step() -> int:
            return 1

        @flow
        def agent() -> int:
            step()
            raise RuntimeError("stop here")
        """
    )
    exec_id = flow_.run().exec_id
    drives.left(exec_id)
    with drives.store().write() as conn:
        conn.execute("UPDATE calls SET status = 'odd'")
    before = query(home, "SELECT status, failure, ended_at FROM executions")
    with pytest.raises(KitaruCorruptionError):
        drives.again("retry", flow_, exec_id)
    assert query(home, "SELECT status, failure, ended_at FROM executions") == before


def test_a_store_that_is_removed_under_a_flow_is_an_error_and_no_success(home):
    @checkpoint
    def clean() -> None:
        shutil.rmtree(home)

    @flow
    def agent() -> None:
        clean()

    error = drives.error_of(agent.run())
    assert isinstance(error, KitaruBackendError)
    assert "removed or replaced" in str(error)


def test_an_answer_is_taken_up_after_the_timeout_while_a_submitted_call_still_runs():
    gate = threading.Event()

    @checkpoint
    def slow() -> int:
        assert gate.wait(20)
        return 1

    @flow
    def agent() -> str:
        running = slow.submit()
        word = kitaru.wait(name="word", schema=str, timeout=0)
        gate.set()
        return f"{word} {running.result()}"

    handle = agent.run()
    drives.answer(handle.exec_id, "word", "go")
    assert handle.wait(20) == "go 1"


def test_the_retries_a_run_was_given_hold_for_its_resume():
    source = """
    @flow
    def agent() -> int:
        kitaru.wait(name="go", schema=None, timeout=0)
        ran.append(1)
        if len(ran) < 3:
            raise ConnectionError("away")
        return len(ran)
    """
    ran: list[int] = []
    flow_ = drives.load(source, ran=ran)
    exec_id = flow_.with_options(retries=2).run().exec_id
    drives.left(exec_id)
    drives.answer(exec_id, "go", None)
    with kitaru.clock.use(QuickClock()):
        assert drives.again("resume", flow_, exec_id).wait(20) == 3


def test_lines_of_a_slow_body_are_not_stored_again_when_it_is_resumed(monkeypatch):
    monkeypatch.setattr(config, "LOG_FLUSH_SECONDS", 0.0)
    ticks = threading.Semaphore(0)

    @checkpoint
    def step() -> int:
        return 1

    @flow
    def agent() -> None:
        print("body begins")
        for _ in range(3):  # the heart has beaten meanwhile
            ticks.acquire(timeout=0.06)
        step()
        print("between")
        kitaru.wait(name="go", schema=None, timeout=0)
        print("after")

    handle = agent.run()
    drives.left(handle.exec_id)
    drives.answer(handle.exec_id, "go", None)
    drives.again("resume", agent, handle.exec_id).wait(20)
    lines = [line.message for line in KitaruClient().executions.logs(handle.exec_id)]
    assert lines == ["body begins", "between", "after"]


@pytest.mark.skipif(not os.path.isdir("/proc/self/fd"), reason="counts descriptors in /proc")
def test_a_store_that_was_replaced_leaves_no_descriptors_open(tmp_path):
    client = KitaruClient(home=tmp_path / "again")
    client.executions.list()
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(5):
        shutil.rmtree(tmp_path / "again")
        client.executions.list()
    assert len(os.listdir("/proc/self/fd")) <= before + 1


def test_a_relative_home_stays_where_it_was_when_a_checkpoint_changes_the_directory(
    tmp_path: Path,
):
    script = tmp_path / "moves.py"
    script.write_text(
        textwrap.dedent(
            """
            import os, kitaru

            @kitaru.checkpoint
            def move() -> None:
                os.chdir("/")

            @kitaru.flow
            def agent() -> None:
                move()

            handle = agent.run()
            handle.wait()
            print(len(kitaru.KitaruClient().executions.list()))
            """
        )
    )
    ran = subprocess.run(
        [sys.executable, script],
        capture_output=True,
        text=True,
        check=True,
        cwd=tmp_path,
        env={**os.environ, "KITARU_HOME": "relative"},
    )
    assert ran.stdout == "1\n"
    assert (tmp_path / "relative" / "kitaru.db").exists()


def test_a_script_run_as_a_module_of_a_package_is_resumed_with_its_relative_imports(tmp_path):
    package = tmp_path / "outer" / "inner"
    package.mkdir(parents=True)
    (tmp_path / "outer" / "__init__.py").write_text("")
    (package / "__init__.py").write_text("")
    (tmp_path / "outer" / "words.py").write_text("WORD = 'relative'\n")
    (package / "script.py").write_text(
        textwrap.dedent(
            """
            import kitaru
            from ..words import WORD

            @kitaru.flow
            def agent() -> str:
                kitaru.wait(name="go", schema=None, timeout=0)
                return WORD

            if __name__ == "__main__":
                print(agent.run().exec_id)
            """
        )
    )
    command = [sys.executable, "-m", "outer.inner.script"]
    ran = subprocess.run(command, capture_output=True, text=True, check=True, cwd=tmp_path)
    exec_id = ran.stdout.strip()
    executions = KitaruClient().executions
    executions.input(exec_id, wait="go", value=None)
    executions.resume(exec_id)
    until(lambda: executions.get(exec_id).status.is_finished, "it has ended")
    assert executions.get(exec_id).result == "relative"
