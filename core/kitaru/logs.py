"""`kitaru.log`: metadata on the checkpoint that runs, or on the execution."""

from __future__ import annotations

from typing import Any

from kitaru import codec, context, redaction
from kitaru.errors import KitaruContextError, KitaruUsageError


def log(**metadata: Any) -> None:
    """Attach metadata to the running checkpoint, or in the flow's body to the execution.

    Dicts merge with what is there; for anything else the last value wins.

    Args:
        metadata: names and JSON-ready values.

    Raises:
        KitaruContextError: called outside a running flow.
        KitaruUsageError: a value is not JSON data, or a key is one of Kitaru's own.

    Example:
        >>> import kitaru
        >>> @kitaru.flow
        ... def triage(ticket: str) -> str:
        ...     kitaru.log(tier="gold", cost={"usd": 0.02})
        ...     return ticket.upper()
        >>> handle = triage.run(ticket="t-1")
        >>> handle.wait()
        'T-1'
        >>> kitaru.KitaruClient().executions.get(handle.exec_id).metadata["tier"]
        'gold'
    """
    driver, call = context.current_driver.get(), context.current_call.get()
    if driver is None:
        raise KitaruContextError(
            "kitaru.log() works inside a running @flow only. Call it in the flow or a checkpoint."
        )
    from kitaru.usage_summary import is_reserved  # who only waits does without

    for key in filter(is_reserved, metadata):
        raise KitaruUsageError(
            f"kitaru.log(): {key!r} is written by Kitaru alone, from the records of what models "
            "have used. Record that with kitaru.record_llm_usage(…)."
        )
    checked = json_metadata(metadata, what="kitaru.log()")
    if call is not None:
        context.refuse_late(call, "kitaru.log()")
        call.add_metadata(checked)
    else:
        driver.merge_metadata(checked)


def json_metadata(metadata: Any, *, what: str) -> dict[str, Any]:
    """A copy of metadata that is plain JSON data, with the values of registered secrets masked.

    Raises:
        KitaruUsageError: it is not a dict with text keys and JSON values.
    """
    if not isinstance(metadata, dict) or not all(isinstance(key, str) for key in metadata):
        raise KitaruUsageError(f"{what}: metadata must be a dict with text keys.")
    data = codec.encode_any(metadata, path=what)
    plain: dict[str, Any] = codec.plain(data)
    if plain != metadata:
        raise KitaruUsageError(
            f"{what}: metadata must be JSON data (text, numbers, booleans, null, lists, dicts); "
            f"got {redaction.recordable(repr(metadata)):.200}. Convert the value, or save it as "
            "an artifact."
        )
    kept: dict[str, Any] = redaction.recordable_value(plain)
    return kept
