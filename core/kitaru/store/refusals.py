"""What the system and SQLite refuse, in Kitaru's words: which file, and what to do next.

`translated` is how SQLite's errors leave the store. A `Hindrance` is why a store can be read, but
not written. Nothing here opens a file.
"""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass
from pathlib import Path

from kitaru.errors import KitaruBackendError, KitaruCorruptionError, KitaruError


@dataclass(frozen=True, slots=True)
class Hindrance:
    """Why nobody can write now, and what to do."""

    reason: str
    advice: str


READ_ONLY = Hindrance(
    "its folder is read-only", "make the folder writable or set KITARU_HOME to another"
)
NO_ROOM = Hindrance("there is no room beside it on its disk", "make room, then resume")


class translated:
    """Let SQLite's errors out as Kitaru's, with the file and the next step."""

    __slots__ = ("_path",)

    def __init__(self, path: Path) -> None:
        self._path = path

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: object, exc: BaseException | None, trace: object) -> None:
        if isinstance(exc, (sqlite3.Error, UnicodeDecodeError)):
            raise _translation(exc, self._path) from exc


def _translation(exc: Exception, path: Path) -> KitaruError:
    code = getattr(exc, "sqlite_errorcode", None)
    primary = code & 0xFF if isinstance(code, int) else None
    # Damaged text: in a row, or in a schema that SQLite's own message quotes.
    undecodable = isinstance(exc, UnicodeDecodeError) or "decode to UTF-8" in str(exc)
    if undecodable or primary in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB):
        # To SQLite a file that the system fails to read is a damaged one.
        return KitaruCorruptionError(
            f"The store {path} is damaged, or its disk cannot be read ({exc}). Nothing was "
            "written. Check the disk; where that is sound, restore the store from a backup, "
            "or move it away and start a new one."
        )
    known = _ADVICE.get(code or 0) or _ADVICE.get(primary or 0)
    advice = known or "refused a statement; this is a fault of Kitaru's"
    return KitaruBackendError(f"The store {path} {advice} ({exc}).")


_ADVICE = {
    sqlite3.SQLITE_FULL: "is on a full disk; nothing was written. Make room, then resume",
    sqlite3.SQLITE_IOERR_SHMSIZE: "has no room beside it on its disk. Make room, then resume",
    sqlite3.SQLITE_IOERR: "could not be read or written by the system. Check the disk, then resume",
    sqlite3.SQLITE_READONLY: "cannot be written. Make the file and its folder writable",
    sqlite3.SQLITE_PERM: "cannot be used by this user. Check its owner and permissions",
    sqlite3.SQLITE_CANTOPEN: "cannot be opened. Check that the folder exists and is accessible",
    sqlite3.SQLITE_BUSY: "is locked by another program that writes it. Close that program",
    sqlite3.SQLITE_LOCKED: "is locked by another program that writes it. Close that program",
    sqlite3.SQLITE_INTERRUPT: "took too long to answer. Ask for less: one flow, or a time",
    sqlite3.SQLITE_TOOBIG: "cannot hold a value this large. Store it elsewhere and record its name",
}
