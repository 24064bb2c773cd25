"""What a store should hold, as plain Python: no SQL, no files, no threads.

Each method says what one action makes of the executions there are. Which moves are legal comes
from the one table of moves; everything else is said here a second time, as simply as possible.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from kitaru import config
from kitaru.models import MOVES, ExecutionStatus

SECOND = 1_000_000
Outcome = Literal["completed", "failed", "tried", "begun"]
#: What may still read the record of the execution it replays.
READING = ("pending", "running", "waiting", "failed")


@dataclass
class Question:
    """What a wait has asked, and what came of it."""

    status: str = "pending"
    answer: Any = None


@dataclass
class Call:
    """A durable call; `saved` are names and values, `has_ended` says that it has an outcome."""

    call_id: str
    kind: str
    status: str = "running"
    value: Any = None
    saved: list[tuple[str, Any]] = field(default_factory=list)
    failure: str | None = None
    original: str | None = None
    question: Question | None = None
    due_at: int | None = None
    settled: bool = False
    has_ended: bool = False

    @property
    def is_open(self) -> bool:
        """Whether its driver has yet to bring it to an end."""
        return self.status in ("pending", "running")

    @property
    def is_answered(self) -> bool:
        """Whether it is a wait with an answer that its flow has not taken."""
        return self.is_open and self.question is not None and self.question.status == "answered"

    def end(self, status: str, *, value: Any = None, failure: str | None = None) -> None:
        """It has an outcome."""
        self.status, self.value, self.failure, self.has_ended = status, value, failure, True

    def cut_off(self) -> None:
        """Its flow has ended without it."""
        if self.is_open:
            self.status = "cancelled"
        self.close("withdrawn")

    def close(self, status: str) -> None:
        """A question that is open gets no answer any more."""
        if self.question is not None and self.question.status == "pending":
            self.question.status = status

    def reopen(self) -> None:
        """A retry lets it run again, where its failure is no history yet."""
        if self.status in ("failed", "cancelled") and not self.settled:
            self.status, self.failure, self.has_ended = "pending", None, False


@dataclass
class Run:
    """An execution; `held_until` is when its driver's lease runs out, `None` without a driver."""

    exec_id: str
    flow: str
    inputs: dict[str, Any]
    tags: tuple[str, ...]
    stack: str
    created_at: int
    status: ExecutionStatus = ExecutionStatus.RUNNING
    ended_at: int | None = None
    metadata: dict[str, Any] = field(default_factory=dict)
    has_result: bool = False
    result: Any = None
    failure: str | None = None
    calls: dict[int, Call] = field(default_factory=dict)
    lines: list[str] = field(default_factory=list)
    original: str | None = None
    epoch: int = 0
    drivers: int = 0
    held_until: int | None = None
    cancel_requested: bool = False
    is_gone: bool = False

    def open_calls(self, *kinds: str) -> Iterator[tuple[int, Call]]:
        """Its calls of these kinds that are under way, with their places."""
        return ((s, c) for s, c in sorted(self.calls.items()) if c.kind in kinds and c.is_open)

    def pending(self) -> list[Call]:
        """Its waits that have no answer."""
        calls = (call for _, call in sorted(self.calls.items()))
        return [c for c in calls if c.question is not None and c.question.status == "pending"]

    def saved_count(self) -> int:
        """How many artifacts it has: what was saved, and results of checkpoints."""
        results = [c for c in self.calls.values() if c.kind == "checkpoint"]
        return sum(len(c.saved) for c in self.calls.values()) + sum(
            c.status == "completed" for c in results
        )

    def is_held(self, now: int) -> bool:
        """Whether a driver lives that may write to it."""
        return self.held_until is not None and self.held_until > now

    def is_stalled(self, now: int) -> bool:
        """Whether it is said to run although nobody drives it."""
        return self.status == "running" and not self.is_held(now)

    def is_blocked(self, now: int) -> bool:
        """Whether it waits for something that has not come."""
        under_way = [call for call in self.calls.values() if call.status == "running"]
        for call in under_way:
            if call.kind == "checkpoint" or call.is_answered:
                return False
            if call.due_at is not None and call.due_at <= now:
                return False
        return bool(under_way) or bool(self.pending())

    def may(self, action: str) -> bool:
        """Whether the table of moves allows it now."""
        return self.status in MOVES[action]

    def move(self, action: str, now: int) -> None:
        """Take a step in its life."""
        self.status = MOVES[action][self.status] or self.status
        self.ended_at = now if self.status.is_finished else None

    def take(self, now: int) -> None:
        """Another driver has it from now on."""
        self.epoch += 1
        self.drivers += 1
        self.held_until = now + int(config.LEASE_SECONDS * SECOND)

    def revoke(self) -> None:
        """Whoever has driven it may write no more."""
        self.epoch += 1
        self.let_go()

    def let_go(self) -> None:
        """Nobody drives it."""
        self.held_until = None
        self.cancel_requested = self.cancel_requested and not self.status.is_finished

    def cut_off(self) -> None:
        """What was under way comes to no end."""
        for call in self.calls.values():
            call.cut_off()

    def stop(self, action: str, now: int) -> None:
        """A client has cancelled it, or closed its wait."""
        if action == "cancel" and self.status == "running" and self.is_held(now):
            self.cancel_requested = True
            return
        for call in self.calls.values():
            call.close("aborted")
        self.cut_off()
        self.move(action, now)
        self.revoke()

    def finish(self, action: str, now: int, *, value: Any = None) -> None:
        """Its driver has come to the end; a cancellation that was asked for wins."""
        action = "cancel" if self.cancel_requested else action
        self.cut_off()
        if self.status == "waiting" and action != "cancel":
            self.move("continue", now)
        self.has_result, self.result = action == "complete", value if action == "complete" else None
        self.failure = str(value) if action == "fail" else None
        self.move(action, now)
        self.let_go()

    def retry(self, now: int) -> None:
        """It goes on from where it failed."""
        self.has_result, self.result, self.failure = False, None, None
        for call in self.calls.values():
            call.reopen()
        self.move("retry", now)
        self.take(now)

    def copied(self, before: int) -> dict[int, Call]:
        """The calls that a replay takes over."""
        return {
            seq: replace(
                call,
                original=f"{self.exec_id}/{call.call_id}",
                question=None,
                due_at=None,
                saved=list(call.saved),
            )
            for seq, call in self.calls.items()
            if seq < before and call.has_ended
        }


class Model:
    """All executions, in the order in which they were made."""

    def __init__(self) -> None:
        self.runs: list[Run] = []

    def newest_first(self) -> list[Run]:
        """As a listing shows them."""
        return self.runs[::-1]

    def needed(self, going: list[Run]) -> set[str]:
        """Which of these have to stay if only these go."""
        kept: set[str] = set()
        while True:
            leaving = {run.exec_id for run in going} - kept
            found = {
                run.original
                for run in self.runs
                if run.original in leaving and run.status in READING and run.exec_id not in leaving
            }
            if not found:
                return kept
            kept |= {each for each in found if each is not None}

    def remove(self, going: list[Run]) -> None:
        """They are no more."""
        for run in going:
            run.is_gone = True
            self.runs.remove(run)
