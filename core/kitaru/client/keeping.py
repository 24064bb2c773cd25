"""The store as a whole, as clients see it: `client.store`."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from kitaru import config, files
from kitaru.client import examining
from kitaru.client.upkeep import Progress
from kitaru.errors import KitaruNotFoundError, KitaruStateError, KitaruUsageError
from kitaru.store import Store, due, maintenance
from kitaru.upkeep import Backup, Compacted, Finding, StoreFacts

#: What a slow disk compacts in a second, in bytes.
_COMPACTED_PER_SECOND = 60_000_000


class StoreKeeping:
    """A store's file: how large it is, a copy of it; reached as `client.store`."""

    def __init__(self, open_: Callable[[], Store], home: config.Home) -> None:
        self._open = open_
        self._home = home

    def facts(self) -> StoreFacts:
        """How large the file and its tables are.

        Raises:
            KitaruNotFoundError: there is no store yet; none is made.

        Example:
            >>> import kitaru
            >>> handle = kitaru.flow(lambda: None, name="one").run()
            >>> handle.wait()
            >>> kitaru.KitaruClient().store.facts().rows["executions"] > 0
            True
        """
        return maintenance.measure(self._existing())

    def backup(
        self,
        path: str | os.PathLike[str],
        *,
        force: bool = False,
        progress: Progress | None = None,
    ) -> Backup:
        """Copy the whole store into one file, while others write, and check the copy.

        The copy is the state of one moment. It appears when it is whole, readable by its owner
        only; as `kitaru.db` in a folder of its own it is a store.

        Args:
            path: the file to make.
            force: replace one that is there.
            progress: told how many pages are done, and of how many.

        Raises:
            KitaruNotFoundError: there is no store yet.
            KitaruUsageError: the file is there, or cannot be one.
            KitaruBackendError: the file cannot be written.
            KitaruCorruptionError: the store is damaged; there is no copy.

        Example:
            >>> import tempfile, kitaru
            >>> handle = kitaru.flow(lambda: None, name="one").run()
            >>> handle.wait()
            >>> with tempfile.TemporaryDirectory() as folder:
            ...     kitaru.KitaruClient().store.backup(f"{folder}/kitaru.db").executions > 0
            True
        """
        store, target = self._existing(), Path(path).absolute()
        if target.exists() and target.samefile(store.path):
            raise KitaruUsageError(f"{target} is the store itself. Name another file.")
        if os.path.exists(f"{target}-wal"):
            raise KitaruUsageError(
                f"{target} is in use as a store, or was when its process died: it has a WAL. Name "
                "another file."
            )
        with files.whole(target, force=force) as made:
            found = maintenance.back_up(store, made, progress=progress)
        return replace(found, path=str(target))

    def examine(
        self, *, full: bool = False, repair: bool = False, progress: Progress | None = None
    ) -> list[Finding]:
        """What is wrong with the store; empty where all is well, or where there is none.

        Args:
            full: also check every index, and read every value against its digest.
            repair: put right what is safe to: permissions, questions and chunks that belong to
                nothing, wrong counts, logs of runners whose execution is gone.
            progress: told how many values are read, and of how many.

        Example:
            >>> import kitaru
            >>> handle = kitaru.flow(lambda: None, name="one").run()
            >>> handle.wait()
            >>> kitaru.KitaruClient().store.examine(full=True)
            []
        """
        return examining.examine(
            self._open, self._home, full=full, repair=repair, progress=progress
        )

    def compact(self) -> Compacted:
        """Give the room of what was deleted back to the disk; nobody else can write meanwhile.

        Needs as much free room as the store takes.

        Raises:
            KitaruNotFoundError: there is no store yet.
            KitaruStateError: it would take so long that a driver would lose its lease.
        """
        store = self._existing()
        if self.seconds_to_compact() > config.LEASE_SECONDS / 2:
            with store.snapshot() as conn:
                driven = due.driven(conn)
            if driven:
                raise KitaruStateError(
                    f"Compacting the store takes about {self.seconds_to_compact()} s, and whoever "
                    f"drives an execution would lose its lease meanwhile: {driven[0]} is driven "
                    "now. Compact it when nothing runs."
                )
        return maintenance.compact(store)

    def seconds_to_compact(self) -> int:
        """About how long `compact` keeps others from writing, in seconds."""
        facts = self.facts()
        return 1 + (facts.bytes - facts.free_bytes // 2) // _COMPACTED_PER_SECOND

    def _existing(self) -> Store:
        if not self._home.database.exists():
            raise KitaruNotFoundError(
                f"There is no store at {self._home.database} yet (from {self._home.source}); the "
                "first execution makes it."
            )
        return self._open()
