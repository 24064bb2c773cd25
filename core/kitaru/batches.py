"""The commits of an async flow: what its tasks have ready at one time is written together."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Sequence

from kitaru.effects import Commit
from kitaru.ledger import Ledger
from kitaru.pool import Pool


class Batches:
    """Writes from one thread, so that tasks which end together share a transaction."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._pool = Pool(1)
        self._lock = threading.Lock()
        self._ready: list[tuple[Commit, asyncio.Future[None]]] = []

    def commit(self, effect: Commit) -> asyncio.Future[None]:
        """The end of a commit, which begins now or with those that come until it can."""
        loop = asyncio.get_running_loop()
        ended: asyncio.Future[None] = loop.create_future()
        with self._lock:
            self._ready.append((effect, ended))
            is_first = len(self._ready) == 1
        if is_first:
            try:
                self._pool.run(lambda: self._write(loop))
            except BaseException:  # no thread: nobody else has come since, on this one
                self._ready.clear()
                raise
        return ended

    def _write(self, loop: asyncio.AbstractEventLoop) -> None:
        with self._lock:
            taken, self._ready = self._ready, []
        works = [(effect.work, (None, effect.call_id)) for effect, _ in taken]
        errors = self._ledger.all_together(works)
        loop.call_soon_threadsafe(_tell, [ended for _, ended in taken], errors)


def _tell(waiting: Sequence[asyncio.Future[None]], errors: Sequence[BaseException | None]) -> None:
    for ended, error in zip(waiting, errors, strict=True):
        ended.set_result(None) if error is None else ended.set_exception(error)
