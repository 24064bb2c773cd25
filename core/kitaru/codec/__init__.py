"""Codec v1: values to strict, tagged JSON and back.

Whatever `encode` accepts comes back from `decode` equal and of the same type; whatever it cannot
hold is refused with the path to it. Types are matched exactly, user types are rebuilt only from
declared annotations, and data never chooses what is imported or called. Shared references come
back as copies. JSON values stand for themselves; everything else is `{"$": tag, "v": payload}`
(user types add `"t"`, their name), and so is a dict that has a `"$"` key or other than text keys,
as a flat list of keys and values. `plain` shows a record to people, without any types. A pickle
is a record too, but none of a value: `serializers` alone writes and reads those.
"""

from __future__ import annotations

import binascii
import hashlib
import json
from collections.abc import Callable
from functools import partial
from typing import Any, NoReturn, TypeVar

from kitaru.codec import pieces
from kitaru.codec.declared import NOTHING_DECLARED, DeclaredTypes, declared_types, return_types
from kitaru.codec.decoder import Decoder
from kitaru.codec.encoder import Encoder, within
from kitaru.codec.refusal import MAX_DEPTH, TOO_DEEP, Refused
from kitaru.codec.scalars import SCALARS
from kitaru.codec.view import shown
from kitaru.errors import KitaruSerializationError

__all__ = [
    "MAX_DEPTH",
    "MAX_VALUE_BYTES",
    "NOTHING_DECLARED",
    "DeclaredTypes",
    "bytes_of",
    "declared_types",
    "decode",
    "digest",
    "encode",
    "encode_any",
    "fingerprint",
    "pickle_of",
    "plain",
    "return_types",
    "wrap_pickle",
]

T = TypeVar("T")

#: Bytes of one encoded value.
MAX_VALUE_BYTES = 512 * 1024 * 1024

_DIGEST_BYTES = 16
#: What a tag key looks like in the bytes, also when something else than `encode` wrote them.
_TAG, _ESCAPED_TAG = b'"$"', b"\\u0024"


def encode(value: object, *, types: DeclaredTypes = NOTHING_DECLARED, path: str = "value") -> bytes:
    """The record of a value: UTF-8 JSON, the same bytes for the same value.

    Raises:
        KitaruSerializationError: the value cannot be recorded exactly; `path` leads to where.
    """
    return _guarded(Encoder(types, room=MAX_VALUE_BYTES).write, value, path=path)


def encode_any(value: object, *, path: str = "value") -> bytes:
    """A record in which user types need no declaration; for showing a value, not for rebuilding."""
    return _guarded(Encoder(None, room=MAX_VALUE_BYTES).write, value, path=path)


def fingerprint(value: object, *, path: str = "value") -> bytes:
    """A digest that equal values share in every process, whatever order their dicts were filled in.

    User types count by their qualified name and fields; not by their module, which has another
    name when its file is run as a script, and not by which fields were left at their default.
    """
    encoder = Encoder(None, room=MAX_VALUE_BYTES, ordered=False)
    return digest(_guarded(encoder.write, value, path=path))


def digest(data: bytes) -> bytes:
    """A short digest of a record, to notice damage."""
    return hashlib.blake2b(data, digest_size=_DIGEST_BYTES).digest()


def decode(data: bytes, *, types: DeclaredTypes = NOTHING_DECLARED, path: str = "value") -> Any:
    """The value of a record.

    Raises:
        KitaruSerializationError: the bytes are no record, or the types it needs are not declared
            or have changed.
    """
    if len(data) > pieces.PIECE and (value := _large(data, path=path)) is not pieces.OTHER:
        return value
    tree = _parsed(data, path=path)
    if _TAG in data or _ESCAPED_TAG in data:
        return _guarded(Decoder(types).value, tree, path=path)
    # Fewer brackets than levels allowed: the usual record needs no look at its tree.
    if len(data) > MAX_DEPTH and data.count(b"[") + data.count(b"{") > MAX_DEPTH:
        _check_depth(tree, path=path)
    return tree


def plain(data: bytes) -> Any:
    """What a record says, as JSON for people and models; needs no user types, cannot be decoded.

    Tuples and sets are lists; instances are dicts of their fields; enum members and flags are
    names; dates, durations, numbers JSON lacks, paths and UUIDs are text, as are keys of dicts
    (those that would then clash are numbered, `(2) key`); bytes are `{"bytes": base64}`; a pickle,
    which is not read, is `{"pickle": size}`; lone surrogates are escaped.
    """
    return _guarded(shown, _parsed(data, path="value"), path="value")


def wrap_pickle(data: bytes, *, path: str = "value") -> bytes:
    """The record of a pickle: refused by `decode`, shown as its size by `plain`.

    Raises:
        KitaruSerializationError: the record would be over the limit.
    """
    record = SCALARS["pickle"].pack(data).encode().join(_wrapping("pickle"))
    return _guarded(partial(within, limit=MAX_VALUE_BYTES), record, path=path)


def pickle_of(data: bytes, *, path: str = "value") -> bytes | None:
    """The pickle in a record of `wrap_pickle`, not read; None for any other record.

    Raises:
        KitaruSerializationError: it is damaged.
    """
    return _unwrapped(data, "pickle", path=path)


def bytes_of(data: bytes, *, path: str = "value") -> bytes | None:
    """What a record of `bytes` or a `bytearray` holds; None for any other record.

    Raises:
        KitaruSerializationError: it is damaged.
    """
    found = _unwrapped(data, "bytes", path=path)
    return _unwrapped(data, "bytearray", path=path) if found is None else found


def _unwrapped(data: bytes, tag: str, *, path: str) -> bytes | None:
    head, tail = _wrapping(tag)
    if not (data.startswith(head) and data.endswith(tail)):
        return None
    try:
        inner = memoryview(data)[len(head) : -len(tail)]  # no copy of what may be large
        return binascii.a2b_base64(inner, strict_mode=True)
    except ValueError as error:
        raise KitaruSerializationError(f"{path} is a damaged {tag}: {error}") from None


def _wrapping(tag: str) -> tuple[bytes, bytes]:
    return f'{{"$":"{tag}","v":"'.encode(), b'"}'


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


_decoder = json.JSONDecoder(parse_constant=_no_constant)


def _read(text: str) -> Any:
    try:
        value, end = _decoder.raw_decode(text)
    except ValueError:
        return _decoder.decode(text)  # which takes white space, and says what is wrong
    return value if end == len(text) else _decoder.decode(text)


def _large(data: bytes, *, path: str) -> Any:
    try:
        return pieces.read(data)
    except ValueError as error:
        raise KitaruSerializationError(f"{path} is not a record: {error}") from None


def _parsed(data: bytes, *, path: str) -> Any:
    try:
        return _read(data.decode())
    except RecursionError:
        raise KitaruSerializationError(f"{path} {TOO_DEEP}") from None
    except ValueError as error:
        raise KitaruSerializationError(f"{path} is not a record: {error}") from None


def _guarded(walk: Callable[[Any], T], start: Any, *, path: str) -> T:
    try:
        return walk(start)
    except Refused as refused:
        raise KitaruSerializationError(refused.message(path)) from refused.__cause__
    except RecursionError:
        raise KitaruSerializationError(f"{path} {TOO_DEEP}") from None


def _check_depth(tree: Any, *, path: str) -> None:
    level = [tree]
    for _ in range(MAX_DEPTH + 1):
        level = [node for node in level if type(node) in (list, dict)]
        if not level:
            return
        level = [
            child for node in level for child in (node.values() if type(node) is dict else node)
        ]
    raise KitaruSerializationError(f"{path} {TOO_DEEP}")
