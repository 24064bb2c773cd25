"""Executions that are no longer needed: `client.executions.delete` and `prune`.

Only finished executions go, and only where no other one still needs their record. `prune` works
in short transactions, so that whoever drives an execution meanwhile hardly waits.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from datetime import datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING, TypeAlias

from kitaru import clock, config
from kitaru.client import filters
from kitaru.errors import KitaruStateError, KitaruUsageError
from kitaru.models import ExecutionStatus
from kitaru.store import Store, executions
from kitaru.store.listing import Filter

if TYPE_CHECKING:  # what removes is loaded by those who do
    from kitaru.store.removal import Removal, Replays
    from kitaru.upkeep import Deleted, Pruned

#: Told after each piece of work: how much is done, and of how much.
Progress: TypeAlias = Callable[[int, int], None]

#: Executions in one transaction of a pruning: in the first, in the smallest, in the largest.
_FIRST_BATCH, _SMALLEST_BATCH, _LARGEST_BATCH = 20, 10, 1000


class Upkeep:
    """The part of `client.executions` that removes."""

    _open: Callable[[], Store]
    _home: config.Home

    def delete(self, *exec_ids: str) -> Deleted:
        """Delete finished executions with all they recorded: all of these, or none.

        Executions that they started stay, as do replays of them.

        Args:
            exec_ids: full ids, unique prefixes, or `latest`.

        Raises:
            KitaruNotFoundError: there is no such execution.
            KitaruStateError: one has not ended, or another one still needs its record.

        Example:
            >>> import kitaru
            >>> handle = kitaru.flow(lambda: None, name="brief").run()
            >>> handle.wait()
            >>> client = kitaru.KitaruClient()
            >>> client.executions.delete(handle.exec_id).exec_ids == (handle.exec_id,)
            True
        """
        from kitaru.store import removal
        from kitaru.upkeep import Deleted

        store = self._open()
        with store.snapshot() as conn:
            known = removal.replays(conn)
        with store.write() as conn:
            rows = {row.id: row for row in (executions.find(conn, each) for each in exec_ids)}
            for row in rows.values():
                removal.refuse_unfinished(row)
            going = {row.id: row.exec_id for row in rows.values()}
            kept = removal.needed(conn, going, known=known)
            for exec_id, reason in kept.items():
                raise KitaruStateError(
                    f"Cannot delete execution {exec_id}: {reason}. Wait until that one is done "
                    "with it, or delete that one first."
                )
            found = tuple(going.values())
            deleted = Deleted(
                exec_ids=found,
                bytes=removal.size(conn, going),
                children=tuple(removal.children(conn, found)),
            )
            removal.delete(conn, going)
        self._forget_output(found)
        return deleted

    def prune(
        self,
        older_than: datetime | timedelta | None = None,
        *,
        flow: str | None = None,
        status: str | ExecutionStatus | None = None,
        keep_failed: bool = False,
        dry_run: bool = False,
        progress: Progress | None = None,
    ) -> Pruned:
        """Delete finished executions with all they recorded, in many short transactions.

        Args:
            older_than: only those that ended before this time (aware), or so long ago.
            flow: only of the flow with this name or id.
            status: only in this status.
            keep_failed: leave failed ones, which could still be retried.
            dry_run: delete nothing; tell what would go.
            progress: told how many are done, and of how many.

        Raises:
            KitaruUsageError: an argument cannot be right, or nothing limits what goes.

        Example:
            >>> from datetime import timedelta
            >>> import kitaru
            >>> prune = kitaru.KitaruClient().executions.prune
            >>> prune(timedelta(days=30), dry_run=True).count
            0
        """
        from kitaru.store import removal
        from kitaru.upkeep import Pruned

        where = _chosen(older_than, flow, status=status)
        store = self._open()
        with store.snapshot() as conn:
            chosen = removal.choose(conn, where, keep_failed=keep_failed)
            known = removal.replays(conn)
            if dry_run:
                found = removal.measure(conn, chosen, where, keep_failed=keep_failed, known=known)
                return Pruned(len(found.exec_ids), found.bytes, found.kept, dry_run=True)
        count, size, kept = 0, 0, dict[str, str]()
        remove = partial(removal.remove, where=where, keep_failed=keep_failed)
        for done, removed in _batches(store, chosen, remove, known=known):
            count += len(removed.exec_ids)
            size += removed.bytes
            kept |= removed.kept
            self._forget_output(removed.exec_ids)
            if progress is not None:
                progress(done, len(chosen))
        return Pruned(count, size, kept)

    def _forget_output(self, exec_ids: Iterable[str]) -> None:
        for exec_id in exec_ids:
            path = self._home.path / config.RUNNER_LOGS / f"{exec_id}.log"
            path.unlink(missing_ok=True)


def _batches(
    store: Store,
    chosen: list[int],
    remove: Callable[..., tuple[Removal, Replays]],
    *,
    known: Replays,
) -> Iterator[tuple[int, Removal]]:
    """Remove a few at a time, as many as fit into a short transaction; with how many are done."""
    done, size = 0, _FIRST_BATCH
    while done < len(chosen):
        batch = chosen[done : done + size]
        with store.write() as conn:
            begun = clock.monotonic()
            removed, known = remove(conn, batch, known=known)
            # Without the commit: on a slow disk that takes long however little there is to do.
            took = clock.monotonic() - begun
        done += len(batch)
        yield done, removed
        fitting = int(len(batch) * config.PRUNE_BATCH_SECONDS / max(took, 0.001))
        size = max(_SMALLEST_BATCH, min(fitting, 2 * size, _LARGEST_BATCH))


def _chosen(
    older_than: datetime | timedelta | None,
    flow: str | None,
    *,
    status: str | ExecutionStatus | None,
) -> Filter:
    if older_than is None and flow is None and status is None:
        raise KitaruUsageError(
            "Nothing limits what is pruned; say which executions: older_than, flow or status."
        )
    if isinstance(older_than, timedelta):
        older_than = clock.from_us(clock.now_us()) - older_than
    where = filters.chosen(flow, status, None, tags=None, since=None, until=older_than)
    if where.status is not None and not where.status.is_finished:
        raise KitaruUsageError(
            f"status is {where.status}; only completed, failed and cancelled executions are pruned."
        )
    return where
