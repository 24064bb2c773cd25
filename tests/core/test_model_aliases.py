"""Model aliases: kept in the store, one is the default, and what is meant is found in order."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import kitaru
from kitaru import KitaruNotFoundError, KitaruStateError, KitaruUsageError
from kitaru.model_aliases import (
    ModelAlias,
    ResolvedModel,
    delete_model,
    list_models,
    register_model,
    resolve,
    use_model,
)

FAST, DEEP = "openai/gpt-5-nano", "anthropic/claude-opus"


def test_the_first_alias_is_the_default_until_another_is(home: Path) -> None:
    assert register_model("fast", model=FAST) == ModelAlias("fast", FAST, None, True)
    assert not register_model("deep", model=DEEP).is_default
    assert use_model("deep").is_default
    assert register_model("third", model="ollama/llama3:8b", default=True).is_default
    assert [(each.alias, each.is_default) for each in list_models()] == [
        ("deep", False),
        ("fast", False),
        ("third", True),
    ]


def test_registering_again_changes_the_model_and_not_the_default(home: Path) -> None:
    register_model("fast", model=FAST)
    register_model("deep", model=DEEP)
    assert register_model("fast", model=DEEP) == ModelAlias("fast", DEEP, None, True)


def test_reading_makes_no_store(home: Path) -> None:
    assert list_models() == []
    assert resolve(FAST).name == "gpt-5-nano"
    assert not [*home.iterdir()]


def test_a_model_that_is_named_in_full_is_not_looked_up(home: Path, monkeypatch) -> None:
    register_model("fast", model=FAST)
    monkeypatch.setattr("kitaru.model_aliases.open_store", None)
    assert resolve(DEEP).name == "claude-opus"
    with pytest.raises(TypeError):
        resolve("fast")


def test_the_default_is_deleted_last(home: Path) -> None:
    register_model("fast", model=FAST)
    register_model("deep", model=DEEP)
    with pytest.raises(KitaruStateError, match="is the default"):
        delete_model("fast")
    delete_model("deep")
    delete_model("fast")
    assert list_models() == []
    assert register_model("deep", model=DEEP).is_default


@pytest.mark.parametrize("action", [use_model, delete_model, resolve])
def test_an_unknown_alias_names_the_nearest(home: Path, action: Any) -> None:
    with pytest.raises(KitaruNotFoundError, match="none yet"):
        action("fast")
    register_model("fast", model=FAST)
    with pytest.raises(KitaruNotFoundError, match="The nearest: fast"):
        action("fats")


@pytest.mark.parametrize(
    ("alias", "model", "says"),
    [
        ("a/b", FAST, "Model alias name 'a/b'"),
        ("", FAST, "Model alias name ''"),
        ("a", "gpt-5", "write provider/name"),
        ("a", "openai/", "write provider/name"),
        ("a", "openai/ x", "write provider/name"),
        ("a", None, "write provider/name"),
        ("a", "acme/gpt", "there are openai, anthropic, ollama, openrouter"),
    ],
)
def test_what_cannot_be_a_model_is_refused(home: Path, alias: Any, model: Any, says: str) -> None:
    with pytest.raises(KitaruUsageError, match=says):
        register_model(alias, model=model)
    assert not [*home.iterdir()]


def test_its_secret_must_exist(home: Path) -> None:
    with pytest.raises(KitaruNotFoundError, match="No secret 'openai'"):
        register_model("fast", model=FAST, secret="openai")
    kitaru.create_secret("openai", {"API_KEY": "sk-0123456789"})
    register_model("fast", model=FAST, secret="openai")
    assert resolve("fast").secret == "openai"


def test_the_argument_wins_then_the_variable_then_the_default(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(KitaruUsageError, match="No model is named"):
        resolve()
    register_model("fast", model=FAST)
    register_model("deep", model="openrouter/a/b:free")
    assert resolve() == ResolvedModel("openai", "gpt-5-nano", "fast", None, "default alias")
    monkeypatch.setenv("KITARU_DEFAULT_MODEL", "deep")
    found = ResolvedModel("openrouter", "a/b:free", "deep", None, "KITARU_DEFAULT_MODEL")
    assert resolve() == found
    assert resolve(DEEP) == ResolvedModel("anthropic", "claude-opus", None, None, "argument")
    monkeypatch.setenv("KITARU_DEFAULT_MODEL", "acme/x")
    with pytest.raises(KitaruUsageError, match="KITARU_DEFAULT_MODEL: there is no provider 'acme'"):
        resolve()
    assert resolve("fast").alias == "fast"
