"""One lock file that makes writers of a store take turns, across threads and processes.

SQLite's own busy handler is unfair and lets checkpoints run beside writers; under this lock
neither happens. The lock is advisory: foreign programs that write the database do not take it.
"""

from __future__ import annotations

import os
import threading

from kitaru import locks
from kitaru.errors import KitaruBackendError


def _refused(path: str, exc: OSError) -> KitaruBackendError:
    """Which file the system refuses, and what to do."""
    return KitaruBackendError(
        f"The store's lock file {path} cannot be used: {exc.strerror}. Nothing was written. "
        "Check the disk, and that this user may write the file; then try again."
    )


class WriteLock:
    """Hold it with `with`: first among this process's threads, then among processes."""

    def __init__(self, path: str) -> None:
        self._threads = threading.Lock()
        self._owner = 0
        self._is_closed = False
        self._path = path
        flags = os.O_RDWR | os.O_CREAT | getattr(os, "O_CLOEXEC", 0)
        try:
            self._fd = os.open(path, flags, 0o600)
        except OSError as exc:
            raise _refused(path, exc) from exc

    def __enter__(self) -> None:
        self.acquire()

    def __exit__(self, *exc_info: object) -> None:
        self.release()

    def acquire(self) -> None:
        """Wait until it is this thread's."""
        if self._owner == threading.get_ident():
            raise KitaruBackendError("A write began inside a write; this is a fault of Kitaru's.")
        self._threads.acquire()
        try:
            if self._is_closed:
                raise KitaruBackendError(
                    f"The store of {self._path} was closed here while it was in use. Nothing was "
                    "written; use a new KitaruClient."
                )
            locks.lock(self._fd)
            self._owner = threading.get_ident()
        except BaseException as exc:
            self.release()  # Ctrl-C may come when the lock is just taken
            if isinstance(exc, OSError):
                raise _refused(self._path, exc) from exc
            raise

    def release(self) -> None:
        """Let the next one in."""
        self._owner = 0
        try:
            if not self._is_closed:
                locks.unlock(self._fd)
        finally:
            self._threads.release()

    def hold(self, seconds: float) -> bool:
        """Keep this process's other threads out, if they are out within so many seconds."""
        is_mine = self._owner == threading.get_ident()
        return not is_mine and self._threads.acquire(timeout=seconds)

    def let_go(self) -> None:
        """End what `hold` began."""
        self._threads.release()

    def is_removed(self) -> bool:
        """Whether the lock file was deleted, so that others would lock another one."""
        return os.fstat(self._fd).st_nlink == 0

    def close(self) -> None:
        """Close the lock file; closed while it is held, nobody finds another file in its place."""
        self._is_closed = True
        os.close(self._fd)
