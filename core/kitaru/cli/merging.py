"""Put one MCP server into the text of a settings file that belongs to somebody else.

Everything else in the text stays what it was: other servers, unknown keys, what the user added to
our own entry, and in TOML every comment and blank line. JSON is written anew with the indentation
it had. A text that cannot be changed with that promise kept is refused; nothing is guessed.
"""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NoReturn, TypeAlias

Action: TypeAlias = Literal["added", "replaced", "unchanged"]

_HEADER = re.compile(r"[ \t]*\[")


class CannotMergeError(ValueError):
    """The text cannot take the entry; the message says why, to follow "it"."""


@dataclass(frozen=True, slots=True)
class Merged:
    """The text with the entry in it, and what had to be done for that."""

    text: str
    action: Action


@dataclass(frozen=True, slots=True)
class Place:
    """The name of a server, and under which keys of a file servers stand."""

    servers: Callable[[Mapping[str, Any]], tuple[str, ...]]
    name: str


def merge_json(text: str, place: Place, entry: Mapping[str, Any]) -> Merged:
    """Put an entry into a JSON file's text; blank text is an empty object.

    Raises:
        CannotMergeError: it is no plain JSON, there is no object where one has to be, or a number
            or a depth in it cannot be written anew.
    """
    try:
        data = json.loads(
            text if text.strip() else "{}",
            object_pairs_hook=_without_twins,
            parse_constant=_refuse_constant,
        )
    except (ValueError, RecursionError) as exc:
        raise CannotMergeError(f"is not plain JSON: {exc}") from None
    action = _put(data, place, entry)
    if action == "unchanged":
        return Merged(text, action)
    try:
        return Merged(_dumped_like(text, data), action)
    except (ValueError, RecursionError) as exc:
        raise CannotMergeError(f"cannot be written anew: {exc}") from None


def merge_toml(text: str, place: Place, entry: Mapping[str, Any]) -> Merged:
    """Put an entry into a TOML file's text, as a table of its own.

    Raises:
        CannotMergeError: it is no TOML, or the entry stands in it in a form that cannot be replaced
            by itself, such as an inline table.
    """
    try:
        data = tomllib.loads(text)
    except (ValueError, RecursionError) as exc:
        raise CannotMergeError(f"is not TOML: {exc}") from None
    action = _put(data, place, entry)
    if action == "unchanged":
        return Merged(text, action)
    table = ".".join(place.servers(data))
    result = _with_table(text, _heads(table, place.name), toml_table(table, place.name, entry))
    if not _reads_as(result, data):
        raise CannotMergeError(f"has {table}.{place.name} in a form that cannot be replaced alone")
    return Merged(result, action)


def toml_table(table: str, name: str, entry: Mapping[str, Any]) -> str:
    """A table of texts and lists of texts, as TOML."""
    # What JSON escapes in a text, TOML escapes the same way.
    lines = [f"{key} = {json.dumps(value, ensure_ascii=False)}" for key, value in entry.items()]
    return "\n".join([f"[{table}.{name}]", *lines, ""])


def _put(data: Any, place: Place, entry: Mapping[str, Any]) -> Action:
    """Put the entry into the data; says what had to be done."""
    servers = _table(data, "its whole")
    for key in place.servers(data):
        servers = _table(servers.setdefault(key, {}), key)
    old = servers.get(place.name)
    # An entry with an address is another kind of server; nothing of it fits ours.
    is_local = isinstance(old, dict) and not any("url" in key.lower() for key in old)
    kept = old if old and is_local else {}
    servers[place.name] = new = {**kept, **entry}
    if old is None:
        return "added"
    return "unchanged" if old == new else "replaced"


def _table(value: Any, name: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise CannotMergeError(f"has no object where it must have one: {name} is {value!r:.40}")
    return value


def _without_twins(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        # Writing it anew would lose one of the two.
        raise ValueError("an object has the same key twice")
    return found


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not a JSON number")


def _dumped_like(text: str, data: Any) -> str:
    """JSON with the indentation and line ends of a text; two spaces where it has none."""
    inner = re.search(r"\n([ \t]+)\S", text)
    is_one_line = text.strip() not in ("", "{}") and "\n" not in text.strip()
    indent = inner[1] if inner else None if is_one_line else 2
    result = json.dumps(data, indent=indent, ensure_ascii=False, allow_nan=False)
    if not text.strip() or text.endswith("\n"):
        result += "\n"
    return result.replace("\n", "\r\n") if "\r\n" in text else result


def _heads(table: str, name: str) -> re.Pattern[str]:
    """The line that opens the table, with or without quotes around the name."""
    blank = r"[ \t]*"
    names = f"(?:{name}|\"{name}\"|'{name}')"
    return re.compile(rf"{blank}\[{blank}{table}{blank}\.{blank}{names}{blank}\]{blank}(#.*)?\s*")


def _with_table(text: str, head: re.Pattern[str], table: str) -> str:
    """The text with the table's keys set under its header, or with the table at its end."""
    newline = "\r\n" if "\r\n" in text else "\n"
    lines = [f"{line}\n" for line in text.split("\n")]
    lines[-1] = lines[-1].removesuffix("\n")
    own = [f"{line}{newline}" for line in table.splitlines()]
    at = next((number for number, line in enumerate(lines) if head.fullmatch(line)), None)
    if at is None:
        ended = text if not text or text.endswith("\n") else text + newline
        return "".join([ended, *([newline] if ended.strip() else []), *own])
    keys = tomllib.loads(table.partition("\n")[2]).keys()
    end, kept = at + 1, list[str]()
    for statement, names in _statements(lines[at + 1 :]):
        end += len(statement)
        if not keys & names:
            kept += statement
    header = lines[at] if lines[at].endswith("\n") else lines[at] + newline
    return "".join([*lines[:at], header, *own[1:], *kept, *lines[end:]])


def _statements(lines: Sequence[str]) -> Iterator[tuple[list[str], set[str]]]:
    """The statements up to the next table, each as its lines and the keys it sets."""
    statement: list[str] = []
    for line in lines:
        if not statement and _HEADER.match(line):
            return
        statement.append(line)
        try:
            names = {*tomllib.loads("".join(statement))}
        except ValueError:
            continue  # it goes on in the next line
        yield statement, names
        statement = []


def _reads_as(text: str, data: Any) -> bool:
    try:
        return bool(tomllib.loads(text) == data)
    except ValueError:
        return False
