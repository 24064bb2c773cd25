"""The variables of the environment that providers' SDKs read, and what of them nobody is to see.

Keys are secrets. An account, a project and headers of one's own are nobody else's concern, and an
address may have a password or a token in it. Nothing of them is ever recorded; here is what to mask
where a provider, its SDK or a flow repeats it. The rest of an address is no secret.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import TypeAlias

#: The variables that are set, with their values.
Set: TypeAlias = tuple[tuple[str, str], ...]

_VALUES = (
    "OPENAI_API_KEY",
    "ANTHROPIC_API_KEY",
    "ANTHROPIC_AUTH_TOKEN",
    "OPENROUTER_API_KEY",
    "OPENAI_ORG_ID",
    "OPENAI_PROJECT_ID",
)
_HEADERS = ("OPENAI_CUSTOM_HEADERS", "ANTHROPIC_CUSTOM_HEADERS")
_ADDRESSES = ("OPENAI_BASE_URL", "ANTHROPIC_BASE_URL", "OPENROUTER_BASE_URL", "OLLAMA_HOST")
NAMES = (*_VALUES, *_HEADERS, *_ADDRESSES)
#: Parts of an address's path that are so long are no words.
_LONG_PART = 16


def read() -> Set:
    """Those that are set now; costs microseconds."""
    found = ((name, os.environ.get(name)) for name in NAMES)
    return tuple((name, value) for name, value in found if value)


def secrets_in(variables: Set) -> Iterator[tuple[str, str]]:
    """What to mask, each with whose it is."""
    for name, value in variables:
        if name in _HEADERS:
            for line in value.splitlines():
                yield name, line.partition(":")[2].strip()
        elif name in _ADDRESSES:
            for part in _hidden_parts(value):
                yield name, part
        else:
            yield name, value


def _hidden_parts(address: str) -> Iterator[str]:
    """A user, a password, what is asked with, and parts of the path that look like tokens."""
    from urllib.parse import parse_qsl, unquote, urlsplit

    try:
        url = urlsplit(address if "://" in address else f"http://{address}")
    except ValueError:  # no address at all: the SDK says so
        yield address
        return
    user = url.netloc.rpartition("@")[0]
    # A basic authorization is made of both.
    yield from filter(None, (user, unquote(user), *(unquote(each) for each in user.split(":", 1))))
    yield from (value for _, value in parse_qsl(url.query))
    for part in url.path.split("/"):
        if len(part) >= _LONG_PART and any(map(str.isdigit, part)):
            yield part
