"""The process that makes one attempt of a checkpoint: `python -m kitaru.isolated`.

It serves one request of `kitaru.isolation` and ends. Stdout is moved away before any user code
runs: its pipe carries messages, one JSON object a line (`line`, `out`, `metadata`, `artifact`, and
last `end`). What user code writes to descriptor 1 goes to stderr; what it prints is handed over.
When stdin ends nobody waits any more, and the process ends at once with its whole group. It never
writes to the store.
"""

from __future__ import annotations

import codecs
import contextlib
import faulthandler
import io
import json
import logging
import os
import signal
import sys
import threading
from dataclasses import dataclass, field
from typing import Any, NoReturn, cast

from kitaru import capture, clock, config, context, failures, masks, targets
from kitaru.checkpoint import Checkpoint
from kitaru.context import CallScope
from kitaru.store import artifacts, executions, open_store
from kitaru.store.artifacts import NewArtifact
from kitaru.store.logs import LogRecord


class _Channel:
    """The pipe to whoever waits; a forked child of this process has none."""

    def __init__(self, fd: int) -> None:
        self._fd: int | None = fd
        self._lock = threading.RLock()  # re-entrant: a finalizer that prints may run anywhere
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(after_in_child=self._forget)

    @property
    def is_open(self) -> bool:
        """Whether this process is the one to answer."""
        return self._fd is not None

    def send(self, **message: Any) -> None:
        """Send a message; what JSON does not hold is told by its type."""
        if self._fd is None:
            return
        text = json.dumps(message, default=lambda value: type(value).__name__)
        data = text.encode() + b"\n"
        try:
            with self._lock:
                while data:
                    data = data[os.write(self._fd, data) :]
        except BrokenPipeError:
            _vanish()
        except OSError as exc:
            os.write(2, f"The pipe that Kitaru is told the result on is gone: {exc}\n".encode())
            os._exit(1)

    def _forget(self) -> None:
        if self._fd is not None:
            os.close(self._fd)
        self._fd = None
        sys.stdout = sys.__stdout__


class _Output(io.RawIOBase):
    """What stands for standard output: hands over what is printed."""

    def __init__(self, channel: _Channel) -> None:
        self._channel = channel
        self._decoder = codecs.getincrementaldecoder("utf-8")("backslashreplace")

    def writable(self) -> bool:
        return True

    def fileno(self) -> int:
        return 1

    def write(self, data: Any) -> int:
        text = self._decoder.decode(data)
        if text:
            self._channel.send(out=text)
        return len(data)


class _Driver:
    """Whatever of a driver a checkpoint can reach."""

    def __init__(self, exec_id: str, channel: _Channel) -> None:
        self.exec_id = exec_id
        self._channel = channel

    def line(self, record: LogRecord) -> None:
        """Hand over a line."""
        self._channel.send(line={name: getattr(record, name) for name in LogRecord.__slots__})

    @property
    def home(self) -> config.Home:
        """Where the store is."""
        return config.find_home()

    def pause(self, seconds: float) -> None:
        """Let seconds pass; who waits for this process ends it where it has to."""
        clock.wait(threading.Event(), seconds)

    def read_named(self, exec_id: str, name: str) -> bytes:
        """The encoded value another execution has under a name."""
        with open_store(self.home).snapshot() as conn:
            return artifacts.read_named(conn, executions.find(conn, exec_id), name)


@dataclass(slots=True)
class _Scope(CallScope):
    """The attempt; hands over at once what it gathers, so that a crash does not lose it."""

    channel: _Channel = field(kw_only=True)

    def add_metadata(self, metadata: dict[str, Any]) -> None:
        """Hand over metadata."""
        self.channel.send(metadata=metadata)

    def add_usage(self, record: dict[str, Any], *, ends: bool = False) -> None:
        """Hand over what was used."""
        self.channel.send(usage=record)

    def add_artifact(self, artifact: NewArtifact) -> None:
        """Hand over a value to save."""
        fields = {name: getattr(artifact, name) for name in NewArtifact.__slots__}
        self.channel.send(artifact={**fields, "data": artifact.data.decode()})


def main() -> int:
    """Serve one request."""
    masks.watch(config.find_home())  # its failures come to be stored and shown
    requests, channel = os.dup(0), _Channel(os.dup(1))
    with open(os.devnull) as null:
        os.dup2(null.fileno(), 0)
    os.dup2(2, 1)
    with open(requests, "rb", closefd=False) as stdin:
        request = json.loads(stdin.readline())
    threading.Thread(target=_watch, args=(requests,), name="kitaru-watch", daemon=True).start()
    faulthandler.enable(file=2)
    # Before user code, which may set another level.
    logging.getLogger().setLevel(logging.INFO)
    sys.stdout = io.TextIOWrapper(
        io.BufferedWriter(_Output(channel)),
        encoding="utf-8",
        errors="backslashreplace",
        line_buffering=True,
    )
    cast(io.TextIOWrapper, sys.stderr).reconfigure(encoding="utf-8", errors="backslashreplace")
    capture.install()
    end = _attempt(request, channel)
    if not channel.is_open:  # a child the checkpoint forked: the answer is not its to give
        os._exit(1)
    with contextlib.suppress(OSError, ValueError):  # user code may have closed it
        sys.stdout.flush()
    channel.send(end=end)
    return 0


def _watch(requests: int) -> None:
    """End with the process that waits."""
    while os.read(requests, 1):
        pass
    _vanish()


def _vanish() -> NoReturn:
    if hasattr(os, "killpg") and os.getpgrp() == os.getpid():
        os.killpg(os.getpgrp(), signal.SIGKILL)
    os._exit(1)


def _attempt(request: dict[str, Any], channel: _Channel) -> dict[str, Any]:
    """How the attempt ended, as JSON data."""
    try:
        data = _run(request, channel)
    except BaseException as exc:  # user code: any exception is a failed attempt
        return {"failure": failures.describe(exc)}
    return {"result": data.decode()}


def _run(request: dict[str, Any], channel: _Channel) -> bytes:
    checkpoint: Checkpoint[Any, Any] = targets.find(
        request["target"], root=request["root"], kind=Checkpoint
    )
    bound = checkpoint.load_arguments(request["arguments"].encode())
    exec_id = request["exec_id"]
    scope = _Scope(
        exec_id,
        request["call_id"],
        request["attempt"],
        started_at=request["started_at"],
        is_async=checkpoint.is_async,
        channel=channel,
    )
    # The rest of a driver cannot be reached: inside a checkpoint its calls are refused.
    context.current_driver.set(cast(context.Driver, _Driver(exec_id, channel)))
    context.current_call.set(scope)
    with capture.lines():
        value = checkpoint.fn(*bound.args, **bound.kwargs)
        if checkpoint.is_async:
            import asyncio  # as long to import as all of Kitaru

            value = asyncio.run(value)
    return checkpoint.dump(value)


if __name__ == "__main__":
    sys.exit(main())
