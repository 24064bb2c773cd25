"""The checks of the trial of models can fail: each is given what must not be."""

from __future__ import annotations

import pytest

from tests.chaos.paid import Asked, Kill, check_repeats, check_usage


def asked(*prompts: str, refused: tuple[int, ...] = ()) -> list[Asked]:
    """Requests, numbered as they came; some were refused."""
    return [
        Asked(number, f"token {prompt}", 429 if number in refused else 200)
        for number, prompt in enumerate(prompts)
    ]


def kill(requests: int, *completed: str) -> Kill:
    """A kill after so many requests."""
    return Kill(requests, frozenset(completed))


def test_a_question_is_asked_again_once_for_each_kill_that_met_it():
    twice = asked("ask 0", "ask 0")
    assert check_repeats(twice, [kill(1)]) == 1
    assert check_repeats(asked("ask 0", "ask 1"), [kill(1)]) == 0
    with pytest.raises(AssertionError, match="again after 0 kills"):
        check_repeats(twice, [])
    with pytest.raises(AssertionError, match="again after 1 kills"):
        check_repeats(asked("ask 0", "ask 0", "ask 0"), [kill(1)])


def test_a_refused_question_may_be_asked_again():
    assert check_repeats(asked("ask 0", "ask 0", refused=(0,)), []) == 0


def test_a_recorded_answer_may_not_be_asked_for_again():
    with pytest.raises(AssertionError, match="was on record already"):
        check_repeats(asked("ask 0", "ask 0"), [kill(1, "ask")])


def test_what_is_on_record_was_served_and_each_loss_has_its_kill():
    served = asked("ask 0", "ask 1", "ask 2", refused=(1,))
    assert sum(check_usage(served, [0, 2], [], in_flight=1).values()) == 0
    assert sum(check_usage(served, [2], [kill(1)], in_flight=1).values()) == 1
    with pytest.raises(AssertionError, match="lost without a kill"):
        check_usage(served, [0], [kill(1)], in_flight=1)
    with pytest.raises(AssertionError, match="more were lost"):
        check_usage(served, [], [kill(3)], in_flight=1)
    with pytest.raises(AssertionError, match="never served"):
        check_usage(served, [0, 1, 2], [], in_flight=1)
    with pytest.raises(AssertionError, match="counted twice"):
        check_usage(served, [0, 0, 2], [], in_flight=1)
