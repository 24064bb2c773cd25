"""A replay's plan alone: which call a selector names, and what is copied and replaced."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kitaru import ids
from kitaru.errors import KitaruError, KitaruStateError, KitaruUsageError
from kitaru.models import CallStatus
from kitaru.replay import ReplayPlan, load_plan, make_plan, select
from kitaru.store.journal import CallKind, CallRecord


def record(seq: int, call_id: str, kind: CallKind = "checkpoint") -> CallRecord:
    return CallRecord(
        seq=seq,
        lane="",
        position=seq,
        call_id=call_id,
        kind=kind,
        status=CallStatus.COMPLETED,
        inputs_digest=b"",
        inputs_shown="",
    )


RECORDS = [
    record(1, "research"),
    record(2, "research#2"),
    record(3, "draft"),
    record(4, "approve", "wait"),
    record(5, "publish"),
    record(6, "research#3"),
]


def plan(from_: str, **overrides: bytes) -> ReplayPlan:
    named = {f"checkpoint.{key}": data for key, data in overrides.items()}
    return make_plan(RECORDS, exec_id="kr-1", from_=from_, overrides=named)


@pytest.mark.parametrize(
    ("selector", "seq"),
    [
        ("draft", 3),
        ("draft#1", 3),
        ("research#1", 1),
        ("research#2", 2),
        ("research#3", 6),
        (" publish ", 5),
        ("approve", 4),
    ],
)
def test_a_selector_is_a_call_id_or_the_name_of_a_single_call(selector: str, seq: int):
    assert plan(selector).from_seq == seq


def test_a_name_of_several_calls_lists_them():
    with pytest.raises(KitaruStateError) as caught:
        plan("research")

    assert "'research' was called 3 times in kr-1" in str(caught.value)
    assert "research#1, research#2, research#3" in str(caught.value)


@pytest.mark.parametrize(
    ("selector", "nearest"),
    [("publsh", "publish"), ("drafts", "draft"), ("research#9", "research#2"), ("zzz", "draft")],
)
def test_an_unknown_selector_names_the_nearest_calls(selector: str, nearest: str):
    with pytest.raises(KitaruStateError) as caught:
        plan(selector)

    assert f"kr-1 has no call {selector!r}" in str(caught.value)
    assert nearest in str(caught.value).partition("Nearest:")[2]


def test_an_execution_without_calls_cannot_be_replayed():
    with pytest.raises(KitaruStateError, match="kr-1 has no recorded calls"):
        make_plan([], exec_id="kr-1", from_="draft", overrides={})


@pytest.mark.parametrize("from_", ["", "  ", "\n", None, 3])
def test_a_start_that_is_no_selector_is_refused(from_: object):
    with pytest.raises(KitaruUsageError, match="from_"):
        make_plan(RECORDS, exec_id="kr-1", from_=from_, overrides={})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "key", ["wait.approve", "draft", "checkpoint.", "checkpoint", "", "input.topic", "checkpoint. "]
)
def test_an_override_key_of_another_form_is_refused(key: str):
    with pytest.raises(KitaruUsageError) as caught:
        make_plan(RECORDS, exec_id="kr-1", from_="draft", overrides={key: b"1"})

    assert repr(key) in str(caught.value)
    assert "checkpoint.<name or call id>" in str(caught.value)


def test_a_wait_cannot_be_overridden():
    with pytest.raises(KitaruUsageError, match="names a wait"):
        plan("draft", approve=b"true")


@pytest.mark.parametrize(("name", "error"), [("drft", "Nearest: draft"), ("research", "3 times")])
def test_an_override_of_no_call_or_of_several_is_refused(name: str, error: str):
    with pytest.raises(KitaruStateError, match=error):
        plan("draft", **{name: b"1"})


@pytest.mark.parametrize(
    ("from_", "overridden", "copied_before"),
    [("publish", [], 5), ("publish", ["draft"], 3), ("draft", ["publish"], 3), ("draft", [], 3)],
)
def test_all_calls_before_the_start_and_the_first_override_are_copied(
    from_: str, overridden: list[str], copied_before: int
):
    made = plan(from_, **dict.fromkeys(overridden, b"1"))

    assert made.copied_before == copied_before
    assert made.overrides == dict.fromkeys(overridden, b"1")


def test_two_selectors_of_one_call_are_not_both_taken():
    with pytest.raises(KitaruUsageError, match="a second time"):
        plan("publish", **{"draft": b"1", "draft#1": b"2"})


def test_a_plan_survives_its_row():
    made = plan("publish", **{"draft": '{"a":"ä"}'.encode(), "research#2": b"null"})

    assert load_plan(made.dump()) == made
    assert load_plan(None) is None


names = st.sampled_from(["a", "b", "ab", "a.b", "ä"])


@given(st.lists(names, max_size=8), st.one_of(st.text(max_size=6), names))
def test_a_selector_finds_its_call_or_says_why(called: list[str], selector: str):
    made = [
        record(seq, ids.call_id(name, called[:seq].count(name)))
        for seq, name in enumerate(called, 1)
    ]
    for each in made:
        number = each.call_id if "#" in each.call_id else f"{each.call_id}#1"
        assert select(made, number, exec_id="kr-1") is each
    if called.count(selector.strip()) == 1 or any(e.call_id == selector.strip() for e in made):
        return
    with pytest.raises(KitaruError, match="kr-1"):
        select(made, selector, exec_id="kr-1")
