"""Captured lines: one entry per line written, with its level, place and checkpoint."""

from __future__ import annotations

import io
import logging
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import redirect_stdout
from typing import Any

import pytest

import kitaru
from kitaru import KitaruClient, checkpoint, clock, config, flow
from kitaru.models import LogEntry
from tests.drives import again, answer, error_of, left
from tests.support import QuickClock, until

logger = logging.getLogger("tests.captured")


@pytest.fixture(autouse=True)
def fresh(home: object) -> Iterator[None]:
    """A store of its own, and logging as it was before."""
    factory, level = logging.getLogRecordFactory(), logger.level
    logger.setLevel(logging.DEBUG)
    yield
    logging.setLogRecordFactory(factory)
    logger.setLevel(level)


def lines_of(exec_id: str, checkpoint: str | None = None, **options: Any) -> list[LogEntry]:
    return KitaruClient().executions.logs(exec_id, checkpoint, **options)


def messages(exec_id: str, checkpoint: str | None = None, **options: Any) -> list[str]:
    return [line.message for line in lines_of(exec_id, checkpoint, **options)]


def written(body: Any) -> list[LogEntry]:
    """What is captured of a flow with this body."""
    handle = flow(name="body")(body).run()
    handle.wait(20)
    return lines_of(handle.exec_id)


def texts(body: Any) -> list[str]:
    return [line.message for line in written(body)]


def test_each_printed_line_is_one_entry_with_its_level_and_place():
    @checkpoint
    def prints() -> None:
        print("a", "b", 3)
        print("to stderr", file=sys.stderr)

    first, second = written(lambda: prints())
    assert (first.message, first.level, first.source) == ("a b 3", "INFO", "step")
    assert (first.checkpoint_name, first.module) == ("prints", __name__)
    assert (first.filename, first.lineno) == (__file__, prints.fn.__code__.co_firstlineno + 2)
    assert first.timestamp.utcoffset() is not None
    assert (second.message, second.level) == ("to stderr", "WARNING")


@pytest.mark.parametrize(
    ("writes", "expected"),
    [
        (["a", "b\n", "c\n"], ["ab", "c"]),
        (["a\nb\nc"], ["a", "b", "c"]),
        (["\n", "a\r\n"], ["", "a"]),
        (["no end"], ["no end"]),
        (["NUL \0 and \ud800\n"], ["NUL \0 and \\ud800"]),
        (["ไทย 🔬\n"], ["ไทย 🔬"]),
        ([], []),
    ],
)
def test_what_is_written_becomes_one_entry_per_line(writes, expected, monkeypatch):
    monkeypatch.setattr(sys, "stdout", io.StringIO())

    def body() -> None:
        for text in writes:
            sys.stdout.write(text)
        sys.stdout.writelines([])

    assert texts(body) == expected


def test_what_is_captured_is_still_shown(capsys):
    written(lambda: print("shown too"))
    assert capsys.readouterr().out == "shown too\n"


def test_a_very_long_line_says_how_much_is_missing():
    (line,) = texts(lambda: print("x" * (config.MAX_LOG_MESSAGE + 7)))
    assert line.endswith("x … 7 characters left out")


def test_log_records_keep_level_module_and_line():
    @checkpoint
    def logs() -> None:
        logger.debug("%s is %d", "debug", 1)
        logger.warning("careful")
        logger.log(25, "between")

    debug, warning, between = written(lambda: logs())
    assert (debug.message, debug.level, debug.checkpoint_name) == ("debug is 1", "DEBUG", "logs")
    assert (debug.module, debug.filename) == ("test_logs", __file__)
    assert debug.lineno == logs.fn.__code__.co_firstlineno + 2
    assert [warning.level, between.level] == ["WARNING", "Level 25"]


def test_records_below_a_loggers_level_are_not_captured():
    logger.setLevel(logging.INFO)
    assert texts(lambda: logger.debug("no")) == []


def test_a_logged_exception_comes_with_its_traceback():
    def body() -> None:
        try:
            raise ValueError("inside")
        except ValueError:
            logger.exception("it failed")

    (line,) = written(body)
    assert line.level == "ERROR"
    assert line.message.startswith("it failed\nTraceback (most recent call last):")
    assert line.message.endswith("ValueError: inside")


def test_log_arguments_that_do_not_fit_are_told_and_do_not_raise(monkeypatch):
    monkeypatch.setattr(logging, "raiseExceptions", False)
    (line,) = texts(lambda: logger.info("%d items", "two"))
    assert line.startswith("%d items (arguments do not fit: ")


def test_a_record_shown_by_a_stream_handler_is_one_entry():
    handler = logging.StreamHandler()
    logger.addHandler(handler)

    def body() -> None:
        handler.setStream(sys.stderr)
        logger.warning("once")

    try:
        assert texts(body) == ["once"]
    finally:
        logger.removeHandler(handler)


def test_streams_and_factories_that_others_put_on_top_do_not_double_a_line(monkeypatch):
    written(lambda: None)
    inner = logging.getLogRecordFactory()

    class Wrapper(io.StringIO):
        def write(self, text: str) -> int:
            return kitaru_stdout.write(text)

    kitaru_stdout = sys.stdout
    monkeypatch.setattr(sys, "stdout", Wrapper())
    logging.setLogRecordFactory(lambda *args, **kwargs: inner(*args, **kwargs))

    def body() -> None:
        print("printed")
        logger.info("logged")

    assert texts(body) == ["printed", "logged"]


def test_records_received_from_elsewhere_are_not_lines_of_the_flow():
    assert texts(lambda: logging.makeLogRecord({"msg": "received"}) and None) == []


def test_lines_of_concurrent_checkpoints_do_not_mix():
    meeting = threading.Barrier(2, timeout=20)

    @checkpoint
    def halves(n: int) -> None:
        sys.stdout.write(f"first {n}, ")
        meeting.wait()
        sys.stdout.write(f"second {n}\n")

    @flow
    def concurrent() -> None:
        halves.map([1, 2]).result()

    handle = concurrent.run()
    handle.wait(20)
    assert messages(handle.exec_id, "halves#2") == ["first 2, second 2"]
    assert sorted(messages(handle.exec_id)) == ["first 1, second 1", "first 2, second 2"]


def test_an_open_line_of_the_flow_does_not_run_into_a_checkpoints():
    @checkpoint
    def inside() -> None:
        print("inside")
        sys.stdout.write("open")

    def body() -> None:
        sys.stdout.write("be")
        inside()
        print("fore")

    lines = written(body)
    assert [(line.message, line.checkpoint_name) for line in lines] == [
        ("inside", "inside"),
        ("open", "inside"),
        ("before", None),
    ]


@checkpoint
def noted(text: str) -> None:
    print(text)


@flow
def noting() -> None:
    print("body 1")
    noted("a")
    noted("b")
    print("body 2")
    kitaru.wait(name="go", timeout=0)
    print("body 3")


def test_lines_of_the_body_are_not_doubled_by_a_resume():
    handle = noting.run()
    left(handle.exec_id)
    expected = ["body 1", "a", "b", "body 2"]
    assert messages(handle.exec_id) == expected
    answer(handle.exec_id, "go", True)
    again("resume", noting, handle.exec_id).wait(20)
    assert messages(handle.exec_id) == [*expected, "body 3"]


def test_lines_are_found_by_checkpoint_name_and_call_id_and_limited_from_the_first():
    handle = noting.run()
    left(handle.exec_id)
    assert messages(handle.exec_id, "noted") == ["a", "b"]
    assert messages(handle.exec_id, "noted#2") == ["b"]
    with pytest.raises(kitaru.KitaruNotFoundError, match="has not called a checkpoint 'unknown'"):
        messages(handle.exec_id, "unknown")
    assert messages(handle.exec_id[:8], limit=2) == ["body 1", "a"]
    for bad in (0, -1, True, 1.5):
        with pytest.raises(kitaru.KitaruUsageError, match="limit"):
            messages(handle.exec_id, limit=bad)
    with pytest.raises(kitaru.KitaruUsageError, match="'step' or 'runner'"):
        messages(handle.exec_id, source="body")
    with pytest.raises(kitaru.KitaruNotFoundError):
        messages("kr-nothing")


def test_what_drivers_did_is_told_apart_from_what_the_code_wrote():
    handle = noting.run()
    left(handle.exec_id)
    (line,) = lines_of(handle.exec_id, source="runner")
    assert line.message.startswith("Started by process ")


def test_lines_of_a_failed_attempt_are_kept():
    @checkpoint(retries=1)
    def unsteady() -> None:
        current = kitaru.current_checkpoint()
        assert current is not None
        print("attempt", current.attempt)
        if current.attempt == 1:
            raise ValueError

    with clock.use(QuickClock()):
        assert texts(lambda: unsteady()) == ["attempt 1", "attempt 2"]


def test_lines_of_a_failed_flow_are_kept():
    def body() -> None:
        print("last words")
        raise ValueError

    handle = flow(body).run()
    error_of(handle)
    assert messages(handle.exec_id) == ["last words"]


def test_lines_of_a_running_checkpoint_can_be_read():
    gate = threading.Event()

    @checkpoint
    def long() -> None:
        print("begun")
        gate.wait(20)

    handle = flow(name="body")(lambda: long()).run()
    until(lambda: messages(handle.exec_id) == ["begun"], "the line is stored")
    gate.set()
    handle.wait(20)
    assert messages(handle.exec_id) == ["begun"]


def test_redirected_output_is_not_a_line_of_the_flow():
    def body() -> str:
        with redirect_stdout(io.StringIO()) as kept:
            print("kept")
        return kept.getvalue()

    assert texts(body) == []


def test_nothing_is_captured_outside_a_flow():
    gate = threading.Event()

    @flow
    def quiet() -> None:
        gate.wait(20)

    handle = quiet.run()
    print("not of the flow")
    logger.warning("nor this")
    gate.set()
    handle.wait(20)
    assert messages(handle.exec_id) == []


def test_importing_kitaru_and_its_parts_installs_nothing():
    code = (
        "import sys, logging; out, factory = sys.stdout, logging.getLogRecordFactory()\n"
        "import kitaru; kitaru.flow, kitaru.checkpoint, kitaru.KitaruClient\n"
        "import kitaru.runtime, kitaru.capture\n"
        "assert sys.stdout is out and logging.getLogRecordFactory() is factory\n"
        "assert not logging.getLogger().handlers\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


SCRIPT_THAT_DIES = """
import kitaru

@kitaru.flow
def greet(name: str) -> str:
    print("hello", name)
    return name

greet.run("Ada").wait()
raise ValueError("after the flow")
"""


def test_a_script_that_dies_after_a_flow_still_shows_its_traceback():
    died = subprocess.run(
        [sys.executable, "-c", SCRIPT_THAT_DIES], capture_output=True, text=True, check=False
    )
    assert died.returncode == 1
    assert died.stdout == "hello Ada\n"
    assert died.stderr.startswith("Traceback (most recent call last):")
    assert died.stderr.endswith("ValueError: after the flow\n")
