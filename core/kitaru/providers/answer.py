"""A question to a model and its answer, in terms that all providers share."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from kitaru.usage import Tokens

#: Takes the text of an answer piece by piece, as it comes.
Listener: TypeAlias = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Ask:
    """What is asked of a model; `schema` is a pydantic class that the answer is to fit."""

    model: str
    messages: tuple[dict[str, Any], ...]
    system: str | None = None
    temperature: float | None = None
    max_tokens: int | None = None
    schema: type[Any] | None = None


@dataclass(slots=True)
class Answer:
    """What has come back; of one that has broken off, what had come by then."""

    text: str = ""
    model: str | None = None
    finish_reason: str | None = None
    tokens: Tokens = field(default_factory=Tokens)
    cost_usd: float | None = None
    refusal: str | None = None
    #: Why it ended before its end: a limit of the answer's length.
    is_cut: bool = False


def text_of(value: object) -> str:
    """What a provider gives as text; nothing for null.

    Raises:
        TypeError: it is something else.
    """
    if value is None or isinstance(value, str):
        return value or ""
    raise TypeError(f"{type(value).__name__} is no text")


class Failed(Exception):
    """A request came to no answer, or to a part of one.

    Args:
        reason: what the provider or the way to it says, without any secret.
        is_transient: whether the same request may succeed later.
        status_code: the HTTP status, if there was one.
        retry_after: the seconds after which it asks to come back.
        is_billed: whether it may be charged for; what was refused, or never sent, is not.
    """

    def __init__(
        self,
        reason: str,
        *,
        is_transient: bool,
        status_code: int | None = None,
        retry_after: float | None = None,
        is_billed: bool = False,
    ) -> None:
        super().__init__(reason)
        self.reason = reason
        self.is_transient = is_transient
        self.status_code = status_code
        self.retry_after = retry_after
        self.is_billed = is_billed
