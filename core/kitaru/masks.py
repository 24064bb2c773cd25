"""The values of registered secrets are kept out of whatever is shown.

Owns what `redaction` asks for them: the values of every home this process looks at, read when
text is first shown, and anew when the file of a home's secrets is another one. Where they cannot be
read, showing is refused: text is never shown unmasked because a keyring is away. Without secrets
nothing is installed, and showing costs nothing more.
"""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Iterator
from pathlib import Path

from kitaru import clock, config, redaction, vault
from kitaru.errors import KitaruError

#: Shorter values would hide words that stand for themselves.
LEAST = 8
#: Of values with spaces, so long a word may stand by itself (the token behind `Bearer`).
_WORD = 16
#: How long an error is kept before a keyring that was away is asked again.
_AGAIN_SECONDS = 2.0

_changing = threading.Lock()
#: The homes with secrets, and which file of theirs was seen last.
_homes: dict[Path, tuple[int, int, int]] = {}


def watch(home: config.Home) -> None:
    """Mask the values of a home's secrets from now on, as they now are; costs microseconds."""
    try:
        found = os.stat(vault.path_in(home.path))
        mark = (found.st_ino, found.st_mtime_ns, found.st_size)
    except OSError:  # none, or none that can be read: then its store cannot be read either
        mark = None
    if _homes.get(home.path) == mark:
        return
    with _changing:
        if mark is None:
            _homes.pop(home.path, None)
        else:
            _homes[home.path] = mark
        redaction.mask_with(_Masks([*_homes]) if _homes else None)


class _Masks:
    """Replaces values in text; they are read at the first one."""

    def __init__(self, homes: list[Path]) -> None:
        self._homes = homes
        self._forms: list[str] | None = None
        self._error: KitaruError | None = None
        self._again = 0.0

    def __call__(self, text: str) -> str:
        forms = self._load() if self._forms is None else self._forms
        for form in forms:
            if form in text:
                text = text.replace(form, redaction.MASK)
        return text

    def _load(self) -> list[str]:
        if self._error is not None and clock.monotonic() < self._again:
            raise self._error
        try:
            values = [value for home in self._homes for value in _values(home)]
        except KitaruError as exc:
            self._error, self._again = exc, clock.monotonic() + _AGAIN_SECONDS
            raise
        found = {form for value in values for form in _forms(value)}
        # The longest first: what it contains would leave the rest of it in sight.
        self._forms = sorted(found, key=lambda form: (-len(form), form))
        return self._forms


def _values(home: Path) -> Iterator[str]:
    found = vault.read(home)
    if found is not None:
        for name in found.groups:
            yield from found.known(name).values()


def _forms(value: str) -> Iterator[str]:
    """How a value may stand in text: whole, by its lines and long words, and escaped."""
    words = (word for word in value.split() if len(word) >= _WORD)
    for piece in {value, value.strip(), *map(str.strip, value.splitlines()), *words}:
        if len(piece.strip()) >= LEAST and piece not in redaction.MASK:
            yield piece
            yield json.dumps(piece)[1:-1]
            yield json.dumps(piece, ensure_ascii=False)[1:-1]
            yield repr(piece)[1:-1]
