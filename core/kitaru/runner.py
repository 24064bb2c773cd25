"""The process that drives one execution: `python -m kitaru.runner`, a request on its stdin.

User code is imported here and nowhere else. The flow is imported first; only then is the
execution taken, so a failing import changes nothing. Standard output is moved away before any
user code runs: its pipe carries one line, the answer to whoever spawned the runner. What the
process writes past Python (a crash report, a C library) goes to `runners/<exec_id>.log`, where
registered secrets are masked, at the end at the latest; a crash leaves it as it was written.
"""

from __future__ import annotations

import contextlib
import faulthandler
import gc
import io
import json
import logging
import os
import signal
import sys
import threading
from pathlib import Path
from typing import Any

from kitaru import clock, config, inputs, launch, redaction, targets
from kitaru.definition import FlowDefinition
from kitaru.errors import KitaruError
from kitaru.heart import heart
from kitaru.runtime import Driver
from kitaru.store import Lease, Store, open_store
from kitaru.store.keys import Key


def main() -> int:
    """Serve one request."""
    gc.freeze()  # modules stay to the end: no collection need look at them, the last one neither
    request = json.loads(sys.stdin.read())
    answer_to = os.fdopen(os.dup(1), "w", encoding="utf-8")
    null = os.open(os.devnull, os.O_RDWR)
    for fd in (0, 1, 2):
        os.dup2(null, fd)
    # Before user code, which may set another level.
    logging.getLogger().setLevel(logging.INFO)
    home = config.find_home()
    # The caller watches too, but it may die first, and an import may block for ever.
    late = threading.Timer(config.RUNNER_START_SECONDS, os._exit, [1])
    late.daemon = True
    late.start()
    try:
        store = open_store(home)
        flow = _load(request)
        late.cancel()
        lease = _take(store, flow, request)
        driver = launch.driver(store, flow, lease)
    except launch.Repeated as done:
        _answer(answer_to, {"exec_id": done.exec_id, "repeated": True})
        return 0
    except KitaruError as exc:
        _answer(answer_to, {"error": type(exc).__name__, "message": str(exc)})
        return 1
    except Exception as exc:  # the process's edge: annotations and validators are user code
        message = f"The runner could not {request['action']} the flow: {type(exc).__name__}: {exc}"
        _answer(answer_to, {"error": "KitaruUsageError", "message": message})
        return 1
    log = _keep_output(home, lease.exec_id)
    sys.stderr = _masked_stderr()
    _answer(answer_to, {"exec_id": lease.exec_id})
    _serve(driver)
    ending = driver.ending
    if ending is not None and ending.error is not None:
        # The store does not tell why this driver left: it was overtaken, or could not write.
        _keep_output(home, lease.exec_id)  # its overtaker may have removed the empty file
        sys.stderr.write(f"{type(ending.error).__name__}: {ending.error}\n")
        _tidy(log)
        return 1
    _tidy(log)
    return 0


def _load(request: dict[str, Any]) -> FlowDefinition:
    runner = os.getpid()
    try:
        flow = targets.load(request["target"], root=request.get("root"))
        definition: FlowDefinition = flow.with_options(stack=request.get("stack")).definition
        return definition
    finally:
        if os.getpid() != runner:  # a child the import forked: the answer is not its to give
            os._exit(1)


def _take(store: Store, flow: FlowDefinition, request: dict[str, Any]) -> Lease:
    action = request["action"]
    key = Key(**request["key"]) if request.get("key") else None
    if action == "run":
        arguments = inputs.bind_json(flow.fn, request["args"], name=flow.name)
        return launch.start(store, flow, arguments, key=key)
    exec_id = request["exec_id"]
    if action == "resume":
        return launch.resume(store, flow, exec_id)
    if action == "retry":
        return launch.retry(store, flow, exec_id, key=key)
    return launch.start_replay(
        store,
        flow,
        exec_id,
        from_=request["from_"],
        overrides={key: text.encode() for key, text in request["overrides"].items()},
        flow_inputs=inputs.from_json(flow.fn, request["flow_inputs"]),
        key=key,
    )


def _serve(driver: Driver) -> None:
    """Drive to the end, and the children too; signals and ignored cancellations end it earlier."""
    asked_at: float | None = None
    is_to_stop = False

    def note(number: int, frame: object) -> None:
        nonlocal is_to_stop  # no more here: this thread may have any lock
        is_to_stop = True

    signal.signal(signal.SIGTERM, note)
    signal.signal(signal.SIGINT, note)
    driver.start()
    while left := _left(driver):
        left[0].ended.wait(config.TICK_SECONDS)
        for each in left if is_to_stop else ():
            each.stop()
        if not all(each.ledger.interrupt.is_set() for each in left):
            asked_at = None
            continue
        asked_at = asked_at or clock.monotonic()
        if clock.monotonic() - asked_at > config.CANCEL_GRACE_SECONDS:
            _end(left)


def _left(driver: Driver) -> list[Driver]:
    """The drives of this process that have not ended: the runner's own, and those of children."""
    children = [each for each in heart.drives() if isinstance(each, Driver) and each is not driver]
    # Its own first: told to stop, it takes up no child that has stopped.
    return [each for each in (driver, *children) if not each.ended.is_set()]


def _end(drivers: list[Driver]) -> None:
    """End a process whose checkpoints do not stop, with whatever it has started.

    A cancelled execution is recorded so first; any other is left resumable.
    """
    for driver in drivers:
        with contextlib.suppress(KitaruError):
            if driver.ledger.cancelled:
                driver.ledger.finish("cancel", reason="Cancelled; its runner was ended.")
            else:
                driver.ledger.release()
    if hasattr(os, "killpg") and os.getpgrp() == os.getpid():
        os.killpg(os.getpgrp(), signal.SIGKILL)
    os._exit(1)


def _keep_output(home: config.Home, exec_id: str) -> Path:
    folder = home.path / config.RUNNER_LOGS
    path = folder / f"{exec_id}.log"
    # The execution is taken by now: a disk without room for a log must not leave it undriven.
    with contextlib.suppress(OSError):
        folder.mkdir(mode=0o700, exist_ok=True)
        os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600), 2)
    faulthandler.enable()
    return path


class _Masked(io.TextIOWrapper):
    """A stream that writes text without the values of registered secrets."""

    def write(self, text: str) -> int:
        super().write(redaction.recordable(text))
        return len(text)


def _masked_stderr() -> _Masked:
    raw: Any = io.FileIO(2, "w", closefd=False)
    return _Masked(raw, encoding="utf-8", errors="backslashreplace", write_through=True)


def _tidy(log: Path) -> None:
    """Mask what was written past Python (by a program it ran, say); remove a file with nothing."""
    # None could be kept, or a runner that overtook this one was here.
    with contextlib.suppress(FileNotFoundError, NotADirectoryError):
        text = log.read_text("utf-8", errors="surrogateescape")
        if not text:
            log.unlink()
        elif (shown := redaction.recordable(text)) != text:
            log.write_text(shown, "utf-8", errors="surrogateescape")


def _answer(stream: Any, answer: dict[str, Any]) -> None:
    try:
        with stream:
            stream.write(json.dumps(answer) + "\n")
    except BrokenPipeError:
        return  # whoever asked is gone; the execution goes on without it


if __name__ == "__main__":
    sys.exit(main())
