"""One attempt of a checkpoint in a process of its own, seen from the process that waits for it.

The child (`kitaru.isolated`) gets the attempt as a line of JSON on its stdin, which then stays
open: its end tells the child that nobody waits any more. It answers with lines of JSON: what was
printed, logged and saved as it comes, so that a crash costs none of it, and at last how it ended.
However an attempt ends, its process and all of that process's group are killed before it
returns. User code is never imported here.
"""

from __future__ import annotations

import codecs
import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from typing import Any, TextIO

from kitaru import clock, config, context, failures, ids
from kitaru.context import CallScope, IsolatedTask, Unwind
from kitaru.effects import Tried
from kitaru.errors import FailureOrigin, KitaruRuntimeError
from kitaru.store.artifacts import NewArtifact
from kitaru.store.logs import LogRecord

#: How long a process that has told its end may take to leave (exit handlers, its own threads).
_EXIT_SECONDS = 5.0
#: How long the last words of a process that is gone may still be on their way.
_LAST_WORDS_SECONDS = 1.0
_PIPE_BYTES = 64 * 1024
#: What is kept of a process's stderr for the report of its crash, in bytes; what it shows of it.
_STDERR_KEPT = 8 * 1024
_LINES_SHOWN = 30


def attempt(
    task: IsolatedTask,
    scope: CallScope,
    *,
    home: config.Home,
    stops: Callable[[], bool],
    timeout: float | None,
    line: Callable[[LogRecord], None],
) -> Tried:
    """Make one attempt of a checkpoint in a process of its own, and wait for it.

    Args:
        task: the checkpoint and its arguments.
        scope: the attempt; gets the metadata and artifacts the process gathers.
        home: the store's home, for `kitaru.load`.
        stops: whether the attempt is to end now, with its process; asked all the time.
        timeout: seconds the attempt may take, the start of its process included.
        line: takes each line the attempt prints or logs, on a thread of its own.
    """
    call_id = ids.qualified(scope.exec_id, scope.call_id)
    call = f"checkpoint {task.name!r} ({call_id})"
    try:
        child = _Child(_start(home), scope, line)
    except OSError as exc:
        return _not_started(call, exc)
    try:
        child.converse(_request(task, scope))
        late = child.wait(stops, timeout)
    except RuntimeError as exc:  # the system has no more threads
        return _not_started(call, exc)
    finally:
        code = child.close()
    match child.end:
        case {"result": data}:
            return Tried(result=data.encode())
        case {"failure": failure}:
            return Tried(failure=failure, cause=failures.rebuild(failure, call=call_id))
    if late:
        message = f"Checkpoint {task.name!r} did not end within {timeout:g} seconds; "
        return _failed(TimeoutError(f"{message}its process was killed."))
    if stops():
        return Tried(stopped=True)
    return _failed(KitaruRuntimeError(_obituary(call, code, child.last_lines())))


def _start(home: config.Home) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-P", "-m", "kitaru.isolated"],
        bufsize=_PIPE_BYTES,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={**os.environ, "KITARU_HOME": str(home.path)},
        start_new_session=True,  # a signal from the terminal is not the child's
    )


def _request(task: IsolatedTask, scope: CallScope) -> bytes:
    request = {
        "target": task.target,
        "root": task.root,
        "name": task.name,
        "arguments": task.arguments.decode(),
        "exec_id": scope.exec_id,
        "call_id": scope.call_id,
        "attempt": scope.attempt,
        "started_at": scope.started_at,
    }
    return json.dumps(request).encode() + b"\n"


def _not_started(call: str, exc: Exception) -> Tried:
    message = f"No process could be started for {call}: {exc}. Retry when there is room."
    return _failed(KitaruRuntimeError(message))


def _failed(exc: Exception) -> Tried:
    return Tried(failure=failures.describe(exc, origin=FailureOrigin.RUNTIME), cause=exc)


def _obituary(call: str, code: int | None, last_lines: str) -> str:
    """What is known of a process that ended without telling how."""
    if code is None:
        how = "closed the pipe it reports on, and was killed"
        advice = "Code in it must not close file descriptors that it has not opened."
    elif code >= 0:
        how = f"ended with exit code {code}"
        advice = "Code in it must return or raise, not leave the process (`os._exit`, a C `exit`)."
    else:
        how = f"was ended by {_signal_name(-code)}"
        advice = (
            "Often the system has run out of memory: work on less at a time."
            if _signal_name(-code) == "SIGKILL"
            else "Look for native code that crashes, or for who sends that signal."
        )
    last = f" It wrote last to stderr:\n{last_lines}" if last_lines else ""
    return f"The process of {call} {how} before it gave a result. {advice}{last}"


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:  # a real-time signal
        return f"signal {number}"


class _Child:
    """A process that makes an attempt, and what has come from it; `end` is how that ended."""

    def __init__(
        self,
        process: subprocess.Popen[bytes],
        scope: CallScope,
        line: Callable[[LogRecord], None],
    ) -> None:
        self.end: dict[str, Any] | None = None
        self._process = process
        self._scope = scope
        self._line = line
        self._over = threading.Event()  # it has told its end, or can tell nothing more
        self._gone = threading.Event()
        self._quiet = threading.Event()
        self._tail = b""

    def converse(self, request: bytes) -> None:
        """Put the request and hear what comes, on threads which own the pipes they read."""
        for work, name in (
            (lambda: self._exchange(request), "kitaru-isolated"),
            (self._hear_stderr, "kitaru-isolated-stderr"),
        ):
            threading.Thread(target=work, name=name, daemon=True).start()

    def wait(self, stops: Callable[[], bool], timeout: float | None) -> bool:
        """Wait until the attempt is over, is to stop, or is late; return whether it is late."""
        deadline = None if timeout is None else clock.monotonic() + timeout
        while not clock.wait(self._over, config.TICK_SECONDS) and not stops():
            if deadline is not None and clock.monotonic() >= deadline:
                return True
        return False

    def close(self) -> int | None:
        """End the process and its group; return the exit code it had of itself, if any."""
        if self.end is not None:
            clock.wait(self._gone, _EXIT_SECONDS)
        elif self._over.is_set():
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(_LAST_WORDS_SECONDS)
        code = self._process.poll()
        if hasattr(os, "killpg"):
            # Nobody may be left in it; where only the dead are, some systems refuse.
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self._process.pid, signal.SIGKILL)
        else:
            self._process.kill()
        self._process.wait()
        assert self._process.stdin is not None
        with contextlib.suppress(OSError):  # a request that nobody has read to its end
            self._process.stdin.close()
        for ended in (self._gone, self._quiet):
            clock.wait(ended, _LAST_WORDS_SECONDS)
        return code

    def last_lines(self) -> str:
        """The last lines of its stderr."""
        lines = self._tail.decode(errors="backslashreplace").splitlines()
        return "\n".join(lines[-_LINES_SHOWN:])

    def _exchange(self, request: bytes) -> None:
        context.current_driver.set(None)  # what is shown here is recorded already
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        try:
            with self._process.stdout as stdout:
                self._process.stdin.write(request)
                self._process.stdin.flush()
                # What start-up code of the interpreter prints (`sitecustomize`) is no message.
                for message in filter(lambda line: line.startswith(b'{"'), stdout):
                    self._take(json.loads(message))
        except (OSError, ValueError):
            return  # it is gone, or broke off in a message: told by the missing end
        finally:
            self._gone.set()
            self._over.set()

    def _take(self, message: dict[str, Any]) -> None:
        match message:
            case {"line": fields}:
                self._line(LogRecord(**fields))
            case {"out": text}:
                _show(sys.stdout, text)
            case {"metadata": metadata}:
                self._scope.add_metadata(metadata)
            case {"usage": record}:
                self._use(record)
            case {"artifact": fields}:
                data, tags = fields.pop("data").encode(), tuple(fields.pop("tags"))
                self._scope.add_artifact(NewArtifact(**fields, tags=tags, data=data))
            case {"end": end}:
                self.end = end
                self._over.set()

    def _use(self, record: dict[str, Any]) -> None:
        # Where the drive is over by now, whoever waits for this learns it there.
        with contextlib.suppress(Unwind):
            self._scope.add_usage(record)

    def _hear_stderr(self) -> None:
        context.current_driver.set(None)
        assert self._process.stderr is not None
        decoder = codecs.getincrementaldecoder("utf-8")("backslashreplace")
        try:
            with self._process.stderr as stderr:
                while data := stderr.read1(_PIPE_BYTES):  # type: ignore[attr-defined]
                    self._tail = (self._tail + data)[-_STDERR_KEPT:]
                    _show(sys.stderr, decoder.decode(data))
        finally:
            self._quiet.set()


def _show(stream: TextIO | None, text: str) -> None:
    """Write text where the checkpoint would have written it here, as far as that can take it."""
    encoding = getattr(stream, "encoding", None) or "utf-8"
    # Our stream may be missing, closed or full: it is not the attempt's fault, which goes on.
    with contextlib.suppress(AttributeError, OSError, ValueError):
        stream.write(text.encode(encoding, "backslashreplace").decode(encoding))  # type: ignore[union-attr]
