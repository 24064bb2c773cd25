"""How a provider is reached: its SDK, its address and a key, from a secret or the environment.

A model alias that names a secret means that secret. Otherwise the variables count that the SDKs
themselves know. Keys are masked in whatever this process records to be shown.
"""

from __future__ import annotations

import importlib
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from kitaru import masks
from kitaru.config import Home
from kitaru.errors import KitaruUsageError
from kitaru.model_aliases import ResolvedModel
from kitaru.secrets import get_secret

Sdk = Literal["openai", "anthropic"]


@dataclass(frozen=True, slots=True)
class _Provider:
    """What is known of a provider: the SDK that speaks to it, and where it is by itself."""

    sdk: Sdk
    key: str | None
    address: str
    default_address: str | None = None


_PROVIDERS = {
    "openai": _Provider("openai", "OPENAI_API_KEY", "OPENAI_BASE_URL"),
    "anthropic": _Provider("anthropic", "ANTHROPIC_API_KEY", "ANTHROPIC_BASE_URL"),
    "openrouter": _Provider(
        "openai", "OPENROUTER_API_KEY", "OPENROUTER_BASE_URL", "https://openrouter.ai/api/v1"
    ),
    # No key of its own, and an address that its own tools read too.
    "ollama": _Provider("openai", None, "OLLAMA_HOST", "http://127.0.0.1:11434"),
}
_ANTHROPIC_TOKEN = "ANTHROPIC_AUTH_TOKEN"
_OLLAMA_PORT = 11434


@dataclass(frozen=True, slots=True)
class Access:
    """How a provider is reached; equal ones share their connections."""

    provider: str
    sdk: Sdk
    key: str = field(repr=False)
    base_url: str | None = field(repr=False)
    is_token: bool = False

    @property
    def address_setting(self) -> str:
        """The variable that says where the provider is."""
        return _PROVIDERS[self.provider].address

    def module(self) -> Any:
        """The SDK.

        Raises:
            KitaruUsageError: it is not installed; says how to install it.
        """
        try:
            return importlib.import_module(self.sdk)
        except ModuleNotFoundError as exc:
            if exc.name != self.sdk:
                raise
            raise KitaruUsageError(
                f"Models of {self.provider} are called through the SDK {self.sdk!r}, which is not "
                f"installed here: pip install 'kitaru-mcp[{self.sdk}]'."
            ) from None


def find_access(model: ResolvedModel, *, home: Home) -> Access:
    """How the provider of a model is reached.

    Raises:
        KitaruUsageError: there is no key; says where one is looked for.
        KitaruNotFoundError: the alias names a secret that there is not.
    """
    provider = _PROVIDERS[model.provider]
    if model.secret is not None:
        values = get_secret(model.secret, home=home.path).values
        key = _first(values, provider.key or "", "api_key", "API_KEY")
        base_url = _first(values, provider.address, "base_url", "BASE_URL")
        if key is None and provider.key is not None:
            raise KitaruUsageError(
                f"Secret {model.secret!r} of model alias {model.alias!r} has no key for "
                f"{model.provider}: set it with `kitaru secrets set {model.secret} "
                f"--{provider.key}`."
            )
    else:
        key, base_url = _first(os.environ, provider.key or ""), None
    base_url = base_url or os.environ.get(provider.address) or provider.default_address
    is_token = False
    if key is None and model.provider == "anthropic":
        key = os.environ.get(_ANTHROPIC_TOKEN) or None
        is_token = key is not None
    if key is None and provider.key is not None:
        raise KitaruUsageError(
            f"There is no key for {model.provider}/{model.name}: set {provider.key} in the "
            "environment, or keep it as a secret and name that: `kitaru secrets set NAME "
            f"--{provider.key}`, then `kitaru model register ALIAS --model "
            f"{model.provider}/{model.name} --secret NAME`."
        )
    masks.watch(home)  # code may have set a variable since the store was opened
    if model.provider == "ollama" and base_url is not None:
        base_url = _of_ollama(base_url)
    return Access(model.provider, provider.sdk, key or "ollama", base_url, is_token)


def _first(values: Mapping[str, str], *names: str) -> str | None:
    # A file of settings often leaves a line's end behind a value.
    found = (values.get(name, "").strip() for name in names)
    return next(filter(None, found), None)


def _of_ollama(address: str) -> str:
    """Ollama's address as its tools write it (`host`, `host:port` or a URL), for the SDK."""
    from urllib.parse import urlsplit

    url = address if "://" in address else f"http://{address}"
    try:
        parts = urlsplit(url)
        has_port = parts.port is not None
    except ValueError as exc:
        raise KitaruUsageError(
            f"OLLAMA_HOST is no address ({exc}); write host, host:port or a URL."
        ) from None
    # What it listens on everywhere is reached here.
    netloc = parts.netloc.replace("0.0.0.0", "127.0.0.1")
    if not has_port and parts.scheme == "http":
        netloc = f"{netloc}:{_OLLAMA_PORT}"
    path = parts.path.rstrip("/")
    return f"{parts.scheme}://{netloc}{path if path.endswith('/v1') else f'{path}/v1'}"
