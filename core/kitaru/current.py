"""Where this code runs: the execution's id, and the checkpoint call with its idempotency key."""

from __future__ import annotations

from dataclasses import dataclass

from kitaru import context, ids


@dataclass(frozen=True, slots=True)
class CurrentCheckpoint:
    """The running checkpoint call.

    `idempotency_key` is the same for every attempt and every resume of this call: hand it to
    outside services, so that what they do for a repeated call is done once.
    """

    exec_id: str
    call_id: str
    name: str
    attempt: int
    idempotency_key: str


def current_execution_id() -> str | None:
    """The id of the execution this code runs in; `None` outside a flow."""
    driver = context.current_driver.get()
    return None if driver is None else driver.exec_id


def current_checkpoint() -> CurrentCheckpoint | None:
    """The checkpoint call this code runs in; `None` outside a checkpoint."""
    call = context.current_call.get()
    if call is None:
        return None
    return CurrentCheckpoint(
        exec_id=call.exec_id,
        call_id=call.call_id,
        name=ids.call_name(call.call_id),
        attempt=call.attempt,
        idempotency_key=ids.qualified(call.exec_id, call.call_id),
    )
