"""How an execution gets its driver: started, resumed, retried, or replayed from another.

Each way is one transaction that checks the status, makes the move and takes the lease. It runs
where the flow's code is loaded already, so an import that fails has changed nothing.
What is slow, like reading settings, is done before it; an idempotency key is recorded in it.
"""

from __future__ import annotations

import contextlib
import inspect
import os
import sys
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kitaru import answers, clock, codec, config, host, ids, inputs, replay, settings
from kitaru.definition import FlowDefinition
from kitaru.errors import KitaruStateError, KitaruUsageError
from kitaru.models import CallStatus, ExecutionStatus, move
from kitaru.retry import RetryPolicy
from kitaru.store import (
    Lease,
    Store,
    Transaction,
    due,
    executions,
    history,
    journal,
    keys,
    leases,
    logs,
    stacks,
    waits,
)
from kitaru.store.executions import NewExecution, Row
from kitaru.store.keys import Key
from kitaru.store.logs import LogRecord
from kitaru.version import VERSION

if TYPE_CHECKING:
    from kitaru.runtime import Driver


class Repeated(Exception):
    """No error: a request with this key was carried out before, and this is its execution."""

    def __init__(self, exec_id: str) -> None:
        super().__init__(exec_id)
        self.exec_id = exec_id


@dataclass(frozen=True, slots=True)
class Prepared:
    """A start, with all that takes time done before the write lock is taken."""

    flow: FlowDefinition
    inputs: bytes
    named: settings.Named
    spec: dict[str, Any]


def start(
    store: Store, flow: FlowDefinition, arguments: Mapping[str, Any], *, key: Key | None = None
) -> Lease:
    """Record a new execution and take its lease.

    Raises:
        KitaruSerializationError: an input cannot be recorded.
        KitaruUsageError: a setting cannot be right, or the key was used for another request.
        KitaruStateError: the stack does not exist.
        Repeated: the key was used for this request.
    """
    prepared = prepare(flow, encoded(flow, arguments))
    with once(store, key) as conn:
        lease = create(conn, prepared)
        keys.record(conn, key, action="run", execution=lease.execution)
    return lease


@contextlib.contextmanager
def once(store: Store, key: Key | None) -> Iterator[Transaction]:
    """A transaction that is not begun a second time with the same key."""
    with store.write() as conn:
        refuse_repeated(conn, key)
        yield conn


def refuse_repeated(conn: Transaction, key: Key | None) -> None:
    """Go on only where the key is unused.

    Raises:
        KitaruUsageError: it was used for another request.
        Repeated: it was used for this request.
    """
    exec_id = keys.find(conn, key)
    if exec_id is not None:
        raise Repeated(exec_id)


def encoded(flow: FlowDefinition, arguments: Mapping[str, Any]) -> bytes:
    """The record of a flow's inputs.

    Raises:
        KitaruSerializationError: an input cannot be recorded.
    """
    return codec.encode(dict(arguments), types=inputs.types(flow.fn), path="inputs")


def prepare(flow: FlowDefinition, data: bytes) -> Prepared:
    """What a start with these inputs needs besides the store.

    Raises:
        KitaruUsageError: a setting cannot be right.
    """
    named = settings.named(flow_name=flow.name, flow=flow.options, run=flow.run_options)
    return Prepared(flow, data, named, _spec(flow))


def start_replay(
    store: Store,
    flow: FlowDefinition,
    exec_id: str,
    *,
    from_: str,
    overrides: Mapping[str, bytes],
    flow_inputs: Mapping[str, Any],
    key: Key | None = None,
) -> Lease:
    """Record a new execution that reuses another's record, and take its lease."""
    types = inputs.types(flow.fn)
    with store.snapshot() as conn:
        refuse_repeated(conn, key)  # the original may be under way again since it was replayed
        row, plan = plan_replay(conn, exec_id, from_=from_, overrides=overrides)
        recorded, _ = _recorded(conn, flow, row.id)
    kept = codec.decode(recorded, types=types, path="inputs")
    arguments = inputs.rebind(flow.fn, kept, flow_inputs, name=flow.name)
    prepared = prepare(flow, encoded(flow, arguments))
    with once(store, key) as conn:
        lease = create(conn, prepared, original_exec_id=row.exec_id, plan=plan.dump())
        keys.record(conn, key, action="replay", execution=lease.execution)
        journal.copy_calls(
            conn, source=row.id, target=lease.execution, first=1, before=plan.copied_before
        )
    return lease


def plan_replay(
    conn: Transaction, exec_id: str, *, from_: str, overrides: Mapping[str, bytes]
) -> tuple[Row, replay.ReplayPlan]:
    """What a replay would reuse and replace.

    Raises:
        KitaruStateError: the original is running, or a selector fits no call or several.
        KitaruUsageError: an override's key cannot be right.
    """
    row = executions.find(conn, exec_id)
    move("replay", exec_id=row.exec_id, status=row.status)
    records = journal.to_drive(conn, row.id, exec_id=row.exec_id)
    plan = replay.make_plan(records, exec_id=row.exec_id, from_=from_, overrides=overrides)
    return row, plan


def resume(store: Store, flow: FlowDefinition, exec_id: str) -> Lease:
    """Take an answered or stalled execution.

    Raises:
        KitaruStateError: it is driven, not answered yet, or has ended.
    """
    check_drivable(store, flow, exec_id)
    with store.write() as conn:
        row = check_resume(conn, exec_id)
        if not leases.is_late(conn, row.id):
            return _take(conn, row, action="resume", flow=flow)
    # Its lease has run out, or only looks so: the clock was set, and it renews it now.
    clock.wait(threading.Event(), config.LATE_SECONDS)
    with store.write() as conn:
        return _take(conn, check_resume(conn, exec_id), action="resume", flow=flow)


def check_resume(conn: Transaction, exec_id: str) -> Row:
    """The execution, if `resume` is legal for it now."""
    row = executions.find(conn, exec_id)
    move("resume", exec_id=row.exec_id, status=row.status)
    reason = obstacle(conn, row) if row.status is ExecutionStatus.WAITING else None
    if reason is not None:
        raise KitaruStateError(f"Cannot resume execution {row.exec_id}: {reason}")
    if row.holder == "alive":
        raise KitaruStateError(
            f"Cannot resume execution {row.exec_id}: its runner is alive and goes on by itself. "
            f"`kitaru executions get {row.exec_id}` shows how far it is."
        )
    return row


def obstacle(conn: Transaction, row: Row) -> str | None:
    """Why a waiting execution could do nothing if it went on now; `None` if it could."""
    if due.is_due(conn, row.id):
        return None
    # One that let go says what it waits for; of one whose driver died, anything may go on.
    left = row.holder == "nobody"
    below = [executions.find(conn, each) for each in waits.children(conn, row.id, awaited=left)]
    if any(_can_go_on(conn, child) for child in below):
        return None
    under_way = [
        call
        for call in journal.to_drive(conn, row.id, exec_id=row.exec_id)
        if call.status is CallStatus.RUNNING
    ]
    if any(call.kind == "checkpoint" for call in under_way):
        return None
    asked = waits.pending(conn, row.id, exec_id=row.exec_id)
    if asked:
        name = asked[0].name
        line = answers.input_line(row.exec_id, name)
        return f"its wait {name!r} has no answer yet. Answer it first: {line}."
    if below:
        return f"its child {below[0].exec_id} waits: {obstacle(conn, below[0])}"
    for call in under_way:
        if call.due_at is not None:
            until = clock.from_us(call.due_at).isoformat(timespec="seconds")
            return f"it sleeps until {until}; `kitaru worker` takes it up by itself."
    return None


def _can_go_on(conn: Transaction, child: Row) -> bool:
    """Whether a child has ended, runs, or can be driven on by its parent."""
    return child.status is not ExecutionStatus.WAITING or obstacle(conn, child) is None


def retry(store: Store, flow: FlowDefinition, exec_id: str, *, key: Key | None = None) -> Lease:
    """Take a failed execution; the calls that made it fail run again.

    Raises:
        KitaruStateError: it has not failed.
        KitaruUsageError: the key was used for another request.
        Repeated: the key was used for this request.
    """
    check_drivable(store, flow, exec_id)
    with once(store, key) as conn:
        lease = take_failed(conn, flow, exec_id)
        keys.record(conn, key, action="retry", execution=lease.execution)
    return lease


def take_failed(conn: Transaction, flow: FlowDefinition, exec_id: str) -> Lease:
    """The same inside a transaction, by a caller who has checked that it is drivable."""
    row = check_retry(conn, exec_id)
    executions.set_outcome(conn, row.id)
    journal.reopen_failed(conn, row.id)
    return _take(conn, row, action="retry", flow=flow)


def check_retry(conn: Transaction, exec_id: str) -> Row:
    """The execution, if `retry` is legal for it now."""
    row = executions.find(conn, exec_id)
    move("retry", exec_id=row.exec_id, status=row.status)
    return row


def driver(
    store: Store, flow: FlowDefinition, lease: Lease, *, interactive: bool = False
) -> Driver:
    """The driver of an execution whose lease was taken here."""
    from kitaru.runtime import Driver  # not for clients, which only look: they start faster

    def body() -> Any:
        # Decoded anew for each try: what the flow changed in its inputs must not be there again.
        bound = _arguments(flow, data)
        return flow.fn(*bound.args, **bound.kwargs)

    with store.snapshot() as conn:  # all that the driver reads is of one state
        data, spec = _recorded(conn, flow, lease.execution)
        made = Driver(
            store,
            lease,
            body=body,
            returns=flow.returns,
            policy=RetryPolicy(spec["retries"]),
            note=_changed(spec, flow),
            is_async=flow.is_async,
            interactive=interactive,
        )
    made.ledger.look_for_secrets("The flow's input", data)
    return made


def _recorded(
    conn: Transaction, flow: FlowDefinition, execution: int
) -> tuple[bytes, dict[str, Any]]:
    """An execution's encoded inputs, and what was fixed when it started."""
    data = executions.drive_data(conn, execution)
    _refuse_other(flow, data["flow_name"], data["exec_id"])
    history.refuse_imported(data["spec"], data["exec_id"])
    return executions.read_inputs(conn, execution, exec_id=data["exec_id"]), data["spec"]


def _changed(spec: Mapping[str, Any], flow: FlowDefinition) -> str | None:
    """A note where the flow is no longer the one that was started."""
    same = spec["source_digest"] == flow.target.source_digest
    return None if same else "The flow's source has changed since this execution started."


def check_drivable(store: Store, flow: FlowDefinition, exec_id: str) -> None:
    """Fail before a lease is taken where driving would."""
    with store.snapshot() as conn:
        row = executions.find(conn, exec_id)
        data, spec = _recorded(conn, flow, row.id)
        journal.to_drive(conn, row.id, exec_id=row.exec_id)
    _arguments(flow, data)
    _changed(spec, flow)  # reads the flow's source, once: not under the write lock


def _arguments(flow: FlowDefinition, data: bytes) -> inspect.BoundArguments:
    """Recorded inputs as this code's types."""
    arguments = codec.decode(data, types=inputs.types(flow.fn), path="inputs")
    return inputs.unbind(flow.fn, arguments, name=flow.name)


def create(conn: Transaction, prepared: Prepared, **linked: Any) -> Lease:
    """Record a new execution with its inputs, and take its lease; `linked` says to what."""
    flow, known = prepared.flow, stacks.load(conn)
    options = settings.settle(prepared.named, active_stack=stacks.active(known).name)
    stack = stacks.choose(known, options.stack.value, source=options.stack.source).name
    new = NewExecution(
        exec_id=ids.new_execution_id(),
        flow_id=flow.flow_id,
        flow_name=flow.name,
        inputs=prepared.inputs,
        tags=flow.tags,
        stack_name=stack,
        spec=prepared.spec | _settled(options),
        **linked,
    )
    row = Row(executions.create(conn, new, starts=True), new.exec_id, ExecutionStatus.RUNNING)
    _set_deadline(conn, row, flow.timeout)
    return _lease(conn, row, verb="Started")


def _settled(options: settings.Settings) -> dict[str, Any]:
    """What is fixed of the options when an execution starts."""
    return {
        "retries": options.retries.value,
        "cache": options.cache.value,
        "stack": options.stack.value,
        "sources": {name: setting["source"] for name, setting in options.to_dict().items()},
    }


def _spec(flow: FlowDefinition) -> dict[str, Any]:
    """What is fixed besides when an execution starts."""
    target = flow.target
    return {
        "target": target.target,
        "root": target.root,
        "problem": target.problem,
        "cwd": str(Path.cwd()),
        "source_digest": target.source_digest,
        "timeout": flow.timeout,
        "tags": list(flow.tags),
        "python_version": sys.version.partition(" ")[0],
        "kitaru_version": VERSION,
    }


def _set_deadline(conn: Transaction, row: Row, timeout: float | None) -> None:
    if timeout is not None:
        executions.set_deadline(conn, row.id, clock.now_us() + round(timeout * 1_000_000))


def _take(conn: Transaction, row: Row, *, action: str, flow: FlowDefinition) -> Lease:
    spec = executions.drive_data(conn, row.id)["spec"]
    if action == "retry":
        _set_deadline(conn, row, spec.get("timeout"))
    reason = _changed(spec, flow)
    executions.advance(conn, row, action, reason=reason)
    return _lease(conn, row, verb={"resume": "Resumed", "retry": "Retried"}[action], note=reason)


def _lease(conn: Transaction, row: Row, *, verb: str, note: str | None = None) -> Lease:
    lease = leases.take(conn, execution=row.id, exec_id=row.exec_id, runner=ids.new_runner_id())
    by = f"process {host.name()}:{os.getpid()}, epoch {lease.epoch}"
    message = f"{verb} by {by}. {note or ''}".strip()
    logs.add(conn, row.id, [LogRecord(clock.now_us(), "INFO", message, source="runner")])
    return lease


def _refuse_other(flow: FlowDefinition, recorded: str, exec_id: str) -> None:
    """Refuse to drive an execution with another flow's code."""
    if flow.name != recorded:
        raise KitaruUsageError(
            f"Execution {exec_id} is of flow {recorded!r}, not of {flow.name!r}. "
            "Its target now names another flow: restore it, or replay with the right one."
        )
