"""The generated store of the benchmarks: every client call works on every execution in it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from benchmarks import patterns, stores
from kitaru import KitaruClient, config
from kitaru.models import Execution, ExecutionStatus

COUNT = 250


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A store of few patterns, most of it copied."""
    home = tmp_path_factory.mktemp("made") / "home"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(stores, "PATTERNS", 100)
        stores.generate(config.find_home(home), count=COUNT, seed=3)
        yield home


def read_all(home: Path) -> list[Execution]:
    """Every execution in full, newest first."""
    executions = KitaruClient(home=home).executions
    found: list[Execution] = []
    cursor = None
    while cursor or not found:
        page = executions.list(limit=200, cursor=cursor)
        found += [executions.get(each.exec_id) for each in page]
        cursor = page.next_cursor
    return found


def test_all_executions_can_be_read_with_their_logs_and_artifacts(made: Path) -> None:
    client = KitaruClient(home=made)
    found = read_all(made)
    assert len(found) == COUNT
    for execution in found:
        lines = client.executions.logs(execution.exec_id)
        assert all(line.timestamp >= execution.created_at for line in lines)
        assert all(ref.load() is not None for ref in client.artifacts.list(execution.exec_id))


def test_there_is_something_of_every_kind(made: Path) -> None:
    found = read_all(made)
    assert {each.status for each in found} == set(ExecutionStatus)
    calls = [call for each in found for call in each.checkpoints]
    assert any(len(call.attempts) > 1 for call in calls)
    assert {len(each.checkpoints) for each in found} >= {0, 1, 8}
    assert all(each.pending_wait for each in found if each.status is ExecutionStatus.WAITING)
    assert all(each.failure for each in found if each.status is ExecutionStatus.FAILED)
    assert len({each.stack_name for each in found}) == 3
    assert any(each.tags for each in found)
    assert any(each.metadata for each in found)


def test_times_are_in_order_and_within_the_days(made: Path) -> None:
    found = read_all(made)
    assert (found[0].created_at - found[-1].created_at).days > patterns.DAYS / 2
    for each in found:
        times = [each.created_at, each.started_at, each.ended_at, patterns.END]
        known = [time for time in times if time is not None]
        assert known == sorted(known)
        for call in each.checkpoints:
            for attempt in call.attempts:
                assert attempt.started_at is not None
                assert call.started_at is not None
                assert attempt.started_at >= call.started_at >= each.created_at


def test_children_are_those_of_their_own_parents(made: Path) -> None:
    by_id = {each.exec_id: each for each in read_all(made)}
    pairs = [(each, by_id[child]) for each in by_id.values() for child in each.children]
    assert pairs
    assert all(child.parent_exec_id == parent.exec_id for parent, child in pairs)


def test_the_same_seed_makes_the_same_store(tmp_path: Path, made: Path) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(stores, "PATTERNS", 100)
        stores.generate(config.find_home(tmp_path / "again"), count=COUNT, seed=3)
    again, first = read_all(tmp_path / "again"), read_all(made)
    assert [each.to_dict() for each in again] == [each.to_dict() for each in first]


def test_a_store_that_is_there_is_not_overwritten(made: Path) -> None:
    with pytest.raises(SystemExit, match="exists already"):
        stores.generate(config.find_home(made), count=1)
