"""What half typed words may become, and the open questions of a whole store."""

from __future__ import annotations

from pathlib import Path

import pytest

import kitaru
from kitaru import KitaruClient, KitaruUsageError
from kitaru.client.suggestions import MOST
from kitaru.store import open_store, refs
from tests.support import ROOT, TurnedClock, until


@kitaru.checkpoint
def step(n: int) -> int:
    kitaru.save("notes", "x" * n, type="context")
    return n


@kitaru.flow
def asks(count: int = 1) -> bool:
    for n in range(count):
        step(n)
    return bool(kitaru.wait(name="approve", question="Go?", timeout=0))


def waiting(client: KitaruClient, count: int = 1) -> str:
    exec_id = asks.run(count).exec_id
    until(lambda: client.executions.pending_waits(exec_id), "it asks")
    return exec_id


def test_where_there_is_no_store_there_is_little_to_suggest_and_none_is_made(home: Path):
    suggestions = KitaruClient().suggestions
    assert suggestions.executions("") == suggestions.executions("kr-") == []
    assert suggestions.flows("") == suggestions.artifacts("kr-1/") == []
    assert suggestions.waits("latest", "") == suggestions.checkpoints(None, "") == []
    assert [each.value for each in suggestions.stacks("")] == ["local"]
    assert not (home / "kitaru.db").exists()


def test_a_store_of_an_older_release_is_left_as_it_is(home: Path):
    older = (ROOT / "tests" / "data" / "store-v2.db").read_bytes()
    (home / "kitaru.db").write_bytes(older)
    suggestions = KitaruClient().suggestions
    assert suggestions.executions("") == suggestions.flows("") == []
    assert [each.name for each in home.iterdir()] == ["kitaru.db"]
    assert (home / "kitaru.db").read_bytes() == older


def test_a_word_grows_into_ids_and_then_into_what_they_have(home: Path):
    client = KitaruClient()
    suggestions = client.suggestions
    exec_id = waiting(client, 2)
    (found,) = suggestions.executions(exec_id[:8])
    assert (found.value, found.about) == (exec_id, "waiting asks")
    assert [each.value for each in suggestions.executions("latest:wa")] == ["latest:waiting"]
    assert [each.value for each in suggestions.checkpoints(exec_id, "step#")] == ["step#2"]
    assert [each.value for each in suggestions.waits("latest", "app")] == ["approve"]
    names = ["step/notes", "step", "step#2/notes", "step#2"]
    ids = [f"{exec_id}/{name}" for name in names]
    assert [each.value for each in suggestions.artifacts(exec_id)] == ids
    assert [each.value for each in suggestions.artifacts(f"{exec_id}/step#")] == ids[2:]
    assert [each.value for each in suggestions.artifacts("latest/step#2/")] == [
        "latest/step#2/notes"
    ]
    other = waiting(client)
    assert {each.value for each in suggestions.artifacts("kr-")} >= {exec_id, other}
    assert suggestions.checkpoints("kr-", "") == []  # fits several


def test_prefixes_are_answered_by_an_index(home: Path):
    client = KitaruClient()
    waiting(client)
    asked: list[str] = []
    with open_store(client.home).snapshot() as conn:
        conn.set_trace_callback(asked.append)
        for typed in ("kr-4f", ""):
            refs.beginning_with(conn, typed, limit=MOST)
        conn.set_trace_callback(None)
        plans = [
            " ".join(row["detail"] for row in conn.execute(f"EXPLAIN QUERY PLAN {sql}"))
            for sql in asked
        ]
    assert "SEARCH executions USING INDEX" in plans[0]
    assert "USING INDEX executions_created" in plans[1]
    assert not any("TEMP B-TREE" in plan for plan in plans)


def test_open_waits_are_those_of_the_whole_store_oldest_first(home: Path, turned: TurnedClock):
    client = KitaruClient()
    executions = client.executions
    ids = []
    for _ in range(3):
        ids.append(waiting(client))
        turned.turn(60)
    assert [each.wait_id for each in executions.open_waits()] == [f"{i}/approve" for i in ids]
    assert [each.wait_id for each in executions.open_waits(limit=1)] == [f"{ids[0]}/approve"]
    assert executions.open_waits()[0] == executions.pending_waits(ids[0])[0]
    executions.input(ids[0], wait="approve", value=True)
    executions.cancel(ids[1])
    assert [each.wait_id for each in executions.open_waits()] == [f"{ids[2]}/approve"]
    with pytest.raises(KitaruUsageError):
        executions.open_waits(limit=0)


def test_the_context_of_a_question_is_what_was_saved_and_made_last(home: Path):
    client = KitaruClient()
    exec_id = waiting(client, 300)
    found = client.executions.context_of(exec_id)
    names = [each.artifact.artifact_id.partition("/")[2] for each in found]
    assert names == [f"step#{n}{part}" for n in (298, 299, 300) for part in ("/notes", "")]
    assert (len(found[0].text or ""), found[0].total) == (200, 297)
