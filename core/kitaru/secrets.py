"""Secrets: named groups of keys and values, kept out of the database.

Where the values are is `vault`'s matter. Here is what users and the command line ask for, with
names and keys checked. A `Secret` shows its keys, never its values, and can be neither recorded nor
pickled: read it inside the checkpoint that needs it. Where registered values stand in text that is
shown, `masks` hides them.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import NoReturn

from kitaru import config, masks, naming, vault
from kitaru.errors import KitaruNotFoundError, KitaruStateError, KitaruUsageError
from kitaru.frozen import Model
from kitaru.redaction import is_storable
from kitaru.vault import Place, Vault

HomePath = str | os.PathLike[str] | None

MAX_VALUE = 64 * 1024
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_KEY = re.compile(r"[A-Za-z_][A-Za-z0-9_-]{0,63}")


class Secret:
    """A secret with its values: `secret["API_KEY"]`; its text shows the keys only."""

    __slots__ = ("name", "values")

    name: str
    values: Mapping[str, str]

    def __init__(self, name: str, values: Mapping[str, str]) -> None:
        object.__setattr__(self, "name", name)
        object.__setattr__(self, "values", MappingProxyType(dict(values)))

    def __getitem__(self, key: str) -> str:
        if key not in self.values:
            raise KitaruNotFoundError(
                f"Secret {self.name!r} has no key {key!r:.80}; it has {', '.join(self.values)}."
            )
        return self.values[key]

    def __contains__(self, key: object) -> bool:
        return key in self.values

    def keys(self) -> list[str]:
        """Its keys, in order."""
        return [*self.values]

    def __repr__(self) -> str:
        return f"Secret(name={self.name!r}, keys={self.keys()!r})"

    def __setattr__(self, name: str, value: object) -> NoReturn:
        raise AttributeError("A Secret cannot be changed; use `kitaru secrets set`.")

    __delattr__ = __setattr__  # type: ignore[assignment]

    def __reduce__(self) -> NoReturn:
        raise TypeError("A Secret cannot be pickled; read it where it is needed.")


@dataclass(frozen=True, slots=True)
class SecretSummary(Model):
    """A secret without its values, and where they are kept."""

    name: str
    keys: tuple[str, ...]
    kept_in: Place


def create_secret(name: str, values: Mapping[str, str], *, home: HomePath = None) -> SecretSummary:
    """Keep values under a new name.

    Args:
        name: letters, digits, `.`, `_` and `-`; at most 64 characters.
        values: key -> value, as text; at least one.
        home: the store's folder; by default found as `kitaru status` says.

    Raises:
        KitaruUsageError: the name, a key or a value cannot be used.
        KitaruStateError: there is a secret with this name.
        KitaruBackendError: the values cannot be kept.

    Example:
        >>> import kitaru
        >>> kitaru.create_secret("mail", {"USER": "ada", "PASSWORD": "correct horse"}).keys
        ('PASSWORD', 'USER')
    """
    checked, found = _checked(name, values), config.find_home(home)
    with vault.changing(found.path) as kept:
        if name in kept.groups:
            raise KitaruStateError(
                f"Secret {name!r} exists already. Change it with `kitaru secrets set {name} …`, "
                "or delete it first."
            )
        kept.put(name, checked, replace=True)
    masks.watch(found)
    return _summary(kept, name)


def set_secret(
    name: str, values: Mapping[str, str], *, replace: bool = False, home: HomePath = None
) -> SecretSummary:
    """Keep values under a name, whether there is such a secret or not.

    Args:
        name: letters, digits, `.`, `_` and `-`; at most 64 characters.
        values: key -> value, as text; at least one.
        replace: whether keys that are not given are forgotten.
        home: the store's folder; by default found as `kitaru status` says.

    Raises:
        KitaruUsageError: the name, a key or a value cannot be used.
        KitaruBackendError: the values cannot be kept.

    Example:
        >>> from kitaru import secrets
        >>> secrets.set_secret("bank", {"PIN": "0815"}).keys
        ('PIN',)
    """
    checked, found = _checked(name, values), config.find_home(home)
    with vault.changing(found.path) as kept:
        kept.put(name, checked, replace=replace)
    masks.watch(found)
    return _summary(kept, name)


def get_secret(name: str, *, home: HomePath = None) -> Secret:
    """A secret with its values.

    Args:
        name: the secret.
        home: the store's folder; by default found as `kitaru status` says.

    Raises:
        KitaruNotFoundError: there is none with this name; names the nearest.
        KitaruBackendError: its values cannot be read.

    Example:
        >>> import kitaru
        >>> summary = kitaru.create_secret("search", {"API_KEY": "0123456789"})
        >>> secret = kitaru.get_secret("search")
        >>> secret
        Secret(name='search', keys=['API_KEY'])
        >>> secret["API_KEY"]
        '0123456789'
    """
    found = config.find_home(home)
    kept = vault.read(found.path)
    if kept is None or name not in kept.groups:
        raise _missing(name, kept)
    masks.watch(found)
    return Secret(name, kept.values(name))


def delete_secret(name: str, *, home: HomePath = None) -> SecretSummary:
    """Forget a secret; returns what it was.

    Args:
        name: the secret.
        home: the store's folder; by default found as `kitaru status` says.

    Raises:
        KitaruNotFoundError: there is none with this name; names the nearest.
        KitaruBackendError: it cannot be removed.

    Example:
        >>> import kitaru
        >>> summary = kitaru.create_secret("old", {"KEY": "value"})
        >>> kitaru.delete_secret("old").name
        'old'
    """
    found = config.find_home(home)
    if vault.read(found.path) is None:
        raise _missing(name, None)
    with vault.changing(found.path) as kept:
        if name not in kept.groups:
            raise _missing(name, kept)
        summary = _summary(kept, name)
        kept.remove(name)
    masks.watch(found)
    return summary


def list_secrets(*, home: HomePath = None) -> list[SecretSummary]:
    """All secrets by name, without their values.

    Args:
        home: the store's folder; by default found as `kitaru status` says.

    Raises:
        KitaruBackendError: they cannot be read.

    Example:
        >>> import kitaru
        >>> "nowhere" in [each.name for each in kitaru.list_secrets()]
        False
    """
    kept = vault.read(config.find_home(home).path)
    return [] if kept is None else [_summary(kept, name) for name in kept.groups]


def kept_at(home: config.Home, place: Place) -> str:
    """Where a home's values are, in a reader's words."""
    return str(vault.path_in(home.path)) if place == "file" else "the system's keyring"


def unmasked(values: Mapping[str, str]) -> list[str]:
    """The keys of values that are too short to be masked in text."""
    return sorted(key for key, value in values.items() if len(value.strip()) < masks.LEAST)


def _summary(kept: Vault, name: str) -> SecretSummary:
    return SecretSummary(name, tuple(kept.groups[name]), kept.place)


def _missing(name: object, kept: Vault | None) -> KitaruNotFoundError:
    told = naming.nearest(name, [] if kept is None else kept.groups)
    return KitaruNotFoundError(
        f"No secret {name!r:.80}. {told} Make it with `kitaru secrets set NAME --KEY`."
    )


def _checked(name: object, values: Mapping[str, str]) -> dict[str, str]:
    """The values, once they and the name can be used; no message has a value."""
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise KitaruUsageError(
            f"{name!r:.80} cannot be a secret's name: it must be 1 to 64 letters, digits, '.', "
            "'_' or '-', beginning with a letter or digit."
        )
    if not isinstance(values, Mapping) or not values:
        raise KitaruUsageError(f"Secret {name!r} needs at least one key with a value.")
    for key, value in values.items():
        if not isinstance(key, str) or not _KEY.fullmatch(key):
            raise KitaruUsageError(
                f"Secret {name!r}: {key!r:.80} cannot be a key: it must be 1 to 64 letters, "
                "digits, '_' or '-', beginning with a letter or '_'."
            )
        if not isinstance(value, str):
            kind = type(value).__name__
            raise KitaruUsageError(f"Secret {name!r}: the value of {key} is {kind}; give text.")
        if not 0 < len(value) <= MAX_VALUE or not is_storable(value):
            raise KitaruUsageError(
                f"Secret {name!r}: the value of {key} has {len(value)} characters; it must be "
                f"UTF-8 text of 1 to {MAX_VALUE} characters."
            )
    return dict(values)
