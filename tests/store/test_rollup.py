"""The roll-up and the metadata rows, which say at once what a count of all executions would."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kitaru import config
from kitaru.store import Store, executions
from tests import support

DAY = 86_400_000_000
STATUSES = ("pending", "running", "completed", "failed")
times = st.none() | st.sampled_from([0, 1, DAY - 1, DAY, 5 * DAY + 7])
changes = st.lists(
    st.one_of(
        st.tuples(st.just("insert"), st.integers(0, 1), st.sampled_from(STATUSES), times, times),
        st.tuples(st.just("update"), st.integers(1, 6), st.sampled_from(STATUSES), times, times),
        st.tuples(st.just("delete"), st.integers(1, 6)),
    ),
    max_size=12,
)
metadata = st.dictionaries(
    st.sampled_from(["a", "b", "é"]),
    st.sampled_from([1, 1.0, True, "1", "true", None, [1], {"x": 1}, 2**70, 10**400, "nul\0here"]),
)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    """A store that each example empties first."""
    opened = Store(config.find_home(tmp_path_factory.mktemp("rollup")), durability="normal")
    yield opened
    opened.close()


def insert(conn: Any, flow: int, status: str, *times: int | None) -> int:
    conn.execute(
        "INSERT INTO executions (exec_id, flow_id, flow_name, status, created_at, started_at, "
        "ended_at, stack_name, tags, metadata, spec, inputs_size, inputs_digest) VALUES "
        "(hex(randomblob(8)), ?, ?, ?, 0, ?, ?, 'local', '[]', '{}', '{}', 0, x'')",
        (f"fl-{flow}", f"flow {flow}", status, *times),
    )
    return int(conn.execute("SELECT max(id) FROM executions").fetchone()[0])


@given(changes)
def test_after_any_changes_it_is_what_a_count_gives(store: Store, changes: list[Any]):
    with store.write() as conn:
        conn.execute("DELETE FROM executions")
    for change, *given_ in changes:
        with store.write() as conn:
            if change == "insert":
                insert(conn, *given_)
            elif change == "update":
                number, *values = given_
                sql = "UPDATE executions SET status = ?, started_at = ?, ended_at = ? WHERE id = ?"
                conn.execute(sql, (*values, number))
            else:
                conn.execute("DELETE FROM executions WHERE id = ?", given_)
    assert support.rollup(store.path.parent) == support.recount(store.path.parent)


@given(metadata, metadata)
def test_metadata_rows_are_those_of_the_latest_metadata(
    store: Store, before: dict[str, Any], after: dict[str, Any]
):
    with store.write() as conn:
        conn.execute("DELETE FROM execution_metadata")
        number = insert(conn, 1, "running", None, None)
        executions.set_metadata(conn, number, before)
        executions.set_metadata(conn, number, after)
    rows = store.read("SELECT key, flow_id, execution, value FROM execution_metadata ORDER BY key")
    assert [tuple(row)[:3] for row in rows] == [(key, "fl-1", number) for key in sorted(after)]
    for row in rows:
        value = after[row["key"]]
        known = {1: 1, "1": '"1', "true": '"true', "nul\0here": '"nul\0here', 2**70: float(2**70)}
        if isinstance(value, bool):
            assert row["value"] == "true"
        elif isinstance(value, list | dict) or value is None or value == 10**400:
            assert row["value"] is None
        else:
            assert row["value"] == known[value]


def test_a_flow_without_metadata_has_no_rows_and_forgotten_keys_lose_theirs(store: Store):
    with store.write() as conn:
        conn.execute("DELETE FROM execution_metadata")
        number = insert(conn, 0, "running", None, None)
        executions.set_metadata(conn, number, {"kept": 1, "gone": 2})
        executions.set_metadata(conn, number, {"kept": 1})
        text = conn.execute("SELECT metadata FROM executions WHERE id = ?", (number,)).fetchone()[0]
    assert json.loads(text) == {"kept": 1}
    assert [row["key"] for row in store.read("SELECT key FROM execution_metadata")] == ["kept"]


def test_a_store_that_is_upgraded_has_them_for_what_it_held(tmp_path: Path):
    old = Path(__file__).parent.parent / "data" / "store-v3.db"
    (tmp_path / "kitaru.db").write_bytes(old.read_bytes())
    opened = Store(config.find_home(tmp_path), durability="normal")
    texts = {
        row["id"]: json.loads(row["metadata"]) for row in opened.read("SELECT * FROM executions")
    }
    rows = opened.read("SELECT key, execution FROM execution_metadata")
    opened.close()

    assert support.rollup(tmp_path) == support.recount(tmp_path) != []
    assert {(row["key"], row["execution"]) for row in rows} == {
        (key, number) for number, found in texts.items() for key in found
    }
