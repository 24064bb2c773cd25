"""Lines that user code writes while a flow runs: `print`, and whatever its loggers let through.

Installed by the first flow a process runs, never by an import. What is written still goes where
it went before; only lines of running flows are recorded. Logging is seen through the record
factory, so no handler is added and `basicConfig` keeps working.
"""

from __future__ import annotations

import contextlib
import logging
import os
import sys
import threading
import types
from collections.abc import Iterator
from contextvars import ContextVar
from typing import Any, TextIO

from kitaru import clock, config, context, redaction
from kitaru.store.logs import LogRecord

_installed = threading.Lock()
#: In a forked child: the driver of the flow that forked it, if one did.
_parents: context.Driver | None = None
_LEVELS = {"stdout": "INFO", "stderr": "WARNING"}
_FRAMES_TO_LOGGING = 16
_inside = threading.local()
#: Level -> the line that the code which runs here has not ended yet.
_begun: ContextVar[dict[str, _Line] | None] = ContextVar("kitaru_begun", default=None)
_unheard: ContextVar[bool] = ContextVar("kitaru_unheard", default=False)


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
    left_out: int = 0,
) -> None:
    """Record one line of the flow that is running here, masked; outside a flow it is nobody's.

    `left_out` counts characters that the message has lost already.
    """
    driver = context.current_driver.get()
    if driver is None or driver is _parents:
        return
    call = context.current_call.get()
    if call is not None and call.is_abandoned:
        return
    message = redaction.recordable(message)  # before anything is cut off
    missing = left_out + max(0, len(message) - config.MAX_LOG_MESSAGE)
    if missing:
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


@contextlib.contextmanager
def unheard() -> Iterator[None]:
    """While Kitaru itself uses a package whose loggers tell addresses and headers.

    Their records go where they went before, and are no lines of the flow's.
    """
    token = _unheard.set(True)
    try:
        yield
    finally:
        _unheard.reset(token)


def _after_fork_in_child() -> None:
    """The parent's flow is not driven here: its lines would be lost, its locks stay locked."""
    global _installed, _parents
    _installed = threading.Lock()
    _parents = context.current_driver.get()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork_in_child)


class _RecordFactory:
    """Makes log records as before, and notes those made inside a flow."""

    def __init__(self, inner: Any) -> None:
        self._inner = inner

    def __call__(self, *args: Any, **kwargs: Any) -> logging.LogRecord:
        with _outermost() as first:
            record: logging.LogRecord = self._inner(*args, **kwargs)
        # A record that is received from elsewhere is made without a level, and filled later.
        is_heard = first and not _unheard.get() and context.current_driver.get() is not None
        if is_heard and record.levelno is not None:
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
        text = f"{_said(record.msg)} (arguments do not fit: {_said(exc)})"
    if record.exc_info and record.exc_info[0] is not None:
        try:
            trace = logging.Formatter().formatException(record.exc_info)
        except Exception as exc:  # what was given as `exc_info` may be no exception
            trace = f"(traceback cannot be shown: {_said(exc)})"
        text = f"{text}\n{trace}"
    return text


def _said(value: object) -> str:
    try:
        return str(value)
    except Exception:  # a `__str__` of user code's
        return f"<{type(value).__name__} without text>"


class _Line:
    """A line that was not ended yet, and how many of its characters are more than is kept."""

    def __init__(self) -> None:
        self._start()

    def _start(self) -> None:
        self.parts: list[str] = []
        self._size = 0
        self._returned = False

    def add(self, text: str) -> None:
        """Go on with the line; what follows a carriage return overwrites it, as on a terminal."""
        shown = text.rstrip("\r")
        again = shown.rfind("\r") + 1
        if shown and (again or self._returned):
            self._start()
        room = config.MAX_LOG_MESSAGE - self._size
        if shown and room > 0:
            self.parts.append(shown[again : again + room])
        self._size += len(shown) - again
        # Only noted: before a newline it is part of the line's end.
        self._returned = self._returned or len(shown) < len(text)

    def take(self) -> tuple[str, int]:
        """The line's text, and how many characters of it are left out; the next one starts."""
        text, left_out = "".join(self.parts), max(0, self._size - config.MAX_LOG_MESSAGE)
        self._start()
        return text, left_out


class _Tee:
    """A text stream that also notes the complete lines written by running flows."""

    def __init__(self, stream: TextIO, level: str) -> None:
        self._stream = stream
        self._level = level

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
        *complete, rest = text.split("\n")
        line = self._line()
        for each in complete:
            line.add(each)
            message, left_out = line.take()
            note(
                self._level,
                message,
                module=frame.f_globals.get("__name__"),
                filename=frame.f_code.co_filename,
                lineno=frame.f_lineno,
                left_out=left_out,
            )
        line.add(rest)

    def _line(self) -> _Line:
        lines = _begun.get()
        if lines is None:
            _begun.set(lines := {})
        return lines.setdefault(self._level, _Line())

    def __getattr__(self, name: str) -> Any:
        if name == "_stream":  # a copy that is being made has none yet
            raise AttributeError(name)
        return getattr(self._stream, name)

    def __iter__(self) -> Iterator[str]:
        return iter(self._stream)


class lines:
    """While user code runs: its lines are its own, and a last one without newline is noted too."""

    __slots__ = ("_begun", "_token")

    def __enter__(self) -> None:
        self._begun: dict[str, _Line] = {}
        self._token = _begun.set(self._begun)

    def __exit__(self, *exc_info: object) -> None:
        _begun.reset(self._token)
        for level, line in self._begun.items():
            rest, left_out = line.take()
            if rest:
                note(level, rest, left_out=left_out)


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
