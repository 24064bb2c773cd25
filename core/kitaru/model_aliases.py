"""Model aliases: short names for the models of providers, kept in the store.

Owns which aliases there are, which of them is the default, and which model is meant where a text or
nothing names it. An alias may name a secret that holds its credentials. Nothing here calls a model;
reading never makes a store.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from kitaru import config, naming
from kitaru.errors import KitaruNotFoundError, KitaruStateError, KitaruUsageError
from kitaru.frozen import Model
from kitaru.secrets import get_secret
from kitaru.store import Transaction, open_store, settings

HomePath = str | os.PathLike[str] | None

PROVIDERS = ("openai", "anthropic", "ollama", "openrouter")
VARIABLE = "KITARU_DEFAULT_MODEL"
_SETTING = "models"


@dataclass(frozen=True, slots=True)
class ModelAlias(Model):
    """A name for a model, written as `provider/name`; `secret` names its credentials."""

    alias: str
    model: str
    secret: str | None
    is_default: bool


@dataclass(frozen=True, slots=True)
class ResolvedModel(Model):
    """Which model is meant, and what has named it in a reader's words."""

    provider: str
    name: str
    alias: str | None
    secret: str | None
    source: str


def register_model(
    alias: str,
    *,
    model: str,
    secret: str | None = None,
    default: bool = False,
    home: HomePath = None,
) -> ModelAlias:
    """Keep an alias, in the place of an earlier one of this name; the first is the default.

    Args:
        alias: what the model is called; printable text without `/`.
        model: `provider/name`, such as `openai/gpt-5-nano`.
        secret: the name of a secret with its credentials.
        default: whether it becomes the default.
        home: the store's folder; by default found as `kitaru status` says.

    Raises:
        KitaruUsageError: the alias or the model cannot be right.
        KitaruNotFoundError: there is no such secret.

    Example:
        >>> from kitaru import model_aliases
        >>> model_aliases.register_model("fast", model="openai/gpt-5-nano", default=True)
        ModelAlias(alias='fast', model='openai/gpt-5-nano', secret=None, is_default=True)
    """
    naming.checked(alias, what="Model alias")
    _split(model, what="Model")
    if secret is not None:
        get_secret(secret, home=home)
    with open_store(config.find_home(home)).write() as conn:
        kept = _kept(conn)
        kept["aliases"][alias] = {"model": model, "secret": secret}
        if default or kept["default"] is None:
            kept["default"] = alias
        settings.put(conn, _SETTING, kept)
    return _alias(kept, alias)


def list_models(*, home: HomePath = None) -> list[ModelAlias]:
    """All aliases by name.

    Args:
        home: the store's folder; by default found as `kitaru status` says.

    Example:
        >>> from kitaru import model_aliases
        >>> "nowhere" in [each.alias for each in model_aliases.list_models()]
        False
    """
    kept = _read(home)
    return [_alias(kept, alias) for alias in sorted(kept["aliases"])]


def use_model(alias: str, *, home: HomePath = None) -> ModelAlias:
    """Make an alias the default.

    Args:
        alias: the alias.
        home: the store's folder; by default found as `kitaru status` says.

    Raises:
        KitaruNotFoundError: there is none with this name; names the nearest.

    Example:
        >>> from kitaru import model_aliases
        >>> deep = model_aliases.register_model("deep", model="anthropic/claude-opus")
        >>> model_aliases.use_model("deep").is_default
        True
    """
    with open_store(config.find_home(home)).write() as conn:
        kept = _kept(conn)
        found = _alias(kept, alias)
        kept["default"] = found.alias
        settings.put(conn, _SETTING, kept)
    return _alias(kept, alias)


def delete_model(alias: str, *, home: HomePath = None) -> None:
    """Forget an alias.

    Args:
        alias: the alias.
        home: the store's folder; by default found as `kitaru status` says.

    Raises:
        KitaruNotFoundError: there is none with this name; names the nearest.
        KitaruStateError: it is the default, and there are others.

    Example:
        >>> from kitaru import model_aliases
        >>> old = model_aliases.register_model("old", model="ollama/llama3")
        >>> main = model_aliases.register_model("main", model="ollama/llama4", default=True)
        >>> model_aliases.delete_model("old")
    """
    with open_store(config.find_home(home)).write() as conn:
        kept = _kept(conn)
        if _alias(kept, alias).is_default and len(kept["aliases"]) > 1:
            raise KitaruStateError(
                f"Model alias {alias!r} is the default and cannot be deleted. First make another "
                "one the default: `kitaru model default ALIAS`."
            )
        del kept["aliases"][alias]
        if not kept["aliases"]:
            kept["default"] = None
        settings.put(conn, _SETTING, kept)


def resolve(model: str | None = None, *, home: HomePath = None) -> ResolvedModel:
    """The model that is meant: the argument, else `KITARU_DEFAULT_MODEL`, else the default alias.

    Args:
        model: an alias, or `provider/name`.
        home: the store's folder; by default found as `kitaru status` says.

    Raises:
        KitaruNotFoundError: there is no such alias; names the nearest.
        KitaruUsageError: the provider is unknown, or nothing names a model.

    Example:
        >>> from kitaru import model_aliases
        >>> model_aliases.resolve("anthropic/claude-haiku").provider
        'anthropic'
    """
    source = "argument"
    if model is None and os.environ.get(VARIABLE):
        model, source = os.environ[VARIABLE], VARIABLE
    if isinstance(model, str) and "/" in model:  # no alias is named so: the store is not asked
        provider, name = _split(model, what=f"Model from {source}")
        return ResolvedModel(provider, name, None, None, source)
    kept = _read(home)
    if model is None:
        model, source = kept["default"], "default alias"
    if model is None:
        raise KitaruUsageError(
            "No model is named. Name one as provider/name or by an alias, set "
            f"{VARIABLE}, or register one: `kitaru model register ALIAS --model PROVIDER/NAME`."
        )
    found = _alias(kept, model)
    provider, name = _split(found.model, what=f"Model alias {model!r}")
    return ResolvedModel(provider, name, found.alias, found.secret, source)


def _split(model: object, *, what: str) -> tuple[str, str]:
    """Provider and name of `provider/name`; the name may have further slashes."""
    provider, slash, name = model.partition("/") if isinstance(model, str) else ("", "", "")
    if not slash or not name.strip() or not name.isprintable() or name != name.strip():
        raise KitaruUsageError(
            f"{what}: {model!r:.80} is no model; write provider/name, such as openai/gpt-5-nano."
        )
    if provider not in PROVIDERS:
        raise KitaruUsageError(
            f"{what}: there is no provider {provider!r:.60}; there are {', '.join(PROVIDERS)}."
        )
    return provider, name


def _read(home: HomePath) -> dict[str, Any]:
    found = config.find_home(home)
    if not found.database.exists():
        return _empty()
    with open_store(found).snapshot() as conn:
        return _kept(conn)


def _kept(conn: Transaction) -> dict[str, Any]:
    found: dict[str, Any] | None = settings.get(conn, _SETTING)
    return found or _empty()


def _empty() -> dict[str, Any]:
    return {"aliases": {}, "default": None}


def _alias(kept: Mapping[str, Any], alias: object) -> ModelAlias:
    found = kept["aliases"].get(alias) if isinstance(alias, str) else None
    if found is None:
        raise KitaruNotFoundError(
            f"No model alias {alias!r:.80}. {naming.nearest(alias, kept['aliases'])} "
            "Make it with `kitaru model register ALIAS --model PROVIDER/NAME`."
        )
    return ModelAlias(str(alias), found["model"], found["secret"], kept["default"] == alias)
