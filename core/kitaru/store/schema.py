"""The tables of the store, and how an older file becomes a current one.

sqlite-utils runs the migrations, all in one transaction under the write lock: a file is either
of the old schema or of the new one. It is imported only when there is something to migrate.
`user_version` counts migrations; a file with a larger number than this program's is refused.
"""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import TYPE_CHECKING

from kitaru.errors import KitaruBackendError, KitaruCorruptionError
from kitaru.store import metadata

if TYPE_CHECKING:
    import sqlite_utils

APPLICATION_ID = 0x4B495452  # "KITR"
SCHEMA_VERSION = 4

_V1 = """
CREATE TABLE executions (
    id INTEGER PRIMARY KEY,
    exec_id TEXT NOT NULL UNIQUE,
    flow_id TEXT NOT NULL,
    flow_name TEXT NOT NULL,
    status TEXT NOT NULL,
    status_reason TEXT,
    created_at INTEGER NOT NULL,
    started_at INTEGER,
    ended_at INTEGER,
    stack_name TEXT NOT NULL,
    original_exec_id TEXT,
    parent_exec_id TEXT,
    tags TEXT NOT NULL,
    metadata TEXT NOT NULL,
    failure TEXT,
    spec TEXT NOT NULL,
    plan TEXT,
    inputs BLOB,
    inputs_size INTEGER NOT NULL,
    inputs_digest BLOB NOT NULL,
    result BLOB,
    result_size INTEGER,
    result_digest BLOB
);
CREATE INDEX executions_created ON executions (created_at);
CREATE INDEX executions_status ON executions (status, created_at);
CREATE INDEX executions_flow_name ON executions (flow_name, created_at);
CREATE INDEX executions_flow_id ON executions (flow_id, created_at);
CREATE INDEX executions_stack ON executions (stack_name, created_at);
CREATE TABLE execution_tags (
    tag TEXT NOT NULL,
    created_at INTEGER NOT NULL,
    execution INTEGER NOT NULL REFERENCES executions (id),
    PRIMARY KEY (tag, created_at, execution)
) WITHOUT ROWID;
CREATE TABLE leases (
    execution INTEGER PRIMARY KEY REFERENCES executions (id),
    epoch INTEGER NOT NULL,
    runner TEXT,
    host TEXT NOT NULL,
    pid INTEGER NOT NULL,
    mark TEXT NOT NULL,
    expires_at INTEGER NOT NULL,
    cancel_requested INTEGER NOT NULL DEFAULT 0
);
CREATE TABLE calls (
    execution INTEGER NOT NULL REFERENCES executions (id),
    seq INTEGER NOT NULL,
    call_id TEXT NOT NULL,
    kind TEXT NOT NULL,
    type TEXT,
    status TEXT NOT NULL,
    settled INTEGER NOT NULL,
    started_at INTEGER,
    ended_at INTEGER,
    inputs_digest BLOB NOT NULL,
    inputs_shown TEXT NOT NULL,
    parents TEXT,
    metadata TEXT,
    attempts TEXT,
    failure TEXT,
    original_call_id TEXT,
    cached_from TEXT,
    result_size INTEGER,
    result_digest BLOB,
    result BLOB,
    PRIMARY KEY (execution, seq)
) WITHOUT ROWID;
CREATE TABLE waits (
    execution INTEGER NOT NULL REFERENCES executions (id),
    seq INTEGER NOT NULL,
    call_id TEXT NOT NULL,
    name TEXT NOT NULL,
    question TEXT,
    schema TEXT,
    metadata TEXT NOT NULL,
    status TEXT NOT NULL,
    created_at INTEGER NOT NULL,
    resolved_at INTEGER,
    rejected TEXT,
    answer BLOB,
    answer_digest BLOB,
    PRIMARY KEY (execution, seq)
) WITHOUT ROWID;
CREATE TABLE artifacts (
    execution INTEGER NOT NULL REFERENCES executions (id),
    seq INTEGER NOT NULL,
    position INTEGER NOT NULL,
    name TEXT NOT NULL,
    kind TEXT NOT NULL,
    tags TEXT NOT NULL,
    created_at INTEGER NOT NULL,
    size INTEGER NOT NULL,
    digest BLOB NOT NULL,
    data BLOB,
    PRIMARY KEY (execution, seq, position)
) WITHOUT ROWID;
CREATE TABLE chunks (
    owner TEXT NOT NULL,
    position INTEGER NOT NULL,
    data BLOB NOT NULL,
    PRIMARY KEY (owner, position)
);
CREATE TABLE logs (
    id INTEGER PRIMARY KEY,
    execution INTEGER NOT NULL REFERENCES executions (id),
    call_id TEXT,
    attempt INTEGER,
    at INTEGER NOT NULL,
    level TEXT NOT NULL,
    source TEXT NOT NULL,
    message TEXT NOT NULL,
    module TEXT,
    filename TEXT,
    lineno INTEGER
);
CREATE INDEX logs_execution ON logs (execution, at, id);
"""

#: Lanes for calls of concurrent tasks, the order in which calls ended, durable sleeps, cached
#: results, child executions, deadlines, stacks.
_V2 = """
ALTER TABLE executions ADD COLUMN deadline_at INTEGER;
CREATE INDEX executions_parent ON executions (parent_exec_id) WHERE parent_exec_id IS NOT NULL;
ALTER TABLE calls ADD COLUMN lane TEXT NOT NULL DEFAULT '';
ALTER TABLE calls ADD COLUMN position INTEGER NOT NULL DEFAULT 0;
ALTER TABLE calls ADD COLUMN ended_order INTEGER;
ALTER TABLE calls ADD COLUMN due_at INTEGER;
ALTER TABLE calls ADD COLUMN child_exec_id TEXT;
ALTER TABLE calls ADD COLUMN awaited INTEGER NOT NULL DEFAULT 0;
ALTER TABLE calls ADD COLUMN cache_key BLOB;
UPDATE calls SET position = seq;
CREATE INDEX calls_cached ON calls (cache_key, ended_at) WHERE cache_key IS NOT NULL;
CREATE INDEX calls_due ON calls (due_at) WHERE due_at IS NOT NULL;
CREATE INDEX calls_child ON calls (child_exec_id) WHERE child_exec_id IS NOT NULL;
CREATE TABLE stacks (
    name TEXT PRIMARY KEY,
    type TEXT NOT NULL,
    created_at INTEGER NOT NULL,
    active INTEGER NOT NULL DEFAULT 0
);
"""

#: Idempotency keys.
_V3 = """
CREATE TABLE idempotency_keys (
    key TEXT PRIMARY KEY,
    digest TEXT NOT NULL,
    action TEXT NOT NULL,
    execution INTEGER NOT NULL REFERENCES executions (id),
    created_at INTEGER NOT NULL
) WITHOUT ROWID;
"""

#: Settings of the store's own; and what statistics and listings are read from: how many executions
#: there are of each kind and day, kept by whatever changes one, metadata value by value, and
#: indexes by two filters at once.
_V4 = """
CREATE TABLE settings (
    name TEXT PRIMARY KEY,
    value TEXT NOT NULL
) WITHOUT ROWID;
CREATE TABLE execution_rollup (
    flow_id TEXT NOT NULL,
    flow_name TEXT NOT NULL,
    stack_name TEXT NOT NULL,
    status TEXT NOT NULL,
    day INTEGER NOT NULL,
    executions INTEGER NOT NULL,
    ended INTEGER NOT NULL,
    duration INTEGER NOT NULL,
    queue_time INTEGER NOT NULL,
    PRIMARY KEY (flow_id, flow_name, stack_name, status, day)
) WITHOUT ROWID;
CREATE TABLE execution_metadata (
    key TEXT NOT NULL,
    flow_id TEXT NOT NULL,
    execution INTEGER NOT NULL REFERENCES executions (id),
    value,
    PRIMARY KEY (key, flow_id, execution)
) WITHOUT ROWID;
DROP INDEX executions_flow_id;
CREATE INDEX executions_flow_status ON executions (flow_name, status, created_at);
CREATE INDEX executions_flow_stack ON executions (flow_name, stack_name, created_at);
CREATE INDEX executions_stack_status ON executions (stack_name, status, created_at);
CREATE INDEX executions_facts ON executions (
    id, flow_id, flow_name, stack_name, status, created_at, started_at, ended_at
);
INSERT INTO execution_rollup SELECT
    flow_id, flow_name, stack_name, status, coalesce(started_at / 86400000000, -1000000), count(*),
    sum(started_at + ended_at IS NOT NULL), sum(coalesce(ended_at - started_at, 0)),
    sum(coalesce(started_at - created_at, 0))
FROM executions GROUP BY 1, 2, 3, 4, 5;
CREATE TRIGGER execution_added AFTER INSERT ON executions BEGIN
    INSERT INTO execution_rollup VALUES (
        new.flow_id, new.flow_name, new.stack_name, new.status,
        coalesce(new.started_at / 86400000000, -1000000), 1,
        (new.started_at + new.ended_at IS NOT NULL),
        coalesce(new.ended_at - new.started_at, 0),
        coalesce(new.started_at - new.created_at, 0)
    ) ON CONFLICT (flow_id, flow_name, stack_name, status, day) DO UPDATE SET
        executions = executions + excluded.executions, ended = ended + excluded.ended,
        duration = duration + excluded.duration, queue_time = queue_time + excluded.queue_time;
END;
CREATE TRIGGER execution_changed AFTER UPDATE OF status, started_at, ended_at ON executions BEGIN
    INSERT INTO execution_rollup VALUES (
        old.flow_id, old.flow_name, old.stack_name, old.status,
        coalesce(old.started_at / 86400000000, -1000000), -1,
        -(old.started_at + old.ended_at IS NOT NULL),
        -coalesce(old.ended_at - old.started_at, 0),
        -coalesce(old.started_at - old.created_at, 0)
    ) ON CONFLICT (flow_id, flow_name, stack_name, status, day) DO UPDATE SET
        executions = executions + excluded.executions, ended = ended + excluded.ended,
        duration = duration + excluded.duration, queue_time = queue_time + excluded.queue_time;
    DELETE FROM execution_rollup WHERE executions = 0 AND flow_id = old.flow_id
        AND flow_name = old.flow_name AND stack_name = old.stack_name AND status = old.status
        AND day = coalesce(old.started_at / 86400000000, -1000000);
    INSERT INTO execution_rollup VALUES (
        new.flow_id, new.flow_name, new.stack_name, new.status,
        coalesce(new.started_at / 86400000000, -1000000), 1,
        (new.started_at + new.ended_at IS NOT NULL),
        coalesce(new.ended_at - new.started_at, 0),
        coalesce(new.started_at - new.created_at, 0)
    ) ON CONFLICT (flow_id, flow_name, stack_name, status, day) DO UPDATE SET
        executions = executions + excluded.executions, ended = ended + excluded.ended,
        duration = duration + excluded.duration, queue_time = queue_time + excluded.queue_time;
END;
CREATE TRIGGER execution_removed AFTER DELETE ON executions BEGIN
    INSERT INTO execution_rollup VALUES (
        old.flow_id, old.flow_name, old.stack_name, old.status,
        coalesce(old.started_at / 86400000000, -1000000), -1,
        -(old.started_at + old.ended_at IS NOT NULL),
        -coalesce(old.ended_at - old.started_at, 0),
        -coalesce(old.started_at - old.created_at, 0)
    ) ON CONFLICT (flow_id, flow_name, stack_name, status, day) DO UPDATE SET
        executions = executions + excluded.executions, ended = ended + excluded.ended,
        duration = duration + excluded.duration, queue_time = queue_time + excluded.queue_time;
    DELETE FROM execution_rollup WHERE executions = 0 AND flow_id = old.flow_id
        AND flow_name = old.flow_name AND stack_name = old.stack_name AND status = old.status
        AND day = coalesce(old.started_at / 86400000000, -1000000);
END;
"""
#: The day of an execution that has not started, in the roll-up.
NO_DAY = -1_000_000


def check(conn: sqlite3.Connection, path: Path) -> int:
    """The schema version of a file; refuses files that are not ours or newer than this program."""
    application = conn.execute("PRAGMA application_id").fetchone()[0]
    version = int(conn.execute("PRAGMA user_version").fetchone()[0])
    tables = conn.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]
    if application != APPLICATION_ID and (version or tables):
        raise KitaruCorruptionError(
            f"{path} is a SQLite file but not a Kitaru store. Nothing was changed. "
            "Set KITARU_HOME to another folder."
        )
    if version > SCHEMA_VERSION:
        raise KitaruBackendError(
            f"The store {path} has schema {version}; this program knows up to {SCHEMA_VERSION}. "
            "A newer Kitaru wrote it: upgrade kitaru-mcp, or set KITARU_HOME to another folder."
        )
    return version


def check_current(conn: sqlite3.Connection, path: Path) -> None:
    """Refuse a file that would have to be upgraded first but cannot be written."""
    if (version := check(conn, path)) < SCHEMA_VERSION:
        raise KitaruBackendError(
            f"The store {path} has schema {version} and must be upgraded to {SCHEMA_VERSION}, but "
            "its folder is read-only. Open it once where it can be written."
        )


def refuse_upgraded(conn: sqlite3.Connection, path: Path) -> None:
    """Refuse to write to a file that another program has upgraded since it was opened."""
    if (version := conn.execute("PRAGMA user_version").fetchone()[0]) != SCHEMA_VERSION:
        raise KitaruBackendError(
            f"The store {path} was changed to schema {version} while this process, which knows "
            f"schema {SCHEMA_VERSION}, had it open. Nothing was written: end this process, and "
            "resume its executions with the newer program."
        )


def is_ready(conn: sqlite3.Connection, path: Path) -> bool:
    """Whether `ensure` has nothing to do, as of one moment; it needs no lock to see that."""
    conn.execute("BEGIN")
    try:
        current = check(conn, path) == SCHEMA_VERSION
    finally:
        if conn.in_transaction:
            conn.execute("ROLLBACK")
    return current and conn.execute("PRAGMA journal_mode").fetchone()[0] == "wal"


def ensure(conn: sqlite3.Connection, path: Path) -> None:
    """Bring a file to the current schema and mode; the caller holds the write lock."""
    current = check(conn, path) == SCHEMA_VERSION
    # A restored copy has the schema but not the mode.
    if conn.execute("PRAGMA journal_mode").fetchone()[0] != "wal":
        conn.execute("PRAGMA journal_mode=WAL")
    if current:
        return
    conn.execute("BEGIN IMMEDIATE")
    try:
        _migrate(conn)
        conn.execute(f"PRAGMA application_id={APPLICATION_ID}")
        conn.execute(f"PRAGMA user_version={SCHEMA_VERSION}")
        conn.execute("COMMIT")
    except BaseException:
        if conn.in_transaction:
            conn.execute("ROLLBACK")
        raise


def _migrate(conn: sqlite3.Connection) -> None:
    import sqlite_utils

    migrations = sqlite_utils.Migrations("kitaru")

    @migrations(name="v1")
    def v1(db: sqlite_utils.Database) -> None:
        _run(db, _V1)

    @migrations(name="v2")
    def v2(db: sqlite_utils.Database) -> None:
        _run(db, _V2)

    @migrations(name="v3")
    def v3(db: sqlite_utils.Database) -> None:
        _run(db, _V3)

    @migrations(name="v4")
    def v4(db: sqlite_utils.Database) -> None:
        _run(db, _V4)
        metadata.fill(conn)

    migrations.apply(sqlite_utils.Database(conn, execute_plugins=False))


def _run(db: sqlite_utils.Database, script: str) -> None:
    statement = ""
    for line in script.splitlines():
        statement += f"{line}\n"
        if sqlite3.complete_statement(statement):  # a trigger has statements in it
            db.execute(statement)
            statement = ""
    assert not statement.strip(), statement
