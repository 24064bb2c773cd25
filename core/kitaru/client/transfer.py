"""Executions as files: `client.executions.export` and `import_file`.

A file is gzip with one JSON document a line: a header, the rows of each execution, and an end that
tells how many lines there were and their digest. It is read to its end before anything of it is
stored, and then all of it is, or nothing.
"""

from __future__ import annotations

import gzip
import json
import os
import zlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kitaru import clock, codec, config, files
from kitaru.client.upkeep import Progress
from kitaru.errors import KitaruBackendError, KitaruCorruptionError, KitaruUsageError
from kitaru.store import Store, executions, schema, transfer
from kitaru.store.transfer import Rows
from kitaru.version import VERSION

if TYPE_CHECKING:
    from kitaru.upkeep import Exported, Imported

_FORMAT, _FORMAT_VERSION = "kitaru-executions", 1
#: Of a header, and of all that is read from one file, in bytes.
_MAX_HEADER, _MAX_BYTES = 64 * 1024, 1 << 30
#: Of compression: higher ones take much longer for little.
_LEVEL = 6


class Transfer:
    """The part of `client.executions` that writes and reads files."""

    _open: Callable[[], Store]
    _home: config.Home

    def export(
        self,
        exec_ids: str | Sequence[str],
        path: str | os.PathLike[str],
        *,
        raw: bool = False,
        force: bool = False,
        progress: Progress | None = None,
    ) -> Exported:
        """Write executions with all they recorded into one file, secrets masked.

        Args:
            exec_ids: full ids, unique prefixes, or `latest`; one or several.
            path: the file to make; only its owner can read it.
            raw: keep values exactly, secrets too, and large ones.
            force: replace a file that is there.
            progress: told how many executions are written, and of how many.

        Raises:
            KitaruNotFoundError: there is no such execution.
            KitaruUsageError: the file is there, cannot be one, or is a store's.
            KitaruBackendError: the file cannot be written.

        Example:
            >>> import tempfile, kitaru
            >>> handle = kitaru.flow(lambda: 1, name="one").run()
            >>> handle.wait()
            1
            >>> executions = kitaru.KitaruClient().executions
            >>> with tempfile.TemporaryDirectory() as folder:
            ...     exported = executions.export(handle.exec_id, f"{folder}/one.kitaru")
            ...     executions.import_file(exported.path).already == (handle.exec_id,)
            True
        """
        from kitaru.upkeep import Exported

        refs = [exec_ids] if isinstance(exec_ids, str) else exec_ids
        target = Path(path).absolute()
        files.refuse_store(target)
        with files.whole(target, force=force) as made:
            with self._open().apart() as conn:
                found = {row.id: row for row in (executions.find(conn, ref) for ref in refs)}
                told = _told(list(found), progress)
                documents = (
                    {"table": table, "row": data}
                    for row in told
                    for table, data in transfer.rows(conn, row, raw=raw)
                )
                _write(made, documents, redacted=not raw)
            size = made.stat().st_size
        return Exported(str(target), tuple(r.exec_id for r in found.values()), size, not raw)

    def import_file(self, path: str | os.PathLike[str]) -> Imported:
        """Put the executions of a file into the store, as history that nothing goes on from.

        Those that had not ended are there as cancelled. One that is there already, unchanged, is
        left as it is.

        Args:
            path: a file that `export` made.

        Raises:
            KitaruUsageError: there is no such file, or it is too large or not one of `export`.
            KitaruCorruptionError: it is cut off or damaged; nothing was stored.
            KitaruBackendError: a newer Kitaru wrote it; nothing was stored.
            KitaruStateError: an id is taken by another execution; nothing was stored.
        """
        from kitaru.upkeep import Imported

        header, groups = _read(Path(path))
        redacted = header["redacted"]
        with self._open().write() as conn:
            done = {
                str(group[0][1].get("exec_id")): transfer.add(conn, group, redacted=redacted)
                for group in groups
            }
        return Imported(
            exec_ids=tuple(each for each in done.values() if each is not None),
            already=tuple(exec_id for exec_id, each in done.items() if each is None),
            redacted=redacted,
        )


def _told(rows: Sequence[int], progress: Progress | None) -> Iterator[int]:
    """Rows one after the other; when the next one is asked for, the one before is done."""
    for done, row in enumerate(rows, 1):
        yield row
        if progress is not None:
            progress(done, len(rows))


def _write(path: Path, documents: Iterator[dict[str, Any]], *, redacted: bool) -> None:
    header = {
        "format": _FORMAT,
        "version": _FORMAT_VERSION,
        "kitaru_version": VERSION,
        "schema": schema.SCHEMA_VERSION,
        "redacted": redacted,
        "exported_at": clock.from_us(clock.now_us()).isoformat(),
    }
    lines, digest = 0, b""
    with path.open("wb") as raw, gzip.GzipFile("", "wb", _LEVEL, raw, mtime=0) as file:
        file.write(_line(header))
        for document in documents:
            line = _line(document)
            lines, digest = lines + 1, codec.digest(digest + line)
            file.write(line)
        file.write(_line({"end": lines, "digest": digest.hex()}))


def _line(document: dict[str, Any]) -> bytes:
    return json.dumps(document, separators=(",", ":")).encode() + b"\n"


def _read(path: Path) -> tuple[dict[str, Any], list[Rows]]:
    try:
        with gzip.open(path, "rb") as file:
            header = _header(path, file.readline(_MAX_HEADER))
            return header, _groups(path, file)
    except FileNotFoundError:
        raise KitaruUsageError(f"There is no file {path}.") from None
    except gzip.BadGzipFile as exc:
        raise _foreign(path) if "Not a gzipped" in str(exc) else _damaged(path) from exc
    except (EOFError, zlib.error, ValueError, KeyError, TypeError, RecursionError) as exc:
        raise _damaged(path) from exc


def _header(path: Path, line: bytes) -> dict[str, Any]:
    try:
        header = json.loads(line)
    except ValueError:
        raise _foreign(path) from None
    if not isinstance(header, dict) or header.get("format") != _FORMAT:
        raise _foreign(path)
    if header["version"] > _FORMAT_VERSION or header["schema"] > schema.SCHEMA_VERSION:
        raise KitaruBackendError(
            f"{path} was written by a newer Kitaru ({header['kitaru_version']!s:.40}). Upgrade "
            "kitaru-mcp. Nothing was imported."
        )
    if not isinstance(header["redacted"], bool):
        raise _damaged(path)
    return header


def _groups(path: Path, file: gzip.GzipFile) -> list[Rows]:
    groups: list[Rows] = []
    lines, digest, size, end = 0, b"", 0, None
    while line := file.readline(_MAX_BYTES - size):
        size += len(line)
        if size >= _MAX_BYTES:
            raise KitaruUsageError(
                f"{path} holds {_MAX_BYTES} bytes or more, which is too much to import. Nothing "
                "was imported; export fewer executions into one file."
            )
        if end is not None or not line.endswith(b"\n"):
            raise _damaged(path)
        document = json.loads(line)
        if "end" in document:
            end = (document["end"], document["digest"])
            continue
        lines, digest = lines + 1, codec.digest(digest + line)
        table, row = document["table"], document["row"]
        if table == "executions":
            groups.append([])
        if table not in transfer.TABLES or not isinstance(row, dict) or not groups:
            raise _damaged(path)
        groups[-1].append((table, row))
    if end != (lines, digest.hex()):
        raise _damaged(path)
    return groups


def _foreign(path: Path) -> KitaruUsageError:
    return KitaruUsageError(
        f"{path} is no file of `kitaru executions export`. Nothing was imported."
    )


def _damaged(path: Path) -> KitaruCorruptionError:
    return KitaruCorruptionError(
        f"{path} is cut off or damaged. Nothing was imported; copy or export it again."
    )
