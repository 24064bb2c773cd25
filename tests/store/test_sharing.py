"""A store that many share: forks, crowds of processes, other programs, and who may read it."""

from __future__ import annotations

import os
import signal
import sqlite3
import stat
from contextlib import closing
from pathlib import Path

import pytest

import kitaru
from kitaru import KitaruBackendError, KitaruClient, config, private
from kitaru.store import Store, connection, open_store
from tests import flows, support
from tests.chaos import readers, wal_reset


def test_a_fork_may_not_use_its_parents_store_but_opens_its_own(home: Path) -> None:
    program = """
import io, os, signal, sys
from kitaru import KitaruClient, KitaruError, config
from kitaru.store import open_store
from tests import flows
store = open_store(config.find_home())
client = KitaruClient()
output, sys.stdout = sys.stdout, io.StringIO()  # the flows print too
exec_id = flows.chain.run(length=3).exec_id
if (child := os.fork()) == 0:
    signal.alarm(10)  # refused, it does not wait for locks that its parent had
    for use in (store.version, lambda: store.write().__enter__(), store.close):
        try:
            use()
        except KitaruError as exc:
            print(type(exc).__name__, "fork" in str(exc), file=output, flush=True)
    print(client.executions.get(exec_id).exec_id == exec_id, file=output, flush=True)
    del store, client
    import gc; gc.collect()
    os._exit(0)
os.waitpid(child, 0)
print(flows.chain.run(length=3).wait() == flows.chain.run(length=3).wait(), file=output)
"""
    assert support.run_python(home, program) == ["KitaruBackendError True"] * 3 + ["True", "True"]
    assert support.is_sound(home)


def test_a_fork_is_refused_its_parents_store_while_a_thread_of_that_commits(home: Path) -> None:
    program = """
import os, signal, threading
from kitaru import KitaruError, config
from kitaru.store import open_store
store, inside, over = open_store(config.find_home()), threading.Event(), threading.Event()
work = lambda conn: (inside.set(), over.wait())
thread = threading.Thread(target=store.together, args=(work,))
thread.start()
inside.wait()
if (child := os.fork()) == 0:
    signal.alarm(20)
    try:
        store.together(lambda conn: None)
    except KitaruError as exc:
        os._exit(int("fork" not in str(exc)))
    os._exit(2)
over.set()
thread.join()
print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""
    assert support.run_python(home, program) == ["0"]


def test_a_fork_that_outlives_its_killed_parent_holds_no_lock(home: Path) -> None:
    program = """
import os, sys, time
from kitaru import config
from kitaru.store import open_store
store = open_store(config.find_home())
with store.write():
    child = os.fork()
    if child == 0:
        time.sleep(60)
        os._exit(0)
    print(child, flush=True)
    time.sleep(60)
"""
    process = support.spawn(home, "-c", program)
    assert process.stdout is not None
    child = int(process.stdout.readline())
    try:
        process.kill()
        process.wait()
        support.until(lambda: support.write_lock_is_free(home), "the lock is free", seconds=10)
        flows.chain.run(length=1).wait(30)
    finally:
        os.kill(child, signal.SIGKILL)
        support.kill(process)


def test_the_log_of_writes_is_short_again_once_a_long_reader_has_ended(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection, "_WAL_LIMIT_BYTES", 0)
    told = readers.run(home, commits=1200, seconds=60)
    assert "1200 commits under two readers, WAL up to" in told


def test_a_store_that_another_program_locks_is_an_error_that_says_so(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection, "_BUSY_SECONDS", 0.01)
    client = KitaruClient()
    assert client.executions.list() == []
    with closing(sqlite3.connect(home / "kitaru.db", isolation_level=None)) as foreign:
        foreign.execute("BEGIN IMMEDIATE")
        with pytest.raises(KitaruBackendError, match="locked by another program"):
            flows.chain.run(length=1)
        assert client.executions.list() == []
    flows.chain.run(length=1).wait()


def test_everything_in_a_home_is_for_its_owner_only(tmp_path: Path) -> None:
    home = tmp_path / "new" / "home"
    program = """
import time
from kitaru import KitaruClient
client = KitaruClient()
exec_id = client.executions.run("tests.flows:gate").exec_id
from tests import support
support.until(lambda: support.effects(client.home.path, exec_id), "it runs")
"""
    support.run_python(home, program, umask=0)
    try:
        found = {path: stat.S_IMODE(path.stat().st_mode) for path in home.rglob("*")}
        kept = {path.name: mode for path, mode in found.items() if not path.name.startswith("at-")}
        assert {"kitaru.db", "kitaru.db-wal", "kitaru.db-shm", "kitaru.db.lock"} <= kept.keys()
        folders = {home: stat.S_IMODE(home.stat().st_mode)}
        folders |= {path: mode for path, mode in found.items() if path.is_dir()}
        assert set(folders.values()) == {0o700}, folders
        assert {mode for name, mode in kept.items() if (home / name).is_file()} == {0o600}, kept
    finally:
        (home / "gate-a").touch()


def test_eight_processes_open_a_fresh_store_at_once(home: Path) -> None:
    program = """
import sys
from kitaru import KitaruClient
from tests import flows
print("ready", flush=True)
sys.stdin.readline()
handle = flows.chain.run(length=2)
print(handle.wait())
"""
    crowd = [support.spawn(home, "-c", program) for _ in range(8)]
    for process in crowd:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
    assert not (home / "kitaru.db").exists()
    for process in crowd:
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()
    results = {support.finish(process) for process in crowd}
    assert len(results) == 1
    assert support.query(home, "SELECT count(*) FROM executions") == [(8,)]
    assert support.is_sound(home)


def test_writers_take_turns_at_one_lock(home: Path) -> None:
    store = open_store(config.find_home())
    with store.write():
        assert not support.write_lock_is_free(home)
    assert support.write_lock_is_free(home)


def test_a_process_that_opens_the_file_twice_still_has_it_open(home: Path) -> None:
    store = open_store(config.find_home())
    Store(store.home, durability="normal").close()
    flow = "from tests import flows; flows.chain.run(length=1).wait()"
    support.run_python(home, f"{flow}; from kitaru import store; store.close_all()")
    # The last one to close a store removes it; removed under us, it would take our commits along.
    assert (home / "kitaru.db-wal").exists()
    flows.chain.run(length=1).wait()
    assert support.query(home, "SELECT count(*) FROM executions") == [(2,)]


def test_maintenance_beside_a_writer_loses_nothing(home: Path) -> None:
    assert wal_reset.run(home / "busy", side=1, writing=1, seconds=0.2) > 0


def test_by_default_each_commit_of_a_process_is_pushed_to_the_disk(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("KITARU_DURABILITY")
    names = ("synchronous", "fullfsync", "checkpoint_fullfsync")
    program = f"""
from kitaru import config
from kitaru.store import open_store
with open_store(config.find_home()).write() as conn:
    for name in {names}:
        print(name, *conn.execute(f"PRAGMA {{name}}").fetchone())
"""
    FULL = 2
    assert support.run_python(home, program) == [
        f"{names[0]} {FULL}",
        *(f"{n} 1" for n in names[1:]),
    ]


def test_the_wal_gets_smaller_again_after_a_large_write(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection, "_WAL_LIMIT_BYTES", 100_000)
    store = open_store(config.find_home())
    wal = home / "kitaru.db-wal"
    for size in (6_000_000, 1):
        with store.write() as conn:
            conn.execute("INSERT INTO chunks VALUES (?, 0, zeroblob(?))", (f"test:{size}", size))
    assert wal.stat().st_size <= 100_000


@pytest.mark.parametrize("kind", ["nfs4", "cifs", "fuse.glusterfs", "fuse.sshfs"])
def test_a_home_on_a_network_file_system_is_refused(
    home: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    mounts = home / "mounts"
    mounts.write_text(f"disk / ext4 rw 0 0\nserver:/x {home} {kind} rw 0 0\n")
    monkeypatch.setattr(private, "_MOUNTS", mounts)
    with pytest.raises(KitaruBackendError, match="is on a network file system"):
        open_store(config.find_home())
    monkeypatch.setenv("KITARU_ALLOW_NETWORK_HOME", "1")
    open_store(config.find_home())


def test_a_closed_store_is_opened_anew(home: Path) -> None:
    flows.chain.run(length=1).wait()
    store: Store = open_store(config.find_home())
    store.close()
    assert len(KitaruClient().executions.list()) == 1


def test_a_store_that_was_replaced_is_opened_anew(home: Path) -> None:
    flows.chain.run(length=1).wait()
    for path in home.glob("kitaru.db*"):
        path.unlink()
    assert kitaru.KitaruClient().executions.list() == []
