"""Answers: whatever is given and whatever the schema says, it is taken or refused by name."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Annotated, Any

import jsonschema
import pytest
from pydantic import BaseModel, Field, SecretStr, TypeAdapter, ValidationError

import kitaru
from kitaru import KitaruClient, answers, flow, waits
from kitaru.errors import KitaruStateError, KitaruWaitValidationError
from tests.drives import left
from tests.support import query, until, write_lock_is_free

CAPITALISED = r"^\p{Lu}\w+$"  # Python's `re` knows no \p


class City(BaseModel):
    name: str = Field(pattern=CAPITALISED)
    people: int


class Login(BaseModel):
    password: SecretStr


def check(schema: Any, value: Any) -> None:
    described = TypeAdapter(schema).json_schema()
    answers.validate(answers.encode(value, wait="w"), described, wait="w")


def deep(levels: int) -> Any:
    value: Any = []
    for _ in range(levels):
        value = [value]
    return value


def test_a_pattern_of_another_dialect_is_left_to_the_flows_type():
    check(City, {"name": "Zürich", "people": 1})
    check(City, {"name": "lower", "people": 1})  # the driver's parse refuses it
    with pytest.raises(ValidationError):
        City.model_validate({"name": "lower", "people": 1})


def test_beside_such_a_pattern_the_rest_of_the_schema_still_holds():
    with pytest.raises(KitaruWaitValidationError, match=r"\$\.people"):
        check(City, {"name": "Zürich", "people": "many"})
    with pytest.raises(KitaruWaitValidationError, match=r"\$\.name"):
        check(City, {"name": 3, "people": 1})


def test_patterns_for_keys_are_left_to_the_flows_type_too():
    schema = dict[Annotated[str, Field(pattern=CAPITALISED)], int]
    check(schema, {"Zürich": 1})
    closed = {"patternProperties": {CAPITALISED: {}}, "additionalProperties": False}
    answers.validate(b'{"Z":1}', closed, wait="w")
    with pytest.raises(KitaruWaitValidationError):
        answers.validate(b'{"Z":"1"}', {"properties": {"Z": {"type": "null"}}} | closed, wait="w")


def test_a_pattern_python_knows_is_checked():
    with pytest.raises(KitaruWaitValidationError, match="does not match"):
        check(Annotated[str, Field(pattern="^v[0-9]+$")], "x")


def test_a_number_too_large_for_a_step_is_left_to_the_flows_type():
    check(Annotated[float, Field(multiple_of=0.5)], 10**400)


@pytest.mark.parametrize("levels", [5_000, 100_000])
def test_an_answer_nested_too_deep_is_refused_by_name(levels: int):
    with pytest.raises(KitaruWaitValidationError, match="still open"):
        check(Any, deep(levels))


def test_an_answer_nested_too_deep_for_its_recursive_schema_is_refused_by_name():
    schema = {"$defs": {"n": {"items": {"$ref": "#/$defs/n"}}}, "$ref": "#/$defs/n"}
    with pytest.raises(KitaruWaitValidationError, match="nested too deep"):
        answers.validate(json.dumps(deep(800)).encode(), schema, wait="w")


@pytest.mark.parametrize(
    "value", [object(), {"a": {1: object()}}, float("nan"), pytest.param(10**5000, id="digits")]
)
def test_what_has_no_json_form_is_refused_by_name(value: Any):
    with pytest.raises(KitaruWaitValidationError, match="no JSON value"):
        answers.encode(value, wait="w")


def test_a_secret_that_pydantic_masks_is_refused_and_not_taken_as_stars():
    for value in (SecretStr("hunter2"), Login(password=SecretStr("hunter2"))):
        with pytest.raises(KitaruWaitValidationError, match="masks the secret") as caught:
            answers.encode(value, wait="w")
        assert "hunter2" not in str(caught.value)
    check(Login, {"password": "hunter2"})


@pytest.mark.parametrize(
    "schema", [{"$ref": "http://127.0.0.1:9/x"}, {"$ref": "#/nowhere"}, {"type": "nonsense"}]
)
def test_what_of_a_schema_cannot_be_checked_is_left_to_the_flows_type(schema: dict[str, Any]):
    answers.validate(b"1", schema, wait="w")


def test_a_value_that_holds_itself_is_refused_by_name():
    circle: list[Any] = []
    circle.append(circle)
    with pytest.raises(KitaruWaitValidationError):
        answers.encode(circle, wait="w")


@pytest.fixture
def probe(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Functions that a schema's format `probe` calls while an answer is checked."""
    called: list[Any] = []
    checkers = dict(jsonschema.Draft202012Validator.FORMAT_CHECKER.checkers)
    checkers["probe"] = (lambda text: all(each() for each in called), ())
    monkeypatch.setattr(jsonschema.Draft202012Validator.FORMAT_CHECKER, "checkers", checkers)
    return called


def waiting() -> str:
    """An execution that waits for a text of the probed format."""
    schema = Annotated[str, Field(json_schema_extra={"format": "probe"})]
    handle = flow(name="asks")(lambda: kitaru.wait(name="ask", schema=schema, timeout=0)).run()
    left(handle.exec_id)
    return handle.exec_id


def test_an_answer_is_checked_while_others_can_write(home: Path, probe: list[Any]):
    probe.append(lambda: until(lambda: write_lock_is_free(home), "nobody writes", seconds=10))
    exec_id = waiting()
    KitaruClient().executions.input(exec_id, wait="ask", value="yes")
    assert KitaruClient().executions.pending_waits(exec_id) == []


def test_an_answer_to_a_wait_that_closes_while_it_is_checked_is_refused(
    home: Path, probe: list[Any]
):
    exec_id = waiting()
    probe.append(lambda: KitaruClient().executions.cancel(exec_id))
    with pytest.raises(KitaruStateError):
        KitaruClient().executions.input(exec_id, wait="ask", value="yes")
    assert query(home, "SELECT status, answer FROM waits") == [("aborted", None)]


def test_an_answer_to_a_question_that_changes_while_it_is_checked_is_refused(
    home: Path, probe: list[Any]
):
    exec_id = waiting()
    probe.append(lambda: query(home, "UPDATE waits SET schema = '{}'") == [])
    with pytest.raises(KitaruStateError, match="asked anew"):
        KitaruClient().executions.input(exec_id, wait="ask", value="yes")
    assert query(home, "SELECT status, answer FROM waits") == [("pending", None)]


def test_a_flow_takes_an_answer_whose_pattern_python_does_not_know(home: Path):
    handle = flow(name="asks")(lambda: kitaru.wait(schema=City, timeout=20).name).run()
    client = KitaruClient()
    until(lambda: client.executions.pending_waits(handle.exec_id), "it asks")
    client.executions.input(handle.exec_id, wait="wait", value={"name": "Zürich", "people": 1})
    assert handle.wait(20) == "Zürich"


@pytest.mark.parametrize("asked", [bool, str])
@pytest.mark.parametrize(
    "data", [b"true", b'"text"', b'"1"', b"1", b"null", b'"\\ud800"', b"[", b"[" * 100_000, b""]
)
def test_a_plain_answer_is_taken_as_pydantic_takes_it(asked: type, data: bytes) -> None:
    adapter = TypeAdapter(asked)
    schema, load = waits._type(asked, name="w")
    assert schema == adapter.json_schema()
    try:
        wanted = adapter.validate_json(data)
    except ValidationError as error:
        with pytest.raises(ValidationError, match=re.escape(str(error))):
            load(data, "w")
    else:
        assert load(data, "w") == wanted


@pytest.mark.parametrize("value", [True, 7, 1.0, 2.5, "text", "\ud800", None, [1]])
@pytest.mark.parametrize("asked", ["boolean", "integer", "number", "string"])
def test_a_plain_type_is_asked_for_as_json_schema_has_it(value: Any, asked: str) -> None:
    fits = jsonschema.Draft202012Validator({"type": asked}).is_valid(value)
    assert (answers.misfit(value, {"type": asked}) is None) == fits
