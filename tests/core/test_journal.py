"""The journal alone: how calls are numbered, compared with a record, reused, and settled."""

from __future__ import annotations

import pytest

from kitaru.errors import FailureOrigin, KitaruDivergenceError
from kitaru.journal import Journal, Step
from kitaru.models import CallStatus
from kitaru.replay import ReplayPlan
from kitaru.store.journal import AttemptRecord, CallRecord
from tests.drives import Made


def done(seq: int, call_id: str, inputs: str = "") -> CallRecord:
    return CallRecord(
        seq=seq,
        lane="",
        position=seq,
        call_id=call_id,
        kind="checkpoint",
        status=CallStatus.COMPLETED,
        inputs_digest=inputs.encode(),
        inputs_shown=inputs,
    )


def failed(seq: int, call_id: str, *, settled: bool = False) -> CallRecord:
    return done(seq, call_id)._replace(status=CallStatus.FAILED, settled=settled)


def asked(seq: int, call_id: str, inputs: str = "") -> CallRecord:
    return done(seq, call_id, inputs)._replace(kind="wait", status=CallStatus.RUNNING)


def journal(*records: CallRecord) -> Journal:
    return Journal("kr-1", records)


def replaying(
    *original: CallRecord,
    from_seq: int,
    overrides: dict[str, bytes] | None = None,
    records: tuple[CallRecord, ...] = (),
) -> Journal:
    plan = ReplayPlan(from_seq, overrides or {}, copied_before=1)
    return Journal("kr-2", records, plan=plan, original=original, original_id="kr-1")


def call(made_in: Journal, name: str, inputs: str = "") -> Step:
    return made_in.begin(made_in.root, Made(name, inputs.encode(), inputs))


def wait(made_in: Journal, name: str, inputs: str = "") -> Step:
    return made_in.begin(made_in.root, Made(name, inputs.encode(), inputs, "wait"))


def runs(step: Step) -> bool:
    return step.record is None and step.reuse is None and step.override is None


# --- numbering ------------------------------------------------------------------------------------


def test_calls_are_numbered_per_name_in_the_order_they_are_made():
    made = journal()

    steps = [call(made, name) for name in ("a", "b", "a", "a", "b")]

    assert [step.call_id for step in steps] == ["a", "b", "a#2", "a#3", "b#2"]
    assert [step.seq for step in steps] == [1, 2, 3, 4, 5]


def test_checkpoints_and_waits_of_one_name_share_their_numbers():
    made = journal()

    assert [call(made, "a").call_id, wait(made, "a").call_id] == ["a", "a#2"]


def test_parents_are_the_calls_seen_since_the_last_one_was_made():
    made = journal()
    first = call(made, "a")
    made.observed(first, failed=False)
    left, right = call(made, "b"), call(made, "c")
    made.observed(right, failed=False)
    made.observed(left, failed=False)
    last = call(made, "d")

    assert [step.parents for step in (first, left, right, last)] == [
        (),
        ("a",),
        ("a",),
        ("c", "b"),
    ]


# --- what is recorded -----------------------------------------------------------------------------


@pytest.mark.parametrize("record", [done(1, "a", "x"), failed(1, "a")._replace(inputs_digest=b"x")])
def test_a_recorded_call_is_returned_whether_it_completed_or_failed(record: CallRecord):
    assert call(journal(record), "a", "x").record == record


@pytest.mark.parametrize("status", [CallStatus.PENDING, CallStatus.RUNNING])
def test_a_call_that_has_no_outcome_runs_with_the_attempts_it_had(status: CallStatus):
    attempts = (AttemptRecord(CallStatus.FAILED, 1, 2),)
    record = done(1, "a", "old inputs")._replace(status=status, attempts=attempts)

    step = call(journal(record), "a", "new inputs")

    assert runs(step)
    assert step.earlier == record
    assert step.is_reopened is (status is CallStatus.PENDING)


def test_another_call_in_the_place_of_one_without_outcome_starts_anew():
    attempts = (AttemptRecord(CallStatus.FAILED, 1, 2),)
    record = done(1, "a")._replace(status=CallStatus.PENDING, attempts=attempts)

    step = call(journal(record), "b")

    assert (step.earlier, step.is_reopened) == (None, False)


def test_calls_behind_the_record_run():
    made = journal(done(1, "a"))
    call(made, "a")

    assert runs(call(made, "b"))


# --- divergence -----------------------------------------------------------------------------------


def test_a_divergence_says_what_was_recorded_what_came_and_what_to_do():
    made = journal(done(1, "a", "x=1"))

    with pytest.raises(KitaruDivergenceError) as caught:
        call(made, "b", "x=2")

    error, message = caught.value, str(caught.value)
    assert "recorded was a(x=1), now came b(x=2)" in message
    assert "kitaru executions retry kr-1" in message
    assert "kitaru executions replay kr-1 --from 'a'" in message
    assert (error.exec_id, error.status) == ("kr-1", "failed")
    assert error.failure_origin is FailureOrigin.DIVERGENCE


@pytest.mark.parametrize(
    "record",
    [done(1, "b"), done(1, "a", "other"), done(1, "a")._replace(kind="wait"), asked(1, "b")],
    ids=["name", "inputs", "kind", "open wait"],
)
def test_a_recorded_call_must_come_again(record: CallRecord):
    with pytest.raises(KitaruDivergenceError):
        call(journal(record), "a")


def test_inputs_that_look_the_same_are_told_apart():
    made = journal(done(1, "a", "x")._replace(inputs_digest=b"\x01"))

    with pytest.raises(KitaruDivergenceError) as caught:
        made.begin(made.root, Made("a", b"\x02", "x"))

    assert "a(x) [inputs 01], now came a(x) [inputs 02]" in str(caught.value)


def test_a_call_that_is_recorded_at_another_place_diverges():
    made = journal(done(1, "a")._replace(status=CallStatus.RUNNING), done(2, "b"))

    with pytest.raises(KitaruDivergenceError, match="b as call 2"):
        call(made, "b")


def test_an_open_question_comes_again_and_is_asked():
    made = journal(asked(1, "ok", "Publish?"))

    assert runs(wait(made, "ok", "Publish?"))


@pytest.mark.parametrize("left", [done(2, "b"), failed(2, "b"), asked(2, "b")])
def test_a_flow_may_not_end_before_its_record(left: CallRecord):
    made = journal(done(1, "a"), left)
    call(made, "a")

    with pytest.raises(KitaruDivergenceError, match=r"recorded was b\(\), now came the end"):
        made.close()


def test_a_flow_may_end_before_a_call_without_outcome():
    made = journal(done(1, "a"), done(2, "b")._replace(status=CallStatus.PENDING))
    call(made, "a")

    made.close()


# --- failures become history ----------------------------------------------------------------------


def test_the_next_call_settles_the_failures_the_flow_has_seen():
    made = journal()
    first = call(made, "a")
    made.observed(first, failed=True)

    assert call(made, "b").settles == (1,)
    assert call(made, "c").settles == ()


def test_a_failure_that_was_not_looked_at_is_not_settled():
    made = journal()
    call(made, "a")

    assert call(made, "b").settles == ()


def test_a_settled_failure_is_not_settled_again():
    made = journal(failed(1, "a", settled=True))
    made.observed(call(made, "a"), failed=True)

    assert call(made, "b").settles == ()


# --- replay ---------------------------------------------------------------------------------------

ORIGINAL = (done(1, "a", "x"), done(2, "b", "y"), done(3, "c", "z"), done(4, "d", "w"))


def test_a_replay_reuses_calls_with_the_same_inputs_before_its_start():
    made = replaying(*ORIGINAL, from_seq=3)

    steps = [call(made, "a", "x"), call(made, "b", "y"), call(made, "c", "z"), call(made, "d", "w")]

    assert [step.reuse for step in steps] == [*ORIGINAL[:2], None, None]
    assert all(map(runs, steps[2:]))


def test_once_a_call_runs_all_that_follow_do():
    made = replaying(*ORIGINAL, from_seq=4)

    assert call(made, "a", "x").reuse == ORIGINAL[0]
    assert runs(call(made, "b", "changed"))
    assert runs(call(made, "c", "z"))


def test_an_override_replaces_a_call_and_names_the_one_it_stands_for():
    made = replaying(*ORIGINAL, from_seq=3, overrides={"a": b"1"})

    step = call(made, "a", "x")

    assert (step.override, step.reuse, step.original) == (b"1", None, "kr-1/a")
    assert call(made, "b", "y").reuse == ORIGINAL[1]


def test_an_override_of_a_call_that_now_comes_elsewhere_names_that_call():
    made = replaying(*ORIGINAL, from_seq=1, overrides={"c": b"1"})
    call(made, "a", "x")

    step = call(made, "c", "z")

    assert (step.override, step.original) == (b"1", "kr-1/c")


def test_what_a_replay_has_copied_may_have_other_inputs():
    copied = done(1, "a", "x")._replace(original_call_id="kr-1/a")
    made = replaying(*ORIGINAL, from_seq=2, records=(copied,))

    assert call(made, "a", "other flow input").record == copied


def test_a_replay_that_is_resumed_behind_a_call_that_ran_goes_on_running():
    copied = done(1, "a", "x")._replace(original_call_id="kr-1/a")
    made = replaying(*ORIGINAL, from_seq=4, records=(copied, done(2, "b", "changed")))

    assert call(made, "a", "x").record == copied
    assert call(made, "b", "changed").record is not None
    assert runs(call(made, "c", "z"))


def test_a_copied_failure_that_is_retried_runs_and_is_not_copied_again():
    original = (failed(1, "a"), done(2, "b"))
    copied = failed(1, "a")._replace(status=CallStatus.PENDING, original_call_id="kr-1/a")
    made = replaying(*original, from_seq=3, records=(copied,))

    assert runs(call(made, "a"))
    assert runs(call(made, "b"))


def test_overrides_of_calls_that_were_never_made_are_told():
    made = replaying(*ORIGINAL, from_seq=1, overrides={"a": b"1", "a#2": b"2", "c": b"3"})
    call(made, "a", "x")

    assert made.unreached() == "Not called in this replay, so not replaced: 'a#2', 'c'."
    assert journal().unreached() is None
