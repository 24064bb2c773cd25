"""The values of registered secrets, and of models' variables, are kept out of whatever is shown.

Owns what `redaction` asks for them: the values of every home this process looks at, read when
text is first shown, and anew when the file of a home's secrets or the environment is another one.
Where they cannot be read, showing is refused: text is never shown unmasked because a keyring is
away. Without secrets nothing is installed, and showing costs nothing more.

A value is known in the forms it commonly takes: as it is, by its lines and long words, as JSON or
Python writes it, in Base64 wherever it begins there, and as a part of an address. Any other
encoding of it is another text.
"""

from __future__ import annotations

import base64
import json
import os
import threading
from collections.abc import Iterator
from pathlib import Path

from kitaru import clock, config, model_variables, redaction, vault
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
_installed: _Masks | None = None
#: The variables that providers' SDKs read, as they were seen last.
_variables: model_variables.Set = ()


def watch(home: config.Home) -> None:
    """Mask the values of a home's secrets from now on, as they now are; costs microseconds.

    Those of the environment's variables for models are masked with them.
    """
    try:
        found = os.stat(vault.path_in(home.path))
        mark = (found.st_ino, found.st_mtime_ns, found.st_size)
    except OSError:  # none, or none that can be read: then its store cannot be read either
        mark = None
    global _installed, _variables
    variables = model_variables.read()
    if _homes.get(home.path) == mark and _variables == variables:
        return
    with _changing:
        _variables = variables
        if mark is None:
            _homes.pop(home.path, None)
        else:
            _homes[home.path] = mark
        _installed = _Masks([*_homes]) if _homes or _variables else None
        redaction.mask_with(_installed)


def are_known() -> bool:
    """Whether there is any value to be masked."""
    return _installed is not None


def found_in(data: bytes) -> list[str]:
    """Whose values stand in an encoded value, as `KEY of 'secret'`; none where none can be read."""
    if _installed is None:
        return []
    try:
        return _installed.found_in(data)
    except KitaruError:
        return []


class _Masks:
    """Replaces values in text; they are read at the first one."""

    def __init__(self, homes: list[Path]) -> None:
        self._homes = homes
        self._owners: dict[str, str] | None = None
        self._error: KitaruError | None = None
        self._again = 0.0

    def __call__(self, text: str) -> str:
        for form in self._forms():
            if form in text:
                text = text.replace(form, redaction.MASK)
        return text

    def found_in(self, data: bytes) -> list[str]:
        """The owners of values that stand in encoded data."""
        found = (owner for form, owner in self._forms().items() if form.encode() in data)
        return [*dict.fromkeys(found)]

    def _forms(self) -> dict[str, str]:
        """Each form of each value, and whose it is."""
        return self._load() if self._owners is None else self._owners

    def _load(self) -> dict[str, str]:
        if self._error is not None and clock.monotonic() < self._again:
            raise self._error
        try:
            values = [each for home in self._homes for each in _values(home)]
            values += model_variables.secrets_in(_variables)
        except KitaruError as exc:
            self._error, self._again = exc, clock.monotonic() + _AGAIN_SECONDS
            raise
        found = {form: owner for owner, value in values for form in _forms(value)}
        # The longest first: what it contains would leave the rest of it in sight.
        self._owners = dict(sorted(found.items(), key=lambda each: (-len(each[0]), each[0])))
        return self._owners


def _values(home: Path) -> Iterator[tuple[str, str]]:
    found = vault.read(home)
    if found is not None:
        for name in found.groups:
            for key, value in found.known(name).items():
                yield f"{key} of {name!r}", value


def _forms(value: str) -> Iterator[str]:
    """How a value may stand in text: whole, by its lines and long words, escaped and encoded."""
    from urllib.parse import quote, quote_plus  # only who has secrets needs it

    wholes = {value, value.strip(), *(word for word in value.split() if len(word) >= _WORD)}
    for piece in wholes.union(map(str.strip, value.splitlines())):
        if len(piece.strip()) < LEAST or piece in redaction.MASK:
            continue
        yield from (piece, json.dumps(piece)[1:-1], json.dumps(piece, ensure_ascii=False)[1:-1])
        yield from (repr(piece)[1:-1], repr(piece.encode())[2:-1])
        if piece in wholes:
            yield from (quote(piece, safe=""), quote(piece), quote_plus(piece))
            yield from _in_base64(piece.encode())


def _in_base64(data: bytes) -> Iterator[str]:
    """The characters that stand for these bytes alone, wherever among others they begin."""
    for before in range(3):
        # Six bits a character: those that also hold bits of a neighbour are left out.
        first, end = -(-before * 8 // 6), (before + len(data)) * 8 // 6
        padded = bytes(before) + data
        yield base64.b64encode(padded).decode()[first:end]
        yield base64.urlsafe_b64encode(padded).decode()[first:end]
