"""Takes the execution of a case to its end, from wherever it stands; kills itself where told.

A stage is a forked child: it opens its own store, drives its flows on its own threads, answers and
retries as the case says, and never returns to the code that forked it. The worker that forks must
have opened no store and started no thread; a forked child of it is then as clean as a new process.
"""

from __future__ import annotations

import contextlib
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
from kitaru.heart import heart
from kitaru.store import Transaction
from kitaru.store.connection import Database
from tests import drives, support
from tests.conformance.cases import Case

EXEC_ID = ids.EXECUTION_PREFIX + "0" * 16
ORIGINAL_ID = ids.EXECUTION_PREFIX + "1" * 16
REFUSED = 3
MOST_ROUNDS = 30
_GLANCE_SECONDS = 0.1

Side = Literal["before", "after"]
SIDES: tuple[Side, ...] = ("before", "after")


@dataclass(frozen=True)
class Point:
    """A commit of a run, counted from 1, and the side of it at which the process is killed."""

    commit: int
    side: Side

    def __str__(self) -> str:
        return f"{self.side} commit {self.commit}"


class StageClock(support.QuickClock):
    """Lets pauses between attempts pass at once, but not the rest of what waits for others."""

    def wait(self, event: threading.Event, seconds: float) -> bool:
        return (
            event.wait(seconds) if seconds <= config.REST_SECONDS else super().wait(event, seconds)
        )


class Refused(Exception):
    """Another process has continued the execution first."""


def fork(home: Path, work: Callable[[], object]) -> int:
    """Do something on a home in a forked child; returns its process id."""
    pid = os.fork()
    if pid == 0:
        _be_child(home, work)
    return pid


def ended(pid: int) -> int:
    """Wait for a forked child; returns its exit code, or the negative signal that killed it."""
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def _be_child(home: Path, work: Callable[[], object]) -> NoReturn:
    code = 1
    try:
        os.environ["KITARU_HOME"] = str(home)
        os.environ["KITARU_DURABILITY"] = "normal"  # what a killed process has written stays
        output = os.open(home / "output", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        os.dup2(output, 1)
        os.dup2(output, 2)
        config.TICK_SECONDS = config.POLL_SECONDS = 0.005
        with clock.use(StageClock()), ids.use(_next_id):
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
    support.until(lambda: not heart.drives(), "no drive runs")
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
    _answer(case)


def take_up(case: Case, meet: Callable[[], object]) -> None:
    """Continue an execution that was left, at the moment others do; then take it to its end.

    Raises:
        Refused: another process was first.
    """
    execution = _get(EXEC_ID)
    support.until(_is_due, "no call sleeps any more")
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
        for drive in heart.drives():
            if drive.exec_id == exec_id:
                drive.ended.wait(config.POLL_SECONDS if case.polls else _GLANCE_SECONDS)
        return bool(case.polls and _asked()) or not executions.continues(exec_id)

    for _ in range(MOST_ROUNDS):
        support.until(needs_us, "it asks, or its driver has let go")
        if _answer(case):
            continue
        execution = drives.left(exec_id)
        if execution.status.is_finished and not _is_to_be_retried(case, execution):
            return
        _continue(case, execution)
    raise AssertionError(f"After {MOST_ROUNDS} drives it has not ended: {_get(exec_id)}")


def _asked() -> list[tuple[str, str]]:
    """What is asked now: the execution, which may be a child, and the wait's name."""
    return [
        (row[0], row[1])
        for row in drives.store().read(
            "SELECT exec_id, call_id FROM waits JOIN executions ON id = execution "
            "WHERE waits.status = 'pending' ORDER BY execution, seq"
        )
    ]


def _answer(case: Case) -> bool:
    """Answer what the execution and its children ask now; returns whether they asked."""
    asked = _asked()
    for exec_id, wait in asked:
        KitaruClient().executions.input(exec_id, wait=wait, value=case.answers[wait])
    return bool(asked)


def _continue(case: Case, execution: Execution) -> None:
    """Resume or retry an execution that nobody drives, in this process, when it is due."""
    support.until(_is_due, "no call sleeps any more")
    if execution.status == "failed":
        (_home() / "mended").touch()
        drives.again("retry", case.flow, execution.exec_id)
    else:
        drives.again("resume", case.flow, execution.exec_id)


def _is_due() -> bool:
    sleeping = "SELECT count(*) FROM calls WHERE status = 'running' AND due_at > ?"
    return bool(drives.store().read(sleeping, (clock.now_us(),))[0][0] == 0)


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
    with ids.use(lambda: next(given, None) or _next_id()):
        yield


def _next_id() -> str:
    """The id of the next execution in the store, the same in whatever process it starts."""
    return f"{drives.store().read('SELECT count(*) FROM executions')[0][0]:016}"
