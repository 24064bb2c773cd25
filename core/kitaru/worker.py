"""The resident process that lets executions go on without anybody asking: `kitaru worker`.

It takes up what could go on and nobody drives: answered questions, sleeps that are over, parents
whose children have ended, executions whose drivers have died. Each gets a runner process of its
own, which outlives the worker. It looks when the store has changed, when a sleep ends, and once a
second for dead drivers. What cannot be taken up, or dies again and again, is left alone for ever
longer times; that is kept in memory only. While it is resident, it sends copies of log lines to the
log store, if one is set. Any number of workers may serve a store.
"""

from __future__ import annotations

import random
import threading
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from kitaru import clock, config, log_store
from kitaru.client import KitaruClient
from kitaru.errors import KitaruError, KitaruRuntimeError, KitaruStateError, KitaruUsageError
from kitaru.store import due, executions, open_store
from kitaru.store.due import Due


@dataclass(frozen=True, slots=True)
class Event:
    """What a worker did with an execution, and why."""

    event: Literal["resumed", "refused"]
    exec_id: str
    flow_name: str
    reason: str


def serve(
    client: KitaruClient,
    *,
    limit: int = config.WORKER_LIMIT,
    once: bool = False,
    stop: threading.Event | None = None,
) -> Iterator[Event]:
    """Take up executions of a store as they become due, and tell of each.

    Args:
        client: the store's.
        limit: how many of its runners may live at a time.
        once: end when all that is due now has been taken up.
        stop: ends it when set; its runners go on.

    Raises:
        KitaruUsageError: the limit is less than 1.
        KitaruBackendError: the store cannot be read.

    Example:
        >>> from kitaru import KitaruClient
        >>> from kitaru.worker import serve
        >>> [event.exec_id for event in serve(KitaruClient(), once=True)]
        []
    """
    if type(limit) is not int or limit < 1:
        raise KitaruUsageError(f"limit is {limit!r}; it must be at least 1.")
    served = _Worker(client, limit).serve(once=once, stop=stop or threading.Event())
    return served if once else _with_logs(served, client)


def _with_logs(served: Iterator[Event], client: KitaruClient) -> Iterator[Event]:
    """The same, while copies of log lines are sent as they come."""
    with log_store.following(open_store(client.home)):
        yield from served


@dataclass(frozen=True, slots=True)
class _Pause:
    """An execution is left alone until then, after so many tries in a row; `said` was told."""

    until: float
    tries: int
    said: str | None = None


class _Worker:
    def __init__(self, client: KitaruClient, limit: int) -> None:
        self._executions = client.executions
        self._store = open_store(client.home)
        self._limit = limit
        self._answers: deque[tuple[Due, KitaruError | None]] = deque()
        self._taking: set[str] = set()
        self._taken: dict[str, int] = {}
        self._pauses: dict[str, _Pause] = {}
        self._seen = -1
        self._next_look = 0.0
        self._jumps = clock.Jumps()
        self._quiet_until = 0.0

    def serve(self, *, once: bool, stop: threading.Event) -> Iterator[Event]:
        chosen = {each.exec_id for each in self._find()} if once else None
        while not stop.is_set():
            if self._has_news():
                self._look(chosen)
            while self._answers:
                yield from self._answered(*self._answers.popleft())
            if chosen is not None and not chosen and not self._taking:
                break
            left = self._next_look - clock.monotonic()
            clock.wait(stop, max(0.0, min(config.WORKER_POLL_SECONDS, left)))

    def _find(self) -> list[Due]:
        with self._store.snapshot() as conn:
            return due.undriven(conn)

    def _has_news(self) -> bool:
        seen, self._seen = self._seen, self._store.version()
        return self._seen != seen or clock.monotonic() >= self._next_look

    def _look(self, chosen: set[str] | None) -> None:
        """Take up what is due, of what was chosen, as far as there is room."""
        now = clock.monotonic()
        if self._jumps.has_jumped():  # those that live renew their leases meanwhile
            self._quiet_until = now + config.WORKER_PAUSE_SECONDS
        if now < self._quiet_until:
            self._next_look = self._quiet_until
            return
        with self._store.snapshot() as conn:
            found = due.undriven(conn)
            next_at = due.next_at(conn)
            alive = {
                exec_id: row
                for exec_id, row in self._taken.items()
                if executions.at(conn, row).holder == "alive"
            }
        self._taken = alive
        self._next_look = now + config.WORKER_LOOK_SECONDS
        if next_at is not None:
            sleeps = max(0, next_at - clock.now_us()) / 1_000_000
            self._next_look = min(self._next_look, now + sleeps)
        self._forget_pauses(now)
        if chosen is not None:
            chosen &= {each.exec_id for each in found}  # the others went on without us
            found = [each for each in found if each.exec_id in chosen]
        # Not the oldest first: workers side by side would start runners for the same ones.
        for each in random.sample(found, len(found)):
            pause = self._pauses.get(each.exec_id)
            if each.exec_id in self._taking or (pause is not None and now < pause.until):
                continue
            if len(self._taken.keys() | self._taking) >= self._limit:
                return
            self._start(each)
            if chosen is not None:
                chosen.discard(each.exec_id)

    def _start(self, each: Due) -> None:
        """Take up an execution on a thread: an import that hangs holds up no other one."""
        self._taking.add(each.exec_id)
        name = f"kitaru-take-{each.exec_id}"
        threading.Thread(target=self._take, args=(each,), name=name, daemon=True).start()

    def _take(self, each: Due) -> None:
        try:
            self._executions.resume(each.exec_id)
        except KitaruError as exc:
            self._answers.append((each, exc))
        except Exception as exc:  # the thread's edge: what it does not tell is waited for for ever
            text = f"Resuming {each.exec_id} failed inside Kitaru: {type(exc).__name__}: {exc}"
            self._answers.append((each, KitaruRuntimeError(text)))
        else:
            self._answers.append((each, None))

    def _answered(self, each: Due, error: KitaruError | None) -> Iterator[Event]:
        self._taking.discard(each.exec_id)
        self._next_look = clock.monotonic()  # there may be room again
        earlier = self._pauses.pop(each.exec_id, None)
        if isinstance(error, KitaruStateError):  # somebody else was quicker
            self._pauses[each.exec_id] = _Pause(clock.monotonic() + config.WORKER_PAUSE_SECONDS, 0)
            return
        reason = each.why if error is None else str(error)
        if error is not None or each.is_stalled:  # it may die again at once
            tries = earlier.tries if earlier else 0
            seconds = min(config.WORKER_PAUSE_SECONDS * 2**tries, config.WORKER_PAUSE_MAX_SECONDS)
            self._pauses[each.exec_id] = _Pause(clock.monotonic() + seconds, tries + 1, reason)
        if error is None:
            self._taken[each.exec_id] = each.id
            yield Event("resumed", each.exec_id, each.flow_name, reason)
        elif earlier is None or earlier.said != reason:
            yield Event("refused", each.exec_id, each.flow_name, reason)

    def _forget_pauses(self, now: float) -> None:
        """An execution that has gone on for long starts again with the shortest pause."""
        for exec_id, pause in [*self._pauses.items()]:
            if now >= pause.until + config.WORKER_PAUSE_MAX_SECONDS:
                del self._pauses[exec_id]
