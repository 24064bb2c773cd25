"""`client.executions.statistics`: it answers as a naive second implementation, and examples."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

import kitaru
from kitaru import ExecutionStatisticsGrouping, ExecutionStatisticsMetric, KitaruClient, clock
from kitaru import statistics as spec
from kitaru.errors import KitaruUsageError
from kitaru.models import ExecutionStatus
from kitaru.statistics import ExecutionStatistics
from kitaru.store import Store
from kitaru.store import executions as stored
from tests.core import naive
from tests.core.naive import Made
from tests.drives import again, answer, error_of, load
from tests.support import TurnedClock, forget

NEW_YORK = ZoneInfo("America/New_York")
NOON = datetime(2026, 11, 18, 12, tzinfo=UTC)  # a Wednesday
#: Borders of weeks, months, years, leap days and summer time.
BORDERS = [
    datetime(2023, 12, 31, 23, 59, 59, 999_999, tzinfo=UTC),
    datetime(2024, 1, 1, tzinfo=UTC),
    datetime(2024, 2, 29, tzinfo=UTC),
    datetime(2024, 3, 1, tzinfo=UTC),
    datetime(2025, 12, 29, tzinfo=UTC),
    datetime(2026, 3, 8, 3, tzinfo=NEW_YORK).astimezone(UTC),
    datetime(2026, 11, 1, 1, 30, tzinfo=NEW_YORK).astimezone(UTC),
    datetime(2026, 11, 1, 1, 30, fold=1, tzinfo=NEW_YORK).astimezone(UTC),
    NOON,
]
FLOWS, STACKS, TAGS = ("alpha", "beta"), ("local", "gpu"), ("a", "a b", "é😀", "'; --")
KEYS = ("usd", "a:b", "it's", 'say "hi"', "a.b", "$.x[0]", "😀", " ", "[1]")
VALUES = [
    *(0, 1, 1.0, -1, 0.5, 0.1 + 0.2, 0.3, 1e22, 1e-7, 123_456.789, -0.0),
    *(True, False, None, "", "1", "true", "null", "gold", "go", "a b", 'q"\\', "é😀\n"),
    *({}, {"usd": 1}, [], [1, 2], 2**53 + 1, 2**63 - 1, -(2**63), 2**70, 10**400),
]
SCALARS = [value for value in VALUES if not isinstance(value, dict | list) and value != 10**400]
Client = kitaru.client.Executions

moments = st.builds(
    lambda border, us: border + timedelta(microseconds=us),
    st.sampled_from(BORDERS),
    st.sampled_from([-3_600_000_000, -1, 0, 1, 1_500_000, 86_400_000_000]),
)
#: Also below zero: a clock may be set back.
pauses = st.none() | st.sampled_from([-1.5, 0.0, 0.000001, 0.25, 3.0, 3.0, 7200.0])


def several(strategy: st.SearchStrategy[Any], most: int, **options: Any) -> Any:
    """Lists of which long ones are as likely as short ones."""
    return st.integers(0, most).flatmap(
        lambda size: st.lists(strategy, min_size=size, max_size=size, **options)
    )


@st.composite
def made(draw: st.DrawFn) -> Made:
    created = draw(moments)
    started = ended = None
    if (pause := draw(pauses)) is not None:
        started = created + timedelta(seconds=pause)
        if (pause := draw(pauses)) is not None:
            ended = started + timedelta(seconds=pause)
    return Made(
        flow=draw(st.sampled_from(FLOWS)),
        stack=draw(st.sampled_from(STACKS)),
        status=draw(st.sampled_from(list(ExecutionStatus))).value,
        tags=tuple(draw(st.lists(st.sampled_from(TAGS), max_size=3, unique=True))),
        created_at=created,
        started_at=started,
        ended_at=ended,
        metadata={
            **draw(st.fixed_dictionaries({}, optional=dict.fromkeys(KEYS[:2], values))),
            **draw(st.dictionaries(st.sampled_from(KEYS), values, max_size=2)),
        },
    )


numbers = st.floats(-1e9, 1e9, allow_subnormal=False).map(lambda value: round(value, 6))
#: Two of them are asked for often, so that they are found.
keys = st.sampled_from(KEYS[:2]) | st.sampled_from(KEYS)
values = st.sampled_from(VALUES) | numbers | st.text(st.characters(exclude_characters="\0"))
groupings = st.builds(
    ExecutionStatisticsGrouping, st.sampled_from(["status", "flow", "stack", "tag"])
) | st.builds(
    lambda key: ExecutionStatisticsGrouping("metadata", f"of {key}", metadata_key=key),
    keys,
)
times = st.builds(
    lambda unit: ExecutionStatisticsGrouping("time", time_granularity=unit),
    st.sampled_from(["hour", "day", "week", "month"]),
)
metrics = st.builds(
    lambda source, how, key: ExecutionStatisticsMetric(
        f"{source} {how} {key}", source, how, key if source == "metadata" else None
    ),
    st.sampled_from(["duration", "queue_time", "metadata", "metadata", "step_count"]),
    st.sampled_from(list(spec.ExecutionStatisticsAggregation)),
    keys,
)


wheres = keys.map(lambda key: f"metadata:{key}")
filters: dict[str, st.SearchStrategy[Any]] = {
    "flow": st.sampled_from(["alpha", "fl-beta", "unknown"]),
    "status": st.sampled_from(list(ExecutionStatus)),
    "stack": st.sampled_from(STACKS),
    "tags": st.sampled_from([["a"], ["a", "é😀"], []]),
    "since": moments,
    "until": moments,
    "where": st.dictionaries(wheres, st.sampled_from(SCALARS), max_size=2),
}


@st.composite
def requests(draw: st.DrawFn) -> dict[str, Any]:
    by = draw(several(groupings, 2, unique_by=lambda each: each.name))
    if draw(st.booleans()):
        by.insert(draw(st.integers(0, len(by))), draw(times))
    # Few of them: one that fits nothing says nothing of the groups.
    filtered = draw(several(st.sampled_from([*filters]), 2, unique=True))
    return {
        "group_by": by,
        "metrics": draw(several(metrics, 4, unique_by=lambda each: each.name)),
        "max_groups": draw(st.sampled_from([1, 2, 3, 1000])),
        **{name: draw(filters[name]) for name in filtered},
    }


def fits(one: Made, request: dict[str, Any]) -> bool:
    return (
        request.get("flow", one.flow).removeprefix("fl-") == one.flow
        and request.get("status", one.status) == one.status
        and request.get("stack", one.stack) == one.stack
        and {*request.get("tags", ())} <= {*one.tags}
        and request.get("since", one.created_at) <= one.created_at
        and ("until" not in request or one.created_at < request["until"])
        and all(
            naive.scalar(one.metadata.get(key.partition(":")[2])) == naive.scalar(value)
            for key, value in request.get("where", {}).items()
        )
    )


def fill(store: Store, executions: Sequence[Made]) -> None:
    """Let the store hold these executions and no others."""
    with store.write() as conn:
        conn.execute("DELETE FROM execution_tags")
        conn.execute("DELETE FROM execution_metadata")
        conn.execute("DELETE FROM executions")
        for number, one in enumerate(executions, 1):
            created, started, ended = (
                None if at is None else clock.to_us(at)
                for at in (one.created_at, one.started_at, one.ended_at)
            )
            conn.execute(
                "INSERT INTO executions (id, exec_id, flow_id, flow_name, status, created_at, "
                "started_at, ended_at, stack_name, tags, metadata, spec, inputs_size, "
                "inputs_digest) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, '{}', '{}', 0, x'')",
                (
                    *(number, f"kr-{number:016}", f"fl-{one.flow}", one.flow, one.status),
                    *(created, started, ended, one.stack),
                    json.dumps(one.tags),
                ),
            )
            stored.set_metadata(conn, number, one.metadata)
            conn.executemany(
                "INSERT INTO execution_tags VALUES (?, ?, ?)",
                [(tag, created, number) for tag in one.tags],
            )


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Store, Client]]:
    """A store that each test fills anew."""
    path = tmp_path_factory.mktemp("statistics") / "home"
    client = KitaruClient(home=path)
    store = Store(kitaru.config.find_home(path), durability="normal")
    fill(store, [])
    yield store, client.executions
    store.close()
    forget(path)


def one(**given: Any) -> Made:
    """A completed execution of three seconds."""
    start = given.pop("started_at", NOON)
    common = {"flow": "alpha", "stack": "local", "status": "completed", "tags": ()}
    end = None if start is None else start + timedelta(seconds=given.pop("seconds", 3))
    return Made(**common | {"created_at": NOON, "started_at": start, "ended_at": end} | given)


def counts(found: ExecutionStatistics) -> list[tuple[Any, ...]]:
    return [(*group.keys.values(), group.execution_count) for group in found.groups]


def is_near(number: float | None, other: float | None, *, scale: float) -> bool:
    if number is None or other is None:
        return number is other
    return math.isclose(number, other, rel_tol=1e-9, abs_tol=scale * 1e-12)


@given(executions=several(made(), 16), request=requests())
def test_every_request_has_the_answer_of_the_naive_implementation(
    shared: tuple[Store, Client], executions: list[Made], request: dict[str, Any]
) -> None:
    store, client = shared
    fill(store, executions)
    found = client.statistics(**request)
    groups, truncated, skipped = naive.statistics(
        executions,
        request["group_by"],
        request["metrics"],
        fits=lambda one: fits(one, request),
        max_groups=request["max_groups"],
    )
    assert (found.truncated, found.skipped) == (truncated, skipped)
    assert [(group.keys, group.execution_count) for group in found.groups] == [
        (keys, count) for keys, count, _ in groups
    ]
    sizes = [abs(value) for each in executions for value in each.metadata.values() if number(value)]
    for group, (keys, _, expected) in zip(found.groups, groups, strict=True):
        assert [*map(type_of, group.keys.values())] == [*map(type_of, keys.values())]
        assert group.metrics.keys() == expected.keys()
        for name, value in group.metrics.items():
            assert is_near(value, expected[name], scale=max(sizes, default=0)), (name, value)
    json.dumps(found.to_dict(), allow_nan=False)


def number(value: Any) -> bool:
    return type(value) in (int, float) and abs(value) < 1e300


def type_of(value: Any) -> type:
    """Numbers are one type, and true and false another."""
    return int if isinstance(value, float) else type(value)


def test_an_empty_store_has_one_group_of_nothing_and_no_groups_by_anything(home: Path) -> None:
    client = KitaruClient().executions
    found = client.statistics(metrics=["mean:duration:avg", "n:step_count:p50"])
    assert counts(found) == [(0,)]
    assert found.groups[0].metrics == {"mean": None, "n": None}
    assert client.statistics(["status"]).groups == ()
    assert client.statistics(flow="unknown").groups[0].execution_count == 0
    assert not found.truncated


def test_all_statuses_are_told_apart_and_a_waiting_execution_is_waiting(
    shared: tuple[Store, Client],
) -> None:
    store, client = shared
    fill(store, [one(status=status.value) for status in ExecutionStatus for _ in range(2)])
    found = client.statistics(["status"])
    assert counts(found) == [(status, 2) for status in sorted(ExecutionStatus)]
    assert counts(client.statistics(["status"], status="waiting")) == [("waiting", 2)]


def test_groups_come_largest_first_then_by_their_keys_with_nothing_last(
    shared: tuple[Store, Client],
) -> None:
    store, client = shared
    held = [None, {}, 10, 9, "b", "b c", "b!", True, False, "big", "big", 1, 1.0]
    fill(store, [*(one(metadata={"k": value}) for value in held), one()])
    assert counts(client.statistics(["metadata:k"])) == [
        *((None, 3), (1, 2), ("big", 2), (9, 1), (10, 1)),
        *(("b", 1), ("b c", 1), ("b!", 1), (False, 1), (True, 1)),
    ]


def test_metadata_keeps_1_true_and_their_texts_apart_but_not_1_and_1_0(
    shared: tuple[Store, Client],
) -> None:
    store, client = shared
    fill(store, [one(metadata={"k": value}) for value in (1, 1.0, True, "1", "true", None, [1])])

    def count(value: Any) -> int:
        return client.statistics(where={"metadata:k": value}).groups[0].execution_count

    assert [*map(count, (1, 1.0, True, "1", "true", None, False))] == [2, 2, 1, 1, 1, 2, 0]
    assert [type(group.keys["k"]) for group in client.statistics(["metadata:k"]).groups] == [
        *(int, type(None), str, str, bool)
    ]


@pytest.mark.parametrize("value", [0.1 + 0.2, 1e22, 1e-7, 2**70, 2**63, 5e-324, "é😀\n", 'a"\\'])
def test_each_value_that_can_be_recorded_is_a_group_and_found_by_where(
    shared: tuple[Store, Client], value: Any
) -> None:
    store, client = shared
    fill(store, [one(metadata={"k": value}), one(metadata={"k": 0.3})])
    assert counts(client.statistics(["metadata:k"], where={"metadata:k": value})) == [(value, 1)]


@pytest.mark.parametrize("key", [*KEYS, "x,y", "%", "\\", "k=?", "None", "metadata:"])
def test_a_metadata_key_may_have_any_characters(shared: tuple[Store, Client], key: str) -> None:
    store, client = shared
    fill(store, [one(metadata={key: 2, "other": 5}), one(metadata={"other": 5})])
    by = ExecutionStatisticsGrouping("metadata", "it", metadata_key=key)
    total = ExecutionStatisticsMetric("total", "metadata", "sum", key)
    found = client.statistics([by], [total], where={f"metadata:{key}": 2})
    assert counts(found) == [(2, 1)]
    assert found.groups[0].metrics == {"total": 2.0}


def test_what_is_no_number_or_beyond_any_float_is_skipped_and_told(
    shared: tuple[Store, Client],
) -> None:
    store, client = shared
    odd = [True, "5", None, {}, [1], 10**400]
    fill(store, [*(one(metadata={"n": value}, tags=("a", "b")) for value in odd), one()])
    found = client.statistics(["tag"], ["n:metadata:n:sum", "d:duration:sum", "m:metadata:m:max"])
    assert found.skipped == {"n": 6, "m": 0}
    assert {group.metrics["n"] for group in found.groups} == {None}
    assert counts(client.statistics(["metadata:n"], status="completed"))[0] == (None, 5)


@pytest.mark.parametrize(
    ("held", "expected"), [([2**63 - 1] * 3, 3 * 2.0**63), ([1e308] * 3, None), ([2**70], 2.0**70)]
)
def test_sums_go_beyond_64_bits_and_are_nothing_beyond_the_largest_float(
    shared: tuple[Store, Client], held: list[float], expected: float | None
) -> None:
    store, client = shared
    fill(store, [one(metadata={"n": value}) for value in held])
    assert client.statistics(metrics=["n:metadata:n:sum"]).groups[0].metrics == {"n": expected}


@pytest.mark.parametrize(
    ("count", "p50", "p95", "p99"),
    [(1, 1, 1, 1), (2, 1, 2, 2), (20, 10, 19, 20), (200, *(100, 190, 198))],
)
def test_percentiles_are_the_nearest_ranks(
    shared: tuple[Store, Client], count: int, p50: int, p95: int, p99: int
) -> None:
    store, client = shared
    fill(store, [one(seconds=n, flow=FLOWS[n > count]) for n in range(2 * count, 0, -1)])
    asked = [f"{how}:duration:{how}" for how in ("p50", "p95", "p99", "min", "max", "avg")]
    (group,) = client.statistics(metrics=asked, flow="alpha").groups
    assert group.metrics == {
        **{"p50": p50, "p95": p95, "p99": p99},
        **{"min": 1, "max": count, "avg": (count + 1) / 2},
    }
    assert [each.metrics["max"] for each in client.statistics(["flow"], asked).groups] == [
        *(count, 2 * count)
    ]


def test_durations_are_what_the_clock_said_and_only_of_those_that_ended(
    shared: tuple[Store, Client],
) -> None:
    store, client = shared
    running = one(ended_at=None, created_at=NOON - timedelta(seconds=4))
    fill(store, [one(seconds=-2), running, one(started_at=None)])
    asked = ["d:duration:sum", "least:duration:min", "q:queue_time:max"]
    (group,) = client.statistics(metrics=asked).groups
    assert group.metrics == {"d": -2.0, "least": -2.0, "q": 4.0}


def test_too_many_groups_leave_the_largest_or_by_time_the_newest(
    shared: tuple[Store, Client],
) -> None:
    store, client = shared
    days = [NOON - timedelta(days=ago) for ago in (2, 2, 2, 1, 1, 0)]
    flows = ["alpha", "beta", "gamma", "alpha", "beta", "alpha"]
    fill(
        store,
        [
            *(one(started_at=day, flow=flow) for day, flow in zip(days, flows, strict=True)),
            one(started_at=None),
        ],
    )
    largest = client.statistics(["flow"], max_groups=2)
    assert [(group.keys["flow_name"], group.execution_count) for group in largest.groups] == [
        *(("alpha", 4), ("beta", 2))
    ]
    assert largest.truncated
    newest = client.statistics(["flow", "time:day"], max_groups=4)
    assert [(group.keys["day"], group.keys["flow_name"]) for group in newest.groups] == [
        *(("2026-11-16", "gamma"), ("2026-11-17", "alpha")),
        *(("2026-11-17", "beta"), ("2026-11-18", "alpha")),
    ]
    assert newest.truncated
    whole = client.statistics(["flow", "time:day"], max_groups=7)
    assert not whole.truncated
    assert whole.groups[0].keys["day"] is None


def test_an_execution_with_two_tags_counts_in_both_and_one_without_in_none(
    shared: tuple[Store, Client],
) -> None:
    store, client = shared
    fill(store, [one(tags=("a", "b")), one(tags=("b",)), one()])
    assert counts(client.statistics(["tag"])) == [("b", 2), ("a", 1), (None, 1)]
    assert counts(client.statistics(["tag"], tags=["a"])) == [("a", 1), ("b", 1)]
    assert counts(client.statistics(tags=["a", "b"])) == [(1,)]


def test_buckets_are_hours_days_mondays_and_firsts_in_utc(shared: tuple[Store, Client]) -> None:
    store, client = shared
    late = datetime(2026, 3, 1, 1, 30, tzinfo=ZoneInfo("Asia/Tokyo"))
    fill(store, [one(started_at=late.astimezone(UTC))])
    found = [client.statistics([f"time:{unit}"]) for unit in ("hour", "day", "week", "month")]
    assert [counts(each) for each in found] == [
        *([("2026-02-28 16:00:00", 1)], [("2026-02-28", 1)]),
        *([("2026-02-23", 1)], [("2026-02-01", 1)]),
    ]


def test_texts_mappings_and_objects_ask_the_same(shared: tuple[Store, Client]) -> None:
    store, client = shared
    fill(store, [one(metadata={"usd": 2, "tier": "gold"}), one(metadata={"tier": "gold"})])
    texts = client.statistics(
        ["time:day", "metadata:tier", "flow"], ["cost:metadata:usd:sum", "d:duration:p50"]
    )
    grouping = {"dimension": "time", "time_granularity": "day"}
    tier = {"dimension": "metadata", "metadata_key": "tier"}
    cost = {"name": "cost", "source": "metadata", "aggregation": "sum", "metadata_key": "usd"}
    duration = {"name": "d", "source": "duration", "aggregation": "p50"}
    mappings = client.statistics([grouping, tier, {"dimension": "flow"}], [cost, duration])
    objects = client.statistics(
        [ExecutionStatisticsGrouping(**each) for each in (grouping, tier, {"dimension": "flow"})],
        [ExecutionStatisticsMetric(**each) for each in (cost, duration)],
    )
    assert texts == mappings == objects
    assert texts.groups[0].to_dict() == {
        "keys": {
            **{"day": "2026-11-18", "tier": "gold"},
            **{"flow_id": "fl-alpha", "flow_name": "alpha"},
        },
        "execution_count": 2,
        "metrics": {"cost": 2.0, "d": 3.0},
    }


SOURCES = "duration, step_count, cached_step_count, output_artifact_count, queue_time"


@pytest.mark.parametrize(
    ("request_", "told"),
    [
        ({"group_by": "status"}, r"group_by is 'status'; give a list, such as \[\"status\"\]"),
        ({"group_by": {"dimension": "flow"}}, "give a list"),
        ({"group_by": 5}, "give a list"),
        ({"group_by": [5]}, "A grouping is 5; there are: status, flow, stack, tag, time:hour"),
        ({"group_by": ["colour"]}, r"'colour'; there are: status, .*time:hour\|day\|week\|month"),
        ({"group_by": ["status:x"]}, "there are: status"),
        ({"group_by": ["time"]}, "there are: hour, day, week, month"),
        ({"group_by": ["time:year"]}, "'year'; there are: hour, day, week, month"),
        ({"group_by": ["metadata:"]}, "metadata needs metadata_key"),
        ({"group_by": ["metadata:\ud800"]}, "metadata needs metadata_key"),
        ({"group_by": ["time:day", "time:hour"]}, "Only one grouping can be by time"),
        ({"group_by": ["tag", "tag"]}, "Two groupings are named 'tag'"),
        ({"group_by": ["flow", "metadata:flow_name"]}, "Two groupings are named 'flow_name'"),
        ({"group_by": [{"by": 1}]}, "no field 'by'; it has: dimension, name, time_granularity"),
        ({"group_by": [{}]}, "A grouping needs the fields: dimension"),
        ({"group_by": [{"dimension": "tag", "name": " "}]}, "give it a text that is not empty"),
        ({"group_by": [{"dimension": "tag", "metadata_key": "k"}]}, "belongs to metadata and not"),
        ({"metrics": "d:duration:avg"}, "metrics is 'd:duration:avg'; give a list"),
        ({"metrics": [5]}, "'name:source:aggregation' or 'name:metadata:key:aggregation'"),
        ({"metrics": ["duration"]}, "is not of the form"),
        ({"metrics": ["d:metadata:a:b:sum"]}, "A key with a colon in it needs the form"),
        ({"metrics": ["d:speed:avg"]}, f"'speed'; there are: {SOURCES}, attempt_count, wait_time"),
        ({"metrics": ["d:duration:mode"]}, "there are: avg, sum, min, max, p50, p95, p99"),
        ({"metrics": ["d:metadata:sum"]}, "metadata needs metadata_key"),
        ({"metrics": [":duration:avg"]}, "A metric is named ''"),
        ({"metrics": ["d:duration:avg", "d:duration:max"]}, "Two metrics are named 'd'"),
        ({"metrics": [{"name": "d"}]}, "A metric needs the fields: name, source, aggregation"),
        ({"metrics": [{"key": "d"}]}, "it has: name, source, aggregation, metadata_key"),
        ({"max_groups": True}, "it must be a whole number"),
        ({"max_groups": "5"}, "it must be a whole number"),
        ({"max_groups": 0}, "must be from 1 to 10000"),
        ({"max_groups": 10_001}, "must be from 1 to 10000"),
        ({"where": "metadata:tier"}, "give a mapping"),
        ({"where": {"tier": "gold"}}, "of the form 'metadata:<key>'"),
        ({"where": {"metadata:": "gold"}}, "of the form 'metadata:<key>'"),
        ({"where": {"metadata:\ud800": 1}}, "of the form 'metadata:<key>'"),
        ({"where": {"metadata:k": [1]}}, "give a text, a number, true, false or null"),
        ({"where": {"metadata:k": math.nan}}, "give a text, a number"),
        ({"where": {"metadata:k": math.inf}}, "give a text, a number"),
        ({"where": {"metadata:k": 10**400}}, "give a text, a number"),
        ({"where": {"metadata:k": "\ud800"}}, "give a text, a number"),
        ({"status": "done"}, "use one of: pending, running"),
        ({"flow": 5}, "flow is 5"),
        ({"flow": "\ud800"}, "flow is '.ud800'"),
        ({"tags": "a"}, "give a list of tags"),
        ({"tags": ["\ud800"]}, "tags holds"),
        ({"since": NOON.replace(tzinfo=None)}, "time zone"),
    ],
)
def test_what_cannot_be_right_is_refused_with_what_there_is(
    shared: tuple[Store, Client], request_: dict[str, Any], told: str
) -> None:
    with pytest.raises(KitaruUsageError, match=told):
        shared[1].statistics(**request_)


WORKING = """
@checkpoint(retries=2, retry_delay=0)
def shaky(n: int) -> int:
    tries.append(n)
    if len(tries) < 3:
        raise ValueError("not yet")
    kitaru.save("notes", [n])
    return n

@checkpoint(cache=True)
def stored(n: int) -> int:
    return n

@checkpoint
def never(n: int) -> int:
    raise ValueError("never")

@flow
def working(fails: bool = False) -> int:
    if fails:
        return never(1)
    return shaky(1) + stored(1) + stored(2)
"""
COUNTS = ("step_count", "cached_step_count", "attempt_count", "output_artifact_count", "wait_time")


def totals(exec_id: str, flow: str) -> list[float | None]:
    """What statistics say of a flow, after a look at what `get` says of its only execution."""
    client = KitaruClient().executions
    found = client.get(exec_id)
    (group,) = client.statistics(metrics=[f"{how}:{how}:sum" for how in COUNTS], flow=flow).groups
    numbers = group.metrics
    calls = found.checkpoints
    assert numbers["step_count"] == len({call.name for call in calls})
    assert numbers["cached_step_count"] == sum(call.cached_from is not None for call in calls)
    assert numbers["attempt_count"] == sum(len(call.attempts) for call in calls)
    assert numbers["output_artifact_count"] == len(found.artifacts) == found.artifact_count
    return [numbers[how] for how in COUNTS]


def test_real_executions_have_the_counts_that_get_shows(home: Path) -> None:
    flow = load(WORKING, tries=[])
    first = flow.run()
    assert first.wait(20) == 4
    assert totals(first.exec_id, "working") == [2, 0, 5, 4, 0]
    failed = load(WORKING.replace("def working", "def failing"), tries=[]).run(fails=True)
    error_of(failed)
    assert totals(failed.exec_id, "failing") == [1, 0, 1, 0, 0]
    cached = load(WORKING.replace("def working", "def again"), tries=[]).run()
    cached.wait(20)
    assert totals(cached.exec_id, "again") == [2, 2, 3, 4, 0]


ASKING = """
@flow
def asking() -> int:
    first = kitaru.wait(name="first", schema=int, timeout=0)
    return first + kitaru.wait(name="second", schema=int, timeout=0)
"""


def test_wait_time_is_how_long_answered_questions_were_open(
    home: Path, turned: TurnedClock
) -> None:
    flow = load(ASKING)
    client = KitaruClient().executions

    def waited() -> float | None:
        return client.statistics(metrics=["w:wait_time:sum"]).groups[0].metrics["w"]

    handle = flow.run()
    error_of(handle)
    assert counts(client.statistics(["status"])) == [("waiting", 1)]
    assert waited() == 0
    turned.turn(100)
    answer(handle.exec_id, "first", 1)
    error_of(again("resume", flow, handle.exec_id))
    once = waited()
    assert once is not None
    assert 100 <= once < 150
    turned.turn(1000)
    client.abort_wait(handle.exec_id, wait="second")
    assert waited() == once
    assert counts(client.statistics(["status"])) == [("cancelled", 1)]
