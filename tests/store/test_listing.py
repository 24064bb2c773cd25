"""Listings: each filter by an index, in pages that show every execution once, right together."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kitaru import KitaruClient, clock, config, ids
from kitaru.client import Executions
from kitaru.models import Execution, ExecutionStatus
from kitaru.store import Store, executions, listing
from kitaru.store.executions import NewExecution
from kitaru.store.listing import Filter

COUNT = 2000
START = datetime(2026, 1, 1, tzinfo=UTC)
FLOWS = ("alpha", "beta", "gamma")
TAGS = ("nightly", "eu", "big", "rare")
STACKS = ("local", "cluster")


class Ticking(clock.Clock):
    """A clock on which three executions start each second, so that times are equal, too."""

    def __init__(self) -> None:
        self.at = 0

    def now_us(self) -> int:
        return clock.to_us(START + timedelta(seconds=self.at // 3))


def new(number: int) -> NewExecution:
    flow = FLOWS[number % 3]
    tags = [tag for place, tag in enumerate(TAGS) if number % (place + 2) == 0]
    return NewExecution(
        exec_id=ids.new_execution_id(),
        flow_id=ids.flow_id("listed", flow),
        flow_name=flow,
        inputs=b"{}",
        spec={},
        stack_name=STACKS[number % 7 == 0],
        tags=tuple(tags) if number % 500 else ("rare",),
    )


@pytest.fixture(scope="module")
def listed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Store, Executions]]:
    """A store with 2,000 executions in all statuses, of which none was ever driven."""
    home = tmp_path_factory.mktemp("listed") / "home"
    client = KitaruClient(home=home)
    store = Store(config.find_home(home), durability="normal")
    statuses = itertools.cycle(ExecutionStatus)
    with clock.use(ticking := Ticking()), store.write() as conn:
        for ticking.at in range(COUNT):
            row = executions.create(conn, new(ticking.at))
            conn.execute(
                "UPDATE executions SET status = ? WHERE id = ?", (next(statuses).value, row)
            )
    yield store, client.executions
    store.close()


def everything(client: Executions, **where: Any) -> list[Execution]:
    """All pages of a listing, one after the other."""
    found, cursor = [], None
    while True:
        page = client.list(**where, cursor=cursor)
        found += page
        cursor = page.next_cursor
        if cursor is None:
            return found


def plan(store: Store, where: Filter, cursor: str | None) -> list[str]:
    """How SQLite goes about a listing."""
    statements: list[str] = []
    store._reader.set_trace_callback(statements.append)
    with store.snapshot() as conn:
        listing.page(conn, where, limit=2, cursor=cursor)
    store._reader.set_trace_callback(None)
    (select,) = [text for text in statements if "FROM execution" in text and "LEFT JOIN" in text]
    return [row["detail"] for row in store.read(f"EXPLAIN QUERY PLAN {select}")]


LATER = START + timedelta(minutes=5)
#: A filter, and the index that answers it.
SINGLE = [
    (Filter(), "executions_created"),
    (Filter(flow="alpha"), "executions_flow_name"),
    (Filter(flow=ids.flow_id("listed", "alpha")), "executions_flow_name"),
    (Filter(status=ExecutionStatus.FAILED), "executions_status"),
    (Filter(stack="local"), "executions_stack"),
    (Filter(tags=("rare",)), "tagged USING PRIMARY KEY (tag=?"),
    (Filter(since=LATER), "executions_created"),
    (Filter(until=LATER), "executions_created"),
    (Filter(since=START, until=LATER), "executions_created"),
    (Filter(status=ExecutionStatus.FAILED, since=LATER), "executions_status"),
    (Filter(tags=("rare",), since=LATER), "tagged USING PRIMARY KEY (tag=? AND created_at>"),
    (Filter(tags=("rare", "eu")), "tagged USING PRIMARY KEY (tag=?"),
    (Filter(flow="alpha", status=ExecutionStatus.COMPLETED), "executions_flow_status"),
    (Filter(flow="alpha", stack="local"), "executions_flow_stack"),
    (Filter(stack="local", status=ExecutionStatus.FAILED), "executions_stack_status"),
]


@pytest.mark.parametrize("cursor", [None, f"{clock.to_us(LATER)}-900"])
@pytest.mark.parametrize(("where", "index"), SINGLE)
def test_every_filter_reads_its_index_in_the_order_of_the_page(
    listed: tuple[Store, Executions], where: Filter, index: str, cursor: str | None
):
    steps = plan(listed[0], where, cursor)

    assert any(index in step for step in steps)
    assert not [step for step in steps if "TEMP B-TREE" in step]
    # Only the newest page of everything walks an index without a condition.
    scans = [step for step in steps if step.startswith("SCAN")]
    assert scans == (
        [] if where != Filter() or cursor else [f"SCAN executions USING INDEX {index}"]
    )


@pytest.mark.parametrize("limit", [1, 7, config.MAX_PAGE])
def test_pages_show_each_execution_once_newest_first(listed: tuple[Store, Executions], limit: int):
    where = {"tags": ["rare"]} if limit == 1 else {}
    found = everything(listed[1], limit=limit, **where)

    assert len({each.exec_id for each in found}) == len(found)
    assert len(found) == (COUNT if not where else sum("rare" in new(n).tags for n in range(COUNT)))
    times = [each.created_at for each in found]
    assert times == sorted(times, reverse=True)
    assert listed[1].list(limit=limit).next_cursor is not None


def test_a_page_that_is_exactly_full_is_the_last(listed: tuple[Store, Executions]):
    until = START + timedelta(seconds=2)

    page = listed[1].list(until=until, limit=6)

    assert (len(page), page.next_cursor) == (6, None)


def test_executions_that_start_meanwhile_do_not_move_the_pages(home: Path):
    store = Store(config.find_home(home), durability="normal")
    client = KitaruClient().executions

    def start(number: int) -> None:
        with store.write() as conn:
            executions.create(conn, new(number))

    for number in range(10):
        start(number)
    expected = [each.exec_id for each in client.list()]
    found, cursor = [], None
    for number in itertools.count(10):
        page = client.list(limit=3, cursor=cursor)
        found += [each.exec_id for each in page]
        start(number)
        if (cursor := page.next_cursor) is None:
            break
    store.close()

    assert found == expected


times = st.none() | st.integers(-5, COUNT // 3 + 5).map(lambda s: START + timedelta(seconds=s))
filters = st.fixed_dictionaries(
    {},
    optional={
        "flow": st.sampled_from([*FLOWS, ids.flow_id("listed", "beta"), "unknown"]),
        "status": st.sampled_from(ExecutionStatus),
        "stack": st.sampled_from([*STACKS, "unknown"]),
        "tags": st.lists(st.sampled_from([*TAGS, "unknown"]), max_size=3),
        "since": times,
        "until": times,
    },
)


@pytest.fixture(scope="module")
def all_of_them(listed: tuple[Store, Executions]) -> list[Execution]:
    return everything(listed[1], limit=config.MAX_PAGE)


@settings(max_examples=60)
@given(where=filters, limit=st.integers(20, config.MAX_PAGE))
def test_filters_together_show_what_fits_all_of_them(
    listed: tuple[Store, Executions], all_of_them: list[Execution], where: Any, limit: int
):
    def fits(each: Execution) -> bool:
        return (
            where.get("flow") in (None, each.flow_name, each.flow_id)
            and where.get("status") in (None, each.status)
            and where.get("stack") in (None, each.stack_name)
            and set(where.get("tags", ())) <= set(each.tags)
            and (where.get("since") or START) <= each.created_at
            and each.created_at < (where.get("until") or datetime.max.replace(tzinfo=UTC))
        )

    found = everything(listed[1], limit=limit, **where)

    assert [each.exec_id for each in found] == [e.exec_id for e in all_of_them if fits(e)]
