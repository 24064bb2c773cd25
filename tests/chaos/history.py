"""What everybody saw: lines that workers and clients leave in the home, held against the store.

A line is `[since, t, pid, op, id, outcome]`: it happened between the two times, which one clock
gives to all processes. Only what is certain is a complaint: of two things whose times overlap
either may have come first. The ops, and what a history is checked for:

- `created` exec_id: the execution is there.
- `seen` exec_id, status: legal moves lead from each status that was seen to each seen later, and
  to the one it has.
- `took` exec_id, epoch: a driver has the lease; nobody else ever has it at that epoch.
- `writes` call, epoch: a driver is about to record a value.
- `got` call, {value, epoch}: a flow was given a value. Whoever sees a call sees the same value,
  and it is the recorded one. Once a driver's write was acknowledged, none of an earlier epoch
  that began later is.
- `answered` call, value: a client's answer was taken. One is, and the flow gets that one.
- `cancelled` exec_id: a cancellation was acknowledged; the execution does not end otherwise.
- `result` exec_id, value: the result of the execution, for everybody.

A call's id is `exec_id/call_id`; values are JSON data.
"""

from __future__ import annotations

import contextlib
import json
import os
import time
from collections import Counter, defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from kitaru import codec
from kitaru.models import MOVES, ExecutionStatus

FILE = "history"
#: Where legal moves lead in the end, from each status; seeing a status again is no move.
REACHED = {status: {status} for status in ExecutionStatus}
for _ in ExecutionStatus:
    for _moves in MOVES.values():
        for _before, _after in _moves.items():
            REACHED[_before] |= REACHED[_after or _before]


class Event(NamedTuple):
    """One line; the times are in nanoseconds."""

    since: int
    t: int
    pid: int
    op: str
    id: str
    outcome: Any


class History:
    """The pen of one process; what it noted outlives it.

    Flows of `tests.flows` note what they see in homes that have a history.
    """

    def __init__(self, home: Path) -> None:
        self._path = home / FILE

    def begin(self) -> History:
        """Let there be a history."""
        self._path.touch()
        return self

    def note(self, op: str, id: str, outcome: Any = None, *, since: int | None = None) -> None:
        """Add a line, which is there for good when this returns; `since` comes of `now`."""
        if not self._path.exists():
            return
        t = now()
        line = json.dumps([t if since is None else since, t, os.getpid(), op, id, outcome])
        fd = os.open(self._path, os.O_WRONLY | os.O_APPEND)
        try:
            os.write(fd, f"\n{line}\n".encode())  # behind a line that a kill has cut off, too
            os.fsync(fd)
        finally:
            os.close(fd)

    def read(self) -> list[Event]:
        """All lines of everybody, in the order of their ends; not one whose writer died in it."""
        events = []
        for line in filter(None, self._path.read_text().splitlines()):
            with contextlib.suppress(ValueError):
                events.append(Event(*json.loads(line)))
        return sorted(events, key=lambda event: event.t)


def now() -> int:
    """The time that all processes of this machine have."""
    return time.monotonic_ns()


def check(home: Path) -> str:
    """Hold the history against itself and the store; tells how long it is.

    Raises:
        AssertionError: somebody saw what cannot be.
    """
    events = History(home).read()
    stored = _Stored(home)
    found = [f"the store does not have {event}" for event in events if not stored.has(event)]
    found += [text for rule in (_moves, _answers, _leases, _writes) for text in rule(events)]
    assert not found, "\n".join(found)
    return f"{len(events)} lines of history"


class _Stored:
    """What the store holds in the end."""

    def __init__(self, home: Path) -> None:
        from tests import support  # not for those who only note

        def rows(columns: str, tables: str = "executions") -> dict[str, Any]:
            return dict(support.query(home, f"SELECT {columns} FROM {tables}"))

        self._statuses = rows("exec_id, status")
        self._results = rows("exec_id, result")
        of = "JOIN executions ON id = execution"
        self._calls = rows("exec_id || '/' || call_id, calls.result", f"calls {of}")
        self._answers = rows("exec_id || '/' || call_id, answer", f"waits {of}")

    def has(self, event: Event) -> bool:
        """Whether it holds what somebody saw, or what may come of it."""
        match event.op:
            case "created":
                return event.id in self._statuses
            case "seen":
                return self._statuses.get(event.id) in REACHED[ExecutionStatus(event.outcome)]
            case "cancelled":
                return self._statuses.get(event.id) not in (None, "completed", "failed")
            case "got":
                return self._is(self._calls, event.id, event.outcome["value"])
            case "answered":
                return self._is(self._answers, event.id, event.outcome)
            case "result":
                return self._is(self._results, event.id, event.outcome)
        return event.op in ("took", "writes")

    def _is(self, where: dict[str, Any], key: str, value: Any) -> bool:
        data = where.get(key)
        return data is not None and bool(codec.plain(data) == value)


def _moves(events: list[Event]) -> Iterator[str]:
    """Statuses that no legal moves lead to from one that was seen before."""
    before: dict[str, dict[str, int]] = defaultdict(dict)
    for event in events:
        if event.op == "seen":
            for status, t in before[event.id].items():
                if t < event.since and event.outcome not in REACHED[ExecutionStatus(status)]:
                    yield f"it was {status} before {event}"
            before[event.id].setdefault(event.outcome, event.t)


def _answers(events: list[Event]) -> Iterator[str]:
    taken = Counter(event.id for event in events if event.op == "answered")
    yield from (f"{wait} took {count} answers" for wait, count in taken.items() if count > 1)


def _leases(events: list[Event]) -> Iterator[str]:
    first: dict[tuple[str, int], Event] = {}
    for event in events:
        if event.op == "took":
            holder = first.setdefault((event.id, event.outcome), event)
            if holder.pid != event.pid:
                yield f"two have one lease: {holder} and {event}"


def _writes(events: list[Event]) -> Iterator[str]:
    """Writes that began when a later epoch had one acknowledged, and were acknowledged too."""
    begun: dict[tuple[int, str, int], int] = {}
    first: dict[str, dict[int, int]] = defaultdict(dict)
    for event in events:
        if event.op not in ("writes", "got"):
            continue
        epoch = event.outcome if event.op == "writes" else event.outcome["epoch"]
        key = (event.pid, event.id, epoch)
        if event.op == "writes":
            begun[key] = event.since
        elif key in begun:  # who gets what another has recorded writes nothing
            since, acknowledged = begun.pop(key), first[event.id.partition("/")[0]]
            for later, t in acknowledged.items():
                if later > epoch and t < since:
                    yield f"epoch {later} had written when this write began: {event}"
            acknowledged.setdefault(epoch, event.t)
