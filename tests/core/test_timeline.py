"""Timelines: spans from calls, rows from spans, and the pictures that are drawn of them."""

from __future__ import annotations

import importlib.util
import re
import xml.etree.ElementTree as ET
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

import kitaru
from kitaru import KitaruClient, checkpoint, flow, pictures
from kitaru.errors import KitaruUsageError
from kitaru.models import CallStatus, CheckpointAttempt, Execution, ExecutionStatus
from kitaru.timeline import MAX_SPANS, Call, Timeline, duration, make, marks, rows
from tests import drives
from tests.support import QuickClock

START = datetime(2026, 11, 21, 12, tzinfo=UTC)
DONE, FAILED, RUNNING = CallStatus.COMPLETED, CallStatus.FAILED, CallStatus.RUNNING


def at(seconds: float) -> datetime:
    return START + timedelta(seconds=seconds)


def execution(**fields: Any) -> Execution:
    unknown: dict[str, Any] = dict.fromkeys(Execution.__dataclass_fields__)
    known = {
        "exec_id": "kr-1",
        "flow_name": "agent",
        "status": ExecutionStatus.RUNNING,
        "created_at": START,
        "started_at": START,
    }
    return Execution(**(unknown | known | fields))


def made(name: str, start: float | None, end: float | None = None, **fields: Any) -> Call:
    known: dict[str, Any] = {
        "call_id": name,
        "name": name.partition("#")[0],
        "kind": "checkpoint",
        "status": RUNNING if end is None else DONE,
        "started_at": None if start is None else at(start),
        "ended_at": None if end is None else at(end),
        "attempts": (),
        "failure": None,
        "child_exec_id": None,
        "due_at": None,
        "reused": False,
    }
    return Call(**(known | fields))


def attempt(status: CallStatus, start: float, end: float | None) -> CheckpointAttempt:
    ended = None if end is None else at(end)
    return CheckpointAttempt("a", status, at(start), ended, {}, None)


def drawn(*calls: Call, now: float = 10, **fields: Any) -> Timeline:
    return make(execution(**fields), calls, now=at(now))


def places(timeline: Timeline) -> list[tuple[str, float, float]]:
    return [(span.label, span.offset, span.offset + span.seconds) for span in timeline.spans]


# --- spans ----------------------------------------------------------------------------------------


def test_each_attempt_is_a_span_and_what_lasts_goes_up_to_now():
    tries = (attempt(FAILED, 1, 2), attempt(RUNNING, 4, None))
    found = drawn(made("a", 1, None, attempts=tries), made("b", 2, 3))
    assert places(found) == [("a@1", 1, 2), ("b", 2, 3), ("a@2", 4, 10)]
    assert [span.ended_at for span in found.spans] == [at(2), at(3), None]
    assert found.seconds == 10


def test_what_has_not_begun_or_belongs_to_the_original_has_no_span():
    reused = made("c", -90, -80, reused=True)
    found = drawn(made("a", None), reused, made("w", 1, kind="wait"))
    assert places(found) == [("w", 1, 10)]
    assert found.reused == 1
    assert rows(found)[1] == ["Reused from the original, without time of their own: 1."]


def test_the_end_of_an_execution_ends_its_timeline_and_no_span_leaves_it():
    found = drawn(
        made("early", -5, 1),
        made("late", 3, 99),
        made("beyond", 50, 60),
        ended_at=at(4),
        status=ExecutionStatus.COMPLETED,
    )
    assert places(found) == [("early", 0, 1), ("late", 3, 4), ("beyond", 4, 4)]
    assert found.seconds == 4


def test_one_that_was_never_started_has_an_empty_timeline():
    found = drawn(started_at=None, now=-5)
    assert (found.seconds, found.spans) == (0, ())
    assert rows(found) == ([], [])
    assert pictures.svg(found).endswith("</svg>\n")


# --- rows -----------------------------------------------------------------------------------------


def test_many_spans_are_folded_by_name_and_kind():
    steps = [made(f"step#{n}", n / 100, n / 100 + 0.01) for n in range(300)]
    failed = replace(steps[150], status=FAILED, attempts=(attempt(FAILED, 1.5, 1.51),))
    calls: Sequence[Call] = [*steps[:150], failed, *steps[151:], made("step", 5, 6, kind="wait")]
    found, notes = rows(drawn(*calls))
    assert [(row.label, row.kind, row.status) for row in found] == [
        ("step (300)", "checkpoint", FAILED),
        ("step", "wait", DONE),
    ]
    assert found[0].seconds == pytest.approx(3)
    assert [segment.status for segment in found[0].segments] == [DONE, FAILED, DONE]
    assert notes == ["301 spans, folded by name: how many of each, and their time together."]


def test_of_too_many_names_the_longest_are_kept_in_their_order():
    calls = [made(f"step{n}", n / 100, n / 100 + n / 1000) for n in range(MAX_SPANS + 5)]
    found, notes = rows(drawn(*calls))
    assert [row.label for row in found] == [f"step{n}" for n in range(5, MAX_SPANS + 5)]
    assert notes[1] == f"The {MAX_SPANS} longest of {MAX_SPANS + 5} names."


@pytest.mark.parametrize("seconds", [1e-7, 0.003, 1, 59, 3600, 90_000, 1e7, 1e11])
def test_marks_are_few_and_never_the_same(seconds: float):
    found = marks(seconds, most=8)
    assert 1 <= len(found) <= 9
    assert found[0][1] == "0"
    assert found[-1][0] <= seconds + 1e-6
    assert len({label for _, label in found}) == len(found)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.0094, "9.4ms"), (0.9996, "1.0s"), (59.96, "1m 00s"), (3599.6, "1h 00m"), (0, "0.0ms")],
)
def test_durations_are_rounded_into_the_next_unit(seconds: float, text: str):
    assert duration(seconds) == text


# --- pictures -------------------------------------------------------------------------------------

EVIL = "<script>&\"'\n\x1b[2J\ufffe$x$" + "long " * 30


def test_a_picture_is_whole_xml_whatever_names_it_has():
    text = pictures.svg(
        drawn(made(EVIL, 1, 2), made("w", 2, kind="wait"), flow_name=EVIL, ended_at=at(3))
    )
    root = ET.fromstring(text)
    assert root.tag == "{http://www.w3.org/2000/svg}svg"
    assert "<script" not in text
    assert "prefers-color-scheme: dark" in text
    assert not re.search(r"(href|src|url\()", text)


def test_the_bars_of_a_picture_stand_where_their_time_is():
    root = ET.fromstring(pictures.svg(drawn(made("a", 0, 5), made("b", 5, 10), now=10)))
    bars = [bar for bar in root.iter() if bar.get("class") == "checkpoint" and bar.get("height")]
    a, b = [(float(bar.get("x", 0)), float(bar.get("width", 0))) for bar in bars[1:]]
    assert a[0] + a[1] == pytest.approx(b[0], abs=0.2)
    assert a[1] == pytest.approx(b[1], abs=0.2)


@pytest.mark.skipif(importlib.util.find_spec("matplotlib") is None, reason="an extra")
def test_a_png_is_drawn_where_matplotlib_is():
    assert pictures.png(drawn(made(EVIL, 1, 2), flow_name=EVIL)).startswith(b"\x89PNG")


@pytest.mark.skipif(importlib.util.find_spec("matplotlib") is not None, reason="it is there")
def test_without_matplotlib_the_error_says_what_to_install():
    with pytest.raises(KitaruUsageError, match=r"pip install 'kitaru-mcp\[plot\]'"):
        pictures.png(drawn())


# --- a real execution -----------------------------------------------------------------------------

_tries: list[int] = []


@checkpoint(retries=1)
def flaky() -> int:
    _tries.append(1)
    if len(_tries) == 1:
        raise ValueError("no luck")
    return 1


@flow
def inner() -> int:
    return 1


@flow
def outer() -> int:
    flaky()
    kitaru.sleep(0.001)
    inner.run().wait()
    return kitaru.wait(name="count", schema=int, timeout=0)


@pytest.mark.usefixtures("home")
def test_a_real_execution_has_all_kinds_of_spans():
    from kitaru import clock

    _tries.clear()
    with clock.use(QuickClock()):
        handle = outer.run()
        drives.left(handle.exec_id)
    found = KitaruClient().executions.timeline(handle.exec_id[:10])
    assert [(span.label, span.kind, span.status) for span in found.spans] == [
        ("flaky@1", "checkpoint", FAILED),
        ("flaky@2", "checkpoint", DONE),
        ("sleep", "sleep", DONE),
        ("inner", "child", DONE),
        ("count", "wait", RUNNING),
    ]
    assert found.spans[3].child_exec_id is not None
    assert found.ended_at is None
