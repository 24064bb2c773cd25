"""A whole answer, asked for until all of it fits: what a flow's own terminal and the CLI share.

`prompts` checks each part as it is typed; here the whole is checked against its schema, and by
whoever takes it. Pure: the caller shows what the dialogue yields and sends it the typed lines.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from typing import Any

from kitaru import answers, prompts, redaction
from kitaru.errors import KitaruWaitValidationError


def answer(
    schema: dict[str, Any] | None,
    *,
    wait: str,
    refusal: Callable[[bytes], str | None] = lambda data: None,
) -> Generator[str, str, bytes]:
    r"""Ask for the answer to a wait, and anew while it does not fit; returns it as JSON.

    Args:
        schema: as `PendingWait.schema` gives it.
        wait: the wait's id, for messages.
        refusal: why an answer that fits the schema is not taken; `None` where it is.

    Example:
        >>> asking = answer({"type": "integer", "minimum": 3}, wait="kr-1/count")
        >>> next(asking)
        '(whole number) > '
        >>> try:
        ...     asking.send("4")
        ... except StopIteration as end:
        ...     end.value
        b'4'
    """
    note = ""
    while True:
        value = yield from _after(note, prompts.dialogue(schema))
        try:
            data = answers.encode(value, wait=wait)
            answers.validate(data, schema, wait=wait)
        except KitaruWaitValidationError as exc:
            note = f"Invalid input: {redaction.safe_message(str(exc))}\n"
            continue
        reason = refusal(data)
        if reason is None:
            return data
        note = f"{reason}\n"


def _after(note: str, dialogue: prompts.Dialogue) -> prompts.Dialogue:
    """A dialogue with a note before its first prompt."""
    line = yield note + next(dialogue)
    try:
        while True:
            line = yield dialogue.send(line)
    except StopIteration as end:
        return end.value
