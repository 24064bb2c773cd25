"""Files that appear whole or not at all: written beside their place, pushed to disk, moved there.

They are readable by their owner only. What stood there before is replaced only when that is asked
for, and only by a file that is complete.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

from kitaru import config
from kitaru.errors import KitaruBackendError, KitaruUsageError

#: What SQLite has at this place of a store's file, and how names of files beside it begin.
_MARK_AT, _MARK = 68, b"KITR"
_OF_STORE = (config.DATABASE_NAME, "secrets.", "log-store.")


@contextlib.contextmanager
def whole(path: Path, *, force: bool) -> Iterator[Path]:
    """A new file to be filled; it gets its name when the block ends without an error.

    Args:
        path: the file to be made.
        force: whether one that is there may be replaced.

    Raises:
        KitaruUsageError: it is there, or is a folder or a device.
        KitaruBackendError: the system does not let it be made.
    """
    import tempfile  # brings what reading does without

    refuse_existing(path, force=force)
    try:
        fd, name = tempfile.mkstemp(prefix=f".{path.name[:100]}.", suffix=".tmp", dir=path.parent)
        os.close(fd)
        made = Path(name)
        try:
            yield made
            _push(made)
            refuse_existing(path, force=force)  # it may have come meanwhile
            made.replace(path)
        finally:
            made.unlink(missing_ok=True)
        if os.name == "posix":
            _push(path.parent)
    except OSError as exc:
        raise KitaruBackendError(
            f"{path} cannot be written: {exc.strerror}. Name a file in a folder you can write, on "
            "a disk with room."
        ) from exc


def refuse_existing(path: Path, *, force: bool) -> None:
    """Refuse the name of a folder or a device, and that of a file unless it may be replaced.

    Raises:
        KitaruUsageError: there is such a thing.
    """
    if path.is_dir():
        raise KitaruUsageError(f"{path} is a folder. Name a file in it.")
    if path.exists() and not path.is_file():
        raise KitaruUsageError(f"{path} is no ordinary file. Name another one.")
    if os.path.lexists(path) and not force:
        raise KitaruUsageError(
            f"{path} exists already and was left as it is. Name another file, or force it."
        )


def refuse_store(path: Path) -> None:
    """Refuse a file that is a store, or one of those beside it, whatever may be replaced.

    Raises:
        KitaruUsageError: it is one.
    """
    real = Path(os.path.realpath(path))
    is_beside = real.name.startswith(_OF_STORE) and (real.parent / config.DATABASE_NAME).exists()
    if is_beside or (real.is_file() and _has_mark(real)):
        raise KitaruUsageError(f"{path} belongs to a store. Name another file.")


def _has_mark(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            return file.read(_MARK_AT + len(_MARK))[_MARK_AT:] == _MARK
    except OSError:  # whoever writes it says why not
        return False


def _push(path: Path) -> None:
    fd = os.open(path, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
