"""A store of an earlier version becomes a current one, and its executions go on."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from kitaru import KitaruBackendError, KitaruClient, config
from kitaru.store import open_store, schema
from tests import drives, support
from tests.chaos import upgrades

DATA = Path(__file__).parent.parent / "data"
COMPLETED, FAILED = "kr-zdxt5qxeefy3ca4z", "kr-rsyg5d5h0vn1dw7r"
WAITING, REPLAYED = "kr-48dfgz8d9hg2tezp", "kr-638e4tdvwxh35yx4"


@pytest.fixture(params=range(1, schema.SCHEMA_VERSION))
def old(home: Path, request: pytest.FixtureRequest) -> Path:
    """A home with an old store, whose flows are found in this project."""
    shutil.copy(DATA / f"store-v{request.param}.db", home / "kitaru.db")
    for rowid, text in support.query(home, "SELECT id, spec FROM executions"):
        spec = json.loads(text) | {"root": str(support.ROOT), "cwd": str(support.ROOT)}
        sql = "UPDATE executions SET spec = ? WHERE id = ?"
        support.query(home, sql, json.dumps(spec), rowid)
    return home


def test_everything_in_it_is_still_there(old: Path):
    client = KitaruClient()

    statuses = {each.exec_id: each.status.value for each in client.executions.list()}
    done = client.executions.get(COMPLETED)

    assert statuses == {
        COMPLETED: "completed",
        FAILED: "failed",
        WAITING: "waiting",
        REPLAYED: "completed",
    }
    assert done.result == "draft from notes about dogs"
    assert [call.call_id for call in done.checkpoints] == ["research", "draft"]
    assert [len(call.attempts) for call in done.checkpoints] == [1, 2]
    assert client.artifacts.get(f"{COMPLETED}/research/notes").load()["topic"] == "dogs"
    assert [line.message for line in client.executions.logs(COMPLETED)] == ["looking"]
    assert support.is_sound(old)


def test_its_executions_are_answered_resumed_retried_and_replayed(
    old: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("KITARU_TEST_MENDED", "1")
    executions = KitaruClient().executions

    executions.input(WAITING, wait="approve", value=True)
    again = {
        executions.resume(WAITING).exec_id: "notes about cats",
        executions.retry(FAILED, idempotency_key="once").exec_id: "notes about catsmended",
        executions.replay(COMPLETED, "draft").exec_id: "draft from notes about dogs",
    }

    for exec_id, result in again.items():
        drives.left(exec_id)
        assert executions.get(exec_id).result == result
    assert executions.retry(FAILED, idempotency_key="once").repeated
    for exec_id in (WAITING, FAILED):
        calls = executions.get(exec_id).checkpoints
        assert [len(call.attempts) for call in calls if call.call_id == "research"] == [1]


def test_an_upgrade_that_fails_leaves_the_old_store(old: Path, monkeypatch: pytest.MonkeyPatch):
    before = support.dump(old)
    monkeypatch.setattr(schema, "_V4", schema._V4 + "INSERT INTO nowhere VALUES (1);\n")
    with pytest.raises(KitaruBackendError):
        open_store(config.find_home())
    assert support.dump(old) == before

    monkeypatch.undo()
    monkeypatch.setenv("KITARU_HOME", str(old))
    assert KitaruClient().executions.get(COMPLETED).status.is_successful


def test_a_released_schema_stays_as_it_is(home: Path, tmp_path: Path):
    open_store(config.find_home())
    recorded = shutil.copy(DATA / f"store-v{schema.SCHEMA_VERSION}.db", tmp_path / "recorded.db")
    assert upgrades.content(recorded)[""] == upgrades.content(home / "kitaru.db")[""]
