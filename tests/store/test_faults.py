"""What goes wrong under a store: full disks, damage, foreign files, other users, forks, crowds.

Each fault is a typed error that says what to do next, and leaves the store as it was.
"""

from __future__ import annotations

import contextlib
import os
import random
import shutil
import sqlite3
import tempfile
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest

from kitaru import KitaruBackendError, KitaruClient, KitaruCorruptionError, KitaruError, config
from kitaru.store import open_store, schema
from tests import drives, flows, support
from tests.chaos import rot

IS_ROOT = os.geteuid() == 0
NOBODY = 65534


# --- full disks


def test_a_checkpoint_on_a_full_disk_is_an_error_and_resumes_when_there_is_room(
    home: Path,
) -> None:
    store = open_store(config.find_home())
    writer = store._writer
    pages = writer.execute("PRAGMA page_count").fetchone()[0]
    writer.execute(f"PRAGMA max_page_count={pages + 100}")
    handle = flows.heavy.run(count=8, size=100_000)
    with pytest.raises(KitaruBackendError, match=r"full disk.*Make room, then resume"):
        handle.wait()
    assert support.is_sound(home)
    executions = KitaruClient().executions
    left = executions.get(handle.exec_id)
    kept = [call.call_id for call in left.checkpoints if call.status == "completed"]
    assert 0 < len(kept) < 8
    assert left.stalled, "nobody drives it any more"

    writer.execute("PRAGMA max_page_count=1000000")
    executions.resume(handle.exec_id)
    support.see_through(home, handle.exec_id)
    assert executions.get(handle.exec_id).result == [100_000] * 8
    runs = support.effects(home, handle.exec_id)
    assert [runs.count(call) for call in kept] == [1] * len(kept)


def test_a_file_that_may_not_grow_is_an_error_and_resumes_elsewhere(home: Path) -> None:
    resource = pytest.importorskip("resource")

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, 1_000_000))

    arguments = ["-m", "tests.support", "tests.flows:heavy", '{"count": 20}', "1"]
    process = support.spawn(home, *arguments, preexec_fn=limit)
    exec_id, outcome = support.rest(process)
    assert "KitaruBackendError" in outcome
    assert support.is_sound(home)
    executions = KitaruClient().executions
    assert executions.get(exec_id).stalled
    executions.resume(exec_id)
    support.see_through(home, exec_id)
    assert executions.get(exec_id).result == [100_000] * 20


def test_a_flow_cannot_start_on_a_full_disk(home: Path) -> None:
    writer = open_store(config.find_home())._writer
    pages = writer.execute("PRAGMA page_count").fetchone()[0]
    writer.execute(f"PRAGMA max_page_count={pages}")
    before = support.dump(home)
    with pytest.raises(KitaruBackendError, match="full disk"):
        flows.gate.run(name="long" * 100_000)
    assert support.dump(home) == before
    assert support.is_sound(home)


@contextlib.contextmanager
def _no_room() -> Iterator[None]:
    """No file may grow, not even the index that SQLite makes beside a store to read it."""
    resource = pytest.importorskip("resource")
    _, most = kept = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, most))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, kept)


def test_a_closed_store_is_read_on_a_full_disk_and_written_when_there_is_room(home: Path) -> None:
    handle = flows.heavy.run(count=2, size=40_000)
    handle.wait()
    support.forget(home)
    client = KitaruClient()
    with _no_room():
        assert client.executions.get(handle.exec_id).result == [40_000] * 2
        assert client.artifacts.list(handle.exec_id)[0].load() == "a" * 40_000
        assert [each.code for each in client.store.examine()] == ["read_only"]
        with pytest.raises(KitaruBackendError, match=r"kitaru\.db cannot be written.*[Mm]ake room"):
            flows.chain.run(length=1)
    flows.chain.run(length=1).wait()
    assert client.executions.get(handle.exec_id).result == [40_000] * 2


def test_a_runner_that_cannot_keep_its_output_drives_all_the_same(home: Path) -> None:
    (home / "runners").touch()  # as if there were no room for the folder
    executions = KitaruClient().executions
    started = executions.run("tests.flows:chain", {"length": 2}, root=str(support.ROOT))
    support.until(lambda: executions.get(started.exec_id).status.is_finished, "it ends")
    assert executions.get(started.exec_id).status.is_successful


def test_an_execution_that_could_not_be_left_is_given_back_when_there_is_room(home: Path) -> None:
    handle = flows.gate.run()
    support.until(lambda: "gated" in support.effects(home, handle.exec_id), "the gate is reached")
    lease = "SELECT runner IS NULL FROM leases"
    with _no_room():
        (home / "gate-a").touch()
        with pytest.raises(KitaruBackendError, match="Check the disk, then resume"):
            handle.wait()
        assert support.query(home, lease) == [(False,)]
    support.until(lambda: support.query(home, lease) == [(True,)], "the lease is given back")
    drives.again("resume", flows.gate, handle.exec_id).wait()


# --- files that are not a whole store


def _garbage(path: Path) -> None:
    path.write_bytes(random.Random(1).randbytes(8192))


def _short_garbage(path: Path) -> None:
    path.write_bytes(b"not a store")


def _damaged_header(path: Path) -> None:
    path.write_bytes(b"\xff" * 100 + path.read_bytes()[100:])


def _cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


@pytest.mark.parametrize("damage", [_garbage, _short_garbage, _damaged_header, _cut])
def test_a_file_that_is_no_store_any_more_is_refused_and_not_touched(
    home: Path, damage: Callable[[Path], None]
) -> None:
    handle = flows.chain.run(length=20)
    handle.wait()
    support.query(home, "PRAGMA wal_checkpoint(TRUNCATE)")
    support.forget(home)
    path = home / "kitaru.db"
    damage(path)
    before = path.read_bytes()
    with pytest.raises(KitaruCorruptionError, match=r"kitaru\.db"):
        KitaruClient().executions.get(handle.exec_id)
    support.forget(home)
    assert path.read_bytes() == before


def test_a_store_of_a_newer_program_is_refused_and_not_touched(home: Path) -> None:
    flows.chain.run(length=1).wait()
    support.forget(home)
    newer = schema.SCHEMA_VERSION + 1
    support.query(home, f"PRAGMA user_version={newer}")
    before = (home / "kitaru.db").read_bytes()
    with pytest.raises(KitaruBackendError, match=rf"schema {newer}.*upgrade kitaru-mcp"):
        KitaruClient().executions.list()
    with pytest.raises(KitaruBackendError, match="upgrade"):
        flows.chain.run(length=1)
    assert (home / "kitaru.db").read_bytes() == before


def test_another_programs_file_is_refused_and_not_touched(home: Path) -> None:
    with closing(sqlite3.connect(home / "kitaru.db")) as conn:
        conn.execute("CREATE TABLE notes (text)")
        conn.commit()
    before = (home / "kitaru.db").read_bytes()
    with pytest.raises(KitaruCorruptionError, match="not a Kitaru store"):
        KitaruClient().executions.list()
    assert (home / "kitaru.db").read_bytes() == before


# --- damage inside


@pytest.mark.parametrize("size", [1_000, 200_000], ids=["inline", "in chunks"])
def test_a_damaged_result_is_an_error_wherever_it_is_read(home: Path, size: int) -> None:
    process, exec_id = support.start(home, "heavy", count=3, size=size)
    support.finish(process)
    support.query(home, "PRAGMA wal_checkpoint(TRUNCATE)")
    path = home / "kitaru.db"
    # The second result is `"bbb…"`; one of its letters changes.
    path.write_bytes(path.read_bytes().replace(b"b" * 500, b"b" * 499 + b"x", 1))

    client = KitaruClient()
    first, second, third = client.artifacts.list(exec_id)
    assert first.load() == "a" * size
    with pytest.raises(KitaruCorruptionError, match=r"large#2 is damaged"):
        second.load()
    assert third.load() == "c" * size
    assert client.executions.get(exec_id).result == [size] * 3

    again = flows.heavy.replay(exec_id, from_="large#3")
    with pytest.raises(KitaruError, match=r"large#2 is damaged"):
        again.wait()


def test_a_schema_in_which_rows_lose_their_numbers_is_told_as_damage(home: Path) -> None:
    process, exec_id = support.start(home, "heavy", count=1, size=1)
    support.finish(process)
    support.query(home, "PRAGMA wal_checkpoint(TRUNCATE)")
    path = home / "kitaru.db"
    data, column = path.read_bytes(), b"id INTEGER PRIMARY KEY,\n    exec_id"
    assert data.count(column) == 1
    path.write_bytes(data.replace(column, column.replace(b"PRIMARY ", b"PRIMARY0")))

    with pytest.raises(KitaruCorruptionError, match=r"An execution is damaged in the store"):
        KitaruClient().executions.get(exec_id)


@pytest.mark.parametrize("attack", [rot.run, rot.run_killed])
def test_random_damage_never_changes_a_value(tmp_path: Path, attack: Callable[..., str]) -> None:
    assert attack(tmp_path, rounds=10, rng=random.Random(3))


# --- folders of others


# Everything is imported before the program becomes a user who may not read its files.
AS_NOBODY = f"""
import os
import tomllib  # what settings import only when there is a pyproject.toml
import urllib.parse  # what pathlib imports only when it makes a URI
from kitaru import KitaruClient, KitaruError
from tests import flows
if os.geteuid() == 0:
    os.setgid({NOBODY})
    os.setuid({NOBODY})
"""
INSPECT = f"""{AS_NOBODY}
client = KitaruClient()
(found,) = client.executions.list()
execution = client.executions.get(found.exec_id)
print(execution.status, execution.status_reason, execution.result)
print(len(client.executions.logs(found.exec_id)), client.artifacts.list(found.exec_id)[0].load())
for act in (lambda: flows.chain.run(length=1), lambda: client.executions.cancel(found.exec_id)):
    try:
        act()
    except KitaruError as exc:
        print(type(exc).__name__, exc)
"""
REFUSED = f"""{AS_NOBODY}
try:
    KitaruClient().executions.list()
except KitaruError as exc:
    print(type(exc).__name__, exc)
"""
MADE_WRITABLE = f"""
import sqlite_utils  # what only the making of a store imports
from kitaru import create_stack, list_stacks
from kitaru.store import close_all
{AS_NOBODY}
home = os.environ["KITARU_HOME"]
create_stack("west")
close_all()
for mode in (0o500, 0o700):
    os.chmod(home, mode)
    try:
        create_stack("east")
        print([stack.name for stack in list_stacks()])
    except KitaruError as exc:
        print(type(exc).__name__)
"""


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A folder that other users can reach."""
    path = Path(tempfile.mkdtemp(prefix="kitaru-test-"))
    path.chmod(0o755)
    yield path
    path.chmod(0o755)
    shutil.rmtree(path)


def copy_read_only(home: Path, folder: Path) -> None:
    """Copy a store to where nobody may write."""
    for path in home.glob("kitaru.db*"):
        shutil.copyfile(path, folder / path.name)
        (folder / path.name).chmod(0o444)
    folder.chmod(0o555)


def leave_log(home: Path) -> None:
    """Let the newest commits of a store lie in its write-ahead log."""
    with open_store(config.find_home(home)).write() as conn:
        conn.execute("UPDATE executions SET status_reason = 'in the log'")
    assert (home / "kitaru.db-wal").stat().st_size > 0


@pytest.mark.parametrize("with_log", [False, True])
def test_a_read_only_folder_can_be_inspected_and_writes_say_why(
    home: Path, open_folder: Path, with_log: bool
) -> None:
    support.finish(support.start(home, "heavy", count=2, size=10)[0])
    if with_log:
        leave_log(home)
    copy_read_only(home, open_folder)
    assert (open_folder / "kitaru.db-wal").exists() == with_log

    lines = support.run_python(open_folder, INSPECT)
    reason = "in the log" if with_log else "None"
    assert lines[:2] == [f"completed {reason} [10, 10]", f"0 {'a' * 10}"]
    assert len(lines) == 4
    assert all(line.startswith("KitaruBackendError") for line in lines[2:])
    assert all("read-only" in line and "KITARU_HOME" in line for line in lines[2:])


def test_a_folder_that_can_be_written_again_is_without_a_new_process(open_folder: Path) -> None:
    open_folder.chmod(0o777)
    assert support.run_python(open_folder / "own", MADE_WRITABLE) == [
        "KitaruBackendError",
        "['local', 'east', 'west']",
    ]


def test_a_log_that_cannot_be_read_is_not_passed_over(home: Path, open_folder: Path) -> None:
    support.finish(support.start(home, "heavy", count=2, size=10)[0])
    leave_log(home)
    (home / "kitaru.db-shm").unlink()  # as a copy without it has; SQLite cannot make it there
    copy_read_only(home, open_folder)
    (line,) = support.run_python(open_folder, REFUSED)
    assert line.startswith("KitaruBackendError")


def test_a_lock_file_that_cannot_be_opened_is_named(home: Path) -> None:
    (home / "kitaru.db.lock").mkdir()
    with pytest.raises(
        KitaruBackendError, match=r"kitaru\.db\.lock cannot be used.*Check the disk"
    ):
        flows.chain.run(length=1)


@pytest.mark.skipif(not IS_ROOT, reason="only root can make a folder of another user")
@pytest.mark.parametrize("closed", ["home", "."])
def test_a_folder_that_cannot_be_read_is_refused_by_name(
    home: Path, open_folder: Path, closed: str
) -> None:
    shutil.copytree(home, open_folder / "home")
    (open_folder / closed).chmod(0o700)
    (line,) = support.run_python(open_folder / "home", REFUSED)
    assert line.startswith("KitaruBackendError")
    assert str(open_folder / "home") in line
    assert "KITARU_HOME" in line
