"""The store as a whole: measured, copied while others write, and made smaller."""

from __future__ import annotations

import os
import sqlite3
import stat
from pathlib import Path

import pytest

import kitaru
from kitaru import KitaruClient, config, files
from kitaru.errors import (
    KitaruBackendError,
    KitaruCorruptionError,
    KitaruNotFoundError,
    KitaruStateError,
    KitaruUsageError,
)
from kitaru.store import maintenance
from tests import drives
from tests.support import dump, forget, is_sound, kill, query, start, until


@kitaru.checkpoint
def make(size: int) -> str:
    return "x" * size


@kitaru.flow
def making(size: int) -> int:
    return len(make(size))


def keeping() -> KitaruClient:
    return KitaruClient()


# --- facts ----------------------------------------------------------------------------------------


def test_looking_makes_no_store(home: Path):
    store = keeping().store
    for look in (store.facts, store.compact, lambda: store.backup(home / "copy.db")):
        with pytest.raises(KitaruNotFoundError, match="no store"):
            look()
    assert not [*home.iterdir()]


def test_large_tables_are_not_counted_to_the_end(home: Path, monkeypatch: pytest.MonkeyPatch):
    for _ in range(3):
        making.run(size=1).wait()
    monkeypatch.setattr(maintenance, "_COUNTED", 2)
    rows = keeping().store.facts().rows
    assert (rows["executions"], rows["stacks"]) == (None, 0)
    monkeypatch.setattr(maintenance, "_COUNTED", 3)
    assert keeping().store.facts().rows["executions"] == 3


# --- backup ---------------------------------------------------------------------------------------


def test_a_backup_is_a_store_of_its_own(home: Path, tmp_path: Path):
    handle = making.run(size=100_000)
    handle.wait()
    other = tmp_path / "other"
    other.mkdir(mode=0o700)
    told: list[tuple[int, int]] = []
    made = keeping().store.backup(other / "kitaru.db", progress=lambda *at: told.append(at))
    assert [path.name for path in other.iterdir()] == ["kitaru.db"]
    assert stat.S_IMODE((other / "kitaru.db").stat().st_mode) == 0o600
    assert (made.executions, made.bytes) == (1, (other / "kitaru.db").stat().st_size)
    assert told[-1][0] == told[-1][1]
    assert dump(other) == dump(home)
    assert KitaruClient(home=other).executions.get(handle.exec_id).result == 100_000
    making.run(size=1).wait()
    with pytest.raises(KitaruUsageError, match="in use as a store"):
        keeping().store.backup(other / "kitaru.db", force=True)
    forget(other)
    assert keeping().store.backup(other / "kitaru.db", force=True).executions == 2


def test_a_backup_while_another_process_writes_is_one_sound_state(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    making.run(size=400_000).wait()
    monkeypatch.setattr(maintenance, "_STEP", 8)  # so that it takes long enough to be disturbed
    process, exec_id = start(home, "chain", length=100_000)

    def written() -> int:
        return int(query(home, "SELECT count(*) FROM calls")[0][0])

    until(lambda: written() > 5, "it writes")
    seen: list[int] = []

    def wait_for_writes(done: int, total: int) -> None:
        if len(seen) < 5:
            before = written()
            seen.append(until(lambda: written() > before and written(), "it goes on writing"))

    try:
        made = keeping().store.backup(tmp_path / "kitaru.db", progress=wait_for_writes)
    finally:
        kill(process)
    assert len(seen) == 5
    assert is_sound(tmp_path)
    copied = query(tmp_path, "SELECT count(*), max(seq) FROM calls WHERE call_id LIKE 'step%'")
    assert copied[0][0] == copied[0][1] < seen[0], "the copy is the state it began with"
    assert made.executions == 2
    assert KitaruClient(home=tmp_path).executions.get(exec_id).stalled
    forget(tmp_path)


def test_a_file_that_is_there_is_kept_unless_it_is_to_be_replaced(home: Path, tmp_path: Path):
    making.run(size=1).wait()
    target = tmp_path / "mine"
    target.write_text("mine")
    with pytest.raises(KitaruUsageError, match="exists already"):
        keeping().store.backup(target)
    with pytest.raises(KitaruUsageError, match="is a folder"):
        keeping().store.backup(tmp_path, force=True)
    with pytest.raises(KitaruUsageError, match="the store itself"):
        keeping().store.backup(home / "kitaru.db", force=True)
    with pytest.raises(KitaruBackendError, match="cannot be written"):
        keeping().store.backup(tmp_path / "no" / "folder")
    assert target.read_text() == "mine"
    assert keeping().store.backup(target, force=True).path == str(target)


def test_a_backup_that_is_cut_off_leaves_what_was_there(home: Path, tmp_path: Path):
    making.run(size=1).wait()
    target = tmp_path / "mine"
    target.write_text("mine")

    def interrupt(done: int, total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        keeping().store.backup(target, force=True, progress=interrupt)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["home", "mine"]
    assert target.read_text() == "mine"


def test_no_backup_of_a_damaged_store_is_made(home: Path, tmp_path: Path):
    making.run(size=1).wait()
    query(home, "PRAGMA writable_schema=1")
    with sqlite3.connect(home / "kitaru.db") as conn:
        conn.execute("PRAGMA writable_schema=1")
        conn.execute(
            "UPDATE sqlite_master SET rootpage = (SELECT rootpage FROM sqlite_master "
            "WHERE name = 'executions_flow_id') WHERE name = 'executions_created'"
        )
    conn.close()
    with pytest.raises(KitaruCorruptionError, match="is damaged"):
        keeping().store.backup(tmp_path / "copy.db")
    assert not (tmp_path / "copy.db").exists()


def test_a_file_made_meanwhile_is_kept(tmp_path: Path):
    target = tmp_path / "mine"
    with files.whole(tmp_path / "other", force=False) as made:
        made.write_text("other")
    assert (tmp_path / "other").read_text() == "other"
    making = files.whole(target, force=False)
    making.__enter__().write_text("new")
    target.write_text("mine")
    with pytest.raises(KitaruUsageError, match="exists already"):
        making.__exit__(None, None, None)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["mine", "other"]
    assert target.read_text() == "mine"


# --- compacting -----------------------------------------------------------------------------------


def test_compacting_gives_room_back_and_changes_nothing(home: Path):
    kept = making.run(size=10)
    kept.wait()
    making.run(size=3_000_000).wait()
    making.run(size=3_000_000).wait()
    client = keeping()
    for each in client.executions.list():
        if each.exec_id != kept.exec_id:
            client.executions.delete(each.exec_id)
    before = dump(home)
    assert client.store.facts().free_bytes > 6_000_000
    done = client.store.compact()
    assert done.bytes_before - done.bytes > 6_000_000
    assert done.bytes == os.stat(home / "kitaru.db").st_size
    assert client.store.facts().free_bytes == 0
    assert dump(home) == before
    assert is_sound(home)


def test_compacting_waits_until_no_driver_could_lose_its_lease(
    home: Path, monkeypatch: pytest.MonkeyPatch
):
    making.run(size=1).wait()
    process, exec_id = start(home, "gate")
    until(lambda: list(home.glob("at-a-*")), "it is at its gate")
    monkeypatch.setattr("kitaru.client.keeping._COMPACTED_PER_SECOND", 1000)
    with pytest.raises(KitaruStateError, match=f"{exec_id} is driven now"):
        keeping().store.compact()
    monkeypatch.setattr(config, "LEASE_SECONDS", 1_000_000.0)
    assert keeping().store.compact().seconds >= 0
    kill(process)
    assert drives.store().path == home / "kitaru.db"
