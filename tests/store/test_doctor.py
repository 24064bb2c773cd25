"""What the doctor finds in a store that was harmed, what it repairs, and what it never touches."""

from __future__ import annotations

import os
import sqlite3
import stat
from pathlib import Path

import pytest

import kitaru
from kitaru import KitaruClient, codec, config
from kitaru.store import maintenance, schema
from kitaru.upkeep import Finding
from tests import drives
from tests.support import dump, expire_leases, forget, kill, query, start, until

LARGE = config.INLINE_BYTES + 1


@kitaru.checkpoint
def make(size: int) -> str:
    kitaru.log(size=size)
    kitaru.save("copy", "y" * size)
    return "x" * size


@kitaru.flow
def making(size: int) -> str:
    made = make(size)
    return made + kitaru.wait(name="go", schema=str, timeout=0)


@kitaru.flow
def brief() -> int:
    return 1


@kitaru.flow
def noting() -> None:
    kitaru.log(number=1, text="1")


def examine(**options: bool) -> list[Finding]:
    return KitaruClient().store.examine(**options)


def codes(**options: bool) -> list[str]:
    return [each.code for each in examine(**options)]


@pytest.fixture
def done(home: Path) -> str:
    """A completed execution with values in chunks, an answer, and odd numbers."""
    handle = making.run(size=LARGE)
    drives.error_of(handle)  # once it is let go
    drives.answer(handle.exec_id, "go", "!")
    drives.again("resume", making, handle.exec_id).wait()
    (home / "runners").mkdir(mode=0o700, exist_ok=True)
    return handle.exec_id


def test_a_sound_store_has_no_findings(home: Path, done: str):
    waits_on = making.run(size=1)
    drives.error_of(waits_on)
    told: list[tuple[int, int]] = []
    before = dump(home)
    found = KitaruClient().store.examine(
        full=True, repair=True, progress=lambda *at: told.append(at)
    )
    assert found == []
    assert told[-1][0] == told[-1][1] > 5
    assert dump(home) == before


def test_looking_makes_no_store(home: Path):
    assert examine(full=True, repair=True) == []
    assert not [*home.iterdir()]


@pytest.mark.parametrize(
    ("harm", "id_"),
    [
        ("UPDATE executions SET result = x'00' WHERE result NOT NULL", "the result of {}"),
        ("UPDATE executions SET inputs = x'00'", "the inputs of {}"),
        ("UPDATE calls SET result_digest = x'00' WHERE kind = 'wait'", "{}/go"),
        ("UPDATE waits SET answer = x'00'", "the answer to {}/go"),
        ("UPDATE artifacts SET digest = x'00'", "{}/make/copy"),
        ("UPDATE chunks SET data = x'00' WHERE owner LIKE 'call:%'", "{}/make"),
        ("DELETE FROM chunks WHERE owner LIKE 'artifact:%'", "{}/make/copy"),
    ],
)
def test_a_damaged_value_is_found_when_all_are_read(home: Path, done: str, harm: str, id_: str):
    query(home, "UPDATE executions SET result = x'31', result_size = 1, result_digest = x'00'")
    query(home, "UPDATE executions SET result_digest = ?", codec.digest(b"1"))
    assert codes(full=True) == ["orphaned_chunk"]
    query(home, harm)
    assert "damaged_value" not in codes()
    found = [each for each in examine(full=True) if each.code == "damaged_value"]
    assert [each.id for each in found] == [id_.format(done)]


def test_a_damaged_column_is_found(home: Path, done: str):
    query(home, "UPDATE calls SET metadata = '{' WHERE call_id = 'make'")
    assert codes() == []
    (found,) = examine(full=True)
    assert (found.code, found.id) == ("damaged_row", done)
    assert "metadata of calls" in found.message


def test_a_driver_that_died_is_found_and_left_alone(home: Path):
    process, exec_id = start(home, "gate")
    until(lambda: list(home.glob("at-a-*")), "it is at its gate")
    (home / "kitaru.db").chmod(0o600)
    assert codes() == []
    kill(process)
    (found,) = until(lambda: examine(repair=True), "it is seen to be dead")
    assert (found.code, found.id, found.repaired) == ("stalled", exec_id, False)
    assert f"executions resume {exec_id}" in found.advice
    assert KitaruClient().executions.get(exec_id).stalled


def test_orphans_are_found_and_removed(home: Path, done: str):
    live = making.run(size=LARGE)
    drives.error_of(live)
    before = dump(home)
    (row,) = query(home, "SELECT id FROM executions WHERE exec_id = ?", done)
    query(home, "UPDATE waits SET status = 'pending' WHERE execution = ?", row[0])
    for owner in ("inputs:99", f"inputs:{row[0]}", f"call:{row[0]}:77", "artifact:9:9:9", "what"):
        query(home, "INSERT INTO chunks VALUES (?, 0, x'00')", owner)
    log = home / "runners" / "kr-gone.log"
    log.touch(mode=0o600)

    wrong = ["orphaned_wait", *["orphaned_chunk"] * 5, "leftover_log"]
    assert codes() == wrong
    assert log.exists()
    assert [(each.code, each.repaired) for each in examine(repair=True)] == [
        (code, True) for code in wrong
    ]
    assert codes() == []
    assert not log.exists()
    after = dump(home)
    assert after["chunks"] == before["chunks"]
    assert after["calls"] == before["calls"]
    assert query(home, "SELECT status FROM waits WHERE execution = ?", row[0]) == [("withdrawn",)]
    assert KitaruClient().executions.pending_waits(live.exec_id)


@pytest.mark.parametrize(
    "harm",
    [
        "UPDATE calls SET status = 'running'",
        "UPDATE executions SET result_size = NULL",
        "UPDATE executions SET status = 'failed'",
        "UPDATE executions SET ended_at = NULL",
        "UPDATE executions SET status = 'odd', ended_at = NULL",
    ],
)
def test_a_status_that_its_journal_denies_is_found(home: Path, harm: str):
    @kitaru.checkpoint
    def one() -> int:
        return 1

    @kitaru.flow
    def flow() -> int:
        return one()

    handle = flow.run()
    handle.wait()
    query(home, harm)
    (found,) = examine(repair=True)
    assert (found.code, found.id, found.repaired) == ("status_mismatch", handle.exec_id, False)


def test_rows_of_nothing_are_found(home: Path, done: str):
    query(
        home, "INSERT INTO logs (execution, at, level, source, message) VALUES (99, 0, '', '', '')"
    )
    (found,) = examine(repair=True)
    assert (found.code, found.id) == ("orphaned_rows", "logs")
    assert found.message.startswith("1 rows of logs")


def test_files_that_others_may_read_are_found_and_closed(home: Path, done: str):
    home.chmod(0o755)
    log = home / "runners" / f"{done}.log"
    log.touch()
    log.chmod(0o644)
    (home / "kitaru.db").chmod(0o660)
    kitaru.create_secret("mail", {"PASSWORD": "correct horse"})
    (home / "secrets.json").chmod(0o604)
    found = examine()
    assert [(each.code, each.id) for each in found] == [
        ("permissions", str(path))
        for path in (home, home / "kitaru.db", home / "secrets.json", log)
    ]
    assert found[1].advice == f"chmod 0600 '{home / 'kitaru.db'}'"
    assert all(each.repaired for each in examine(repair=True))
    assert codes() == []


def test_a_store_that_was_made_read_only_is_closed_and_stays_so(home: Path, done: str):
    (home / "kitaru.db").chmod(0o444)
    (found,) = [each for each in examine(repair=True) if each.code == "permissions"]
    assert (found.repaired, found.advice) == (True, f"chmod 0400 '{home / 'kitaru.db'}'")
    assert stat.S_IMODE((home / "kitaru.db").stat().st_mode) == 0o400
    (home / "kitaru.db").chmod(0o600)


def test_pages_that_do_not_fit_are_found(home: Path, done: str):
    forget(home)
    with sqlite3.connect(home / "kitaru.db") as conn:
        conn.execute("PRAGMA writable_schema=1")
        conn.execute(
            "UPDATE sqlite_master SET rootpage = (SELECT rootpage FROM sqlite_master "
            "WHERE name = 'executions_flow_id') WHERE name = 'executions_created'"
        )
    conn.close()
    assert "damaged" in codes(repair=True)


def test_a_file_that_is_no_store_is_found(home: Path):
    (home / "kitaru.db").write_bytes(b"not a database" * 1000)
    (home / "kitaru.db").chmod(0o600)
    (found,) = examine(repair=True)
    assert (found.code, found.id) == ("damaged", str(home / "kitaru.db"))


def test_a_newer_schema_is_found(home: Path, done: str):
    forget(home)
    query(home, f"PRAGMA user_version={schema.SCHEMA_VERSION + 1}")
    (found,) = examine(repair=True)
    assert found.code == "newer_schema"
    assert str(schema.SCHEMA_VERSION + 1) in found.message


def test_a_store_that_cannot_be_written_is_found_and_read(
    home: Path, done: str, monkeypatch: pytest.MonkeyPatch
):
    forget(home)
    query(home, "INSERT INTO chunks VALUES ('inputs:99', 0, x'00')")
    query(home, "PRAGMA wal_checkpoint(TRUNCATE)")
    monkeypatch.setattr("kitaru.store.opening.is_writable", lambda home: False)
    assert codes(repair=True) == ["read_only", "orphaned_chunk"]
    assert not any(each.repaired for each in examine(repair=True))


def test_a_large_wal_is_found(home: Path, done: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("kitaru.client.examining._LARGE_WAL", 1)
    (found,) = examine()
    assert (found.code, found.id) == ("large_wal", f"{home / 'kitaru.db'}-wal")
    assert str(maintenance.wal_bytes(home / "kitaru.db")) in found.message


def test_a_lease_that_ran_out_is_a_finding(home: Path):
    process, exec_id = start(home, "gate")
    until(lambda: list(home.glob("at-a-*")), "it is at its gate")
    os.kill(process.pid, 19)  # SIGSTOP: it cannot renew
    expire_leases(home)
    assert [each.id for each in examine()] == [exec_id]
    kill(process)


@pytest.mark.parametrize(
    "harm",
    [
        "UPDATE execution_rollup SET executions = executions + 1",
        "DELETE FROM execution_metadata",
        "UPDATE execution_metadata SET value = 2",
        "INSERT INTO execution_metadata SELECT key, flow_id || 'x', 1, 1 FROM execution_metadata",
    ],
)
def test_counts_that_are_wrong_are_found_and_made_anew(home: Path, harm: str):
    noting.run().wait()
    before = dump(home)
    query(home, harm)

    assert codes() == []
    assert codes(full=True) == ["wrong_counts"]
    assert [each.repaired for each in examine(full=True, repair=True)] == [True]

    assert codes(full=True) == []
    assert dump(home) == before


def test_metadata_that_is_no_longer_any_stops_no_repair(home: Path):
    noting.run().wait()
    query(home, "UPDATE executions SET metadata = '[1]'")
    assert [each.repaired for each in examine(full=True, repair=True)] == [True]
    assert codes(full=True) == []
    query(home, "UPDATE executions SET metadata = x'ff'")
    assert codes(full=True) == ["damaged_row"]
