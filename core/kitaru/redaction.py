"""What may be shown of data and text of user code's: secrets masked, control characters escaped.

A secret is what lies under a key that looks like one's, and, wherever it stands in text, the value
of a registered secret (see `masks`). Recorded values themselves are never changed; this is for
answers, messages and logs, some of which is masked before it is written.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable
from functools import lru_cache
from typing import Any

from kitaru.errors import KitaruError

MASK = "[redacted]"

_SECRET_KEY = re.compile(
    r"password|passwd|secret|api[_-]?key|authorization|credential|private[_-]?key|"
    r"token$|access[_-]?token|bearer",
    re.IGNORECASE,
)
_COUNTS = re.compile(r"(^|_)tokens(_v1)?$", re.IGNORECASE)
#: Longer keys are not remembered, nor more characters.
_SHORT_KEY = 100
_REMEMBERED = 10_000
_KEPT_CONTROLS = "\n\t"
#: Controls, bidi controls and zero-width characters change what a reader sees without showing
#: themselves; lone surrogates and private characters show nothing that all readers share.
_HIDDEN = ("Cc", "Cf", "Cs", "Co")

#: Replaces the values of registered secrets in a text; `None` while there are none.
_mask: Callable[[str], str] | None = None


def mask_with(mask: Callable[[str], str] | None) -> None:
    """Install what replaces registered values in text; it may refuse where it cannot know them."""
    global _mask
    _mask = mask


def shown(data: dict[str, Any]) -> dict[str, Any]:
    """JSON data as it may be shown: secrets masked by key, control characters escaped."""
    result: dict[str, Any] = shown_value(data)
    return result


def shown_value(value: Any, *, hidden: bool = False, masks: bool = True) -> Any:
    """Any JSON value as it may be shown.

    Args:
        value: the value.
        hidden: whether it lies under a secret's key, at any depth.
        masks: whether keys are looked at.
    """
    if isinstance(value, dict):
        return {
            safe_text(str(key)): shown_value(
                item, hidden=hidden or (masks and is_secret(str(key), item)), masks=masks
            )
            for key, item in value.items()
        }
    if isinstance(value, list):
        return [shown_value(item, hidden=hidden, masks=masks) for item in value]
    if hidden and value is not None and not isinstance(value, bool):
        return MASK
    return safe_text(value) if isinstance(value, str) else value


def is_secret(key: str, value: Any) -> bool:
    """Whether a key looks like that of a secret value; a count of tokens is none."""
    named, counts = _read_key(key) if len(key) <= _SHORT_KEY else _read_key.__wrapped__(key)
    return named and not (counts and isinstance(value, (int, float)))


@lru_cache(maxsize=4096)
def _read_key(key: str) -> tuple[bool, bool]:
    """Whether a key looks like a secret's, and like that of a count; the same keys come often."""
    return bool(_SECRET_KEY.search(key)), bool(_COUNTS.search(key))


def safe_text(text: str) -> str:
    """Text as it may be shown: registered values masked, characters that hide escaped.

    Newlines and tabs stay.

    Raises:
        KitaruBackendError: registered values cannot be read, so nothing can be shown.
    """
    return escaped(masked(text))


def masked(text: str) -> str:
    """Text without the values of registered secrets; before anything is cut off from it.

    Raises:
        KitaruBackendError: registered values cannot be read.
    """
    return text if _mask is None else _mask(text)


def recordable(text: str) -> str:
    """Text that is kept only to be shown, masked before it is written.

    Where registered values cannot be read it stays as it is: it is refused when it is shown.
    """
    try:
        return masked(text)
    except KitaruError:
        return text


def recordable_value(value: Any) -> Any:
    """The same for all text of JSON data, its keys too."""
    if _mask is None:
        return value
    if isinstance(value, dict):
        return {recordable(key): recordable_value(item) for key, item in value.items()}
    if isinstance(value, list):
        return [recordable_value(item) for item in value]
    return recordable(value) if isinstance(value, str) else value


def safe_message(text: str) -> str:
    """An error's text as it may be shown; where nothing can be, why not."""
    try:
        return safe_text(text)
    except KitaruError as exc:
        return escaped(str(exc))


def escaped(text: str) -> str:
    """Text with control, bidi and zero-width characters escaped, and nothing masked."""
    return text if text.isascii() and text.isprintable() else text.translate(_characters)


def is_storable(text: str) -> bool:
    """Whether text has a UTF-8 form; lone surrogates have none."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


class _Characters(dict[int, str]):
    """What characters are shown as, by their codes; most are asked for often."""

    def __missing__(self, code: int) -> str:
        char = chr(code)
        found = char if _is_plain(char) else _escaped(char)
        if len(self) < _REMEMBERED:
            self[code] = found
        return found


_characters = _Characters()


def _is_plain(char: str) -> bool:
    return char in _KEPT_CONTROLS or unicodedata.category(char) not in _HIDDEN


def _escaped(char: str) -> str:
    code = ord(char)
    return (
        f"\\x{code:02x}"
        if code < 0x100
        else f"\\u{code:04x}"
        if code < 0x10000
        else f"\\U{code:08x}"
    )
