"""Large texts and bytes to and from their records, a piece at a time.

The record is the same as that of a short one. Only memory differs: there is never a second copy
of the whole beside the value and its record. What cannot be done so is left to the ordinary way.
"""

from __future__ import annotations

import binascii
import io
import json
import re
from typing import Any

#: A value or record longer than this is handled in pieces, each so long; groups of three bytes
#: make four characters of base64.
PIECE = 3 * 256 * 1024
#: Stands for what is left to the ordinary way.
OTHER = object()

_escaped = json.JSONEncoder(ensure_ascii=False).encode
_NOT_AS_IT_IS = re.compile(rb'["\\\x00-\x1f]')
_HEADS = {kind: f'{{"$":"{kind.__name__}","v":"'.encode() for kind in (bytes, bytearray)}
_TAIL = b'"}'


def write(value: str | bytes | bytearray) -> bytes | None:
    """The record of a large value; `None` for a text that is no UTF-8."""
    record, starts = io.BytesIO(), range(0, len(value), PIECE)
    if isinstance(value, str):
        record.write(b'"')
        try:
            for start in starts:
                record.write(_escaped(value[start : start + PIECE])[1:-1].encode())
        except UnicodeEncodeError:
            return None
        record.write(b'"')
    else:
        record.write(_HEADS[type(value)])
        for start in starts:
            piece = value[start : start + PIECE]
            record.write(binascii.b2a_base64(piece, newline=False))
        record.write(_TAIL)
    return record.getvalue()


def read(data: bytes) -> Any:
    """The value of a large record of bytes or of a text without escapes; else `OTHER`."""
    for kind, head in _HEADS.items():
        if data.startswith(head) and data.endswith(_TAIL):
            inner = memoryview(data)[len(head) : -len(_TAIL)]
            try:
                found = binascii.a2b_base64(inner, strict_mode=True)
            except ValueError:  # the ordinary way says what is wrong with it
                return OTHER
            return found if kind is bytes else bytearray(found)
    if data[:1] == data[-1:] == b'"':
        inner = memoryview(data)[1:-1]
        if _NOT_AS_IT_IS.search(inner) is None:
            return str(inner, "utf-8", "strict")
    return OTHER
