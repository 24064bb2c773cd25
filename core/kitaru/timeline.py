"""Where the time of an execution went: its durable calls as spans, and spans as rows of a picture.

All of it is computed from records that were read, with nothing else asked; what the rows are drawn
with is somebody else's matter. Calls that a replay took over belong to the time of its original, so
they are counted and get no span.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, Literal

from kitaru import clock, usage_summary
from kitaru.frozen import Model
from kitaru.models import (
    CallStatus,
    CheckpointAttempt,
    Execution,
    ExecutionStatus,
)
from kitaru.store import shown
from kitaru.store.journal import CallRecord

Kind = Literal["checkpoint", "wait", "sleep", "child"]
#: What the kinds of the journal are called where people look.
_KINDS: dict[str, Kind] = {"wait": "wait", "sleep": "sleep", "flow": "child"}

#: More spans than this are folded by name; more rows than this are left out, the shortest first.
MAX_SPANS = 200
#: Spans of a row that stand closer than this part of the whole are drawn as one.
_CLOSE = 1 / 1000


@dataclass(frozen=True, slots=True)
class Usage(Model):
    """What calls of models took; what a provider has refused does not count.

    `display_cost_usd` is None where nothing is known of it; of what was reused it is 0.
    """

    usage_record_count: int
    reused_usage_record_count: int
    total_tokens: int
    reused_total_tokens: int
    display_cost_usd: float | None
    records_without_cost_count: int

    @classmethod
    def of(cls, found: Mapping[str, Any] | None) -> Usage | None:
        """That of a summary of usage records, where any have counted."""
        if not found or not found["usage_record_count"]:
            return None
        return cls(
            usage_record_count=found["usage_record_count"],
            reused_usage_record_count=found["reused_usage_record_count"],
            total_tokens=found["total_tokens"],
            reused_total_tokens=found["reused_total_tokens"],
            display_cost_usd=usage_summary.known_cost(found),
            records_without_cost_count=found["records_without_cost_count"],
        )

    @property
    def told(self) -> str:
        """Tokens and money in a few words."""
        return usage_summary.told_shortly(self.to_dict())


@dataclass(frozen=True, slots=True)
class Call(Model):
    """One durable call of any kind, as it stands; `due_at` is when a sleep is over."""

    call_id: str
    name: str
    kind: Kind
    status: CallStatus
    started_at: datetime | None
    ended_at: datetime | None
    attempts: tuple[CheckpointAttempt, ...]
    failure: str | None
    child_exec_id: str | None
    due_at: datetime | None
    reused: bool
    usage: Usage | None = None


@dataclass(frozen=True, slots=True)
class Span(Model):
    """One attempt of a checkpoint, or one wait, sleep or child; `ended_at` is None while it lasts.

    `offset` is how long after the start it began, `seconds` how long it lasted, up to now at most.
    """

    call_id: str
    name: str
    kind: Kind
    attempt: int
    attempts: int
    status: CallStatus
    started_at: datetime
    ended_at: datetime | None
    offset: float
    seconds: float
    child_exec_id: str | None
    usage: Usage | None = None

    @property
    def label(self) -> str:
        """The call's id, with the number of the attempt where there were several."""
        return f"{self.call_id}@{self.attempt}" if self.attempts > 1 else self.call_id


@dataclass(frozen=True, slots=True)
class Timeline(Model):
    """The time of an execution, from its start to its end or now, and what it was spent on."""

    exec_id: str
    flow_name: str
    status: ExecutionStatus
    started_at: datetime
    ended_at: datetime | None
    seconds: float
    spans: tuple[Span, ...]
    reused: int
    usage: Usage | None = None


@dataclass(frozen=True, slots=True)
class Segment:
    """A stretch of a row, in seconds after the start."""

    start: float
    end: float
    status: CallStatus


@dataclass(frozen=True, slots=True)
class Row:
    """One line of a picture: a span, or all spans of one name.

    `seconds` and `usage` are theirs together.
    """

    label: str
    kind: Kind
    count: int
    status: CallStatus
    seconds: float
    segments: tuple[Segment, ...]
    usage: Usage | None = None


def call(record: CallRecord, *, exec_id: str) -> Call:
    """A recorded call as those see it who watch."""
    model = shown.call_model(record, exec_id=exec_id)
    return Call(
        call_id=model.call_id,
        name=model.name,
        kind=_KINDS.get(record.kind, "checkpoint"),
        status=model.status,
        started_at=model.started_at,
        ended_at=model.ended_at,
        attempts=model.attempts,
        failure=model.failure.message if model.failure else None,
        child_exec_id=record.child_exec_id,
        due_at=None if record.due_at is None else clock.from_us(record.due_at),
        reused=record.is_copied,
        usage=_used(model.llm_usage_records),
    )


def _used(records: Sequence[Mapping[str, Any]]) -> Usage | None:
    return Usage.of(usage_summary.summary(records)) if records else None


def make(execution: Execution, calls: Sequence[Call], *, now: datetime) -> Timeline:
    """The timeline of an execution.

    Args:
        execution: the execution, with or without its calls.
        calls: its calls, in the order they were made.
        now: until when that lasts which has not ended; an aware time.
    """
    start = execution.started_at or execution.created_at
    end = execution.ended_at or max(now, start)
    spans = [span for each in calls if not each.reused for span in _spans(each, start, end)]
    return Timeline(
        exec_id=execution.exec_id,
        flow_name=execution.flow_name,
        status=execution.status,
        started_at=start,
        ended_at=execution.ended_at,
        seconds=(end - start).total_seconds(),
        spans=tuple(sorted(spans, key=lambda span: span.offset)),
        reused=sum(each.reused for each in calls),
        usage=Usage.of(execution.llm_usage_summary),
    )


def _spans(each: Call, start: datetime, end: datetime) -> Iterable[Span]:
    attempts = each.attempts if each.kind == "checkpoint" else ()
    tries: Sequence[CheckpointAttempt | Call] = attempts or [each]
    used = [each.usage]
    if len(attempts) > 1:
        used = [_used(attempt.llm_usage_records) for attempt in attempts]
    for number, (attempt, usage) in enumerate(zip(tries, used, strict=True), 1):
        if attempt.started_at is None:
            continue
        # A driver whose clock was ahead must not draw outside the picture.
        begun = min(max(attempt.started_at, start), end)
        until = min(max(attempt.ended_at or end, begun), end)
        yield Span(
            call_id=each.call_id,
            name=each.name,
            kind=each.kind,
            attempt=number,
            attempts=len(tries),
            status=attempt.status,
            started_at=attempt.started_at,
            ended_at=attempt.ended_at,
            offset=(begun - start).total_seconds(),
            seconds=(until - begun).total_seconds(),
            child_exec_id=each.child_exec_id,
            usage=usage,
        )


def rows(timeline: Timeline) -> tuple[list[Row], list[str]]:
    """The rows of a picture in the order of their starts, and what has to be said about them."""
    notes = []
    made = [_row(span.label, [span], timeline.seconds) for span in timeline.spans]
    if len(made) > MAX_SPANS:
        by_name: dict[tuple[str, str], list[Span]] = {}
        for span in timeline.spans:
            by_name.setdefault((span.kind, span.name), []).append(span)
        made = [_row(name, spans, timeline.seconds) for (_, name), spans in by_name.items()]
        told = "folded by name: how many of each, and their time together."
        notes.append(f"{len(timeline.spans)} spans, {told}")
    if len(made) > MAX_SPANS:
        kept = {id(row) for row in sorted(made, key=lambda row: -row.seconds)[:MAX_SPANS]}
        notes.append(f"The {MAX_SPANS} longest of {len(made)} names.")
        made = [row for row in made if id(row) in kept]
    if timeline.reused:
        notes.append(f"Reused from the original, without time of their own: {timeline.reused}.")
    if timeline.usage:
        notes.append(f"Models: {timeline.usage.told}.")
    return made, notes


def _row(label: str, spans: Sequence[Span], whole: float) -> Row:
    statuses = {span.status for span in spans}
    worst = next((status for status in _BY_WEIGHT if status in statuses), CallStatus.COMPLETED)
    return Row(
        label=label if len(spans) == 1 else f"{label} ({len(spans)})",
        kind=spans[0].kind,
        count=len(spans),
        status=worst,
        seconds=sum(span.seconds for span in spans),
        segments=tuple(_merged(spans, close=whole * _CLOSE)),
        usage=_together([span.usage for span in spans if span.usage]),
    )


def _together(parts: Sequence[Usage]) -> Usage | None:
    if len(parts) < 2:
        return parts[0] if parts else None
    costs = [each.display_cost_usd for each in parts if each.display_cost_usd is not None]
    return Usage(
        usage_record_count=sum(each.usage_record_count for each in parts),
        reused_usage_record_count=sum(each.reused_usage_record_count for each in parts),
        total_tokens=sum(each.total_tokens for each in parts),
        reused_total_tokens=sum(each.reused_total_tokens for each in parts),
        display_cost_usd=math.fsum(costs) if costs else None,
        records_without_cost_count=sum(each.records_without_cost_count for each in parts),
    )


_BY_WEIGHT = (CallStatus.FAILED, CallStatus.RUNNING, CallStatus.CANCELLED)


def _merged(spans: Iterable[Span], *, close: float) -> list[Segment]:
    """Spans in the order of their starts, as few segments that look the same."""
    merged: list[Segment] = []
    for span in spans:
        start, end = span.offset, span.offset + span.seconds
        last = merged[-1] if merged else None
        if last and last.status is span.status and start - last.end <= close:
            merged[-1] = replace(last, end=max(last.end, end))
        else:
            merged.append(Segment(start, end, span.status))
    return merged


def state(kind: Kind, status: CallStatus) -> str:
    """What a call is doing, in one word: a question that is open is `waiting`."""
    return "waiting" if kind == "wait" and status is CallStatus.RUNNING else status.value


def duration(seconds: float) -> str:
    """A length of time in its two largest units, short ones in milliseconds.

    Example:
        >>> [duration(each) for each in (0.00042, 0.25, 3.14, 75, 7322, 200_000)]
        ['0.4ms', '250ms', '3.1s', '1m 15s', '2h 02m', '2d 07h']
    """
    if seconds < 0.0095:
        return f"{seconds * 1000:.1f}ms"
    if seconds < 0.9995:
        return f"{seconds * 1000:.0f}ms"
    if seconds < 59.95:
        return f"{seconds:.1f}s"
    whole = round(seconds)
    for size, smaller, units in ((86_400, 3_600, "dh"), (3_600, 60, "hm"), (60, 1, "ms")):
        if whole >= size:
            return f"{whole // size}{units[0]} {whole % size // smaller:02}{units[1]}"
    return f"{whole}s"


#: What may lie between two marks of a scale, in seconds; a longer scale is divided evenly.
_STEPS = (
    *(base * 10**power for power in range(-6, 1) for base in (1, 2, 5)),
    *(10, 15, 30, 60, 120, 300, 600, 900, 1800),
    *(3600 * hours for hours in (1, 2, 3, 6, 12, 24, 48, 168, 720, 8760)),
)


def marks(seconds: float, *, most: int) -> list[tuple[float, str]]:
    """The marks of a scale of this length: round times, with what stands there.

    Example:
        >>> marks(150, most=4)
        [(0, '0'), (60, '1m'), (120, '2m')]
        >>> marks(0.3, most=4)
        [(0.0, '0'), (0.1, '100ms'), (0.2, '200ms'), (0.3, '300ms')]
    """
    step = next((each for each in _STEPS if seconds / each < most), seconds / most)
    count = int(seconds / step + 1e-9) + 1
    return [(at, _mark(at)) for at in (round(step * n, 6) for n in range(count))]


def _mark(seconds: float) -> str:
    if not seconds:
        return "0"
    text = duration(seconds).replace(".0", "")
    return text.partition(" ")[0] if text.partition(" ")[2].startswith("00") else text
