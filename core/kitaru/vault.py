"""Where the values of secrets are: in the system's keyring where there is one, else in a file.

Owns `secrets.json` in the store's home, a 0600 file that is replaced as a whole and changed under a
lock. It says which of the two places was chosen, with the first secret, and holds either the values
or, beside a keyring, the names and keys alone. A keyring that has gone is an error: values are
never looked for elsewhere. No value is in any message.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal, TypeAlias

from kitaru import ids, private
from kitaru.errors import KitaruBackendError, KitaruCorruptionError
from kitaru.locks import FileLock
from kitaru.redaction import MASK

FILE = "secrets.json"
_LOCK = "secrets.lock"
_VERSION = 1
_NO_KEYRINGS = ("keyring.backends.fail", "keyring.backends.null")

Place: TypeAlias = Literal["file", "keyring"]


class Vault:
    """The secrets of one home as they stood when it was read; `groups` is name -> its keys."""

    def __init__(
        self, path: Path, groups: dict[str, dict[str, str]], *, place: Place, vault_id: str
    ) -> None:
        self.place: Place = place
        self._path = path
        self._id = vault_id
        self._groups = groups  # beside a keyring without the values
        self._gone: list[tuple[str, str]] = []

    @property
    def groups(self) -> dict[str, list[str]]:
        """Every name with its keys, both in order."""
        return {name: sorted(self._groups[name]) for name in sorted(self._groups)}

    def values(self, name: str) -> dict[str, str]:
        """The values of one secret by key.

        Raises:
            KitaruBackendError: the keyring cannot be reached, or has lost one.
        """
        if self.place == "file":
            return dict(self._groups[name])
        found = self.known(name)
        for key in self.groups[name]:
            if key not in found:
                raise KitaruBackendError(
                    f"Key {key} of secret {name!r} is no longer in the system's keyring. Set it "
                    f"again: kitaru secrets set {name} --{key}"
                )
        return found

    def known(self, name: str) -> dict[str, str]:
        """The same without those that a keyring has lost."""
        if self.place == "file":
            return dict(self._groups[name])
        keyring, service = self._keyring(), self._service(name)
        found = {}
        for key in self.groups[name]:
            with self._asking(f"read {key} of {name!r}"):
                value = keyring.get_password(service, key)
            if value is not None:
                found[key] = value
        return found

    def put(self, name: str, values: Mapping[str, str], *, replace: bool) -> None:
        """Keep values under a secret's name, beside those it has or instead of them."""
        earlier = self._groups.get(name, {})
        kept = {} if replace else earlier
        self._gone += [(name, key) for key in earlier if key not in kept and key not in values]
        if self.place == "keyring":
            keyring, service = self._keyring(), self._service(name)
            for key, value in values.items():
                with self._asking(f"keep {key} of {name!r}", value):
                    keyring.set_password(service, key, value)
            values = dict.fromkeys(values, "")
        self._groups[name] = {**kept, **values}

    def remove(self, name: str) -> None:
        """Forget a secret."""
        self._gone += [(name, key) for key in self._groups.pop(name)]

    def save(self) -> None:
        """Make what was changed so; without any secret left nothing stays behind."""
        # A keyring first: what it does not let go has to stay known, to be masked and removed.
        for name, key in self._gone if self.place == "keyring" else ():
            keyring, service = self._keyring(), self._service(name)
            with self._asking(f"remove {key} of {name!r}"):
                if keyring.get_password(service, key) is not None:
                    keyring.delete_password(service, key)
        if self._groups:
            _replace(self._path, self._document())
        else:
            self._path.unlink(missing_ok=True)

    def _document(self) -> dict[str, Any]:
        named: dict[str, Any] = self._groups if self.place == "file" else self.groups
        return {"version": _VERSION, "kept_in": self.place, "id": self._id, "secrets": named}

    def _service(self, name: str) -> str:
        return f"kitaru:{self._id}:{name}"

    def _keyring(self) -> Any:
        found = _system_keyring()
        if found is None:
            raise KitaruBackendError(
                f"The secrets of {self._path.parent} are kept in the system's keyring, which cannot"
                " be reached from here. Install kitaru-mcp[keyring] where the keyring is, and "
                f"unlock it. To give these secrets up and begin anew, remove {self._path}."
            )
        return found

    @contextlib.contextmanager
    def _asking(self, what: str, value: str = "") -> Iterator[None]:
        try:
            yield
        except Exception as exc:  # a keyring's backend is foreign code
            said = str(exc).replace(value, MASK) if value else str(exc)
            raise KitaruBackendError(
                f"The system's keyring did not {what}: {type(exc).__name__}: {said}. Unlock it, "
                "and try again."
            ) from None


def path_in(home: Path) -> Path:
    """The file that tells of a home's secrets; there is none without secrets."""
    return home / FILE


def read(home: Path) -> Vault | None:
    """The secrets of a home; `None` where there are none.

    Raises:
        KitaruCorruptionError: the file is not what was written.
        KitaruBackendError: it cannot be read, or a newer program wrote it.
    """
    path = path_in(home)
    try:
        data = json.loads(path.read_bytes())
        version = data["version"]
        if version == _VERSION:
            groups, place = _groups(data["secrets"]), _place(data["kept_in"])
            return Vault(path, groups, place=place, vault_id=str(data["id"]))
    except FileNotFoundError:
        return None
    except OSError as exc:
        raise KitaruBackendError(
            f"The secrets in {path} cannot be read: {exc.strerror}. Check the file's owner and "
            "permissions."
        ) from exc
    except (ValueError, KeyError, TypeError, AttributeError):  # their texts may quote a value
        raise KitaruCorruptionError(
            f"The secrets in {path} are damaged. Restore the file from a backup, or remove it and "
            "set the secrets again."
        ) from None
    raise KitaruBackendError(
        f"The secrets in {path} have format {version!r:.20}; this program knows {_VERSION}. "
        "A newer Kitaru wrote them: upgrade kitaru-mcp."
    )


@contextlib.contextmanager
def changing(home: Path) -> Iterator[Vault]:
    """The secrets of a home, to be changed; saved when the block ends without an error.

    Raises:
        KitaruBackendError: the home cannot be written, or the keyring not be reached.
    """
    path = path_in(home)
    try:
        private.make(home)
        with FileLock(home / _LOCK):
            vault = read(home)
            if vault is None:
                place: Place = "file" if _system_keyring() is None else "keyring"
                vault = Vault(path, {}, place=place, vault_id=ids.new_vault_id())
            yield vault
            vault.save()
    except OSError as exc:
        raise KitaruBackendError(
            f"The secrets in {path} cannot be written: {exc.strerror}. Make room, or make the "
            "folder writable."
        ) from exc


def _system_keyring() -> Any:
    """The system's keyring, where a real one is installed and there.

    Raises:
        KitaruBackendError: one is installed and does not start.
    """
    try:
        keyring = importlib.import_module("keyring")  # an extra of the package's
        found = keyring.get_keyring()
        is_real = found.priority > 0 and type(found).__module__ not in _NO_KEYRINGS
    except Exception as exc:  # a keyring's backend is foreign code
        if isinstance(exc, ModuleNotFoundError) and exc.name == "keyring":
            return None
        raise KitaruBackendError(
            f"The system's keyring does not start: {type(exc).__name__}: {exc}. Mend its settings, "
            "or turn it off with PYTHON_KEYRING_BACKEND=keyring.backends.null.Keyring."
        ) from None
    return found if is_real else None


def _place(value: Any) -> Place:
    if value not in ("file", "keyring"):
        raise ValueError
    return "file" if value == "file" else "keyring"


def _groups(data: Any) -> dict[str, dict[str, str]]:
    """The secrets of a document; a list of keys stands for keys whose values are elsewhere."""
    found = {}
    for name, group in data.items():
        group = group if isinstance(group, dict) else dict.fromkeys(group, "")
        if not all(isinstance(text, str) for pair in group.items() for text in pair):
            raise ValueError
        found[name] = group
    return found


def _replace(path: Path, data: dict[str, Any]) -> None:
    """Put a new file in the place of an old one; after a crash it is the one or the other."""
    temporary = path.with_suffix(".new")
    temporary.unlink(missing_ok=True)  # left behind by a crash; only the lock's holder is here
    fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(fd, "w", encoding="utf-8") as file:
            json.dump(data, file, indent=1)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    if hasattr(os, "O_DIRECTORY"):
        folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
