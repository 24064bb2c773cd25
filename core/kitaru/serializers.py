"""How a checkpoint's values become records: `json`, the codec, or `pickle`, where that is chosen.

A pickle stands in a codec-shaped record, so that all who show records can show that it is one.
Reading one runs whatever code it names: nothing here does so unless `pickle` was asked for by
code, never because a record says so. A record of the codec's is read under either choice.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping
from typing import Any, NoReturn

from kitaru import codec
from kitaru.codec.refusal import Refused
from kitaru.errors import KitaruSerializationError, KitaruUsageError

#: 5 is what every supported Python reads and writes.
_PROTOCOL = 5


class Serializer:
    """What turns the values of a checkpoint into records and back; this one is `json`."""

    name = "json"

    def dump(self, value: object, *, types: codec.DeclaredTypes, path: str) -> bytes:
        """The record of a value.

        Args:
            value: what to record.
            types: the user types it may hold.
            path: what messages call it.

        Raises:
            KitaruSerializationError: the value cannot be recorded so that it comes back.
        """
        return codec.encode(value, types=types, path=path)

    def load(self, data: bytes, *, types: codec.DeclaredTypes, path: str) -> Any:
        """The value of a record.

        Raises:
            KitaruSerializationError: the record is not for this serializer, is damaged, or needs
                types that are not declared or have changed.
        """
        return codec.decode(data, types=types, path=path)


class _Pickle(Serializer):
    """Any value that pickles; its classes are found by import, those of a script as declared."""

    name = "pickle"

    def dump(self, value: object, *, types: codec.DeclaredTypes, path: str) -> bytes:
        data = _pickled(value, path=path)
        try:
            _unpickled(data, types)
        except Exception as exc:  # unpickling runs user code
            _refuse(f"{path} was pickled, but would not load back", exc)
        return codec.wrap_pickle(data, path=path)

    def load(self, data: bytes, *, types: codec.DeclaredTypes, path: str) -> Any:
        pickled = codec.pickle_of(data, path=path)
        if pickled is None:
            return super().load(data, types=types, path=path)
        try:
            return _unpickled(pickled, types)
        except Exception as exc:  # unpickling runs user code
            raise KitaruSerializationError(
                f"{path} was recorded as a pickle that no longer loads: {_told(exc)}. Bring its "
                "classes back to that form, or replay from the call that made the value."
            ) from exc


JSON = Serializer()
PICKLE = _Pickle()
_ALL = {each.name: each for each in (JSON, PICKLE)}


def named(name: object, *, owner: str) -> Serializer:
    """The serializer with this name; `owner` is who asks for it.

    Raises:
        KitaruUsageError: there is none.

    Example:
        >>> from kitaru import serializers
        >>> serializers.named("pickle", owner="Checkpoint 'train'").name
        'pickle'
    """
    if not isinstance(name, str) or name not in _ALL:
        raise KitaruUsageError(f"{owner}: unknown serializer {name!r}; use {' or '.join(_ALL)}.")
    return _ALL[name]


def reader(*, allow_pickle: bool) -> Serializer:
    """What reads a value somebody else recorded; a pickle only where that is allowed."""
    return PICKLE if allow_pickle is True else JSON


def inputs_digest(arguments: Mapping[str, Any], *, serializer: Serializer, path: str) -> bytes:
    """A digest of a call's arguments, to tell the recorded call from another.

    With `pickle`, an argument the codec cannot hold counts by the name of its type only: its
    pickle may differ from process to process, and the same call must not look like another.

    Raises:
        KitaruSerializationError: the codec cannot hold one, and the serializer is `json`.
    """
    return _digest(arguments, lambda value, _: type(value).__qualname__, serializer, path=path)


def cache_digest(arguments: Mapping[str, Any], *, serializer: Serializer, path: str) -> bytes:
    """A digest of a call's arguments, to find an earlier call with the very same ones.

    With `pickle`, an argument the codec cannot hold counts by its pickle: where that differs
    though the value does not, nothing is found, and the call runs.

    Raises:
        KitaruSerializationError: an argument can neither be held by the codec nor, where that
            may be, be pickled.
    """
    return _digest(
        arguments,
        lambda value, where: codec.digest(_pickled(value, path=where)),
        serializer,
        path=path,
    )


def _digest(
    arguments: Mapping[str, Any],
    stand_in: Callable[[Any, str], object],
    serializer: Serializer,
    *,
    path: str,
) -> bytes:
    try:
        return codec.fingerprint(dict(arguments), path=path)
    except KitaruSerializationError:
        if serializer is not PICKLE:
            raise
    parts: dict[str, object] = {}
    for name, value in arguments.items():
        where = f"{path}[{name!r}]"
        try:
            parts[name] = True, codec.fingerprint(value, path=where)
        except KitaruSerializationError:
            parts[name] = False, stand_in(value, where)
    return codec.fingerprint(parts, path=path)


def _pickled(value: object, *, path: str) -> bytes:
    import pickle

    try:
        return pickle.dumps(value, protocol=_PROTOCOL)
    except Exception as exc:  # pickling runs user code
        _refuse(f"{path} cannot be pickled", exc)


def _unpickled(data: bytes, types: codec.DeclaredTypes) -> Any:
    import pickle

    class Unpickler(pickle.Unpickler):
        def find_class(self, module: str, name: str) -> Any:
            # A script is `__main__` while it runs, and a runner imports it under another name.
            if module != "__main__":
                return super().find_class(module, name)
            try:
                return types.find(f"{module}:{name}")
            except Refused:
                raise pickle.UnpicklingError(
                    f"{name} belongs to the script that runs and is no declared type"
                ) from None

    return Unpickler(io.BytesIO(data)).load()


def _refuse(what: str, exc: Exception) -> NoReturn:
    raise KitaruSerializationError(
        f"{what}: {_told(exc)}. Leave that part out and make it again where it is needed; classes "
        "and functions must stand at the top of a module that can be imported."
    ) from exc


def _told(exc: Exception) -> str:
    return f"{type(exc).__name__}: {str(exc).removesuffix('.')}"
