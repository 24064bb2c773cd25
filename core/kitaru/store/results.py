"""The results of recorded calls, read ahead for a drive that makes its calls again in their order.

The more results are asked for in their order, the more are read at a time; asked for in any other
order, each is read alone. What was read ahead is checked against its digest when it is taken.
"""

from __future__ import annotations

from kitaru.store import journal, values
from kitaru.store.connection import Database
from kitaru.store.values import StoredValue

#: Results that are read at a time, at most; none of them is longer than `config.INLINE_BYTES`.
_MOST_AHEAD = 128


class Results:
    """The recorded results of one execution, for one thread."""

    def __init__(self, database: Database, execution: int) -> None:
        self._database = database
        self._execution = execution
        self._ahead: dict[int, StoredValue] = {}
        self._count = 1
        self._next = 0

    def take(self, seq: int, *, what: str) -> bytes:
        """The encoded result of a completed call; `what` names it in errors.

        Raises:
            KitaruCorruptionError: its bytes are not those that were recorded.
        """
        stored = self._ahead.pop(seq, None) or self._read(seq, what=what)
        if stored.data is not None:
            return values.checked(stored.data, stored.digest, what=what)
        with self._database.snapshot() as conn:
            return values.get(conn, journal.owner(self._execution, seq), stored, what=what)

    def _read(self, seq: int, *, what: str) -> StoredValue:
        self._count = min(2 * self._count, _MOST_AHEAD) if seq >= self._next else 1
        with self._database.snapshot() as conn:
            rows = journal.results(conn, self._execution, first=seq, count=self._count)
        found = values.one_row([stored for place, stored in rows if place == seq], what=what)
        self._ahead = dict(rows[1:])
        self._next = rows[-1][0] + 1
        return found
