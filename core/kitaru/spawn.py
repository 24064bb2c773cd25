"""Starts runner processes and hears from each whether it has taken its execution.

A runner is its own session with its own output, so it outlives whoever asked for it. It answers
once, on a pipe: the execution's id, or the error that kept it from driving.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from dataclasses import dataclass
from functools import partial
from typing import Any

from kitaru import clock, config, context
from kitaru.errors import ERROR_TYPES, KitaruBackendError, KitaruRuntimeError, KitaruUsageError

#: How long the answer of a runner that has ended may still be on its way.
_LAST_WORDS_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class Answer:
    """The execution that a runner drives, or that an earlier request with the same key got."""

    exec_id: str
    repeated: bool


def spawn(request: dict[str, Any], *, cwd: str | None, home: config.Home) -> Answer:
    """Start a runner and hear what it drives.

    Args:
        request: what `kitaru.runner` is to do, as JSON data.
        cwd: the folder it works in; the caller's by default.
        home: the store's home.

    Raises:
        KitaruError: what kept the runner from driving; the execution is as it was.
    """
    context.refuse_in_import("A runner process")
    try:
        text = json.dumps(request)
    except (TypeError, ValueError, RecursionError) as exc:
        raise KitaruUsageError(
            f"The inputs cannot be handed to a runner process: {exc}. Give JSON data."
        ) from None
    folder = cwd if cwd is not None and os.path.isdir(cwd) else None
    try:
        process = subprocess.Popen(
            [sys.executable, "-P", "-m", "kitaru.runner"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            cwd=folder,
            env={**os.environ, "KITARU_HOME": str(home.path)},
            start_new_session=True,
            text=True,
            encoding="utf-8",
        )
    except OSError as exc:
        raise KitaruBackendError(f"No runner process could be started: {exc}. Try again.") from exc
    answer = _exchange(process, text)
    # Reaped by a thread: a dead runner must not linger as a zombie that looks alive.
    threading.Thread(target=process.wait, name="kitaru-reaper", daemon=True).start()
    if "exec_id" in answer:
        return Answer(str(answer["exec_id"]), repeated="repeated" in answer)
    cls = ERROR_TYPES.get(answer["error"], KitaruRuntimeError)
    raise cls(answer["message"])


def _exchange(process: subprocess.Popen[str], request: str) -> dict[str, Any]:
    """What the runner answers; a deadline ends the wait, whoever holds the other end."""
    lines: list[str] = []
    answered = threading.Event()
    # On a thread: a child of the runner may keep the pipe open for as long as it likes. The
    # thread owns our ends and closes them.
    talk = partial(_talk, process, request=request, lines=lines, answered=answered)
    threading.Thread(target=talk, name="kitaru-spawn", daemon=True).start()
    _await(process, answered)
    line = lines[0] if lines else ""
    if line.endswith("\n"):
        answer: dict[str, Any] = json.loads(line)
        return answer
    code = process.wait()
    raise KitaruUsageError(
        f"The runner ended (code {code}) before it said which execution it drives, within "
        f"{config.RUNNER_START_SECONDS:.0f} seconds. Importing the flow's module must not exit, "
        "crash or block: put such code under `if __name__ == '__main__'`."
    )


def _talk(
    process: subprocess.Popen[str], *, request: str, lines: list[str], answered: threading.Event
) -> None:
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        with process.stdin as stdin, process.stdout as stdout:
            stdin.write(request)
            stdin.close()
            # What start-up code of the interpreter prints (`sitecustomize`) is no answer.
            lines.extend(next(([line] for line in stdout if line.startswith('{"')), []))
    except (OSError, UnicodeDecodeError):
        return  # it ended before it had read, or its answer is none: told by its absence
    finally:
        answered.set()


def _await(process: subprocess.Popen[str], answered: threading.Event) -> None:
    """Wait for an answer until the deadline, and shortly beyond the process's end; then end it."""
    deadline = clock.monotonic() + config.RUNNER_START_SECONDS
    has_ended = False
    while not clock.wait(answered, config.TICK_SECONDS) and clock.monotonic() < deadline:
        if not has_ended and process.poll() is not None:
            has_ended, deadline = True, clock.monotonic() + _LAST_WORDS_SECONDS
    if not answered.is_set() and not has_ended:
        process.kill()
        clock.wait(answered, _LAST_WORDS_SECONDS)
