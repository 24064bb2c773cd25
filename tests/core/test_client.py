"""`KitaruClient`: how executions are found, listed and paged, and what the answers are like."""

from __future__ import annotations

import itertools
import json
import sys
import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

import kitaru
from kitaru import KitaruClient, checkpoint, clock, flow, ids
from kitaru.errors import KitaruUsageError
from kitaru.models import ExecutionStatus
from tests.drives import answer, error_of, left
from tests.support import until


@pytest.fixture
def client(home: Path) -> KitaruClient:
    return KitaruClient()


@checkpoint
def double(n: int) -> int:
    print("doubling", n)
    kitaru.log(n=n)
    return 2 * n


@flow
def doubling(n: int = 1) -> int:
    return double(n)


@flow(name="failing")
def failing() -> None:
    raise ValueError("no")


@flow
def asking() -> bool:
    return kitaru.wait(name="ask", timeout=0)


def completed(definition: Any = doubling, **options: Any) -> str:
    """The id of an execution that has just completed."""
    handle = definition.with_options(**options).run()
    handle.wait(20)
    return str(handle.exec_id)


def listed(client: KitaruClient, **filters: Any) -> list[str]:
    return [execution.exec_id for execution in client.executions.list(**filters)]


class StoppedClock(clock.Clock):
    """Wall time that stands still until it is set."""

    def __init__(self) -> None:
        self.now = datetime(2026, 11, 20, 12, tzinfo=UTC)

    def now_us(self) -> int:
        return clock.to_us(self.now)


def test_an_execution_is_found_by_its_id_and_by_a_unique_prefix(client: KitaruClient):
    exec_id = completed()
    for ref in (exec_id, exec_id[:6], exec_id.removeprefix("kr-")[:6], f" {exec_id} "):
        assert client.executions.get(ref).exec_id == exec_id


def test_an_unknown_id_names_the_nearest(client: KitaruClient):
    with pytest.raises(kitaru.KitaruNotFoundError, match="no executions yet"):
        client.executions.get("kr-none")
    exec_id = completed()
    wrong = exec_id[:-1] + ("0" if exec_id[-1] != "0" else "1")
    with pytest.raises(kitaru.KitaruNotFoundError, match=f"Nearest: {exec_id}") as caught:
        client.executions.get(wrong)
    assert isinstance(caught.value, LookupError)
    assert isinstance(caught.value, kitaru.KitaruBackendError)
    with pytest.raises(kitaru.KitaruNotFoundError, match=f"Newest: {exec_id}"):
        client.executions.get("kr-!!!!")
    with pytest.raises(kitaru.KitaruNotFoundError):
        client.executions.get("")


def test_a_prefix_that_fits_several_lists_them(client: KitaruClient):
    numbers = itertools.count()
    with ids.use(lambda: f"twin{next(numbers):012}"):
        found = sorted([completed(), completed()])
    with pytest.raises(kitaru.KitaruStateError, match="more characters") as caught:
        client.executions.get("kr-twin")
    for exec_id in found:
        assert f"{exec_id} (completed doubling)" in str(caught.value)


def test_a_full_id_that_starts_another_one_is_not_ambiguous(client: KitaruClient):
    numbers = iter(["same", "r1", "samelonger", "r2"])
    with ids.use(numbers.__next__):
        first, _ = completed(), completed()
    assert client.executions.get(first).exec_id == "kr-same"


@pytest.mark.parametrize("act", ["retry", "resume", "cancel", "logs", "pending_waits", "continues"])
def test_every_action_on_an_unknown_execution_is_not_found(client: KitaruClient, act):
    with pytest.raises(kitaru.KitaruNotFoundError):
        getattr(client.executions, act)("kr-none")


def test_lists_are_newest_first_and_filtered(client: KitaruClient):
    one = completed(tags=["eu", "nightly"])
    error_of(handle := failing.run())
    two = handle.exec_id
    left(waiting := asking.run().exec_id)
    assert listed(client) == [waiting, two, one]
    assert listed(client, flow="failing") == [two]
    assert listed(client, flow=client.executions.get(one).flow_id) == [one]
    assert listed(client, flow="nothing") == []
    for status in ("failed", "FAILED", " Failed ", ExecutionStatus.FAILED):
        assert listed(client, status=status) == [two]
    assert listed(client, stack="local", status="waiting") == [waiting]
    assert listed(client, stack="cloud") == []
    assert listed(client, tags=["eu", "nightly"]) == listed(client, tags=("eu",)) == [one]
    assert listed(client, tags=["eu", "us"]) == []
    assert listed(client, tags=[]) == [waiting, two, one]


def test_lists_hold_summaries_that_can_be_refreshed(client: KitaruClient):
    exec_id = completed()
    (summary,) = client.executions.list()
    assert (summary.checkpoints, summary.checkpoint_count, summary.artifact_count) == ((), 1, 1)
    assert summary.refresh() == client.executions.get(exec_id)
    assert [call.call_id for call in summary.list_checkpoints()] == ["double"]
    assert [ref.name for ref in summary.list_artifacts()] == ["double"]


def test_lists_are_bounded_by_time_from_since_to_before_until(client: KitaruClient):
    with clock.use(stopped := StoppedClock()):
        assert isinstance(stopped, StoppedClock)
        noon = stopped.now
        first = completed()
        stopped.now += timedelta(hours=1)
        second = completed()
    assert listed(client, since=noon + timedelta(microseconds=1)) == [second]
    assert listed(client, since=noon, until=noon + timedelta(hours=1)) == [first]
    assert listed(client, until=noon) == []
    assert client.executions.get(first).created_at == noon


@pytest.mark.parametrize(
    ("filters", "told"),
    [
        *[({"limit": bad}, "limit") for bad in (0, -1, 201, True, 1.5, "5", None)],
        ({"since": datetime(2026, 1, 1)}, "time zone"),
        ({"until": datetime(2026, 1, 1)}, "time zone"),
        ({"since": "24h"}, "datetime with a time zone"),
        ({"status": "done"}, "pending, running, waiting, completed, failed, cancelled"),
        ({"tags": "word"}, "list of tags"),
        *[({"cursor": bad}, "not a cursor") for bad in ("x", "", "1", "1-", "1-2-3", "-1-1")],
    ],
)
def test_filters_that_cannot_be_right_are_refused(client: KitaruClient, filters, told):
    with pytest.raises(kitaru.KitaruUsageError, match=told):
        client.executions.list(**filters)


def test_pages_walk_all_executions_once_while_new_ones_come(client: KitaruClient):
    with clock.use(StoppedClock()):  # all at the same microsecond
        there = [completed() for _ in range(7)]
        seen, cursor = [], None
        while True:
            page = client.executions.list(limit=2, cursor=cursor)
            seen += [execution.exec_id for execution in page]
            completed()
            if (cursor := page.next_cursor) is None:
                break
    assert seen == there[::-1]


def test_the_last_page_has_no_cursor(client: KitaruClient):
    assert client.executions.list().next_cursor is None
    completed(), completed()
    assert client.executions.list(limit=2).next_cursor is None
    assert client.executions.list(limit=1).next_cursor is not None


def test_latest_is_the_newest_that_fits_with_its_calls(client: KitaruClient):
    with pytest.raises(kitaru.KitaruNotFoundError, match="start one") as caught:
        client.executions.latest()
    assert isinstance(caught.value, LookupError)
    exec_id = completed()
    error_of(failing.run())
    assert client.executions.latest().status == "failed"
    latest = client.executions.latest(flow="doubling", status="completed", stack="local")
    assert (latest.exec_id, len(latest.checkpoints)) == (exec_id, 1)
    with pytest.raises(kitaru.KitaruNotFoundError, match="flow=doubling, status=failed"):
        client.executions.latest(flow="doubling", status="failed")


def test_pending_waits_are_there_until_they_are_answered(client: KitaruClient):
    handle = asking.run()
    left(handle.exec_id)
    (pending,) = client.executions.pending_waits(handle.exec_id[:9])
    assert (pending.name, pending.wait_id) == ("ask", f"{handle.exec_id}/ask")
    assert not client.executions.continues(handle.exec_id)
    answer(handle.exec_id, "ask", True)
    assert client.executions.pending_waits(handle.exec_id) == []
    assert client.executions.pending_waits(completed()) == []


def test_methods_of_an_execution_return_new_snapshots(client: KitaruClient):
    gate = threading.Event()

    @flow
    def gated() -> int:
        gate.wait(20)
        return double(1)

    handle = gated.run()
    before = client.executions.get(handle.exec_id)
    gate.set()
    handle.wait(20)
    after = before.refresh()
    assert (before.status, before.result, before.ended_at) == ("running", None, None)
    assert (after.status, after.result, len(after.checkpoints)) == ("completed", 2, 1)
    assert after == before.refresh()


def test_cancel_of_what_waits_is_at_once_and_only_once(client: KitaruClient):
    left(exec_id := asking.run().exec_id)
    before = client.executions.get(exec_id)
    cancelled = before.cancel()
    assert (before.status, cancelled.status) == ("waiting", "cancelled")
    assert (cancelled.pending_wait, cancelled.stalled) == (None, False)
    for act in (cancelled.cancel, cancelled.resume, cancelled.retry):
        with pytest.raises(kitaru.KitaruStateError, match=r"it is cancelled.*legal now: replay"):
            act()


def test_a_running_execution_cannot_be_resumed_retried_or_replayed(client: KitaruClient):
    gate = threading.Event()

    @flow
    def gated() -> None:
        gate.wait(20)

    handle = gated.run()
    execution = client.executions.get(handle.exec_id)
    with pytest.raises(kitaru.KitaruStateError, match="alive and goes on by itself"):
        execution.resume()
    with pytest.raises(kitaru.KitaruStateError, match="it is running"):
        execution.retry()
    with pytest.raises(kitaru.KitaruStateError, match="it is running"):
        execution.replay("double")
    assert execution.refresh() == execution
    gate.set()
    handle.wait(20)


def test_answers_are_json_ready_and_times_aware(client: KitaruClient):
    left(waiting := asking.run().exec_id)
    error_of(handle := failing.run())
    for exec_id in (completed(), waiting, handle.exec_id):
        execution = client.executions.get(exec_id)
        data = json.loads(json.dumps(execution.to_dict(), allow_nan=False))
        assert data["exec_id"] == exec_id
        assert datetime.fromisoformat(data["created_at"]) == execution.created_at
        assert execution.created_at.tzinfo is UTC
        assert execution.started_at is not None
        assert execution.created_at <= execution.started_at
    for entry in client.executions.logs(client.executions.latest("doubling").exec_id):
        assert json.dumps(entry.to_dict())
    for ref in client.artifacts.list(client.executions.latest("doubling").exec_id):
        assert json.dumps(ref.to_dict())


def test_an_execution_says_what_was_fixed_when_it_started(client: KitaruClient):
    spec = client.executions.get(completed(retries=2, tags=["a"])).frozen_execution_spec
    assert spec["target"] == f"{__name__}:doubling"
    assert (spec["retries"], spec["tags"], spec["stack"]) == (2, ["a"], "local")
    assert spec["python_version"] == ".".join(map(str, sys.version_info[:3]))
    assert spec["kitaru_version"] == kitaru.__version__
    assert "env" not in json.dumps(spec)


def test_a_client_can_be_given_a_store_explicitly(client: KitaruClient, tmp_path: Path):
    exec_id = completed()
    other = KitaruClient(home=tmp_path / "other")
    assert other.executions.list() == []
    assert KitaruClient(home=client.home.path).executions.get(exec_id).exec_id == exec_id
    (tmp_path / "file").write_text("")
    with pytest.raises(kitaru.KitaruUsageError, match="not a folder"):
        KitaruClient(home=tmp_path / "file")
    with pytest.raises(kitaru.KitaruUsageError, match="not a folder"):
        KitaruClient(home=" ")


def test_logs_can_be_followed_to_the_end_of_a_running_execution(client: KitaruClient):
    gate = threading.Event()

    @flow
    def chatty() -> None:
        double(1)
        gate.wait(20)
        double(2)

    handle = chatty.run()
    until(lambda: client.executions.get(handle.exec_id).checkpoint_count == 1, "the first call")
    lines = client.executions.logs(handle.exec_id, follow=True)
    assert next(lines).message == "doubling 1"
    gate.set()
    assert [line.message for line in lines] == ["doubling 2"]
    handle.wait(20)
    again = client.executions.logs(handle.exec_id, "double#2", follow=True, limit=5)
    assert [line.message for line in again] == ["doubling 2"]


def test_inputs_that_are_no_json_are_refused_before_a_runner_starts():
    with pytest.raises(KitaruUsageError, match="cannot be handed to a runner"):
        KitaruClient().executions.run("agent.py:agent", {"topic": object()})
