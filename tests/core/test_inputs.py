"""A flow's inputs: bound by kind of parameter, and conformed where they came as JSON."""

from __future__ import annotations

from typing import Annotated, Any

import pytest
from pydantic import AfterValidator, TypeAdapter, ValidationError

from kitaru import inputs
from kitaru.errors import KitaruUsageError


def many(a: int, /, b: int = 2, *more: int, c: int = 3, **kw: float) -> tuple[Any, ...]:
    return a, b, more, c, kw


def fails(value: int) -> int:
    return value // 0


def checked(x: Annotated[int, AfterValidator(fails)]) -> None: ...


def odd(x: "not valid!!", y: int = 1) -> None: ...  # type: ignore # noqa


def call(fn: Any, **arguments: Any) -> Any:
    """What a flow gets of JSON arguments, by way of its record."""
    recorded = inputs.bind_json(fn, arguments, name="f")
    bound = inputs.unbind(fn, recorded, name="f")
    return fn(*bound.args, **bound.kwargs)


@pytest.mark.parametrize(
    ("given", "got"),
    [
        ({"a": 1}, (1, 2, (), 3, {})),
        ({"a": 1, "more": [4, 5]}, (1, 2, (4, 5), 3, {})),
        ({"a": "1", "b": 9, "more": ["4"], "c": 7}, (1, 9, (4,), 7, {})),
        ({"a": 1, "d": 4, "e": "5.5"}, (1, 2, (), 3, {"d": 4.0, "e": 5.5})),
        ({"a": 1, "kw": {"d": "4"}}, (1, 2, (), 3, {"d": 4.0})),
        ({"a": 1, "kw": {"d": 4}, "e": 5}, (1, 2, (), 3, {"d": 4.0, "e": 5.0})),
    ],
)
def test_json_arguments_are_bound_by_kind_of_parameter(given: dict[str, Any], got: Any) -> None:
    assert call(many, **given) == got


@pytest.mark.parametrize(
    ("given", "problem"),
    [
        ({}, "missing a required.* 'a'"),
        ({"more": [1]}, "missing a required.* 'a'"),
        ({"a": 1, "more": 5}, "Input 'more' .* list"),
        ({"a": 1, "more": "12"}, "Input 'more' .* list"),
        ({"a": 1, "more": [1, "two"]}, r"Input 'more'\[1\] does not fit"),
        ({"a": 1, "kw": 5}, "Input 'kw' .* object"),
        ({"a": 1, "kw": {"d": "x"}}, r"Input 'kw'\['d'\] does not fit"),
        ({"a": 1, "d": "x"}, r"Input 'd' does not fit"),
    ],
)
def test_json_arguments_that_do_not_fit_are_refused(given: dict[str, Any], problem: str) -> None:
    with pytest.raises(KitaruUsageError, match=problem):
        inputs.bind_json(many, given, name="f")


def test_an_unknown_json_argument_is_refused() -> None:
    with pytest.raises(KitaruUsageError, match="unexpected keyword argument 'z'"):
        inputs.bind_json(odd, {"x": 1, "z": 1}, name="f")


def test_parameters_that_take_any_number_may_be_added_later() -> None:
    bound = inputs.unbind(many, {"a": 1, "b": 2}, name="f")
    assert many(*bound.args, **bound.kwargs) == (1, 2, (), 3, {})


def test_a_replay_replaces_parameters_that_take_any_number() -> None:
    changed = inputs.from_json(many, {"more": ["4"], "kw": {"d": 1}})
    recorded = {"a": 1, "b": 2, "more": (), "c": 3, "kw": {}}
    arguments = inputs.rebind(many, recorded, changed, name="f")
    assert arguments == {"a": 1, "b": 2, "more": (4,), "c": 3, "kw": {"d": 1.0}}


def test_a_parameter_without_default_that_was_added_is_asked_for() -> None:
    with pytest.raises(KitaruUsageError, match="now needs input 'a'"):
        inputs.rebind(many, {}, {}, name="f")


def test_an_annotation_that_cannot_be_evaluated_is_any() -> None:
    assert inputs.annotation(odd, "x") is Any


def test_a_validator_s_exception_names_the_input_and_the_exception() -> None:
    with pytest.raises(KitaruUsageError, match=r"Input 'x' .*ZeroDivisionError"):
        inputs.from_json(checked, {"x": 1})


@pytest.mark.parametrize("value", [True, 7, 2**70, 1.5, float("inf"), "text", "\ud800"])
@pytest.mark.parametrize("declared", [bool, int, float, str])
def test_a_plain_value_is_taken_as_pydantic_takes_it(value: Any, declared: type) -> None:
    try:
        wanted = TypeAdapter(declared).validate_python(value)
    except ValidationError:
        with pytest.raises(KitaruUsageError, match="does not fit"):
            inputs.conform(value, declared, what="it")
        return
    came = inputs.conform(value, declared, what="it")
    assert (type(came), came) == (type(wanted), wanted)
