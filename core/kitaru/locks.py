"""Advisory locks on files: what makes processes take turns.

Owns how the system is asked, on POSIX and on Windows, and `FileLock`, a lock held with `with`. The
system lets go of a lock when its process ends, however that happens. Whoever does not ask for a
lock is not held up by it.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

if sys.platform == "win32":
    import msvcrt

    def lock(fd: int) -> None:
        """Wait until the lock of an open file is ours."""
        while True:
            try:
                os.lseek(fd, 0, os.SEEK_SET)
                msvcrt.locking(fd, msvcrt.LK_LOCK, 1)
                return
            except OSError:  # LK_LOCK gives up after ten seconds; everybody waits their turn
                continue

    def try_lock(fd: int) -> bool:
        """Take the lock of an open file, unless somebody has it."""
        os.lseek(fd, 0, os.SEEK_SET)
        try:
            msvcrt.locking(fd, msvcrt.LK_NBLCK, 1)
        except OSError:
            return False
        return True

    def unlock(fd: int) -> None:
        """Let go of the lock of an open file."""
        os.lseek(fd, 0, os.SEEK_SET)
        msvcrt.locking(fd, msvcrt.LK_UNLCK, 1)

else:
    import fcntl

    def lock(fd: int) -> None:
        """Wait until the lock of an open file is ours."""
        fcntl.flock(fd, fcntl.LOCK_EX)

    def try_lock(fd: int) -> bool:
        """Take the lock of an open file, unless somebody has it."""
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True

    def unlock(fd: int) -> None:
        """Let go of the lock of an open file."""
        fcntl.flock(fd, fcntl.LOCK_UN)


class FileLock:
    """A lock held with `with`, among threads and processes; one object for each time it is held.

    Args:
        path: the lock file; made (0600) where it is missing, and never removed.
        wait: whether to wait for the others; without, `is_mine` tells whether it was free.
    """

    def __init__(self, path: Path, *, wait: bool = True) -> None:
        self._path = path
        self._waits = wait
        self.is_mine = False

    def __enter__(self) -> FileLock:
        self._fd = os.open(self._path, os.O_RDWR | os.O_CREAT | getattr(os, "O_CLOEXEC", 0), 0o600)
        try:
            if self._waits:
                lock(self._fd)
            self.is_mine = self._waits or try_lock(self._fd)
        except BaseException:
            os.close(self._fd)
            raise
        return self

    def __exit__(self, *exc_info: object) -> None:
        try:
            if self.is_mine:
                unlock(self._fd)
        finally:
            os.close(self._fd)
