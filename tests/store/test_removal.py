"""Executions that go: nothing of theirs is left, and nothing that others need is touched."""

from __future__ import annotations

import os
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

import kitaru
from kitaru import KitaruClient, config, log_store
from kitaru.errors import KitaruLeaseError, KitaruNotFoundError, KitaruStateError, KitaruUsageError
from kitaru.models import ExecutionStatus
from kitaru.store import executions, keys, leases, removal
from kitaru.store.keys import Key
from tests import drives
from tests.support import TurnedClock, dump, expire_leases, is_sound, query, rest, start

pytestmark = pytest.mark.usefixtures("home")

LARGE = config.INLINE_BYTES + 1
#: Columns that may keep the id of an execution that is gone, as history.
HISTORY = {
    ("executions", "original_exec_id"),
    ("executions", "parent_exec_id"),
    ("calls", "child_exec_id"),
    ("calls", "original_call_id"),
    ("calls", "cached_from"),
    ("logs", "message"),
}


@kitaru.checkpoint(cache=True)
def large(text: str) -> str:
    kitaru.save("copy", text)
    kitaru.save("note", "short")
    print("a line")
    return text


@kitaru.flow
def below(text: str) -> str:
    return large(text)


@kitaru.flow(tags=["one", "two"])
def whole(text: str) -> str:
    kitaru.log(size=len(text))
    made = large(text)
    below.run(text=text).wait()
    answer = kitaru.wait(name="go", schema=str, timeout=0)
    return made + answer


@kitaru.checkpoint
def breaks() -> None:
    raise ValueError("broken")


@kitaru.flow
def broken() -> None:
    large("x")
    breaks()


@kitaru.checkpoint
def fragile() -> str:
    if not (Path(os.environ["KITARU_HOME"]) / "mended").exists():
        raise ValueError("not yet")
    return "mended"


@kitaru.flow
def inner() -> str:
    return fragile()


@kitaru.flow
def outer() -> str:
    return inner.run().wait()


@kitaru.flow
def brief() -> int:
    return 1


def client() -> KitaruClient:
    return KitaruClient()


def made(home: Path, text: str) -> str:
    """A finished execution that has rows in every table that executions have rows in."""
    handle = whole.run(text=text)
    with pytest.raises(KitaruStateError):
        handle.wait()
    exec_id = handle.exec_id
    drives.answer(exec_id, "go", "!")
    drives.again("resume", whole, exec_id).wait()
    with drives.store().write() as conn:
        row = executions.find(conn, exec_id)
        keys.record(conn, Key(f"key of {exec_id}", "d"), action="run", execution=row.id)
    (home / config.RUNNER_LOGS).mkdir(exist_ok=True)
    (home / config.RUNNER_LOGS / f"{exec_id}.log").write_text("last words")
    return exec_id


def tables(home: Path) -> dict[str, list[str]]:
    """The columns of every table."""
    names = query(home, "SELECT name FROM sqlite_master WHERE type = 'table'")
    return {
        name: [row[1] for row in query(home, f'PRAGMA table_info("{name}")')] for (name,) in names
    }


def test_nothing_of_a_deleted_execution_is_left_in_any_table(home: Path):
    made(home, "a" * LARGE)
    before = dump(home)
    exec_id = made(home, "b" * LARGE)
    (row,) = query(home, "SELECT id FROM executions WHERE exec_id = ?", exec_id)
    (child,) = client().executions.get(exec_id).children
    owned = {
        name
        for name, columns in tables(home).items()
        if "execution" in columns
        and query(home, f"SELECT 1 FROM {name} WHERE execution = ?", row[0])
    }
    every = {name for name, columns in tables(home).items() if "execution" in columns}
    assert owned == every, "the execution above has to have rows in every such table"

    deleted = client().executions.delete(exec_id)

    assert deleted.exec_ids == (exec_id,)
    assert deleted.children == (child,)
    assert deleted.bytes > 4 * LARGE
    for name, columns in tables(home).items():
        for column in columns:
            found = query(home, f'SELECT "{column}" FROM "{name}"')
            told = [value for (value,) in found if exec_id in str(value)]
            assert not told or (name, column) in HISTORY, f"{name}.{column}"
    assert not (home / config.RUNNER_LOGS / f"{exec_id}.log").exists()

    client().executions.delete(child)
    assert dump(home) == before
    assert is_sound(home)


def test_a_delete_finds_metadata_by_its_whole_key(home: Path):
    exec_id = made(home, "a")
    store, asked = drives.store(), list[str]()
    with store.write() as conn:
        conn.set_trace_callback(asked.append)
        removal.delete(conn, [executions.find(conn, exec_id).id])
        conn.set_trace_callback(None)
        (sql,) = {each for each in asked if each.startswith("DELETE FROM execution_metadata")}
        steps = [row["detail"] for row in conn.execute(f"EXPLAIN QUERY PLAN {sql}").fetchall()]
    assert "(key=? AND flow_id=? AND execution=?)" in steps[0]


@pytest.mark.parametrize("status", ["running", "waiting", "pending"])
def test_an_unfinished_execution_is_refused_and_left_alone(home: Path, status: str):
    handle = brief.run()
    handle.wait()
    exec_id = handle.exec_id
    query(home, "UPDATE executions SET status = ? WHERE exec_id = ?", status, exec_id)
    with pytest.raises(KitaruStateError, match=f"it is {status}.*executions cancel {exec_id}"):
        client().executions.delete(exec_id)
    assert client().executions.prune(flow="brief").count == 0
    assert client().executions.prune(timedelta(0)).count == 0
    assert query(home, "SELECT status FROM executions") == [(status,)]


def test_all_of_several_are_deleted_or_none(home: Path):
    one, two = brief.run(), brief.run()
    one.wait(), two.wait()
    with pytest.raises(KitaruNotFoundError):
        client().executions.delete(one.exec_id, "kr-nothing")
    assert client().executions.get(one.exec_id).status == "completed"
    deleted = client().executions.delete(one.exec_id, two.exec_id, one.exec_id)
    assert {*deleted.exec_ids} == {one.exec_id, two.exec_id}
    assert client().executions.list() == []


def replayed(home: Path) -> tuple[str, str]:
    """A failed execution and a failed replay of it, which reads it again when it is retried."""
    handle = broken.run()
    drives.error_of(handle)
    again = broken.replay(handle.exec_id, from_="breaks")
    drives.error_of(again)
    return handle.exec_id, again.exec_id


def test_the_original_of_a_replay_that_may_read_it_is_kept(home: Path):
    original, replay = replayed(home)
    with pytest.raises(KitaruStateError, match=f"its replay {replay} is failed"):
        client().executions.delete(original)
    drives.error_of(drives.again("retry", broken, replay))
    pruned = client().executions.prune(status="failed", flow="broken", dry_run=True)
    assert (pruned.count, pruned.kept) == (2, {})
    client().executions.delete(original, replay)
    assert client().executions.list() == []


def test_a_replay_of_a_deleted_original_that_has_ended_well_stays_whole(home: Path):
    handle = below.run(text="x" * LARGE)
    handle.wait()
    again = below.replay(handle.exec_id, from_="large")
    again.wait()
    client().executions.delete(handle.exec_id)
    kept = client().executions.get(again.exec_id)
    assert kept.original_exec_id == handle.exec_id
    assert client().artifacts.get(f"{again.exec_id}/large").load() == "x" * LARGE


def test_the_child_of_an_unfinished_parent_is_kept(home: Path):
    handle = whole.run(text="x")
    drives.error_of(handle)
    (child,) = client().executions.get(handle.exec_id).children
    with pytest.raises(KitaruStateError, match=f"its parent {handle.exec_id} is waiting"):
        client().executions.delete(child)
    pruned = client().executions.prune(timedelta(0))
    assert (pruned.count, [*pruned.kept]) == (0, [child])
    query(home, "UPDATE executions SET status = 'odd' WHERE exec_id = ?", handle.exec_id)
    assert [*client().executions.prune(timedelta(0)).kept] == [child]
    query(home, "UPDATE executions SET status = 'waiting' WHERE exec_id = ?", handle.exec_id)
    see_through_here(handle.exec_id)
    assert client().executions.prune(timedelta(0)).count == 2


def see_through_here(exec_id: str) -> None:
    drives.answer(exec_id, "go", "!")
    drives.again("resume", whole, exec_id).wait()


def test_a_retry_whose_failed_child_was_deleted_starts_another(home: Path):
    handle = outer.run()
    drives.error_of(handle)
    (child,) = client().executions.get(handle.exec_id).children
    client().executions.delete(child)
    (home / "mended").touch()
    assert drives.again("retry", outer, handle.exec_id).wait() == "mended"
    (another,) = client().executions.get(handle.exec_id).children
    assert another != child


def test_a_result_taken_from_a_deleted_execution_stays(home: Path):
    first, second = below.run(text="x" * LARGE), below.run(text="x" * LARGE)
    first.wait()
    second.wait()
    third = below.run(text="x" * LARGE)
    third.wait()
    (call,) = client().executions.get(third.exec_id).checkpoints
    assert call.cached_from is not None
    client().executions.delete(call.cached_from.partition("/")[0])
    assert client().artifacts.get(f"{third.exec_id}/large").load() == "x" * LARGE
    assert client().artifacts.get(f"{third.exec_id}/large/copy").load() == "x" * LARGE


def test_a_driver_of_a_deleted_execution_cannot_write_to_one_that_has_its_row(home: Path):
    handle = brief.run()
    handle.wait()
    (row,) = query(home, "SELECT id FROM executions")
    with drives.store().write() as conn:
        lease = leases.take(conn, execution=row[0], exec_id=handle.exec_id, runner="rn-late")
    client().executions.delete(handle.exec_id)
    new = brief.run()
    new.wait()
    assert query(home, "SELECT id FROM executions") == [row], "SQLite gives a row's number anew"
    query(home, "UPDATE leases SET epoch = ?", lease.epoch)
    with drives.store().snapshot() as conn, pytest.raises(KitaruLeaseError, match="was deleted"):
        leases.fence(conn, lease)


# --- prune ----------------------------------------------------------------------------------------


def finished(turned: TurnedClock, *days: int) -> list[str]:
    """Executions that ended so many days ago, from the oldest on."""
    found = []
    for day, next_day in zip(days, [*days[1:], 0], strict=True):
        handle = brief.run()
        handle.wait()
        found.append(handle.exec_id)
        turned.turn((day - next_day) * 86_400)
    return found


def left() -> list[str]:
    return [each.exec_id for each in reversed(client().executions.list())]


def test_prune_counts_from_the_end_and_dry_run_deletes_nothing(home: Path, turned: TurnedClock):
    old, middle, new = finished(turned, 40, 20, 1)
    asked = client().executions
    dry = asked.prune(timedelta(days=30), dry_run=True)
    assert (dry.count, dry.dry_run, left()) == (1, True, [old, middle, new])
    pruned = asked.prune(timedelta(days=30))
    assert (pruned.count, pruned.bytes, pruned.dry_run) == (1, dry.bytes, False)
    assert left() == [middle, new]
    ended = asked.get(new).ended_at
    assert ended is not None
    assert asked.prune(ended).count == 1
    assert left() == [new]


def test_prune_is_limited_by_flow_and_status_and_keeps_failed_ones(home: Path):
    good, bad = brief.run(), broken.run()
    good.wait()
    drives.error_of(bad)
    asked = client().executions
    assert asked.prune(timedelta(0), keep_failed=True, dry_run=True).count == 1
    assert asked.prune(status="cancelled").count == 0
    assert asked.prune(status=ExecutionStatus.FAILED, keep_failed=True).count == 0
    assert asked.prune(flow="brief").count == 1
    assert left() == [bad.exec_id]
    assert asked.prune(status="FAILED").count == 1


def test_prune_works_in_batches_and_tells_how_far_it_is(
    home: Path, turned: TurnedClock, monkeypatch: pytest.MonkeyPatch
):
    finished(turned, *[1] * 5)
    monkeypatch.setattr("kitaru.client.upkeep._FIRST_BATCH", 2)
    monkeypatch.setattr("kitaru.client.upkeep._SMALLEST_BATCH", 1)
    monkeypatch.setattr(config, "PRUNE_BATCH_SECONDS", 0)
    told: list[tuple[int, int]] = []
    assert client().executions.prune(flow="brief", progress=lambda *at: told.append(at)).count == 5
    assert told == [(2, 5), (3, 5), (4, 5), (5, 5)]


def test_prune_leaves_what_is_retried_meanwhile(home: Path, monkeypatch: pytest.MonkeyPatch):
    exec_ids = [broken.run() for _ in range(2)]
    for handle in exec_ids:
        drives.error_of(handle)
    monkeypatch.setattr("kitaru.client.upkeep._FIRST_BATCH", 1)
    monkeypatch.setattr("kitaru.client.upkeep._SMALLEST_BATCH", 1)
    older = exec_ids[0].exec_id

    def revive(done: int, total: int) -> None:
        query(home, "UPDATE executions SET status = 'running' WHERE exec_id = ?", older)

    assert client().executions.prune(flow="broken", progress=revive).count == 1
    assert left() == [older]
    expire_leases(home)


@pytest.mark.parametrize("by_others", [False, True])
def test_prune_keeps_the_original_of_a_replay_that_takes_the_row_of_one_that_went(
    home: Path, monkeypatch: pytest.MonkeyPatch, by_others: bool
):
    older, newer = broken.run(), broken.run()
    for handle in (older, newer):
        drives.error_of(handle)
    newest = [brief.run() for _ in range(by_others)]
    for handle in newest:
        handle.wait()
    monkeypatch.setattr("kitaru.client.upkeep._FIRST_BATCH", 1)
    monkeypatch.setattr("kitaru.client.upkeep._SMALLEST_BATCH", 1)
    replays: list[str] = []

    def replay(done: int, total: int) -> None:
        if done == 1:
            for handle in newest:
                client().executions.delete(handle.exec_id)
            again = broken.replay(older.exec_id, from_="breaks")
            drives.error_of(again)
            replays.append(again.exec_id)

    pruned = client().executions.prune(status="failed", progress=replay)
    assert sorted(left()) == sorted([*replays, older.exec_id])
    assert [*pruned.kept] == [older.exec_id]


def test_flows_go_on_while_others_are_pruned(home: Path):
    for _ in range(30):
        brief.run().wait()
    process, exec_id = start(home, "chain", length=60)
    asked = client().executions
    pruned = asked.prune(flow="brief").count
    while asked.get(exec_id).status != "completed":
        brief.run().wait()
        pruned += asked.prune(flow="brief").count
    assert rest(process)
    assert pruned >= 30
    assert len(asked.get(exec_id).checkpoints) == 60
    assert client().store.examine(full=True) == []


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({}, "Nothing limits"),
        ({"keep_failed": True}, "Nothing limits"),
        ({"status": "running"}, "status is running"),
        ({"older_than": datetime(2026, 1, 1)}, "time zone"),
        ({"flow": 3}, "flow is 3"),
    ],
)
def test_prune_refuses_what_cannot_be_right(home: Path, arguments: dict[str, Any], message: str):
    with pytest.raises(KitaruUsageError, match=message):
        client().executions.prune(**arguments)
    assert client().executions.prune(datetime(2026, 1, 1, tzinfo=UTC)).count == 0


def test_lines_that_a_log_store_has_not_got_yet_keep_their_execution(home: Path, tmp_path: Path):
    handle = below.run(text="a")
    handle.wait()
    log_store.set_log_store("jsonl", endpoint=str(tmp_path / "lines.jsonl"), from_start=True)
    executions = KitaruClient().executions

    pruned = executions.prune(flow="below")
    assert (pruned.count, [*pruned.kept]) == (0, [handle.exec_id])
    with pytest.raises(KitaruStateError, match="kitaru log-store push"):
        executions.delete(handle.exec_id)

    log_store.push()
    assert executions.prune(flow="below").count == 1
