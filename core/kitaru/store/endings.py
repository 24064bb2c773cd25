"""The checkpoints of an execution in the order in which they ended, for those who watch it.

A call's place among the ended ones is given inside the transaction that records its end, so
nothing can come in before a place that was read. Two kinds of calls have none: those that a very
old store recorded, which stand first, and those that the end of the flow cut off, which stand
last. Places can be given anew once a retry has opened failed calls again: the cursor also keeps
the latest time of an end that was told, and whatever has ended after it is told, too.
"""

from __future__ import annotations

import sqlite3

from kitaru.models import CallStatus, CheckpointCall, Page
from kitaru.store import journal, shown, values

_FIRST, _LAST = 0, 10**17
_ENDED = tuple(
    status.value for status in (CallStatus.COMPLETED, CallStatus.FAILED, CallStatus.CANCELLED)
)
# The places first, by themselves: sorting whole rows would carry all of them along.
_PLACES = (
    "WITH ended AS (SELECT seq, coalesce(ended_order, "  # noqa: S608
    f"CASE status WHEN 'cancelled' THEN {_LAST} ELSE {_FIRST} END) AS place, "
    "coalesce(ended_at, 0) AS at FROM calls WHERE execution = ? AND kind = 'checkpoint' "
    f"AND status IN ({', '.join('?' * len(_ENDED))})) "
    "SELECT seq, place, at FROM ended WHERE (place, at, seq) > (?, ?, ?) OR at > ? "
    "ORDER BY place, at, seq LIMIT ?"
)


@values.intact("A call")
def after(
    conn: sqlite3.Connection, execution: int, *, exec_id: str, cursor: str | None, limit: int
) -> Page[CheckpointCall]:
    """The checkpoints that have ended since the cursor's page, with a cursor for the next ones."""
    cursor = values.cursor(0, 0, 0, 0) if cursor is None else cursor
    place = values.place(cursor, parts=4)
    found = conn.execute(_PLACES, (execution, *_ENDED, *place, limit)).fetchall()
    if not found:
        return Page([], cursor)
    latest = max(place[3], *(row["at"] for row in found))
    rows = {
        row["seq"]: row
        for row in conn.execute(
            f"{journal.SELECT}WHERE execution = ? AND seq IN ({', '.join('?' * len(found))})",
            (execution, *(row["seq"] for row in found)),
        ).fetchall()
    }
    calls = journal.from_rows([rows[row["seq"]] for row in found], exec_id)
    last = found[-1]
    next_cursor = values.cursor(last["place"], last["at"], last["seq"], latest)
    return Page([shown.call_model(call, exec_id=exec_id) for call in calls], next_cursor)
