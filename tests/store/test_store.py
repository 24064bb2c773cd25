"""The store's own promises: what a commit costs, what is checked on reading, and where it is."""

from __future__ import annotations

import contextlib
import os
import sqlite3
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import kitaru
from kitaru import KitaruClient, clock, config
from kitaru.errors import (
    KitaruBackendError,
    KitaruCorruptionError,
    KitaruLeaseError,
)
from kitaru.ledger import Ledger
from kitaru.locks import FileLock
from kitaru.store import Store, executions, leases, schema, values
from kitaru.store.values import StoredValue
from tests import drives
from tests.support import dump, forget, query

pytestmark = pytest.mark.usefixtures("home")


@kitaru.checkpoint
def step(n: int) -> int:
    kitaru.log(n=n)
    kitaru.save("kept", n)
    print("step", n)
    return n


@kitaru.flow
def steps(count: int) -> int:
    for n in range(count):
        kitaru.log(done=n)
        print("flow", n)
        step(n)
    return count


@kitaru.checkpoint
def make(size: int) -> str:
    kitaru.save("kept", "y" * size)
    return "x" * size


@kitaru.flow
def making(size: int, ballast: str = "") -> str:
    made = make(size)
    kitaru.wait(name="go", schema=str, timeout=0)
    return made


@contextlib.contextmanager
def commits(store: Store) -> Iterator[list[str]]:
    """The commits that the store makes meanwhile."""
    seen: list[str] = []
    store._writer.set_trace_callback(lambda sql: seen.append(sql) if sql == "COMMIT" else None)
    yield seen
    store._writer.set_trace_callback(None)


# --- writing --------------------------------------------------------------------------------------


def test_a_short_checkpoint_costs_one_commit_with_all_it_produced(
    home: Path, monkeypatch: pytest.MonkeyPatch
):
    # On a busy machine even these would last long enough to be shown as running.
    monkeypatch.setattr(config, "STARTED_AFTER_SECONDS", 600)
    monkeypatch.setattr(config, "LOG_FLUSH_SECONDS", 600)
    store = drives.store()

    counts = []
    for count in (0, 1, 21):
        with commits(store) as seen:
            steps.run(count).wait(20)
        counts.append(len(seen))

    nothing, one, many = counts
    assert one - nothing == 1
    assert many - one == 20
    assert one <= 5
    assert query(home, "SELECT count(*) FROM artifacts") == [(22,)]
    assert query(home, "SELECT count(*) FROM logs WHERE source = 'step'") == [(44,)]


def test_a_replay_of_recorded_calls_costs_no_commit_for_them(home: Path):
    handle = steps.run(20)
    handle.wait(20)
    query(home, "UPDATE executions SET status = 'failed'")

    with commits(drives.store()) as seen:
        drives.again("retry", steps, handle.exec_id).wait(20)

    assert len(seen) <= 3


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, sqlite3.OperationalError])
def test_a_write_that_raises_leaves_nothing(home: Path, error: type[BaseException]):
    store = drives.store()
    before = dump(home)
    expected = KitaruBackendError if issubclass(error, sqlite3.Error) else error

    with pytest.raises(expected), store.write() as conn:  # noqa: PT012
        values.put(conn, "a", b"x" * config.INLINE_BYTES * 2)
        conn.execute("INSERT INTO logs (execution, at, level, source, message) VALUES (1,1,1,1,1)")
        raise error("in the middle")

    assert dump(home) == before
    with store.write() as conn:  # the way is free again
        conn.execute("SELECT 1")


def test_a_write_in_a_write_is_refused_and_the_outer_one_goes_on(home: Path):
    store = drives.store()

    with store.write() as conn:
        values.put(conn, "outer", b"x" * config.INLINE_BYTES * 2)
        with pytest.raises(KitaruBackendError, match="inside a write"), store.write():
            pass

    assert query(home, "SELECT DISTINCT owner FROM chunks") == [("outer",)]


def test_writers_on_many_threads_take_turns(home: Path):
    store = drives.store()
    inside: list[int] = []
    worst: list[int] = []

    def write(number: int) -> None:
        for turn in range(10):
            with store.write() as conn:
                inside.append(number)
                worst.append(len(inside))
                conn.execute(
                    "INSERT INTO chunks (owner, position, data) VALUES (?, ?, x'')",
                    (str(number), turn),
                )
                inside.remove(number)

    threads = [threading.Thread(target=write, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)

    assert max(worst) == 1
    assert query(home, "SELECT count(*) FROM chunks") == [(80,)]


def test_a_second_store_of_the_file_waits_for_its_turn(home: Path):
    first, second = drives.store(), Store(config.find_home(), durability="normal")
    done = threading.Event()

    def write() -> None:
        with second.write() as conn:
            conn.execute("UPDATE chunks SET data = data || 'b'")
        done.set()

    with first.write() as conn:
        conn.execute("INSERT INTO chunks (owner, position, data) VALUES ('a', 0, 'a')")
        thread = threading.Thread(target=write)
        thread.start()
        assert not done.is_set()
    assert done.wait(20)
    thread.join()
    second.close()

    assert query(home, "SELECT data FROM chunks") == [("ab",)]


def test_a_store_is_opened_and_read_while_another_process_writes_for_long(home: Path):
    Store(config.find_home(), durability="normal").close()
    opened: list[int] = []

    def look() -> None:
        opened.append(Store(config.find_home(), durability="normal").version())

    with FileLock(Path(f"{home / config.DATABASE_NAME}.lock")):
        looking = threading.Thread(target=look, daemon=True)
        looking.start()
        looking.join(5)
        assert opened


def test_a_snapshot_sees_one_state_whatever_is_written_meanwhile(home: Path):
    store, other = drives.store(), Store(config.find_home(), durability="full")

    def count(conn: sqlite3.Connection) -> int:
        return int(conn.execute("SELECT count(*) FROM chunks").fetchone()[0])

    with store.snapshot() as conn:
        assert count(conn) == 0
        with other.write() as writing:
            writing.execute("INSERT INTO chunks (owner, position, data) VALUES ('a', 0, 'a')")
        assert count(conn) == 0
    with store.snapshot() as conn:
        assert count(conn) == 1
    other.close()


def test_a_snapshot_cannot_write():
    with pytest.raises(KitaruBackendError), drives.store().snapshot() as conn:
        conn.execute("DELETE FROM chunks")


def test_the_version_changes_with_every_commit_of_anybody_else():
    store, other = drives.store(), Store(config.find_home(), durability="normal")
    before = store.version()
    assert store.version() == before

    with other.write() as conn:
        conn.execute("INSERT INTO chunks (owner, position, data) VALUES ('a', 0, 'a')")

    assert store.version() != before
    other.close()


def test_a_driver_that_was_overtaken_writes_nothing(home: Path):
    handle = steps.run(1)
    handle.wait(20)
    store = drives.store()
    with store.write() as conn:
        row = executions.find(conn, handle.exec_id)
        old = leases.take(conn, execution=row.id, exec_id=row.exec_id, runner="rn-old")
        new = leases.take(conn, execution=row.id, exec_id=row.exec_id, runner="rn-new")
    before = dump(home)

    overtaken = Ledger(store, old, {})
    with pytest.raises(KitaruLeaseError, match=handle.exec_id), overtaken.commit() as conn:
        conn.execute("DELETE FROM calls")
    with pytest.raises(KitaruLeaseError, match=handle.exec_id):
        overtaken.together(lambda conn: conn.execute("DELETE FROM calls") and None)

    assert new.epoch == old.epoch + 1
    assert dump(home) == before


class StandingClock(clock.Clock):
    """Time that passes only by hand."""

    at = 0.0

    def monotonic(self) -> float:
        return self.at


@pytest.mark.parametrize("asks", ["this process", "another one"])
def test_right_after_a_commit_a_driver_asks_only_for_what_others_may_have_changed(
    home: Path, asks: str
):
    handle = steps.run(1)
    handle.wait(20)
    store, other = drives.store(), Store(config.find_home(), durability="normal")
    with store.write() as conn:
        row = executions.find(conn, handle.exec_id)
        lease = leases.take(conn, execution=row.id, exec_id=row.exec_id, runner="rn-1")
    ledger, asked = Ledger(store, lease, {}), []
    store._reader.set_trace_callback(asked.append)
    with clock.use(StandingClock()) as now:
        ledger.together(lambda conn: None)
        ledger.look()
        assert asked == []  # the commit has just told
        with (store if asks == "this process" else other).write() as conn:
            leases.request_cancel(conn, lease.execution)
        if asks == "another one":
            now.at += 0.002  # an answer might have been under way as long
        ledger.look()
    assert ledger.cancelled
    other.close()


def test_metadata_merges_dicts_and_takes_the_last_of_anything_else(home: Path):
    source = """
    @checkpoint
    def step():
        kitaru.log(cost={"usd": 1, "by": {"model": "a"}}, tags=["x"], n=1)
        kitaru.log(cost={"eur": 2, "by": {"day": 3}}, tags=["y"], n=None)

    @flow
    def agent():
        kitaru.log(cost={"usd": 1})
        step()
        kitaru.log(cost={"eur": 2}, stage="done")
        raise LookupError("so that it is driven again")
    """
    agent = drives.load(source)
    handle = agent.run()
    drives.error_of(handle)
    drives.error_of(drives.again("retry", agent, handle.exec_id))

    execution = KitaruClient().executions.get(handle.exec_id)
    assert execution.metadata == {"cost": {"usd": 1, "eur": 2}, "stage": "done"}
    assert execution.checkpoints[0].metadata == {
        "cost": {"usd": 1, "eur": 2, "by": {"model": "a", "day": 3}},
        "tags": ["y"],
        "n": None,
    }


# --- values ---------------------------------------------------------------------------------------

SIZES = [0, 1, config.INLINE_BYTES, config.INLINE_BYTES + 1]
SIZES += [config.CHUNK_BYTES + more for more in (-1, 0, 1)] + [3 * config.CHUNK_BYTES]


@pytest.mark.parametrize("size", SIZES)
def test_a_value_of_any_size_comes_back_from_its_row_or_its_chunks(home: Path, size: int):
    data = os.urandom(size)
    with drives.store().write() as conn:
        if size > config.INLINE_BYTES:  # it replaces what was there
            values.put(conn, "it", b"z" * 4 * config.CHUNK_BYTES)
        stored = values.put(conn, "it", data)
        assert values.get(conn, "it", stored, what="It") == data

    chunks = query(home, "SELECT length(data) FROM chunks ORDER BY position")
    if size <= config.INLINE_BYTES:
        assert stored.data == data
        assert chunks == []
    else:
        assert stored.data is None
        assert sum(length for (length,) in chunks) == size
        assert len(chunks) == -(-size // config.CHUNK_BYTES)


@pytest.mark.parametrize("damage", ["a byte", "its type", "a missing chunk", "nothing"])
def test_a_value_whose_bytes_changed_is_never_returned(damage: str):
    with drives.store().write() as conn:
        stored = values.put(conn, "it", b"x" * 2 * config.CHUNK_BYTES)
        if damage == "a byte":
            changed = b"y" + b"x" * (config.CHUNK_BYTES - 1)
            conn.execute("UPDATE chunks SET data = ? WHERE position = 1", (changed,))
        elif damage == "its type":
            conn.execute("UPDATE chunks SET data = CAST(data AS TEXT) WHERE position = 1")
        elif damage == "a missing chunk":
            conn.execute("DELETE FROM chunks WHERE position = 1")
        else:
            stored = StoredValue(b"", stored.size, stored.digest)
        with pytest.raises(KitaruCorruptionError, match="It is damaged"):
            values.get(conn, "it", stored, what="It")


#: Where a value lies, and what the error calls it.
PLACES = {
    "inputs": ("UPDATE executions SET inputs = ?", "Inputs of {}"),
    "result": ("UPDATE executions SET result = ?", "Result of {}"),
    "call": ("UPDATE calls SET result = ? WHERE kind = 'checkpoint'", "Artifact {}/make"),
    "artifact": ("UPDATE artifacts SET data = ?", "Artifact {}/make/kept"),
}


@pytest.mark.parametrize("place", PLACES)
def test_damage_is_named_wherever_it_is_read(home: Path, place: str):
    handle = making.run(3, ballast="b")
    drives.error_of(handle)
    drives.answer(handle.exec_id, "go", "yes")
    drives.again("resume", making, handle.exec_id).wait(20)
    sql, what = PLACES[place]
    query(home, sql, b'"another value"')
    client = KitaruClient()

    def read() -> list[Any]:
        return [ref.load() for ref in client.executions.get(handle.exec_id).artifacts]

    with pytest.raises(KitaruCorruptionError) as caught:
        read()

    assert what.format(handle.exec_id) in str(caught.value)
    assert "backup" in str(caught.value)


@pytest.mark.parametrize("answer", [b'"no"', '"yes"', b""])
def test_a_damaged_answer_fails_the_execution_and_never_answers(home: Path, answer: Any):
    handle = making.run(3)
    drives.error_of(handle)
    drives.answer(handle.exec_id, "go", "yes")
    query(home, "UPDATE waits SET answer = ?", answer)

    error = drives.error_of(drives.again("resume", making, handle.exec_id))

    assert f"answer to {handle.exec_id}/go is damaged" in str(error)
    assert error.failure_origin == "backend"  # type: ignore[attr-defined]
    assert KitaruClient().executions.get(handle.exec_id).result is None


# --- the file -------------------------------------------------------------------------------------


def pragmas(home: Path) -> list[Any]:
    names = ("application_id", "user_version", "journal_mode")
    return [query(home, f"PRAGMA {name}")[0][0] for name in names]


def test_a_fresh_file_says_whose_it_is_and_a_current_one_is_not_touched(home: Path):
    drives.store()
    assert pragmas(home) == [schema.APPLICATION_ID, schema.SCHEMA_VERSION, "wal"]
    forget(home)
    before = (home / config.DATABASE_NAME).read_bytes()

    again = drives.store()

    with commits(again) as seen:
        assert KitaruClient().executions.list() == []
    assert seen == []
    forget(home)
    assert (home / config.DATABASE_NAME).read_bytes() == before


def test_a_migration_that_is_cut_off_leaves_the_file_as_it_was(
    home: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(schema, "_V1", schema._V1 + "CREATE TABLE executions (a);\n")

    with pytest.raises(KitaruBackendError):
        drives.store()

    assert dump(home) == {}
    assert pragmas(home)[:2] == [0, 0]
    monkeypatch.undo()
    monkeypatch.setenv("KITARU_HOME", str(home))
    assert steps.run(1).wait(20) == 1


def test_a_file_that_is_removed_is_begun_anew(home: Path):
    steps.run(1).wait(20)
    client = KitaruClient()
    for path in home.iterdir():
        path.unlink()

    assert client.executions.list() == []
    assert steps.run(2).wait(20) == 2
    assert len(client.executions.list()) == 1
