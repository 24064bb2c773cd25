"""Call identity and divergence: the pure half of durability.

A `Journal` numbers the calls of one drive as they are made and compares each with the record. It
answers with a `Step`: return what is recorded, reuse what a replay's original has, or run. Order,
names, kinds and inputs must be the recorded ones; a difference is a `KitaruDivergenceError` that
shows both. Each task of an async flow numbers its calls in a `Lane` of its own, so that they are
the same ones in whatever order tasks get their turns. It does no I/O and reads no clock.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import NoReturn, Protocol

from kitaru import ids
from kitaru.errors import FailureOrigin, KitaruDivergenceError
from kitaru.models import CallStatus, ExecutionStatus
from kitaru.replay import ReplayPlan
from kitaru.store.journal import CallKind, CallRecord


class Call(Protocol):
    """What the journal has to know of a call that is made."""

    @property
    def name(self) -> str: ...
    @property
    def kind(self) -> CallKind: ...
    @property
    def digest(self) -> bytes: ...
    @property
    def shown(self) -> str: ...


@dataclass(slots=True, eq=False)
class Lane:
    """The calls of one task: the flow's body, or the n-th task that a lane has started.

    `frontier` are the calls whose outcomes it knows, `unsettled` the failures that are not history
    yet; `is_fresh` says that a replay runs what comes next, because something before it ran.
    """

    path: str = ""
    position: int = 0
    counts: Counter[str] = field(default_factory=Counter)
    tasks: int = 0
    frontier: dict[str, None] = field(default_factory=dict)
    frontier_used: bool = False
    unsettled: dict[int, None] = field(default_factory=dict)
    is_fresh: bool = False

    def branch(self) -> Lane:
        """The lane of the next task that is started here."""
        self.tasks += 1
        path = f"{self.path}.{self.tasks}" if self.path else str(self.tasks)
        return Lane(path, frontier=dict(self.frontier), frontier_used=True, is_fresh=self.is_fresh)

    def join(self, ended: Lane) -> None:
        """A task started here has ended: what it knew is known here."""
        if self.frontier_used:
            self.frontier, self.frontier_used = {}, False
        self.frontier |= ended.frontier
        self.unsettled |= ended.unsettled
        self.is_fresh = self.is_fresh or ended.is_fresh


@dataclass(slots=True)
class Step:
    """What one call of the flow amounts to.

    `record` is its recorded outcome; otherwise `override` and `reuse` say where a replay gets it
    from, and with neither the call runs, going on from the `earlier` row that it may have.
    `original_order` is its place among the original's ended calls, if it comes from there.
    `settles` are the failed calls that become history with this one.
    """

    seq: int
    lane: Lane
    position: int
    call_id: str
    kind: CallKind
    parents: tuple[str, ...]
    settles: tuple[int, ...]
    record: CallRecord | None = None
    earlier: CallRecord | None = None
    override: bytes | None = None
    reuse: CallRecord | None = None
    original: str | None = None
    original_order: int | None = None

    @property
    def is_reopened(self) -> bool:
        """Whether a retry lets a failed call run again, with all its tries."""
        return self.earlier is not None and self.earlier.status is CallStatus.PENDING


class Journal:
    """The calls of one drive of an execution, in the order they are made.

    Args:
        exec_id: the execution.
        records: its recorded calls.
        plan: where a replay takes its record from, if this is one.
        original: the recorded calls of the replay's original.
        original_id: that execution.
    """

    def __init__(
        self,
        exec_id: str,
        records: Iterable[CallRecord],
        *,
        plan: ReplayPlan | None = None,
        original: Iterable[CallRecord] = (),
        original_id: str | None = None,
    ) -> None:
        self.root = Lane(is_fresh=plan is None)
        self._exec_id = exec_id
        self._lock = threading.Lock()
        self._records = {(record.lane, record.position): record for record in records}
        self._places = {r.call_id: (r.lane, r.position) for r in self._binding()}
        self._plan = plan
        self._original_id = original_id
        self._original = {(record.lane, record.position): record for record in original}
        known = (*self._records.values(), *self._original.values())
        self._seqs = {record.seq for record in known}
        self._last = 0
        self._made: dict[tuple[str, int], str] = {}
        self._order = max((r.ended_order or 0 for r in self._records.values()), default=0)

    def _binding(self) -> list[CallRecord]:
        return [record for record in self._records.values() if _binds(record)]

    def endings(self) -> list[int]:
        """The places of all recorded calls in the order in which they ended."""
        records = self._records.values()
        return sorted(r.ended_order for r in records if r.is_recorded and r.ended_order)

    def next_ending(self) -> int:
        """The place of a call that ends now."""
        with self._lock:
            self._order += 1
            return self._order

    def is_recorded(self, lane: Lane) -> bool:
        """Whether the next call of a task has an outcome."""
        record = self._records.get((lane.path, lane.position + 1))
        return record is not None and record.is_recorded

    def begin(self, lane: Lane, call: Call) -> Step:
        """Number the next call of a task and say what becomes of it."""
        name, kind, digest = call.name, call.kind, call.digest
        with self._lock:
            lane.position += 1
            lane.counts[name] += 1
            place = (lane.path, lane.position)
            self._made[place] = call_id = ids.call_id(name, lane.counts[name], lane=lane.path)
            record = self._records.get(place)
            if record is not None:
                if record.is_recorded:
                    self._compare(record, call_id, call)
                    lane.is_fresh = lane.is_fresh or not record.is_copied
                    return self._step(lane, call_id, kind, record=record)
                if _is_under_way(record):
                    self._compare(record, call_id, call)
            if self._places.get(call_id, place) != place:
                recorded = f"{call_id} as call {_where(*self._places[call_id])}"
                self._diverge(recorded, f"{call_id}({call.shown})", call_id, place=place)
            earlier = record if record is not None and record.call_id == call_id else None
            override = self._plan.overrides.get(call_id) if self._plan else None
            # What a retry has opened again runs: reusing it would bring the same failure back.
            reopened = earlier is not None and earlier.status is CallStatus.PENDING
            lane.is_fresh = lane.is_fresh or reopened
            reuse = None
            if override is None:
                reuse = self._reusable(lane, call_id, kind=kind, digest=digest)
            return self._step(lane, call_id, kind, earlier=earlier, override=override, reuse=reuse)

    def observed(self, step: Step, *, failed: bool) -> None:
        """The flow has seen the outcome of a call."""
        with self._lock:
            lane = step.lane
            if lane.frontier_used:
                lane.frontier, lane.frontier_used = {}, False
            lane.frontier[step.call_id] = None
            settled = step.record is not None and step.record.settled
            if failed and not settled:
                lane.unsettled[step.seq] = None

    def close(self) -> None:
        """The flow has returned: every recorded call must have been made again."""
        left = [r for r in self._binding() if (r.lane, r.position) not in self._made]
        if left:
            first = min(left, key=lambda record: record.seq)
            place = (first.lane, first.position)
            self._diverge(_shown(first), "the end of the flow", first.call_id, place=place)

    def unreached(self) -> str | None:
        """A note on overrides for calls that were never made; `None` where there are none."""
        overrides = self._plan.overrides if self._plan else {}
        left = [repr(call_id) for call_id in overrides if call_id not in self._made.values()]
        return f"Not called in this replay, so not replaced: {', '.join(left)}." if left else None

    def _step(
        self,
        lane: Lane,
        call_id: str,
        kind: CallKind,
        *,
        record: CallRecord | None = None,
        earlier: CallRecord | None = None,
        override: bytes | None = None,
        reuse: CallRecord | None = None,
    ) -> Step:
        replaced = self._original.get((lane.path, lane.position)) if override else None
        ended = reuse or replaced
        settles, lane.unsettled = tuple(lane.unsettled), {}
        lane.frontier_used = True
        return Step(
            seq=self._seq((lane.path, lane.position)),
            lane=lane,
            position=lane.position,
            call_id=call_id,
            kind=kind,
            parents=tuple(lane.frontier),
            settles=settles,
            record=record,
            earlier=earlier,
            override=override,
            reuse=reuse,
            original=self._original_of(call_id, override),
            original_order=ended.ended_order if ended else None,
        )

    def _seq(self, place: tuple[str, int]) -> int:
        """A row's number: that of its row, here or in the original, else the next that is free."""
        record = self._records.get(place) or self._original.get(place)
        if record is not None:
            self._last = max(self._last, record.seq)
            return record.seq
        # After all that are made: a replay from one of them must not take this for an earlier one.
        seq = max(len(self._made), self._last + 1)
        while seq in self._seqs:
            seq += 1
        self._seqs.add(seq)
        self._last = seq
        return seq

    def _original_of(self, call_id: str, override: bytes | None) -> str | None:
        if override is None or self._original_id is None:
            return None
        return ids.qualified(self._original_id, call_id)

    def _reusable(
        self, lane: Lane, call_id: str, *, kind: CallKind, digest: bytes
    ) -> CallRecord | None:
        if self._plan is None or lane.is_fresh:
            return None
        record = self._original.get((lane.path, lane.position))
        fits = (
            record is not None
            and record.seq < self._plan.from_seq
            and record.is_recorded
            # What was called off is made again: here the flow may not call it off.
            and record.status is not CallStatus.CANCELLED
            and (record.call_id, record.kind, record.inputs_digest) == (call_id, kind, digest)
        )
        # Once a call of a task runs, all that follow do: they may depend on it.
        lane.is_fresh = not fits
        return record if fits else None

    def _compare(self, record: CallRecord, call_id: str, call: Call) -> None:
        place = (record.lane, record.position)
        if record.call_id != call_id or record.kind != call.kind:
            self._diverge(_shown(record), f"{call_id}({call.shown})", record.call_id, place=place)
        # A replay may have other flow inputs; what it reuses stands as recorded.
        if record.inputs_digest != call.digest and not record.is_copied:
            self._diverge(
                f"{_shown(record)} [inputs {record.inputs_digest.hex()[:8]}]",
                f"{call_id}({call.shown}) [inputs {call.digest.hex()[:8]}]",
                record.call_id,
                place=place,
            )

    def refuse_result(self, step: Step, reason: str) -> NoReturn:
        """The recorded result is none of the type the code declares now."""
        came = f"code that cannot take it ({reason})"
        self._diverge("a result", came, step.call_id, place=(step.lane.path, step.position))

    def _diverge(
        self, recorded: str, came: str, call_id: str, *, place: tuple[str, int]
    ) -> NoReturn:
        raise KitaruDivergenceError(
            f"Execution {self._exec_id} diverged from its record at call {_where(*place)} "
            f"({call_id}): recorded was {recorded}, now came {came}. Restore the code and "
            f"`kitaru executions retry {self._exec_id}`, or go on with the new code from there: "
            f"`kitaru executions replay {self._exec_id} --from '{call_id}'`.",
            exec_id=self._exec_id,
            status=ExecutionStatus.FAILED,
            failure_origin=FailureOrigin.DIVERGENCE,
        )


def _binds(record: CallRecord) -> bool:
    return record.is_recorded or _is_under_way(record)


def _is_under_way(record: CallRecord) -> bool:
    # This binds too where it cannot be begun anew: a question's answer may have come and must
    # not answer another one, a child may run already.
    return record.kind != "checkpoint" and record.status is CallStatus.RUNNING


def _where(lane: str, position: int) -> str:
    return f"{position} of task {lane}" if lane else str(position)


def _shown(record: CallRecord) -> str:
    return f"{record.call_id}({record.inputs_shown})"
