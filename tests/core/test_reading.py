"""Reading through the client: named executions, pages of lines, ended checkpoints, changes."""

from __future__ import annotations

import itertools
import threading
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import kitaru
from kitaru import KitaruClient, checkpoint, flow, ids
from kitaru.errors import KitaruNotFoundError, KitaruStateError, KitaruUsageError
from kitaru.models import CallStatus
from kitaru.store import executions, journal, logs
from kitaru.store.executions import NewExecution
from kitaru.store.journal import CallRecord
from kitaru.store.logs import LogRecord
from tests import drives
from tests.drives import again, error_of, left
from tests.support import spawn, until

pytestmark = pytest.mark.usefixtures("home")


@flow
def working() -> int:
    return 1


@flow
def failing() -> None:
    raise ValueError("no")


@flow
def asking() -> bool:
    return kitaru.wait(name="ask", timeout=0)


def completed() -> str:
    handle = working.run()
    handle.wait(20)
    return handle.exec_id


def written(*records: LogRecord) -> str:
    """The id of an execution with these lines."""
    with drives.store().write() as conn:
        new = NewExecution(ids.new_execution_id(), "fl-written", "written", b"{}", {})
        logs.add(conn, executions.create(conn, new), records)
    return new.exec_id


def lines(*messages: str, **fields: Any) -> list[LogRecord]:
    return [LogRecord(at, fields.get("level", "INFO"), text) for at, text in enumerate(messages)]


def told(exec_id: str, **options: Any) -> list[str]:
    return [line.message for line in KitaruClient().executions.logs(exec_id, **options)]


# --- naming an execution --------------------------------------------------------------------------


def test_latest_is_the_newest_of_all_of_a_status_or_of_a_flow():
    find = KitaruClient().executions.summary
    with pytest.raises(KitaruNotFoundError, match="no executions yet"):
        find("latest")
    first = completed()
    error_of(failed := failing.run())
    left(waiting := asking.run().exec_id)
    last = completed()
    for ref, meant in {
        "latest": last,
        " latest ": last,
        "latest:failed": failed.exec_id,
        "latest:FAILED": failed.exec_id,
        "latest:waiting": waiting,
        "latest:working": last,
        f"latest:{find(first).flow_id}": last,
        "latest:failing": failed.exec_id,
    }.items():
        assert find(ref).exec_id == meant, ref
    assert KitaruClient().artifacts.list("latest:failed") == []


@pytest.mark.parametrize("ref", ["latest:", "latest:nothing", "latest:fl-0"])
def test_latest_of_nothing_says_what_may_be_asked(ref: str):
    exec_id = completed()
    with pytest.raises(KitaruNotFoundError, match=f"<status>.*<flow>.*Newest: {exec_id}"):
        KitaruClient().executions.get(ref)


def test_the_latest_in_a_status_that_none_is_in_says_so():
    exec_id = completed()
    with pytest.raises(KitaruNotFoundError, match="No execution is cancelled now") as caught:
        KitaruClient().executions.get("latest:cancelled")
    assert exec_id in str(caught.value)


def test_a_full_id_wins_over_every_other_reading():
    with ids.use(iter(["latest", "r1", "latest2", "r2"]).__next__):
        first, last = completed(), completed()
    find = KitaruClient().executions.summary
    assert find("kr-latest").exec_id == first
    assert find("latest").exec_id == last


def test_an_ambiguous_prefix_names_a_few_with_status_and_flow_in_few_words():
    numbers = itertools.count()
    with ids.use(lambda: f"many{next(numbers):012}"):
        error_of(failing.run())
        for _ in range(6):
            flow(name="x" * 128)(lambda: None).run().wait(20)
    with pytest.raises(KitaruStateError) as caught:
        KitaruClient().executions.get("many000000")
    message = str(caught.value)
    assert "kr-many000000000000 (failed failing)" in message
    assert message.count("(completed") == 4
    assert "…" in message
    assert len(message) <= 350


@pytest.mark.parametrize("ref", ["x" * 5000, "latest:" + "\U000e0001" * 500, "\0" * 300])
def test_a_refusal_of_an_id_is_short_whatever_was_given(ref: str):
    completed()
    with pytest.raises(KitaruNotFoundError) as caught:
        KitaruClient().executions.get(ref)
    assert len(str(caught.value)) <= 350


@pytest.mark.parametrize(
    "ref", ["kr-abc", "latest", "latest:failed", "latest:working", "latest:fl-1"]
)
def test_every_way_of_naming_an_execution_reads_an_index(ref: str):
    statements: list[str] = []
    with drives.store().snapshot() as conn:
        conn.set_trace_callback(statements.append)
        with pytest.raises(KitaruNotFoundError):
            executions.find(conn, ref)
        conn.set_trace_callback(None)
        for statement in statements:
            steps = [row["detail"] for row in conn.execute(f"EXPLAIN QUERY PLAN {statement}")]
            assert not [step for step in steps if "TEMP" in step]
            reads = [step for step in steps if step.startswith(("SCAN", "SEARCH"))]
            assert all("INDEX" in step or "PRIMARY KEY" in step for step in reads), steps


# --- lines ----------------------------------------------------------------------------------------

LEVELLED = [
    LogRecord(at, level, level)
    for at, level in enumerate(
        ["DEBUG", "debug", "INFO", "Custom", "", "WARNING", "ERROR", "CRITICAL"]
    )
]


@pytest.mark.parametrize(
    ("level", "first"),
    [("debug", 0), ("INFO", 2), (" Warning ", 5), ("error", 6), ("CRITICAL", 7)],
)
def test_a_level_shows_its_lines_and_higher_ones_and_unknown_ones_count_as_info(
    level: str, first: int
):
    exec_id = written(*LEVELLED)
    assert told(exec_id, level=level) == [line.message for line in LEVELLED[first:]]


def test_text_is_found_literally_whatever_its_case():
    exec_id = written(*lines("Timeout 100%", "a_b", "axb", "back\\slash", "nul\0Byte", "Ärger"))
    for text, found in {
        "TIMEOUT": ["Timeout 100%"],
        "%": ["Timeout 100%"],
        "A_B": ["a_b"],
        "\\": ["back\\slash"],
        "Ärg": ["Ärger"],
        "' OR 1": [],
    }.items():
        assert told(exec_id, text=text) == found, text


def test_the_tail_is_the_last_lines_that_fit_in_their_order():
    exec_id = written(*lines("a", "b"), *lines("c", level="ERROR"), *lines("d"))
    page = KitaruClient().executions.logs(exec_id, tail=2)
    assert [line.message for line in page] == ["d", "b"]  # by time, then as they were stored
    assert page.next_cursor is None
    assert told(exec_id, tail=9, level="error") == ["c"]
    assert told(exec_id, tail=99) == told(exec_id)


@settings(max_examples=25)
@given(
    times=st.lists(st.integers(0, 3), max_size=30),
    limit=st.integers(1, 7),
    level=st.sampled_from([None, "error"]),
)
def test_pages_of_lines_make_up_the_whole(times: list[int], limit: int, level: str | None):
    exec_id = written(
        *(LogRecord(at, ("INFO", "ERROR")[n % 2], str(n)) for n, at in enumerate(times))
    )
    read, found, cursor = KitaruClient().executions.logs, [], None
    while True:
        page = read(exec_id, level=level, limit=limit, cursor=cursor)
        assert len(page) == limit or page.next_cursor is None
        found += page
        if (cursor := page.next_cursor) is None:
            break
    assert found == read(exec_id, level=level)


def test_lines_that_come_meanwhile_are_on_a_later_page():
    exec_id = written(*lines("a", "b", "c"))
    first = KitaruClient().executions.logs(exec_id, limit=2)
    with drives.store().write() as conn:
        logs.add(conn, executions.find(conn, exec_id).id, [LogRecord(9, "INFO", "d")])
    assert told(exec_id, cursor=first.next_cursor) == ["c", "d"]


@pytest.mark.parametrize("options", [{}, {"cursor": "5-5"}, {"level": "ERROR", "text": "a"}])
def test_lines_are_read_in_the_order_of_their_index(options: dict[str, Any]):
    cursor = options.get("cursor")
    filters = {key: value for key, value in options.items() if key != "cursor"}
    statements: list[str] = []
    with drives.store().snapshot() as conn:
        conn.set_trace_callback(statements.append)
        logs.read(conn, 1, logs.Which(**filters), limit=5, cursor=cursor)
        logs.tail(conn, 1, logs.Which(**filters), count=5)
        conn.set_trace_callback(None)
        for statement in statements:
            (step,) = conn.execute(f"EXPLAIN QUERY PLAN {statement}").fetchall()
            assert "USING INDEX logs_execution (execution=?" in step["detail"]


def test_followed_lines_are_filtered_too():
    handle = flow(name="speaking")(lambda: [print(word) for word in ("one", "two")]).run()
    handle.wait(20)
    follow = KitaruClient().executions.logs(handle.exec_id, follow=True, text="TW", level="info")
    assert [line.message for line in follow] == ["two"]


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"level": "loud"}, "DEBUG, INFO, WARNING, ERROR, CRITICAL"),
        ({"level": 3}, "DEBUG"),
        ({"text": 3}, "text is 3"),
        ({"text": "\ud800"}, "text is"),
        ({"checkpoint": "\ud800"}, "checkpoint is"),
        ({"tail": 0}, "tail is 0"),
        ({"limit": 10**30}, "limit is"),
        ({"tail": 1, "limit": 1}, "leave out limit"),
        ({"tail": 1, "cursor": "1-1"}, "leave out limit"),
        ({"tail": 1, "follow": True}, "leave out limit"),
        ({"cursor": "1-1", "follow": True}, "leave out cursor"),
        ({"cursor": "1"}, "not a cursor"),
        ({"cursor": "1-1\n"}, "not a cursor"),
        ({"cursor": "1-1-1"}, "not a cursor"),
        ({"cursor": ""}, "not a cursor"),
    ],
)
def test_what_cannot_be_asked_of_lines_is_refused(given: dict[str, Any], says: str):
    exec_id = written(*lines("a"))
    with pytest.raises(KitaruUsageError, match=says):
        KitaruClient().executions.logs(exec_id, **given)


# --- summaries and ends ---------------------------------------------------------------------------


def test_a_summary_is_the_row_of_a_list():
    @checkpoint
    def step() -> int:
        kitaru.save("notes", 1)
        return 1

    handle = flow(name="summed")(lambda: step() + step()).run()
    handle.wait(20)
    executions_ = KitaruClient().executions
    assert executions_.summary(handle.exec_id[:9]) == executions_.list()[0]
    assert executions_.summary("latest").refresh() == executions_.get(handle.exec_id)
    assert (executions_.list()[0].checkpoint_count, executions_.list()[0].artifact_count) == (2, 4)


def ends(exec_id: str, cursor: str | None = None) -> tuple[list[tuple[str, str]], str]:
    """What has ended since, one by one, and where that left off."""
    found = []
    while True:
        page = KitaruClient().executions.ended_checkpoints(exec_id, cursor=cursor, limit=1)
        assert page.next_cursor is not None
        cursor = page.next_cursor
        if not page:
            return found, cursor
        found += [(call.call_id, call.status.value) for call in page]


def test_ended_checkpoints_come_in_the_order_of_their_ends_and_again_only_what_is_new():
    gate = threading.Event()

    @checkpoint
    def slow() -> None:
        assert gate.wait(20)

    @checkpoint
    def quick() -> None:
        return None

    @flow
    def both() -> None:
        first = slow.submit()
        quick()
        assert entered.wait(20)
        quick()
        gate.set()
        first.result()

    entered = threading.Event()
    handle = both.run()
    until(lambda: ends(handle.exec_id)[0], "the first end")
    found, cursor = ends(handle.exec_id)
    assert found == [("quick", "completed")]
    assert ends(handle.exec_id, cursor) == ([], cursor)
    entered.set()
    handle.wait(20)
    assert ends(handle.exec_id, cursor)[0] == [("quick#2", "completed"), ("slow", "completed")]
    assert len(KitaruClient().executions.ended_checkpoints(handle.exec_id)) == 3


def test_after_a_retry_what_had_failed_ends_once_more():
    broken = [True]

    @checkpoint
    def fine(n: int) -> int:
        return n

    @checkpoint
    def fragile() -> None:
        if broken:
            raise ValueError("no")

    @flow
    def fragile_flow() -> None:
        fine(1)
        fragile()
        fine(2)

    error_of(handle := fragile_flow.run())
    found, cursor = ends(handle.exec_id)
    assert found == [("fine", "completed"), ("fragile", "failed")]
    broken.clear()
    again("retry", fragile_flow, handle.exec_id).wait(20)
    found, cursor = ends(handle.exec_id, cursor)
    assert found == [("fragile", "completed"), ("fine#2", "completed")]
    assert ends(handle.exec_id, cursor)[0] == []


def test_ends_without_a_place_stand_first_and_those_cut_off_last():
    def call(seq: int, status: CallStatus, *, order: int | None) -> None:
        record = CallRecord(
            seq, "", seq, f"c#{seq}", "checkpoint", status, b"", "", ended_at=100 - seq
        )
        journal.put(conn, row, record, order=order, result=b"1")

    exec_id = written()
    with drives.store().write() as conn:
        row = executions.find(conn, exec_id).id
        call(1, CallStatus.CANCELLED, order=None)
        call(2, CallStatus.COMPLETED, order=2)
        call(3, CallStatus.RUNNING, order=None)
        call(4, CallStatus.FAILED, order=1)
        call(5, CallStatus.COMPLETED, order=None)
        call(6, CallStatus.COMPLETED, order=None)
    assert [name for name, _ in ends(exec_id)[0]] == ["c#6", "c#5", "c#4", "c#2", "c#1"]


@pytest.mark.parametrize("given", [{"limit": 0}, {"limit": 201}, {"cursor": "1-2"}, {"cursor": ""}])
def test_what_cannot_be_asked_of_ends_is_refused(given: dict[str, Any]):
    exec_id = completed()
    with pytest.raises(KitaruUsageError):
        KitaruClient().executions.ended_checkpoints(exec_id, **given)


# --- changes --------------------------------------------------------------------------------------


def test_the_version_changes_with_every_commit_and_makes_no_store(tmp_path: Path):
    client = KitaruClient(home=tmp_path / "none")
    assert client.version() == 0
    assert not client.home.database.exists()
    client = KitaruClient()
    exec_id = written()
    seen = [client.version()]
    assert client.version() == seen[0]
    written()
    seen.append(client.version())
    code = f"from kitaru import KitaruClient; KitaruClient().executions.cancel({exec_id!r})"
    with spawn(client.home.path, "-c", code) as process:
        assert process.wait(20) == 0
    seen.append(client.version())
    assert len(set(seen)) == 3
