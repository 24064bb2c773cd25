"""Call identity and divergence: the pure half of durability.

A `Journal` numbers the calls of one drive as they are made and compares each with the record. It
answers with a `Step`: return what is recorded, reuse what a replay's original has, or run. Order,
names, kinds and inputs must be the recorded ones; a difference is a `KitaruDivergenceError` that
shows both. It does no I/O and reads no clock.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from typing import NoReturn

from kitaru import ids
from kitaru.errors import FailureOrigin, KitaruDivergenceError
from kitaru.models import CallStatus, ExecutionStatus
from kitaru.replay import ReplayPlan
from kitaru.store.journal import AttemptRecord, CallKind, CallRecord


@dataclass(frozen=True, slots=True)
class Step:
    """What one call of the flow amounts to.

    `record` is its recorded outcome; otherwise `override` and `reuse` say where a replay gets it
    from, and with neither the call runs, after the `attempts` it already had (a
    `reopened` one has its retries again). A `known` call has a row from an earlier drive.
    `settles` are the failed calls that become history with this one.
    """

    seq: int
    call_id: str
    kind: CallKind
    parents: tuple[str, ...]
    settles: tuple[int, ...]
    record: CallRecord | None = None
    known: bool = False
    attempts: tuple[AttemptRecord, ...] = ()
    reopened: bool = False
    override: bytes | None = None
    reuse: CallRecord | None = None
    original: str | None = None


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
        self._exec_id = exec_id
        self._lock = threading.Lock()
        self._records = {record.seq: record for record in records}
        self._places = {r.call_id: r.seq for r in self._records.values() if _binds(r)}
        self._plan = plan
        self._original_id = original_id
        self._original = {record.seq: record for record in original}
        self._counts: Counter[str] = Counter()
        self._position = 0
        self._runs_fresh = plan is None
        self._frontier: list[str] = []
        self._frontier_used = False
        self._unsettled: list[int] = []

    @property
    def is_known(self) -> bool:
        """Whether earlier drives have left rows."""
        return bool(self._records)

    def begin(self, *, name: str, kind: CallKind, digest: bytes, shown: str) -> Step:
        """Number the next call and say what becomes of it."""
        with self._lock:
            self._position += 1
            self._counts[name] += 1
            call_id = ids.call_id(name, self._counts[name])
            record = self._records.get(self._position)
            if record is not None and _binds(record):
                self._compare(record, call_id=call_id, kind=kind, digest=digest, shown=shown)
            if record is not None and record.is_recorded:
                if record.original_call_id is None:
                    self._runs_fresh = True
                return self._step(call_id, kind, record=record)
            if self._places.get(call_id, self._position) != self._position:
                place = f"{call_id} as call {self._places[call_id]}"
                self._diverge(place, f"{call_id}({shown})", call_id)
            earlier = record if record is not None and record.call_id == call_id else None
            override = self._plan.overrides.get(call_id) if self._plan else None
            # What a retry has opened again runs: reusing it would bring the same failure back.
            reopened = earlier is not None and earlier.status is CallStatus.PENDING
            self._runs_fresh = self._runs_fresh or reopened
            reuse = None
            if override is None:
                reuse = self._reusable(call_id, kind=kind, digest=digest)
            return self._step(call_id, kind, earlier=earlier, override=override, reuse=reuse)

    def observed(self, step: Step, *, failed: bool) -> None:
        """The flow has seen the outcome of a call."""
        with self._lock:
            if self._frontier_used:
                self._frontier, self._frontier_used = [], False
            if step.call_id not in self._frontier:
                self._frontier.append(step.call_id)
            settled = step.record is not None and step.record.settled
            if failed and not settled and step.seq not in self._unsettled:
                self._unsettled.append(step.seq)

    def close(self) -> None:
        """The flow has returned: every recorded call must have been made again."""
        left = [r for r in self._records.values() if r.seq > self._position and _binds(r)]
        if left:
            first = min(left, key=lambda record: record.seq)
            self._diverge(_shown(first), "the end of the flow", first.call_id)

    def unreached(self) -> str | None:
        """A note on overrides for calls that were never made; `None` where there are none."""
        left = []
        for call_id in self._plan.overrides if self._plan else ():
            name, _, number = call_id.partition("#")
            if self._counts[name] < int(number or 1):
                left.append(repr(call_id))
        return f"Not called in this replay, so not replaced: {', '.join(left)}." if left else None

    def _step(
        self,
        call_id: str,
        kind: CallKind,
        *,
        record: CallRecord | None = None,
        earlier: CallRecord | None = None,
        override: bytes | None = None,
        reuse: CallRecord | None = None,
    ) -> Step:
        settles, self._unsettled = tuple(self._unsettled), []
        self._frontier_used = True
        return Step(
            seq=self._position,
            call_id=call_id,
            kind=kind,
            parents=tuple(self._frontier),
            settles=settles,
            record=record,
            known=record is not None or earlier is not None,
            attempts=earlier.attempts if earlier else (),
            reopened=earlier is not None and earlier.status is CallStatus.PENDING,
            override=override,
            reuse=reuse,
            original=self._original_of(call_id, override),
        )

    def _original_of(self, call_id: str, override: bytes | None) -> str | None:
        if override is None or self._original_id is None:
            return None
        return ids.qualified(self._original_id, call_id)

    def _reusable(self, call_id: str, *, kind: CallKind, digest: bytes) -> CallRecord | None:
        if self._plan is None or self._runs_fresh:
            return None
        record = self._original.get(self._position)
        fits = (
            self._position < self._plan.from_seq
            and record is not None
            and record.is_recorded
            and (record.call_id, record.kind, record.inputs_digest) == (call_id, kind, digest)
        )
        # Once a call runs, all that follow do: they may depend on it.
        self._runs_fresh = not fits
        return record if fits else None

    def _compare(
        self, record: CallRecord, *, call_id: str, kind: CallKind, digest: bytes, shown: str
    ) -> None:
        if (record.call_id, record.kind) != (call_id, kind):
            self._diverge(_shown(record), f"{call_id}({shown})", record.call_id)
        # A replay may have other flow inputs; what it reuses stands as recorded.
        if record.inputs_digest != digest and record.original_call_id is None:
            self._diverge(
                f"{_shown(record)} [inputs {record.inputs_digest.hex()[:8]}]",
                f"{call_id}({shown}) [inputs {digest.hex()[:8]}]",
                record.call_id,
            )

    def refuse_result(self, step: Step, reason: str) -> NoReturn:
        """The recorded result is none of the type the code declares now."""
        came = f"code that cannot take it ({reason})"
        self._diverge("a result", came, step.call_id, position=step.seq)

    def _diverge(
        self, recorded: str, came: str, call_id: str, *, position: int | None = None
    ) -> NoReturn:
        place = self._position if position is None else position
        raise KitaruDivergenceError(
            f"Execution {self._exec_id} diverged from its record at call {place} "
            f"({call_id}): recorded was {recorded}, now came {came}. Restore the code and "
            f"`kitaru executions retry {self._exec_id}`, or go on with the new code from there: "
            f"`kitaru executions replay {self._exec_id} --from '{call_id}'`.",
            exec_id=self._exec_id,
            status=ExecutionStatus.FAILED,
            failure_origin=FailureOrigin.DIVERGENCE,
        )


def _binds(record: CallRecord) -> bool:
    # An open question binds too: its answer may have come, and must not answer another one.
    return record.is_recorded or record.kind == "wait"


def _shown(record: CallRecord) -> str:
    return f"{record.call_id}({record.inputs_shown})"
