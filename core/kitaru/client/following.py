"""Following an execution: its lines, questions and end, as they are stored.

One loop serves `follow` and `logs(follow=True)`. It wakes when somebody has committed to the store,
and once a second to see whether the driver still lives; it reads pages, so that memory stays small
however much was written. It never acts on what it sees.
"""

from __future__ import annotations

import difflib
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import ClassVar, Literal, NamedTuple, TypeAlias

from kitaru import clock, config, ids, launch
from kitaru.client.steering import Steering
from kitaru.errors import KitaruNotFoundError, KitaruUsageError
from kitaru.frozen import Model
from kitaru.models import LOG_LEVELS, Execution, ExecutionStatus, LogEntry, PendingWait
from kitaru.redaction import is_storable
from kitaru.store import Store, Transaction, executions, journal, logs, waits
from kitaru.store.executions import Row
from kitaru.store.logs import Which

LogSource = Literal["step", "runner"]

_NEVER = threading.Event()


@dataclass(frozen=True, slots=True)
class LogEvent(Model):
    """A line was stored."""

    event: ClassVar = "log"
    entry: LogEntry


@dataclass(frozen=True, slots=True)
class WaitingEvent(Model):
    """The execution waits for the answer to a question; told once for each."""

    event: ClassVar = "waiting"
    wait: PendingWait


@dataclass(frozen=True, slots=True)
class StalledEvent(Model):
    """Nobody drives the execution, and it will not go on by itself; the message says what helps."""

    event: ClassVar = "stalled"
    message: str


@dataclass(frozen=True, slots=True)
class TerminalEvent(Model):
    """The execution has ended."""

    event: ClassVar = "terminal"
    status: ExecutionStatus
    message: str


FollowEvent: TypeAlias = LogEvent | WaitingEvent | StalledEvent | TerminalEvent


class Following(Steering):
    """What of `client.executions` sees an execution go on."""

    def follow(
        self,
        exec_id: str,
        checkpoint: str | None = None,
        source: LogSource = "step",
        *,
        level: str | None = None,
        text: str | None = None,
        stop: Callable[[], bool] = lambda: False,
    ) -> Iterator[FollowEvent]:
        """Yield what happens to an execution until it has ended, from its first line on.

        Events are a `LogEvent` for each line, a `WaitingEvent` for each question, a `StalledEvent`
        where nobody drives it and somebody has to act, and one `TerminalEvent` at the end. What was
        stored before the call comes in the order of its times, what comes later as it is stored.

        Args:
            exec_id: full id, unique prefix, or `latest`.
            checkpoint: lines only of the calls with this name, or of this call id.
            source: `step` for what user code wrote, `runner` for what its drivers did.
            level: lines only of this level or a higher one, as in `logs`.
            text: lines only with this text in the message, as in `logs`.
            stop: asked often; once it says so, no more is yielded.

        Raises:
            KitaruNotFoundError: there is no such execution, it was deleted meanwhile, or it has
                ended without calling the checkpoint.
            KitaruUsageError: an argument cannot be right.

        Example:
            >>> import logging, kitaru
            >>> greet = kitaru.flow(lambda: logging.getLogger().warning("hello"), name="greet")
            >>> events = kitaru.KitaruClient().executions.follow(greet.run().exec_id)
            >>> [event.event for event in events]
            ['log', 'terminal']
        """
        which = chosen(source, checkpoint=checkpoint, level=level, text=text)
        with self._open().snapshot() as conn:
            row = executions.find(conn, exec_id)
        return self._followed(row, which, stop)

    def _followed(self, row: Row, which: Which, stop: Callable[[], bool]) -> Iterator[FollowEvent]:
        store, asked, idle = self._open(), set[str](), Idle()
        with store.snapshot() as conn:
            after = logs.newest(conn)
        yield from map(LogEvent, _stored(store, row, which, until=after))
        for is_tick in looks(store, stop):
            look = _look(store, row, which, after=after)
            yield from map(LogEvent, look.page)
            while len(look.page) == config.FOLLOW_PAGE:
                look = _look(store, row, which, after=look.after)
                yield from map(LogEvent, look.page)
            after = look.after
            for wait in look.pending:
                if wait.wait_id not in asked:
                    asked.add(wait.wait_id)
                    yield WaitingEvent(wait)
            note = idle.note(store, look.row, is_asking=bool(look.pending), is_tick=is_tick)
            if note is not None:
                yield StalledEvent(note)
            if look.ended is not None:
                if which.checkpoint is not None:
                    with store.snapshot() as conn:
                        check_called(conn, look.row, which.checkpoint)
                yield TerminalEvent(look.ended.status, ending(look.ended))
                return


class _Look(NamedTuple):
    """What one snapshot shows: some lines, where they end, and how the execution stands."""

    page: list[LogEntry]
    after: int
    row: Row
    pending: list[PendingWait]
    ended: Execution | None


def _look(store: Store, row: Row, which: Which, *, after: int) -> _Look:
    with store.snapshot() as conn:
        now = executions.find(conn, row.exec_id)
        page, after = logs.read_after(conn, row.id, which, after=after, limit=config.FOLLOW_PAGE)
        is_asking = now.status is ExecutionStatus.WAITING
        pending = waits.pending(conn, row.id, exec_id=row.exec_id) if is_asking else []
        ended = executions.summary(conn, row.id) if now.status.is_finished else None
    return _Look(page, after, now, pending, ended)


def looks(store: Store, stop: Callable[[], bool]) -> Iterator[bool]:
    """Yield when somebody has committed to the store, and once a second, which gives true.

    What the caller then reads may be newer than the commit, never older. It ends once `stop` says
    so.
    """
    seen, due_at = -1, clock.monotonic()
    while not stop():
        version, now = store.version(), clock.monotonic()
        is_tick = now >= due_at
        if is_tick:
            due_at = now + config.LOOK_SECONDS
        if is_tick or version != seen:
            seen = version
            yield is_tick
        else:
            clock.wait(_NEVER, config.POLL_SECONDS)


class Idle:
    """Tells once, each time, that nobody drives an execution that could go on."""

    def __init__(self) -> None:
        self._told: str | None = None
        self._seen: str | None = None

    def note(self, store: Store, row: Row, *, is_asking: bool, is_tick: bool) -> str | None:
        """What is to be told now, if anything."""
        if row.holder == "alive" or row.status.is_finished or is_asking:
            self._told = self._seen = None
            return None
        if row.status is ExecutionStatus.RUNNING:
            found = (
                f"Execution {row.exec_id} has stalled: the process that drove it is gone. "
                f"Continue it with: kitaru executions resume {row.exec_id}"
            )
        elif row.status is ExecutionStatus.WAITING and is_tick:
            before, self._seen = self._seen, _what_helps(store, row)
            # Twice in a row: between an answer and `resume` this is so for a moment.
            if before != self._seen:
                return None
            found = self._seen
        else:
            return None
        if found == self._told:
            return None
        self._told = found
        return found


def _what_helps(store: Store, row: Row) -> str:
    with store.snapshot() as conn:
        obstacle = launch.obstacle(conn, row)
    if obstacle is not None:
        return f"Execution {row.exec_id} waits: {obstacle}"
    return (
        f"Execution {row.exec_id} could go on, but nobody drives it. "
        f"Continue it with: kitaru executions resume {row.exec_id}"
    )


def ending(execution: Execution) -> str:
    """How an execution has ended, in one line."""
    if execution.status.is_successful:
        return "Execution completed successfully"
    if execution.status is ExecutionStatus.CANCELLED:
        return "Execution cancelled"
    failure = execution.failure
    reason = failure.message if failure is not None else execution.status_reason
    return f"Execution failed: {reason or 'no reason was recorded'}"


def _stored(store: Store, row: Row, which: Which, *, until: int) -> Iterator[LogEntry]:
    """The lines up to a row, page by page."""
    cursor = None
    while True:
        with store.snapshot() as conn:
            page = logs.read(
                conn, row.id, which, limit=config.FOLLOW_PAGE, cursor=cursor, until=until
            )
        yield from page
        cursor = page.next_cursor
        if cursor is None:
            return


def check_called(conn: Transaction, row: Row, checkpoint: str) -> None:
    """Refuse the name of a checkpoint that was never called, which a typo may be."""
    made = [call.call_id for call in journal.load(conn, row.id, exec_id=row.exec_id)]
    names = [*dict.fromkeys([*map(ids.call_name, made), *made])]
    if checkpoint not in names:
        near = difflib.get_close_matches(checkpoint, names, n=3, cutoff=0.4) or names[:10]
        told = f"Nearest: {', '.join(near)}." if near else "It has called none yet."
        raise KitaruNotFoundError(
            f"Execution {row.exec_id} has not called a checkpoint {checkpoint!r:.60}. {told}"
        )


def chosen(
    source: LogSource, *, checkpoint: str | None, level: str | None, text: str | None
) -> Which:
    """The lines that are asked for; refuses what cannot be asked."""
    if source not in ("step", "runner"):
        raise KitaruUsageError(f"source is {source!r}; use 'step' or 'runner'.")
    for name, given in (("checkpoint", checkpoint), ("text", text)):
        if given is not None and not (isinstance(given, str) and is_storable(given)):
            raise KitaruUsageError(f"{name} is {given!r:.60}; give it as text.")
    least = None if level is None else str(level).strip().upper()
    if least is not None and least not in LOG_LEVELS:
        raise KitaruUsageError(f"level is {level!r:.40}; use one of {', '.join(LOG_LEVELS)}.")
    return Which(source, checkpoint, least, text)
