"""Stacks: `local` is always there, one is active, and reading makes no store."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import kitaru
from kitaru import KitaruStateError, KitaruUsageError, StackInfo, config
from kitaru.store import open_store, stacks
from tests import support

LOCAL = StackInfo("local", "local", True)


def names() -> list[str]:
    return [stack.name for stack in kitaru.list_stacks()]


def refusal(kind: type[Exception], call: Callable[..., object], *args: Any, **options: Any) -> str:
    """The message of a refused action, which has changed nothing."""
    before = kitaru.list_stacks()
    with pytest.raises(kind) as caught:
        call(*args, **options)
    assert type(caught.value) is kind
    assert kitaru.list_stacks() == before
    return str(caught.value)


def test_local_is_there_and_active_before_there_is_a_store_and_reading_makes_none(home: Path):
    assert kitaru.list_stacks() == [LOCAL]
    assert kitaru.current_stack() == LOCAL
    assert not [*home.iterdir()]


def test_stacks_are_listed_by_name_behind_local(home: Path):
    for name in ("nightly", "gpu", "Z"):
        kitaru.create_stack(name)
    assert names() == ["local", "Z", "gpu", "nightly"]


def test_a_new_stack_is_not_active_unless_it_is_asked_for(home: Path):
    assert kitaru.create_stack("gpu") == StackInfo("gpu", "local", False)
    assert kitaru.current_stack() == LOCAL
    assert kitaru.create_stack("nightly", activate=True) == StackInfo("nightly", "local", True)
    assert kitaru.current_stack().name == "nightly"


def test_exactly_one_stack_is_active(home: Path):
    kitaru.create_stack("gpu")
    kitaru.create_stack("nightly")
    for name in ("gpu", "nightly", "nightly", "local", "gpu"):
        assert kitaru.use_stack(name).is_active
        assert [stack.name for stack in kitaru.list_stacks() if stack.is_active] == [name]


def test_other_processes_see_the_active_stack(home: Path):
    kitaru.create_stack("gpu", activate=True)
    program = "import kitaru; print(kitaru.current_stack().to_dict())"
    assert support.run_python(home, program) == [
        "{'name': 'gpu', 'type': 'local', 'is_active': True}"
    ]


def test_a_stack_that_is_not_active_can_be_deleted_and_made_again(home: Path):
    kitaru.create_stack("gpu")
    kitaru.delete_stack("gpu")
    assert names() == ["local"]
    kitaru.create_stack("gpu")
    assert names() == ["local", "gpu"]


@pytest.mark.parametrize("call", [kitaru.use_stack, kitaru.delete_stack])
def test_an_unknown_stack_is_refused_with_those_there_are(home: Path, call: Callable[[str], Any]):
    kitaru.create_stack("gpu")
    assert refusal(KitaruStateError, call, "nope") == (
        "Stack 'nope' not found. Stacks: local, gpu; create it with `kitaru stack create nope`."
    )
    assert "`kitaru stack create 'my stack'`" in refusal(KitaruStateError, call, "my stack")
    assert "Stack 3 not found" in refusal(KitaruStateError, call, 3)


@pytest.mark.parametrize("name", ["gpu", "local"])
def test_a_name_that_is_taken_is_refused(home: Path, name: str):
    kitaru.create_stack("gpu")
    message = refusal(KitaruStateError, kitaru.create_stack, name, activate=True)
    assert message.startswith(f"Stack '{name}' exists already.")
    assert f"`kitaru stack use {name}`" in message


def test_local_cannot_be_deleted_active_or_not(home: Path):
    kitaru.create_stack("gpu")
    for active in ("local", "gpu"):
        kitaru.use_stack(active)
        message = refusal(KitaruStateError, kitaru.delete_stack, "local")
        assert message.startswith("Stack 'local' is built in and cannot be deleted.")
        assert "`kitaru stack use NAME`" in message


def test_the_active_stack_cannot_be_deleted_before_another_one_is_active(home: Path):
    kitaru.create_stack("gpu", activate=True)
    message = refusal(KitaruStateError, kitaru.delete_stack, "gpu")
    assert message.startswith("Stack 'gpu' is the active one")
    assert "`kitaru stack use local`" in message
    kitaru.use_stack("local")
    kitaru.delete_stack("gpu")
    assert kitaru.list_stacks() == [LOCAL]


@pytest.mark.parametrize("name", ["", " gpu", "a/b", "a#2", "a\nb", "x" * 129, 3])
def test_a_name_that_cannot_be_used_is_refused_before_there_is_a_store(home: Path, name: Any):
    message = refusal(KitaruUsageError, kitaru.create_stack, name)
    assert message.startswith("Stack name ")
    assert not [*home.iterdir()]


@pytest.mark.parametrize("kind", ["kubernetes", "", None])
def test_another_type_than_local_is_refused_before_there_is_a_store(home: Path, kind: Any):
    message = refusal(KitaruUsageError, kitaru.create_stack, "gpu", type=kind)
    assert message == f"There is no stack type {kind!r}; use 'local'."
    assert not [*home.iterdir()]


def test_another_store_is_named_by_its_home(home: Path, tmp_path: Path):
    other = tmp_path / "other"
    kitaru.create_stack("gpu", activate=True, home=other)
    assert kitaru.current_stack(home=other).name == "gpu"
    assert kitaru.current_stack() == LOCAL
    kitaru.use_stack("local", home=other)
    kitaru.delete_stack("gpu", home=other)
    assert kitaru.list_stacks(home=other) == [LOCAL]
    support.forget(other)


def test_a_run_that_names_an_unknown_stack_is_told_which_setting_does(home: Path):
    with open_store(config.find_home()).snapshot() as conn:
        known = stacks.load(conn)
    assert stacks.choose(known, "local", source="run") == LOCAL
    with pytest.raises(KitaruStateError) as caught:
        stacks.choose(known, "nope", source="KITARU_STACK")
    assert str(caught.value) == (
        "Stack 'nope' not found. The name comes from: KITARU_STACK. Stacks: local; "
        "create it with `kitaru stack create nope`."
    )
