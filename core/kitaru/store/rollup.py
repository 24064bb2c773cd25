"""The roll-up beside what it is made from: whether it is true, and making it anew.

The triggers of the schema keep it, whoever writes; only damage, or a hand in the file, can part it
from the executions. Reading it is the business of listings and statistics.
"""

from __future__ import annotations

import sqlite3

from kitaru.store import metadata
from kitaru.store.schema import NO_DAY

_RECOUNT = (
    "SELECT flow_id, flow_name, stack_name, status, "  # noqa: S608
    f"coalesce(started_at / 86400000000, {NO_DAY}), count(*), "
    "sum(started_at + ended_at IS NOT NULL), sum(coalesce(ended_at - started_at, 0)), "
    "sum(coalesce(started_at - created_at, 0)) FROM executions GROUP BY 1, 2, 3, 4, 5"
)
_KEPT = "SELECT * FROM execution_rollup"


def is_true(conn: sqlite3.Connection) -> bool:
    """Whether the roll-up says what a count gives, and metadata rows what executions hold."""
    wrong = f"SELECT 1 FROM ({_KEPT} EXCEPT {_RECOUNT} LIMIT 1) "  # noqa: S608
    missing = f"SELECT 1 FROM ({_RECOUNT} EXCEPT {_KEPT} LIMIT 1)"  # noqa: S608
    found = conn.execute(f"{wrong} UNION ALL {missing}").fetchall()
    return not found and metadata.is_true(conn)


def rebuild(conn: sqlite3.Connection) -> None:
    """Make the roll-up and the metadata rows anew from the executions."""
    conn.execute("DELETE FROM execution_rollup")
    conn.execute(f"INSERT INTO execution_rollup {_RECOUNT}")
    conn.execute("DELETE FROM execution_metadata")
    metadata.fill(conn)
