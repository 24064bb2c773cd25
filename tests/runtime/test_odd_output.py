"""Odd output of user code: whatever it writes or logs, the lines are kept and the flow goes on."""

from __future__ import annotations

import copy
import io
import logging
import sys
from collections.abc import Iterator
from typing import Any

import pytest

from kitaru import KitaruClient, checkpoint, config, flow
from kitaru.models import LogEntry

logger = logging.getLogger("tests.odd")


@pytest.fixture(autouse=True)
def fresh(home: object, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A store of its own, and logging as it was before."""
    factory, level = logging.getLogRecordFactory(), logger.level
    logger.setLevel(logging.DEBUG)
    monkeypatch.setattr(logging, "raiseExceptions", False)
    yield
    logging.setLogRecordFactory(factory)
    logger.setLevel(level)


class Unsayable:
    def __str__(self) -> str:
        raise ValueError("no text")

    __repr__ = __str__


class UnsayableError(Exception):
    def __str__(self) -> str:
        raise ValueError("no text")


def written(body: Any) -> list[LogEntry]:
    """What is captured of a checkpoint with this body, in a flow that has to succeed."""
    step = checkpoint(name="step")(body)
    handle = flow(name="body")(lambda: step()).run()
    handle.wait(20)
    return KitaruClient().executions.logs(handle.exec_id)


def texts(*writes: str) -> list[str]:
    """The lines captured of these writes."""

    def body() -> None:
        for text in writes:
            sys.stdout.write(text)

    return [line.message for line in written(body)]


def record(**fields: Any) -> logging.LogRecord:
    """Log through the record factory, as a library does that makes its records itself."""
    made = {"name": "n", "level": 30, "pathname": "/a/b.py", "lineno": 1, "msg": "odd", "args": ()}
    return logging.getLogRecordFactory()(**(made | fields), exc_info=None)


def test_a_line_of_a_file_whose_name_is_not_utf_8_is_kept():
    def body() -> None:
        record(pathname="/tmp/\udcff/\udcfe.py")

    (line,) = written(body)
    assert (line.message, line.filename) == ("odd", "/tmp/\\udcff/\\udcfe.py")
    assert line.module == "\\udcfe"


def test_a_printed_line_of_such_a_file_is_kept():
    code = compile("print('said')", "/tmp/\udcff.py", "exec")
    (line,) = written(lambda: exec(code, {"__name__": "\udcff", "print": print}))
    assert (line.message, line.filename, line.module) == ("said", "/tmp/\\udcff.py", "\\udcff")


def test_a_level_whose_name_no_file_takes_is_kept_escaped(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(logger, "propagate", False)  # pytest's own handlers cannot report it
    monkeypatch.setattr(logger, "handlers", [logging.NullHandler()])
    logging.addLevelName(33, "\ud800")
    try:
        (line,) = written(lambda: logger.log(33, "odd"))
    finally:
        logging._levelToName.pop(33)
    assert line.level == "\\ud800"


@pytest.mark.parametrize("lineno", [10**30, -(10**30), "12", None])
def test_a_line_number_that_no_row_takes_is_left_out(lineno: Any):
    (line,) = written(lambda: record(lineno=lineno) and None)
    assert (line.message, line.lineno) == ("odd", None)


def test_a_module_name_that_is_no_text_is_told_by_its_type():
    (line,) = written(lambda: exec("print('said')", {"__name__": Unsayable()}))
    assert (line.message, line.module) == ("said", "Unsayable")


@pytest.mark.parametrize(
    ("writes", "expected"),
    [
        (["\r 10%", "\r 90%", "\r100%", "\n"], ["100%"]),
        (["\r 10%", "\r 90%"], [" 90%"]),
        ([" 10%\r", " 90%\r"], [" 90%"]),
        (["a\r", "\nb\n"], ["a", "b"]),
        (["a\r", "\r", "\nb\n"], ["a", "b"]),
        (["a\rb\r\rc\nd\r\n"], ["c", "d"]),
        (["a", "\r", "", "b\n"], ["b"]),
        (["\r\n", "\r"], [""]),
    ],
)
def test_a_carriage_return_starts_the_line_again(writes: list[str], expected: list[str]):
    assert texts(*writes) == expected


def test_a_line_of_many_writes_is_kept_up_to_the_limit_and_tells_what_is_missing():
    piece, count = "x" * 80, 2 * config.MAX_LOG_MESSAGE // 80
    (line,) = texts(*[piece] * count, "\n")
    missing = 80 * count - config.MAX_LOG_MESSAGE
    assert line == "x" * config.MAX_LOG_MESSAGE + f" … {missing} characters left out"


def test_a_line_without_end_holds_no_more_text_than_is_kept():
    held: list[int] = []

    def body() -> None:
        for _ in range(40):
            sys.stdout.write("x" * 8000)
        held.append(sum(map(len, sys.stdout._line().parts)))  # type: ignore[attr-defined]

    written(body)
    assert held == [config.MAX_LOG_MESSAGE]


def test_a_long_line_that_starts_again_is_short():
    assert texts("x" * 2 * config.MAX_LOG_MESSAGE, "\rshort\n") == ["short"]


def test_logging_what_has_no_text_does_not_fail_the_checkpoint():
    (line,) = written(lambda: logger.warning(Unsayable()))
    assert line.message == ("<Unsayable without text> (arguments do not fit: no text)")


def test_logging_an_argument_without_text_does_not_fail_the_checkpoint():
    (line,) = written(lambda: logger.warning("got %s", Unsayable()))
    assert line.message == "got %s (arguments do not fit: no text)"


def test_an_argument_whose_error_has_no_text_either_does_not_fail_the_checkpoint():
    class Worse:
        def __str__(self) -> str:
            raise UnsayableError

    (line,) = written(lambda: logger.warning("got %s", Worse()))
    assert line.message == "got %s (arguments do not fit: <UnsayableError without text>)"


@pytest.mark.parametrize("exc_info", [(1, 2, 3), (1,)])
def test_a_logged_exception_that_is_none_does_not_fail_the_checkpoint(exc_info: Any):
    (line,) = written(lambda: logger.error("it failed", exc_info=exc_info))
    assert line.message.startswith("it failed\n(traceback cannot be shown: ")


def test_a_logged_exception_without_text_keeps_its_traceback():
    def body() -> None:
        try:
            raise UnsayableError
        except UnsayableError:
            logger.exception("it failed")

    (line,) = written(body)
    assert line.message.startswith("it failed\nTraceback (most recent call last):")
    assert "UnsayableError" in line.message


def test_a_copy_of_the_output_stream_writes_to_the_same_place(monkeypatch: pytest.MonkeyPatch):
    terminal = io.StringIO()
    monkeypatch.setattr(sys, "stdout", terminal)
    (line,) = written(lambda: copy.copy(sys.stdout).write("copied\n") and None)
    assert line.message == "copied"
    assert terminal.getvalue() == "copied\n"
