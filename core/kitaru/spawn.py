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
from typing import Any

from kitaru import config
from kitaru.errors import ERROR_TYPES, KitaruBackendError, KitaruRuntimeError, KitaruUsageError


def spawn(request: dict[str, Any], *, cwd: str | None, home: config.Home) -> str:
    """Start a runner and return the id of the execution it drives.

    Args:
        request: what `kitaru.runner` is to do, as JSON data.
        cwd: the folder it works in; the caller's by default.
        home: the store's home.

    Raises:
        KitaruError: what kept the runner from driving; the execution is as it was.
    """
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
        return str(answer["exec_id"])
    cls = ERROR_TYPES.get(answer["error"], KitaruRuntimeError)
    raise cls(answer["message"])


def _exchange(process: subprocess.Popen[str], request: str) -> dict[str, Any]:
    assert process.stdin is not None
    assert process.stdout is not None
    late = threading.Timer(config.RUNNER_START_SECONDS, process.kill)
    late.daemon = True
    late.start()
    try:
        with process.stdin as stdin, process.stdout as stdout:
            stdin.write(request)
            stdin.close()
            line = stdout.readline()
    except BrokenPipeError:
        line = ""
    finally:
        late.cancel()
    if line:
        answer: dict[str, Any] = json.loads(line)
        return answer
    code = process.wait()
    raise KitaruUsageError(
        f"The runner ended (code {code}) before it said which execution it drives, within "
        f"{config.RUNNER_START_SECONDS:.0f} seconds. Importing the flow's module must not exit, "
        "crash or block: put such code under `if __name__ == '__main__'`."
    )
