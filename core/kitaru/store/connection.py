"""The one way to the database file: how it is opened, read and written.

`write` is the only write path: thread lock, file lock, BEGIN IMMEDIATE, COMMIT. `read` and
`snapshot` are short and leave no cursor open. SQLite's errors leave here as Kitaru's. A forked
child never touches the parent's handles: it gets an error, and opens a store of its own.
"""

from __future__ import annotations

import contextlib
import math
import os
import sqlite3
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from kitaru import clock, config
from kitaru.errors import KitaruBackendError
from kitaru.store import forks, opening, schema
from kitaru.store.groups import Line, Work
from kitaru.store.locking import WriteLock
from kitaru.store.refusals import NO_ROOM, READ_ONLY, Hindrance, translated

_BUSY_SECONDS = 30.0
#: Steps of SQLite's machine between two looks at the clock, well below a millisecond.
_STEPS = 10_000
_WAL_LIMIT_BYTES = 64 * 1024 * 1024


class Database:
    """An open store file; shared by all threads of one process.

    Args:
        home: the folder the file is in; made (0700) when it is missing.
        durability: `full` pushes each commit to disk, `normal` survives only a crash.
    """

    def __init__(self, home: config.Home, *, durability: config.Durability) -> None:
        self.home = home
        self.path = home.database
        self._pid = os.getpid()
        self._closed = False
        self._reading = threading.RLock()  # re-entrant: a signal's handler may read anywhere
        #: Those who commit together.
        self.line = Line(self._commit)
        self._durability = durability
        #: How many transactions this process has committed through this handle.
        self.commits = 0
        #: Why it cannot be written, if so.
        self.hindrance = None if opening.prepare(home) else READ_ONLY
        self._translated = translated(self.path)
        with self._translated:
            if self.hindrance is None:
                self.hindrance = self._open()
            if self.hindrance is not None:
                self._writer = self._reader = opening.connect_read_only(self.path)
                schema.check_current(self._reader, self.path)
        self._inode = self.path.stat().st_ino
        forks.open_databases.append(self)

    def _open(self) -> Hindrance | None:
        """Open it to read and write, and say if only reading is possible."""
        self._lock = WriteLock(f"{self.path}.lock")
        try:
            self._writer = self._connect()
            # Looking waits for nobody, such as a `prune --vacuum` that takes minutes.
            if not schema.is_ready(self._writer, self.path):
                with self._lock:
                    schema.ensure(self._writer, self.path)
        except sqlite3.OperationalError as exc:
            # Even who only reads makes an index beside the file; without others it needs none.
            has_room = exc.sqlite_errorcode != sqlite3.SQLITE_IOERR_SHMSIZE
            if has_room or not opening.is_current(self.path):
                raise
            self._lock.close()
            return NO_ROOM
        self._reader = self._connect()
        self._reader.execute("PRAGMA query_only=1")
        return None

    @property
    def read_only(self) -> bool:
        """Whether it can be read, but not written."""
        return self.hindrance is not None

    def _connect(self) -> sqlite3.Connection:
        conn = sqlite3.connect(
            self.path, timeout=_BUSY_SECONDS, isolation_level=None, check_same_thread=False
        )
        conn.row_factory = sqlite3.Row
        try:
            conn.execute(f"PRAGMA synchronous={self._durability}")
            conn.execute(f"PRAGMA journal_size_limit={_WAL_LIMIT_BYTES}")
            conn.execute("PRAGMA fullfsync=1")  # macOS: fsync alone does not reach the drive
            conn.execute("PRAGMA checkpoint_fullfsync=1")
        except BaseException:
            conn.close()
            raise
        return conn

    def write(self) -> contextlib.AbstractContextManager[sqlite3.Connection]:
        """One transaction on the write path; committed when the block ends without an error."""
        return _Turn(self, is_transaction=True)

    def alone(self) -> contextlib.AbstractContextManager[sqlite3.Connection]:
        """The write path without a transaction, while which nobody else writes."""
        return _Turn(self, is_transaction=False)

    def together(self, work: Callable[[sqlite3.Connection], None]) -> None:
        """Do work in a transaction that it shares with whatever else is ready by then.

        It returns when the transaction is committed. Work that fails is undone by itself and
        raises here; what it shared the transaction with is committed all the same.
        """
        self._check_process()  # first: who leads is not in a fork
        mine = Work(work)
        self.line.do([mine])
        if mine.error is not None:
            raise mine.error

    def all_together(
        self, works: Sequence[Callable[[sqlite3.Connection], None]]
    ) -> list[BaseException | None]:
        """The same for several works; returns what each has raised."""
        self._check_process()
        mine = [Work(work) for work in works]
        self.line.do(mine)
        return [each.error for each in mine]

    def _commit(self, group: Sequence[Work]) -> None:
        with self.write() as conn:
            for each in group:
                each.run(conn, translated=self._translated, alone=len(group) == 1)

    def snapshot(self) -> contextlib.AbstractContextManager[sqlite3.Connection]:
        """Several reads that see one state, which reads inside of it share; keep it short."""
        return _Snapshot(self)

    @contextlib.contextmanager
    def apart(self, *, seconds: float = math.inf) -> Iterator[sqlite3.Connection]:
        """One state of the store on a connection of its own, for reads that take long.

        Statements that run beyond so many seconds are broken off.
        """
        self._check_process()
        with translated(self.path):
            conn = opening.connect_read_only(self.path) if self.read_only else self._connect()
            with contextlib.closing(conn):
                conn.execute("PRAGMA query_only=1")
                conn.execute("BEGIN")
                until = clock.monotonic() + seconds
                conn.set_progress_handler(lambda: clock.monotonic() > until, _STEPS)
                yield conn

    def read(self, sql: str, parameters: Sequence[Any] = ()) -> list[sqlite3.Row]:
        """All rows of one query."""
        self._check_process()
        with self._reading, self._translated:
            self._refuse_closed()
            return self._reader.execute(sql, parameters).fetchall()

    def version(self) -> int:
        """A number that changes whenever anybody commits to the file; costs microseconds."""
        return int(self.read("PRAGMA data_version")[0][0])

    def is_stale(self) -> bool:
        """Whether this handle is closed, of another process, or not what opening would give now.

        That is so once the file was replaced or removed, or may be written where it was not.
        """
        try:
            return (
                self._closed
                or os.getpid() != self._pid
                or self._inode != self.path.stat().st_ino
                or (self.read_only and opening.is_writable(self.home))
            )
        except OSError:
            return True

    def discard(self) -> None:
        """Close a stale handle, where this process may."""
        if not self._closed and os.getpid() == self._pid:
            self.close()

    def close(self) -> None:
        """Close the file; the store is unusable afterwards."""
        self._check_process()
        with self._reading:
            if self._closed:
                return
            self._closed = True
            forks.open_databases.remove(self)
            self._reader.close()
        if not self.read_only:
            with self._lock:  # the last one to close it folds the WAL into the file
                self._writer.close()
                self._lock.close()

    def _refuse_closed(self) -> None:
        if self._closed:
            raise KitaruBackendError(
                f"The store {self.path} was closed here while it was in use, or replaced by "
                "another file. What is recorded is kept; use a new KitaruClient."
            )

    def _refuse_writing(self) -> None:
        self._check_process()
        if self.hindrance is not None:
            raise KitaruBackendError(
                f"The store {self.path} cannot be written: {self.hindrance.reason}. "
                f"Reading works; to go on, {self.hindrance.advice}."
            )

    def _refuse_removed(self) -> None:
        if self._lock.is_removed():
            raise KitaruBackendError(
                f"The store {self.path} was removed or replaced while it was open; nothing "
                "can be recorded in it any more. Restore it, then start the process again."
            )

    def _check_process(self) -> None:
        if os.getpid() != self._pid:
            raise KitaruBackendError(
                f"The store {self.path} was opened in process {self._pid} and is used in its fork "
                f"{os.getpid()}. Open a new KitaruClient in the child, or start it with spawn."
            )

    def leak(self) -> None:
        """In a fork's child: let go of what is the parent's without closing it."""
        import ctypes

        # Closing an inherited handle would disturb the parent's locks and its WAL, and the
        # garbage collector closes; so the child keeps one reference for ever.
        for conn in (self._writer, self._reader):
            ctypes.pythonapi.Py_IncRef(ctypes.py_object(conn))
        if not self.read_only:
            # Closing a copy unlocks nothing; kept, it would hold a killed parent's lock.
            self._lock.close()

    def hold(self) -> list[Callable[[], None]]:
        """Keep other threads out of SQLite for a fork; gives what lets them in again."""
        held: list[Callable[[], None]] = []
        if self._reading.acquire(timeout=forks.SECONDS):
            held.append(self._reading.release)
        if not self.read_only and self._lock.hold(forks.SECONDS):
            held.append(self._lock.let_go)
        return held


class _Snapshot:
    """The reader while it is somebody's, in a transaction that the outermost begins and ends."""

    __slots__ = ("_database", "_is_outermost")

    def __init__(self, database: Database) -> None:
        self._database = database
        self._is_outermost = False

    def __enter__(self) -> sqlite3.Connection:
        database = self._database
        database._check_process()
        database._reading.acquire()
        try:
            database._refuse_closed()
            reader = database._reader
            if not reader.in_transaction:
                self._is_outermost = True
                with database._translated:
                    reader.execute("BEGIN")  # in here: Ctrl-C may come as it returns
        except BaseException:
            self._leave()
            raise
        return reader

    def __exit__(self, kind: object, exc: BaseException | None, trace: object) -> None:
        with self._database._translated:
            self._leave()
        self._database._translated.__exit__(kind, exc, trace)

    def _leave(self) -> None:
        try:
            if self._is_outermost and self._database._reader.in_transaction:
                self._database._reader.execute("COMMIT")
        finally:
            self._database._reading.release()


class _Turn:
    """The write path while it is somebody's, in a transaction or without one."""

    __slots__ = ("_database", "_is_transaction")

    def __init__(self, database: Database, *, is_transaction: bool) -> None:
        self._database = database
        self._is_transaction = is_transaction

    def __enter__(self) -> sqlite3.Connection:
        database = self._database
        database._refuse_writing()
        database._lock.acquire()
        conn = database._writer
        try:
            with database._translated:
                database._refuse_removed()
                if self._is_transaction:
                    conn.execute("BEGIN IMMEDIATE")  # in here: Ctrl-C may come as it returns
                    schema.refuse_upgraded(conn, database.path)
        except BaseException:
            self._leave()
            raise
        return conn

    def __exit__(self, kind: object, exc: BaseException | None, trace: object) -> None:
        database = self._database
        with database._translated:
            try:
                if exc is None and self._is_transaction:
                    database._writer.execute("COMMIT")
                    database.commits += 1
            finally:
                self._leave()
        database._translated.__exit__(kind, exc, trace)

    def _leave(self) -> None:
        conn = self._database._writer
        try:
            # A full disk rolls back by itself; a second ROLLBACK would hide the cause.
            if conn.in_transaction:
                conn.execute("ROLLBACK")
        finally:
            self._database._lock.release()
