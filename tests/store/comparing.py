"""What a client sees of an execution beside what the model says of it."""

from __future__ import annotations

from typing import Any

from kitaru import KitaruClient, clock, codec
from kitaru.models import Execution
from tests.core.test_codec import same
from tests.store.model import Run


def check_summary(run: Run, execution: Execution, now: int) -> None:
    """One row of a listing."""
    found = (
        *(execution.exec_id, execution.flow_name, execution.status, execution.tags),
        *(execution.stack_name, execution.metadata, execution.stalled, execution.original_exec_id),
        *(execution.checkpoint_count, execution.artifact_count),
        clock.to_us(execution.created_at),
        None if execution.ended_at is None else clock.to_us(execution.ended_at),
        None if execution.failure is None else execution.failure.message,
        [wait.name for wait in execution.pending_waits],
    )
    waiting = run.pending() if run.status == "waiting" else []
    wanted = (
        *(run.exec_id, run.flow, run.status, run.tags),
        *(run.stack, run.metadata, run.is_stalled(now), run.original),
        *(sum(c.kind == "checkpoint" for c in run.calls.values()), run.saved_count()),
        run.created_at,
        run.ended_at,
        run.failure,
        [call.call_id for call in waiting],
    )
    differing = [pair for pair in zip(found, wanted, strict=True) if pair[0] != pair[1]]
    assert not differing, f"found, wanted: {differing}"


def check_detail(run: Run, client: KitaruClient, now: int) -> None:
    """All that is recorded of one execution."""
    execution = client.executions.get(run.exec_id)
    check_summary(run, execution, now)
    assert same(execution.inputs, codec.plain(codec.encode(run.inputs)))
    assert same(execution.result, codec.plain(codec.encode(run.result)))
    calls = [call for _, call in sorted(run.calls.items()) if call.kind == "checkpoint"]
    assert [
        (c.call_id, c.status, c.original_call_id, c.failure and c.failure.message)
        for c in execution.checkpoints
    ] == [(c.call_id, c.status, c.original, c.failure) for c in calls]
    saved: list[tuple[str, str, Any]] = []
    for call in calls:
        saved += [(call.call_id, name, value) for name, value in call.saved]
        if call.status == "completed":
            saved.append((call.call_id, call.call_id, call.value))
    found = [(ref.producing_call, ref.name, ref.load()) for ref in execution.artifacts]
    assert same(found, saved)
    assert [line.message for line in client.executions.logs(run.exec_id)] == run.lines
    assert len(client.executions.logs(run.exec_id, source="runner")) == run.drivers
    assert [wait.name for wait in client.executions.pending_waits(run.exec_id)] == [
        call.call_id for call in run.pending()
    ]
    assert client.executions.continues(run.exec_id) == run.is_held(now)
