"""Lanes of the journal: each task's calls are numbered, compared and settled by themselves."""

from __future__ import annotations

import pytest

from kitaru.errors import KitaruDivergenceError
from kitaru.journal import Journal, Lane, Step
from kitaru.models import CallStatus
from kitaru.store.journal import CallRecord
from tests.drives import Made


def call(journal: Journal, lane: Lane, name: str) -> Step:
    return journal.begin(lane, Made(name))


def record(seq: int, call_id: str, lane: str, position: int) -> CallRecord:
    return CallRecord(
        seq=seq,
        lane=lane,
        position=position,
        call_id=call_id,
        kind="checkpoint",
        status=CallStatus.COMPLETED,
        inputs_digest=b"",
        inputs_shown="",
        ended_order=seq,
    )


def test_calls_are_numbered_in_their_lane_in_whatever_order_lanes_go_on():
    for turns in ((0, 1, 0, 1), (1, 1, 0, 0), (1, 0, 0, 1)):
        journal = Journal("kr-1", ())
        lanes = [journal.root.branch(), journal.root.branch()]
        made = sorted(call(journal, lanes[turn], "step").call_id for turn in turns)
        assert made == ["step#1.1", "step#1.2", "step#2.1", "step#2.2"]


def test_tasks_of_tasks_have_lanes_of_their_own():
    root = Lane()
    first = root.branch()
    assert [first.branch().path, first.branch().path, root.branch().path] == ["1.1", "1.2", "2"]


def test_a_branch_starts_from_what_its_parent_knew_and_gives_back_what_it_learned():
    journal = Journal("kr-1", ())
    before = call(journal, journal.root, "before")
    journal.observed(before, failed=False)
    lanes = [journal.root.branch(), journal.root.branch()]
    steps = [call(journal, lane, "step") for lane in lanes]
    assert [step.parents for step in steps] == [("before",), ("before",)]
    for step in steps:
        journal.observed(step, failed=True)
    for lane in lanes:
        journal.root.join(lane)
    after = call(journal, journal.root, "after")
    assert (set(after.parents), after.settles) == (
        {"before", "step#1.1", "step#2.1"},
        tuple(step.seq for step in steps),
    )


def test_a_failure_in_one_lane_is_not_settled_by_a_call_in_another():
    journal = Journal("kr-1", ())
    first, second = journal.root.branch(), journal.root.branch()
    failed = call(journal, first, "failed")
    journal.observed(failed, failed=True)
    assert call(journal, second, "other").settles == ()
    assert call(journal, first, "next").settles == (failed.seq,)


def test_a_lane_that_calls_otherwise_is_named():
    journal = Journal("kr-1", [record(1, "step#1.1", "1", 1)])
    with pytest.raises(KitaruDivergenceError, match="call 1 of task 1"):
        call(journal, journal.root.branch(), "other")


def test_a_lane_that_was_not_gone_again_is_told_at_the_end():
    journal = Journal("kr-1", [record(1, "step#1.1", "1", 1)])
    with pytest.raises(KitaruDivergenceError, match="the end of the flow"):
        journal.close()


def test_endings_are_those_of_recorded_calls_in_order():
    records = [record(1, "a", "", 1), record(2, "b", "", 2)._replace(ended_order=9)]
    cut_off = record(3, "c", "", 3)._replace(status=CallStatus.CANCELLED, ended_order=None)
    journal = Journal("kr-1", [*records, cut_off])
    assert journal.endings() == [1, 9]
    assert journal.next_ending() == 10
