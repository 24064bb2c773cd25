"""The built-in leaf values a record can hold beyond those of JSON, one row each.

A row turns a value of exactly one type into a JSON payload, the payload back into the value, and
the payload into something a person can read. Payloads stand alone: no row looks into another value
than its own. Types that live outside the modules Kitaru needs anyway are recognised without
importing them, and imported only from the fixed table below, never by a name found in data.
"""

from __future__ import annotations

import binascii
import importlib
import sys
from collections.abc import Callable
from datetime import date, datetime, time, timedelta, timezone, tzinfo
from typing import Any, NamedTuple, NoReturn

from kitaru.codec.refusal import Refused

#: Integers outside ±2**63 are written in hexadecimal: JSON readers disagree about them, and
#: Python limits how many decimal digits it converts.
INT_LIMIT = 2**63
#: Above this many bits even a person reads hexadecimal; below it every legal digit limit suffices.
_DECIMAL_BITS = 2048
_MICROSECOND = timedelta(microseconds=1)
_PATHS = ("PosixPath", "PurePosixPath", "PureWindowsPath", "WindowsPath")

#: type name (which is also its tag) -> the module it is found in once somebody imported it
_ELSEWHERE = {
    "Decimal": "decimal",
    "Fraction": "fractions",
    "UUID": "uuid",
    "ZoneInfo": "zoneinfo",
    **dict.fromkeys(_PATHS, "pathlib"),
}


class Scalar(NamedTuple):
    """One leaf kind. `pack` and `unpack` raise on what they cannot hold or understand."""

    pack: Callable[[Any], Any]
    unpack: Callable[[Any], Any]
    show: Callable[[Any], Any]


def scalar_tag(cls: type) -> str | None:
    """The tag of exactly this type, if it is one of the leaf kinds."""
    tag = _LOADED.get(cls)
    if tag is not None:
        return tag
    name = cls.__name__
    module = sys.modules.get(_ELSEWHERE.get(name, ""))
    return name if module is not None and getattr(module, name, None) is cls else None


def pack_text(text: str) -> Any:
    """Text as a JSON node: itself, or tagged when UTF-8 cannot hold it (lone surrogates)."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return {"$": "str", "v": _pack_str(text)}
    return text


def _type_elsewhere(name: str) -> Any:
    return getattr(importlib.import_module(_ELSEWHERE[name]), name)


def _text(payload: object) -> str:
    if type(payload) is not str:
        raise ValueError(f"text expected, not {type(payload).__name__}")
    return payload


def _whole(payload: object) -> int:
    if type(payload) is not int:
        raise ValueError(f"a whole number expected, not {type(payload).__name__}")
    return payload


def _list(payload: object, size: int) -> list[Any]:
    if type(payload) is not list or len(payload) != size:
        raise ValueError(f"a list of {size} expected")
    return payload


def _unpack_text(node: Any) -> str:
    if type(node) is dict and node.keys() == {"$", "v"} and node["$"] == "str":
        return _unpack_str(node["v"])
    return _text(node)


def _pack_str(text: str) -> str:
    return _pack_bytes(text.encode("utf-8", "surrogatepass"))


def _unpack_str(payload: Any) -> str:
    return _unpack_bytes(payload).decode("utf-8", "surrogatepass")


def _pack_bytes(data: bytes | bytearray) -> str:
    return binascii.b2a_base64(data, newline=False).decode()


def _unpack_bytes(payload: Any) -> bytes:
    return binascii.a2b_base64(_text(payload), strict_mode=True)


def _pack_int(number: int) -> int | str:
    return number if -INT_LIMIT <= number < INT_LIMIT else hex(number)


def _unpack_int(payload: Any) -> int:
    return payload if type(payload) is int else int(_text(payload), 16)


def _show_int(payload: Any) -> int | str:
    number = _unpack_int(payload)
    return number if number.bit_length() <= _DECIMAL_BITS else hex(number)


def _unpack_float(payload: Any) -> float:
    return float(_text(payload))


def show_float(number: float) -> str:
    """What a person reads for a float JSON has no number for."""
    return "NaN" if number != number else "Infinity" if number > 0 else "-Infinity"


def _unpack_complex(payload: Any) -> complex:
    real, imag = _list(payload, 2)
    return complex(_unpack_float(real), _unpack_float(imag))


def _unpack_range(payload: Any) -> range:
    return range(*map(_unpack_int, _list(payload, 3)))


def _show_range(payload: Any) -> str:
    return f"range({', '.join(str(_show_int(part)) for part in _list(payload, 3))})"


def _pack_zone(zone: tzinfo | None) -> Any:
    if zone is None:
        return None
    tag = scalar_tag(type(zone))
    if tag not in ("timezone", "ZoneInfo"):
        raise ValueError(
            f"its time zone is a {type(zone).__qualname__}; use datetime.timezone or ZoneInfo"
        )
    return [tag, SCALARS[tag].pack(zone)]


def _unpack_zone(payload: Any) -> tzinfo | None:
    if payload is None:
        return None
    tag, inner = _list(payload, 2)
    if tag not in ("timezone", "ZoneInfo"):
        raise ValueError("unknown kind of time zone")
    zone: tzinfo = SCALARS[tag].unpack(inner)
    return zone


def _pack_moment(moment: Any) -> list[Any]:
    # The zone first: a foreign one must not be asked for its offset.
    zone = _pack_zone(moment.tzinfo)
    return [moment.isoformat(), zone, moment.fold]


def _moment(cls: Any) -> Scalar:
    # The text shows the offset of its day, but wall time and zone are what comes back.
    def unpack(payload: Any) -> Any:
        text, zone, fold = _list(payload, 3)
        bare = cls.fromisoformat(_text(text))
        return bare.replace(tzinfo=_unpack_zone(zone), fold=_whole(fold))

    return Scalar(_pack_moment, unpack, lambda payload: _text(_list(payload, 3)[0]))


def _pack_timezone(zone: timezone) -> list[Any]:
    offset = zone.utcoffset(None)
    name = zone.tzname(None)
    own = name != timezone(offset).tzname(None)
    return [offset // _MICROSECOND, pack_text(name) if own else None]


def _unpack_timezone(payload: Any) -> timezone:
    offset, name = _list(payload, 2)
    delta = timedelta(microseconds=_whole(offset))
    return timezone(delta) if name is None else timezone(delta, _unpack_text(name))


def _pack_zoneinfo(zone: Any) -> str:
    if zone.key is None:
        raise ValueError("a ZoneInfo without a key has no name to find it by; use ZoneInfo(key)")
    return str(zone.key)


def _unpack_fraction(payload: Any) -> Any:
    return _type_elsewhere("Fraction")(*map(_unpack_int, _list(payload, 2)))


def _show_fraction(payload: Any) -> str:
    return "/".join(str(_show_int(part)) for part in _list(payload, 2))


def _pack_path(path: Any) -> Any:
    if type(path)(str(path)) != path:
        raise ValueError("it reads as another path once it is written as text")
    return pack_text(str(path))


def _refuse_pickle(payload: Any) -> NoReturn:
    raise Refused(
        f"is recorded as a pickle ({len(_unpack_bytes(payload))} bytes), and reading one can run "
        f"any code: where you trust who wrote it, load it with allow_pickle=True, or declare its "
        f'checkpoint with serializer="pickle"'
    )


def _show_pickle(payload: Any) -> dict[str, int]:
    return {"pickle": len(_unpack_bytes(payload))}


def _shown_as_text(pack: Callable[[Any], Any], unpack: Callable[[Any], Any]) -> Scalar:
    return Scalar(pack, unpack, lambda payload: str(unpack(payload)))


def _elsewhere(name: str, pack: Callable[[Any], Any], read: Callable[[Any], str] = _text) -> Scalar:
    """A type that is built from one text, which is also what a person reads."""
    return Scalar(pack, lambda payload: _type_elsewhere(name)(read(payload)), read)


def _binary(unpack: Callable[[Any], Any]) -> Scalar:
    return Scalar(_pack_bytes, unpack, lambda payload: {"bytes": _pack_bytes(unpack(payload))})


#: Leaf types of modules that are loaded anyway.
_LOADED: dict[type, str] = {
    cls: cls.__name__
    for cls in (bytes, bytearray, complex, range, datetime, date, time, timedelta, timezone)
}

#: tag -> how to write, read and show it
SCALARS: dict[str, Scalar] = {
    "str": Scalar(_pack_str, _unpack_str, _unpack_str),
    "int": Scalar(_pack_int, _unpack_int, _show_int),
    "float": Scalar(repr, _unpack_float, lambda payload: show_float(_unpack_float(payload))),
    "bytes": _binary(_unpack_bytes),
    "bytearray": _binary(lambda payload: bytearray(_unpack_bytes(payload))),
    "complex": _shown_as_text(lambda c: [repr(c.real), repr(c.imag)], _unpack_complex),
    "range": Scalar(
        lambda r: [_pack_int(part) for part in (r.start, r.stop, r.step)],
        _unpack_range,
        _show_range,
    ),
    "datetime": _moment(datetime),
    "time": _moment(time),
    "date": _shown_as_text(date.isoformat, lambda payload: date.fromisoformat(_text(payload))),
    "timedelta": _shown_as_text(
        lambda delta: [delta.days, delta.seconds, delta.microseconds],
        lambda payload: timedelta(*map(_whole, _list(payload, 3))),
    ),
    "timezone": _shown_as_text(_pack_timezone, _unpack_timezone),
    "ZoneInfo": _elsewhere("ZoneInfo", _pack_zoneinfo),
    "Decimal": _elsewhere("Decimal", str),
    "UUID": _elsewhere("UUID", str),
    "Fraction": Scalar(
        lambda number: [_pack_int(part) for part in number.as_integer_ratio()],
        _unpack_fraction,
        _show_fraction,
    ),
    **{name: _elsewhere(name, _pack_path, read=_unpack_text) for name in _PATHS},
    # No value of any type: `wrap_pickle` writes it.
    "pickle": Scalar(_pack_bytes, _refuse_pickle, _show_pickle),
}
