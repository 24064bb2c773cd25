"""Lines that user code writes while a flow runs: `print`, and whatever its loggers let through.

Installed by the first flow a process runs, never by an import. What is written still goes where
it went before; only lines of running flows are recorded. Logging is seen through the record
factory, so no handler is added and `basicConfig` keeps working.
"""

from __future__ import annotations

import contextlib
import logging
import sys
import threading
import types
from collections.abc import Iterator
from typing import Any, TextIO

from kitaru import clock, config, context
from kitaru.store.logs import LogRecord

_installed = threading.Lock()
_LEVELS = {"stdout": "INFO", "stderr": "WARNING"}
_FRAMES_TO_LOGGING = 16
_inside = threading.local()


def install() -> None:
    """Start seeing lines; calling it again repairs what others replaced."""
    with _installed:
        for name in _LEVELS:
            stream = getattr(sys, name)
            if stream is not None and not isinstance(stream, _Tee):
                setattr(sys, name, _Tee(stream, _LEVELS[name]))
        factory = logging.getLogRecordFactory()
        if not isinstance(factory, _RecordFactory):
            logging.setLogRecordFactory(_RecordFactory(factory))


def note(
    level: str,
    message: str,
    *,
    module: str | None = None,
    filename: str | None = None,
    lineno: int | None = None,
) -> None:
    """Record one line of the flow that is running here; outside a flow it is nobody's."""
    driver = context.current_driver.get()
    if driver is None:
        return
    call = context.current_call.get()
    if len(message) > config.MAX_LOG_MESSAGE:
        missing = len(message) - config.MAX_LOG_MESSAGE
        message = f"{message[: config.MAX_LOG_MESSAGE]} … {missing} characters left out"
    driver.line(
        LogRecord(
            at=clock.now_us(),
            level=level,
            message=message,
            call_id=call.call_id if call else None,
            attempt=call.attempt if call else None,
            module=module,
            filename=filename,
            lineno=lineno,
        )
    )


class _RecordFactory:
    """Makes log records as before, and notes those made inside a flow."""

    def __init__(self, inner: Any) -> None:
        self._inner = inner

    def __call__(self, *args: Any, **kwargs: Any) -> logging.LogRecord:
        with _outermost() as first:
            record: logging.LogRecord = self._inner(*args, **kwargs)
        # A record that is received from elsewhere is made without a level, and filled later.
        if first and record.levelno is not None and context.current_driver.get() is not None:
            note(
                record.levelname,
                _text(record),
                module=record.module,
                filename=record.pathname,
                lineno=record.lineno,
            )
        return record


def _text(record: logging.LogRecord) -> str:
    try:
        text = record.getMessage()
    except Exception as exc:  # arguments that do not fit: logging itself reports it too
        text = f"{record.msg} (arguments do not fit: {exc})"
    if record.exc_info and record.exc_info[0] is not None:
        text = f"{text}\n{logging.Formatter().formatException(record.exc_info)}"
    return text


class _Tee:
    """A text stream that also notes the complete lines written by running flows."""

    def __init__(self, stream: TextIO, level: str) -> None:
        self._stream = stream
        self._level = level
        self._open = threading.local()

    def write(self, text: str) -> int:
        frame = sys._getframe().f_back  # none when the interpreter itself writes a traceback
        with _outermost() as first:
            in_flow = context.current_driver.get() is not None and isinstance(text, str)
            if first and in_flow and frame is not None and not _from_logging(frame):
                self._feed(text, frame)
            return self._stream.write(text)

    def writelines(self, lines: Any) -> None:
        for line in lines:
            self.write(line)

    def _feed(self, text: str, frame: types.FrameType) -> None:
        *complete, rest = (getattr(self._open, "text", "") + text).split("\n")
        self._open.text = rest
        for line in complete:
            note(
                self._level,
                line.rstrip("\r"),
                module=frame.f_globals.get("__name__"),
                filename=frame.f_code.co_filename,
                lineno=frame.f_lineno,
            )

    def take(self) -> str:
        """The start of a line that was not ended yet; the next one starts anew."""
        text: str = getattr(self._open, "text", "")
        self._open.text = ""
        return text

    def put_back(self, text: str) -> None:
        """Note a last line that was not ended, and go on with a line taken before."""
        rest = self.take()
        if rest:
            note(self._level, rest)
        self._open.text = text

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def __iter__(self) -> Iterator[str]:
        return iter(self._stream)


@contextlib.contextmanager
def lines() -> Iterator[None]:
    """While user code runs: its lines are its own, and a last one without newline is noted too."""
    tees = [each for each in (sys.stdout, sys.stderr) if isinstance(each, _Tee)]
    begun = [each.take() for each in tees]
    try:
        yield
    finally:
        for tee, text in zip(tees, begun, strict=True):
            tee.put_back(text)


@contextlib.contextmanager
def _outermost() -> Iterator[bool]:
    """Whether no other tee or factory of ours, wrapped by somebody else's, is at this line."""
    first = not getattr(_inside, "active", False)
    _inside.active = True
    try:
        yield first
    finally:
        _inside.active = not first


def _from_logging(frame: types.FrameType | None) -> bool:
    # A stream handler writes what the record factory has seen already.
    for _ in range(_FRAMES_TO_LOGGING):
        if frame is None:
            return False
        if frame.f_globals.get("__name__") == "logging":
            return True
        frame = frame.f_back
    return False
