"""What comes from outside is a value in a statement, never a part of its text."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import kitaru
from kitaru import KitaruClient, KitaruError, config, ids
from kitaru.store import open_store
from tests import support

QUOTES = (
    "'",
    "''",
    '"',
    "`",
    "x' OR '1'='1",
    "x'; DROP TABLE executions; --",
    'x"; DELETE FROM calls; --',
    "latest' --",
    "') UNION SELECT spec FROM executions --",
    "load_extension('x')",
    "%' ESCAPE '%",
    "metadata.a'); ATTACH '/tmp/x' AS y; --",
    "a\0b",
    "\\'; --",
)
#: What SQLite asks before a statement of ours may be prepared.
ALLOWED = {
    *(sqlite3.SQLITE_SELECT, sqlite3.SQLITE_READ, sqlite3.SQLITE_FUNCTION),
    *(sqlite3.SQLITE_TRANSACTION, sqlite3.SQLITE_SAVEPOINT, sqlite3.SQLITE_RECURSIVE),
    *(sqlite3.SQLITE_INSERT, sqlite3.SQLITE_UPDATE, sqlite3.SQLITE_DELETE, sqlite3.SQLITE_PRAGMA),
}


@kitaru.checkpoint
def draft(topic: str) -> str:
    kitaru.save("outline", topic)
    print(topic)
    return topic


@kitaru.flow(tags=["nightly"])
def agent(topic: str) -> str:
    kitaru.log(tier="gold")
    return draft(topic)


@pytest.fixture
def asked(home: Path) -> Iterator[list[tuple[int, str | None, str | None]]]:
    """Everything SQLite was asked to do by the store's connections."""
    agent.run("dogs").wait()
    store = open_store(config.find_home())
    found: list[tuple[int, str | None, str | None]] = []

    def note(action: int, first: str | None, second: str | None, *_: object) -> int:
        found.append((action, first, second))
        return sqlite3.SQLITE_OK

    for conn in (store._reader, store._writer):
        conn.set_authorizer(note)
    yield found
    for conn in (store._reader, store._writer):
        conn.set_authorizer(None)


def everything(text: str) -> list[Callable[[], object]]:
    """Each call that takes text from a caller."""
    client = KitaruClient()
    executions, artifacts = client.executions, client.artifacts
    latest = executions.latest().exec_id
    return [
        lambda: executions.get(text),
        lambda: executions.list(flow=text),
        lambda: executions.list(tags=[text], stack=text),
        lambda: executions.list(status=text),
        lambda: executions.list(cursor=text),
        lambda: executions.list(since=text),
        lambda: executions.logs(latest, text=text),
        lambda: executions.logs(latest, checkpoint=text),
        lambda: executions.logs(latest, level=text),
        lambda: executions.statistics([f"metadata.{text}"]),
        lambda: executions.statistics([text]),
        lambda: executions.statistics(metrics=[f"{text}:duration:avg"]),
        lambda: executions.statistics(metrics=[f"m:metadata.{text}:{text}"]),
        lambda: executions.statistics(where={f"metadata:{text}": text}),
        lambda: executions.replay_preview(latest, from_=text),
        lambda: executions.cancel(text),
        lambda: executions.input(latest, wait=text, value=text),
        lambda: executions.delete(text),
        lambda: artifacts.list(latest, name=text),
        lambda: artifacts.get(f"{latest}/{text}"),
        lambda: kitaru.use_stack(text),
        lambda: kitaru.delete_stack(text),
    ]


def test_quotes_change_no_statement(
    home: Path, asked: list[tuple[int, str | None, str | None]]
) -> None:
    before = support.dump(home)
    refused = 0
    for text in QUOTES:
        for call in everything(text):
            try:
                call()
            except KitaruError:
                refused += 1
    assert refused > len(QUOTES) * 10
    assert support.dump(home) == before
    tables = {*before, "sqlite_master", "json_each", "json_tree", None}
    assert asked
    for action, first, second in asked:
        assert action in ALLOWED, (action, first, second)
        if action in (sqlite3.SQLITE_READ, sqlite3.SQLITE_INSERT, sqlite3.SQLITE_DELETE):
            assert first in tables or first == "" or not first.islower(), first
        if action == sqlite3.SQLITE_FUNCTION:
            assert second != "load_extension"


def test_no_two_ids_are_alike_and_none_follows_from_another() -> None:
    found = [ids.new_execution_id() for _ in range(3_000)]
    assert len({*found}) == len(found)
    neighbours = zip(sorted(found), sorted(found)[1:], strict=False)
    assert max(_shared(a, b) for a, b in neighbours) < 12
    assert sorted(found) != found
    assert {len(each) for each in found} == {19}


def _shared(first: str, second: str) -> int:
    """How many characters they begin with alike."""
    return next(n for n, (a, b) in enumerate(zip(first, second, strict=True)) if a != b)
