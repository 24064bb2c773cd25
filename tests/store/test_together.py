"""Group commit: parts that share a transaction, and what a failure of one costs the others."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from kitaru import config
from kitaru.errors import KitaruBackendError
from kitaru.store import Store, Transaction, open_store
from kitaru.store.groups import Follower
from tests.support import query, until

Work = Callable[[Transaction], Any]


@pytest.fixture
def store(home: Path) -> Store:
    opened = open_store(config.find_home())
    with opened.write() as conn:
        conn.execute("CREATE TABLE parts (name TEXT UNIQUE)")
    return opened


def put(name: str) -> Work:
    return lambda conn: conn.execute("INSERT INTO parts VALUES (?)", (name,))


def names(home: Path) -> list[str]:
    return [name for (name,) in query(home, "SELECT name FROM parts ORDER BY name")]


def commits(store: Store) -> list[str]:
    """The transactions the store commits from now on."""
    seen: list[str] = []
    store._writer.set_trace_callback(lambda sql: seen.append(sql) if sql == "COMMIT" else None)
    return seen


def share(
    store: Store, works: list[Work], *, meanwhile: Callable[[], object] = lambda: None
) -> list[BaseException | None]:
    """What each work raised, done by as many threads in one transaction, the second from now."""
    errors: list[BaseException | None] = [None] * len(works)

    def run(place: int) -> None:
        try:
            store.together(works[place])
        except BaseException as exc:
            errors[place] = exc

    threads = [threading.Thread(target=run, args=(place,)) for place in range(len(works))]
    leads, all_ready = threading.Event(), threading.Event()

    def lead(conn: Transaction) -> None:
        leads.set()
        all_ready.wait()

    first = threading.Thread(target=store.together, args=(lead,))
    first.start()
    leads.wait()
    for thread in threads:
        thread.start()
    until(lambda: len(store.line) == len(works), "all are ready")
    meanwhile()
    all_ready.set()
    for thread in [first, *threads]:
        thread.join()
    return errors


def test_what_is_ready_together_is_committed_once(home: Path, store: Store) -> None:
    seen = commits(store)
    assert share(store, [put(f"{number:03}") for number in range(100)]) == [None] * 100
    assert len(seen) == 2  # with the one that held them up
    assert names(home) == [f"{number:03}" for number in range(100)]


class Stopped(BaseException):
    """What is no `Exception`."""


@pytest.mark.parametrize("error", [ValueError("odd"), KeyboardInterrupt(), Stopped()])
def test_a_part_that_raises_is_undone_and_no_other(
    home: Path, store: Store, error: BaseException
) -> None:
    def fails(conn: Transaction) -> None:
        put("half")(conn)
        raise error

    assert share(store, [put("a"), fails, put("b")]) == [None, error, None]
    assert names(home) == ["a", "b"]
    assert share(store, [fails]) == [error]
    assert names(home) == ["a", "b"]


def test_a_statement_that_is_refused_fails_its_part_with_a_typed_error(
    home: Path, store: Store
) -> None:
    first, second, third = share(store, [put("a"), put("a"), put("b")])
    assert (first, third) == (None, None)
    assert isinstance(second, KitaruBackendError)
    assert names(home) == ["a", "b"]


def test_on_a_full_disk_all_parts_fail_and_nothing_is_written(home: Path, store: Store) -> None:
    pages = query(home, "PRAGMA page_count")[0][0]
    store._writer.execute(f"PRAGMA max_page_count={pages + 4}")
    works = [put("a"), put("b" * 1_000_000), put("c" * 1_000_000)]
    errors = share(store, works)
    full = [each for each in errors if each is not None]
    assert len(full) >= 2
    assert all(isinstance(each, KitaruBackendError) and "full disk" in str(each) for each in full)
    kept = [name for name, error in zip("abc", errors, strict=True) if error is None]
    assert [name[0] for name in names(home)] == kept
    store._writer.execute("PRAGMA max_page_count=1000000")
    store.together(put("later"))
    assert "later" in names(home)


def test_without_their_transaction_all_parts_fail(home: Path, store: Store) -> None:
    errors = share(store, [lambda conn: conn.execute("COMMIT"), put("b")])
    assert all(isinstance(each, KitaruBackendError) for each in errors)
    store.together(put("later"))
    assert names(home) == ["later"]


def test_in_a_removed_store_every_part_fails(home: Path, store: Store) -> None:
    errors = share(store, [put("a"), put("b")], meanwhile=(home / "kitaru.db.lock").unlink)
    assert all(isinstance(each, KitaruBackendError) for each in errors)
    assert "was removed" in str(errors[0])


def test_several_works_of_one_thread_share_a_transaction(home: Path, store: Store) -> None:
    seen = commits(store)
    first, second, third = store.all_together([put("a"), put("a"), put("b")])
    assert (first, third) == (None, None)
    assert isinstance(second, KitaruBackendError)
    assert isinstance(second.__cause__, sqlite3.IntegrityError)
    assert (len(seen), names(home)) == (1, ["a", "b"])


def test_a_thread_that_is_interrupted_while_it_waits_holds_nobody_up(
    home: Path, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    waits = Follower.wait
    interrupted: list[Follower] = []

    def interrupt(follower: Follower) -> None:
        waits(follower)
        if not interrupted:
            interrupted.append(follower)
            raise KeyboardInterrupt

    monkeypatch.setattr(Follower, "wait", interrupt)
    errors = share(store, [put("a"), put("b"), put("c")])
    assert sorted(map(type, errors), key=str) == [KeyboardInterrupt, type(None), type(None)]
    assert names(home) == ["a", "b", "c"]  # what is in the line is done
    store.together(put("later"))
    assert "later" in names(home)
