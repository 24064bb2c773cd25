"""Models: frozen, JSON-ready values, and the one table of status moves."""

from __future__ import annotations

import dataclasses
import json
from datetime import UTC, datetime
from enum import Enum

import pytest
from hypothesis import given
from hypothesis import strategies as st

import kitaru
from kitaru import models
from kitaru.frozen import Model, to_json
from kitaru.models import MOVES, ExecutionStatus, LogEntry, Page, legal_actions, move, parse_status

NOON = datetime(2026, 11, 20, 12, tzinfo=UTC)
ENTRY = LogEntry(NOON, "INFO", "step", "draft", "hello")
MODELS = [
    value
    for value in vars(models).values()
    if isinstance(value, type) and issubclass(value, Model) and value is not Model
]


@pytest.mark.parametrize("model", MODELS)
def test_every_model_is_frozen_and_public(model):
    assert model.__dataclass_params__.frozen
    assert getattr(kitaru, model.__name__) is model
    assert not hasattr(model, "__dict__") or "__slots__" in vars(model)


def test_a_model_cannot_be_changed():
    with pytest.raises(dataclasses.FrozenInstanceError):
        ENTRY.message = "other"  # type: ignore[misc]
    assert dataclasses.replace(ENTRY, message="other") != ENTRY


def test_a_model_as_data_has_every_public_field():
    assert ENTRY.to_dict() == {
        "timestamp": "2026-11-20T12:00:00+00:00",
        "level": "INFO",
        "source": "step",
        "checkpoint_name": "draft",
        "message": "hello",
        "module": None,
        "filename": None,
        "lineno": None,
    }


def test_models_inside_of_models_become_data_too():
    ref = models.ArtifactRef("kr-1/a", "a", None, "manual", "a", {"n": [1]}, 3, NOON)
    failure = models.FailureInfo("no", origin=kitaru.FailureOrigin.BACKEND)
    attempt = models.CheckpointAttempt(
        "kr-1/a@1", models.CallStatus.FAILED, NOON, None, {}, failure
    )
    call = models.CheckpointCall(
        "a",
        "a",
        None,
        models.CallStatus.FAILED,
        NOON,
        None,
        {},
        None,
        ("b",),
        None,
        failure,
        (attempt,),
        (ref,),
    )
    data = json.loads(json.dumps(call.to_dict()))
    assert data["attempts"][0]["failure"]["origin"] == "backend"
    assert data["attempts"][0]["status"] == "failed"
    assert data["artifacts"][0]["created_at"] == "2026-11-20T12:00:00+00:00"
    assert "_load" not in data["artifacts"][0]
    assert data["parent_call_ids"] == ["b"]


def test_a_model_without_a_client_says_so():
    fields = dict.fromkeys(f.name for f in dataclasses.fields(models.Execution))
    loose = models.Execution(**fields | {"exec_id": "kr-1"})  # type: ignore[arg-type]
    for act in (loose.refresh, loose.cancel, loose.list_checkpoints):
        with pytest.raises(kitaru.KitaruUsageError, match="kr-1 is not bound to a client"):
            act()


def test_a_page_is_a_list_that_knows_the_next_one():
    page = Page([1, 2], "cursor")
    assert (page, page.next_cursor, Page([]).next_cursor) == ([1, 2], "cursor", None)


@pytest.mark.parametrize("status", ExecutionStatus)
@pytest.mark.parametrize("action", MOVES)
def test_a_move_is_made_as_the_table_says_or_refused_with_what_is_legal(action, status):
    if status in MOVES[action]:
        assert move(action, exec_id="kr-1", status=status) is (MOVES[action][status] or status)
        return
    with pytest.raises(kitaru.KitaruStateError) as caught:
        move(action, exec_id="kr-1", status=status)
    told = str(caught.value)
    assert f"Cannot {action} execution kr-1: it is {status}." in told
    assert f"legal now: {', '.join(legal_actions(status)) or 'none'}." in told


def test_the_life_of_an_execution_is_the_one_that_is_promised():
    steps = {
        (before, after or before)
        for moves in MOVES.values()
        for before, after in moves.items()
        if after not in (None, before)
    }
    status = ExecutionStatus
    assert steps == {
        (status.PENDING, status.RUNNING),
        (status.RUNNING, status.WAITING),
        (status.WAITING, status.RUNNING),
        (status.RUNNING, status.COMPLETED),
        (status.RUNNING, status.FAILED),
        (status.FAILED, status.RUNNING),
        (status.PENDING, status.CANCELLED),
        (status.RUNNING, status.CANCELLED),
        (status.WAITING, status.CANCELLED),
    }


def test_statuses_tell_whether_they_are_ends():
    finished = [status for status in ExecutionStatus if status.is_finished]
    assert finished == ["completed", "failed", "cancelled"]
    assert [status for status in ExecutionStatus if status.is_successful] == ["completed"]


@pytest.mark.parametrize("value", ["waiting", "WAITING", " Waiting\n", ExecutionStatus.WAITING])
def test_a_status_is_read_in_any_letter_case(value):
    assert parse_status(value) is ExecutionStatus.WAITING


@pytest.mark.parametrize("value", ["", "done", "wait ing", None, 3])
def test_an_unknown_status_lists_the_known(value):
    with pytest.raises(kitaru.KitaruUsageError, match="use one of: pending, running, waiting"):
        parse_status(value)


class Word(Enum):
    YES = "yes"


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text() | st.just(NOON) | st.just(Word.YES),
        lambda inner: (
            st.lists(inner)
            | st.tuples(inner, inner)
            | st.dictionaries(st.text() | st.integers(), inner)
        ),
        max_leaves=10,
    )
)
def test_fields_become_plain_json(value):
    data = to_json(value)
    assert json.loads(json.dumps(data)) == data
