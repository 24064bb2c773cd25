"""Processes that drive executions and cost little to start: forked from one that has all loaded.

Each opens the store itself and is killed, stopped and continued like any other process. The one
they are forked from never opens a store, so they are as clean as new ones.
"""

from __future__ import annotations

import io
import multiprocessing
import os
import signal
import sys
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, NamedTuple

from kitaru import config, launch, targets
from kitaru.errors import KitaruError, KitaruStateError
from kitaru.handle import FlowHandle, drive_here
from kitaru.store import executions, open_store
from tests import support

#: What driving loads as it goes.
LOADED = ("kitaru.artifacts", "kitaru.tasks", "kitaru.waits", "sqlite_utils", "tests.chaos.flows")

_FORKS = multiprocessing.get_context("forkserver")
_FORKS.set_forkserver_preload([__name__, *LOADED])


def load_also(*modules: str) -> None:
    """Let what drives have loaded these too; before the first one starts."""
    _FORKS.set_forkserver_preload([__name__, *LOADED, *modules])


class Ended(NamedTuple):
    """How a drive ended: why, the error that kept it from going on, and what `wait` gave."""

    exec_id: str
    why: str | None
    error: str | None
    result: Any


class Driver:
    """A process that drives."""

    def __init__(self, work: Callable[..., None], *arguments: Any) -> None:
        self._answers, answers = _FORKS.Pipe(duplex=False)
        self._process = _FORKS.Process(target=work, args=(answers, *arguments))
        self._process.start()
        answers.close()

    @property
    def pid(self) -> int:
        """The process."""
        assert self._process.pid is not None
        return self._process.pid

    def started(self) -> list[str]:
        """The executions it drives, once it has taken them; fewer where others were quicker."""
        exec_ids: list[str] = self._told()
        return exec_ids

    def ended(self) -> list[Ended]:
        """How its drives have ended, once it has ended itself."""
        ended: list[Ended] = self._told()
        self._process.join()
        return ended

    def _told(self) -> Any:
        assert self._answers.poll(support.DEADLINE_SECONDS), "it tells nothing"
        return self._answers.recv()

    def is_running(self) -> bool:
        """Whether any of its threads has not ended."""
        return support.is_running(self.pid)

    def kill(self) -> None:
        """Kill it, and wait until none of its threads can do any more."""
        if self.is_running():
            os.kill(self.pid, signal.SIGKILL)
        self._process.join()
        support.until(lambda: not self.is_running(), "the killed process is gone")
        self._answers.close()


def start(home: Path, target: str, *, copies: int = 1, **inputs: Any) -> Driver:
    """Run a flow, so many times beside each other."""
    return Driver(_run, home, target, inputs, copies)


def resume(home: Path, *exec_ids: str) -> Driver:
    """Continue executions."""
    return Driver(_resume, home, exec_ids)


def _run(answers: Connection, home: Path, target: str, inputs: dict[str, Any], copies: int) -> None:
    _be_at(home)
    found = targets.load(target, root=str(support.ROOT))
    _see(answers, [found.run(**inputs) for _ in range(copies)])


def _resume(answers: Connection, home: Path, exec_ids: tuple[str, ...]) -> None:
    _be_at(home)
    store, handles = open_store(config.find_home()), []
    for exec_id in exec_ids:
        with store.snapshot() as conn:
            spec = executions.drive_data(conn, executions.find(conn, exec_id).id)["spec"]
        flow = targets.load(spec["target"], root=spec["root"]).definition
        try:
            lease = launch.resume(store, flow, exec_id)
        except KitaruStateError:
            continue  # somebody else was quicker
        handles.append(drive_here(store, flow, lease, interactive=False))
    _see(answers, handles)


def _be_at(home: Path) -> None:
    os.environ["KITARU_HOME"] = str(home)
    sys.stdout = io.StringIO()  # what flows print goes nowhere


def _see(answers: Connection, handles: list[FlowHandle[Any]]) -> None:
    answers.send([handle.exec_id for handle in handles])
    answers.send([_ended(handle) for handle in handles])


def _ended(handle: FlowHandle[Any]) -> Ended:
    try:
        result = handle.wait()
    except KitaruError as exc:
        result = f"{type(exc).__name__}: {exc}"
    ending = handle._driver.ending
    why, error = (ending.why, ending.error) if ending else (None, None)
    return Ended(handle.exec_id, why, type(error).__name__ if error else None, result)
