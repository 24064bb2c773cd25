"""Takes the execution of a case to its end, from wherever it stands; kills itself where told.

A stage is a forked child: it opens its own store, drives its flows on its own threads, answers and
retries as the case says, and never returns to the code that forked it. The worker that forks must
have opened no store and started no thread; a forked child of it is then as clean as a new process.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import signal
import threading
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NoReturn

from kitaru import (
    Execution,
    KitaruClient,
    KitaruNotFoundError,
    KitaruStateError,
    clock,
    config,
    ids,
)
from kitaru.store import Transaction
from kitaru.store.connection import Database
from tests import drives, support
from tests.conformance.cases import Case

EXEC_ID = ids.EXECUTION_PREFIX + "0" * 16
ORIGINAL_ID = ids.EXECUTION_PREFIX + "1" * 16
REFUSED = 3
MOST_ROUNDS = 30

Side = Literal["before", "after"]


@dataclass(frozen=True)
class Point:
    """A commit of a run, counted from 1, and the side of it at which the process is killed."""

    commit: int
    side: Side

    def __str__(self) -> str:
        return f"{self.side} commit {self.commit}"


class Refused(Exception):
    """Another process has continued the execution first."""


def fork(home: Path, work: Callable[[], None]) -> int:
    """Do something on a home in a forked child; returns its process id."""
    pid = os.fork()
    if pid == 0:
        _be_child(home, work)
    return pid


def ended(pid: int) -> int:
    """Wait for a forked child; returns its exit code, or the negative signal that killed it."""
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def _be_child(home: Path, work: Callable[[], None]) -> NoReturn:
    code = 1
    try:
        os.environ["KITARU_HOME"] = str(home)
        output = os.open(home / "output", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        os.dup2(output, 1)
        os.dup2(output, 2)
        with clock.use(support.QuickClock()):
            work()
            _join_drivers()  # one may still be on its way to being killed
        code = 0
    except Refused:
        code = REFUSED
    except BaseException:  # a forked child must never come back into the worker's code
        os.write(2, traceback.format_exc().encode())
    finally:
        os._exit(code)


def _join_drivers() -> None:
    for thread in threading.enumerate():
        if thread is not threading.current_thread() and not thread.daemon:
            thread.join()


def count_commits(case: Case) -> Callable[[], int]:
    """Watch this process's commits; returns what tells their number."""
    return _watch(case, None)


def kill_at(case: Case, point: Point) -> None:
    """Let this process be killed at one of its commits."""
    _watch(case, point)


def _watch(case: Case, point: Point | None) -> Callable[[], int]:
    if not case.shows_running:
        config.STARTED_AFTER_SECONDS = float("inf")
    config.LOG_FLUSH_SECONDS = float("inf")
    done = 0
    write = Database.write

    def is_at(number: int, side: Side) -> bool:
        return point == Point(number, side)

    @contextlib.contextmanager
    def watched(database: Database) -> Iterator[Transaction]:
        nonlocal done
        with write(database) as conn:
            yield conn
            # Still under the write lock: no other thread counts now.
            done += 1
            number = done
            if is_at(number, "before"):
                os.kill(os.getpid(), signal.SIGKILL)
        if is_at(number, "after"):
            os.kill(os.getpid(), signal.SIGKILL)

    Database.write = watched  # type: ignore[method-assign, assignment]
    return lambda: done


def run_original(case: Case) -> None:
    """Run the flow that a case replays to its end."""
    with _first_id(ORIGINAL_ID):
        handle = case.flow.run(**case.inputs)
    _see_through(case, handle.exec_id)


def see_through(case: Case) -> None:
    """Start the case's execution, if nobody has, and take it to its end."""
    if _find() is None:
        with _first_id(EXEC_ID):
            if case.replay is None:
                case.flow.run(**case.inputs)
            else:
                case.flow.replay(ORIGINAL_ID, **case.replay)
    _see_through(case, EXEC_ID)
    _tell_end()


def answer(case: Case) -> None:
    """Answer what the case's execution asks now."""
    _answer(case, EXEC_ID)


def take_up(case: Case, meet: Callable[[], object]) -> None:
    """Continue an execution that was left, at the moment others do; then take it to its end.

    Raises:
        Refused: another process was first.
    """
    execution = _get(EXEC_ID)
    meet()
    try:
        _continue(case, execution)
    except KitaruStateError as exc:
        raise Refused from exc
    _see_through(case, EXEC_ID)
    _tell_end()


def _see_through(case: Case, exec_id: str) -> None:
    executions = KitaruClient().executions

    def needs_us() -> bool:
        asks = case.polls and executions.pending_waits(exec_id)
        return bool(asks) or not executions.continues(exec_id)

    for _ in range(MOST_ROUNDS):
        support.until(needs_us, "it asks, or its driver has let go")
        if _answer(case, exec_id):
            continue
        execution = drives.left(exec_id)
        if execution.status.is_finished and not _is_to_be_retried(case, execution):
            return
        _continue(case, execution)
    raise AssertionError(f"After {MOST_ROUNDS} drives it has not ended: {_get(exec_id)}")


def _answer(case: Case, exec_id: str) -> bool:
    """Answer what the execution asks now; returns whether it asked."""
    executions = KitaruClient().executions
    asked = executions.pending_waits(exec_id)
    for each in asked:
        executions.input(exec_id, wait=each.name, value=case.answers[each.name])
    return bool(asked)


def _continue(case: Case, execution: Execution) -> None:
    """Resume or retry an execution that nobody drives, in this process."""
    if execution.status == "failed":
        (_home() / "mended").touch()
        drives.again("retry", case.flow, execution.exec_id)
    else:
        drives.again("resume", case.flow, execution.exec_id)


def _is_to_be_retried(case: Case, execution: Execution) -> bool:
    lines = KitaruClient().executions.logs(execution.exec_id, source="runner")
    retried = sum(line.message.startswith("Retried") for line in lines)
    return execution.status == "failed" and retried < case.retries


def _tell_end() -> None:
    """Leave how the execution ended, as the client shows it, in the home."""
    execution = _get(EXEC_ID)
    failure = execution.failure.exception_type if execution.failure else None
    told = {"status": execution.status, "result": execution.result, "error": failure}
    (_home() / "ended").write_text(json.dumps(told))


def _home() -> Path:
    return Path(os.environ["KITARU_HOME"])


def _get(exec_id: str) -> Execution:
    return KitaruClient().executions.get(exec_id)


def _find() -> Execution | None:
    try:
        return _get(EXEC_ID)
    except KitaruNotFoundError:
        return None


@contextlib.contextmanager
def _first_id(exec_id: str) -> Iterator[None]:
    """Give the next execution this id; whatever draws after it gets one of its own."""
    given = iter([exec_id.removeprefix(ids.EXECUTION_PREFIX)])
    numbers = itertools.count()
    with ids.use(lambda: next(given, None) or f"{os.getpid():08}{next(numbers):08}"):
        yield
