"""Recorded calls as people see them; a drive has no use for this."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import chain
from typing import Any

from kitaru import clock, ids, usage
from kitaru.errors import FailureOrigin
from kitaru.models import ArtifactRef, CheckpointAttempt, CheckpointCall, FailureInfo
from kitaru.store import values
from kitaru.store.journal import AttemptRecord, CallRecord


def failure_info(failure: dict[str, Any] | None) -> FailureInfo | None:
    """The public part of a stored failure."""
    if failure is None:
        return None
    return FailureInfo(
        message=failure["message"],
        exception_type=failure.get("exception_type"),
        traceback=failure.get("traceback"),
        origin=FailureOrigin(failure["origin"]),
    )


@values.intact("A call")
def call_model(
    record: CallRecord, *, exec_id: str, artifacts: tuple[ArtifactRef, ...] = ()
) -> CheckpointCall:
    """A call as people see it; the only attempt of a simple call is made from its own times."""
    attempts = record.attempts
    if not attempts and record.started_at is not None and record.original_call_id is None:
        attempts = (
            AttemptRecord(
                record.status,
                record.started_at,
                record.ended_at,
                dict(record.metadata),
                record.failure,
            ),
        )
    reuse = usage.reuse_of(original_call_id=record.original_call_id, cached_from=record.cached_from)
    metadata = _metadata(record.metadata, reuse)
    used = [usage.of_call(each.metadata, (), reuse=reuse) for each in attempts]
    return CheckpointCall(
        call_id=record.call_id,
        name=ids.call_name(record.call_id),
        checkpoint_type=record.type,
        status=record.status,
        started_at=_time(record.started_at),
        ended_at=_time(record.ended_at),
        metadata=metadata,
        original_call_id=record.original_call_id,
        parent_call_ids=record.parents,
        cached_from=record.cached_from,
        failure=failure_info(record.failure),
        attempts=tuple(
            CheckpointAttempt(
                attempt_id=f"{ids.qualified(exec_id, record.call_id)}@{number}",
                status=attempt.status,
                started_at=_time(attempt.started_at),
                ended_at=_time(attempt.ended_at),
                metadata=attempt.metadata,
                failure=failure_info(attempt.failure),
                llm_usage_records=tuple(records),
            )
            for number, (attempt, records) in enumerate(zip(attempts, used, strict=True), 1)
        ),
        artifacts=artifacts,
        llm_usage_records=tuple(chain(*used or [usage.of_call(metadata, (), reuse=reuse)])),
    )


def _metadata(metadata: Mapping[str, Any], reuse: usage.Reuse | None) -> dict[str, Any]:
    """A call's metadata; usage that it has taken over is told to be so."""
    found = dict(metadata)
    if reuse is not None and usage.KEY in found:
        records = usage.of_call(found, (), reuse=reuse)
        found[usage.KEY] = {record["record_id"]: record for record in records}
    return found


def _time(value: int | None) -> Any:
    return None if value is None else clock.from_us(value)
