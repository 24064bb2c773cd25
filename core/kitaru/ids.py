"""All ids in Kitaru come from here.

An execution id is `kr-` and 16 characters of 80 random bits, so that a short prefix is already
unique. Ids inside an execution are derived, never random: call `research#2` of `kr-…` is
`kr-…/research#2`, its first attempt `kr-…/research#2@1`; a wait or a result has its call's id.
"""

from __future__ import annotations

import contextlib
import hashlib
import secrets
from collections.abc import Callable, Iterator

_ALPHABET = b"0123456789abcdefghjkmnpqrstvwxyz"
_LENGTH = 16
#: What each random byte stands for; as many of them for each character.
_CHARACTERS = _ALPHABET * (256 // len(_ALPHABET))

EXECUTION_PREFIX = "kr-"
FLOW_PREFIX = "fl-"


def _random() -> str:
    return secrets.token_bytes(_LENGTH).translate(_CHARACTERS).decode()


_source: Callable[[], str] = _random


def new_execution_id() -> str:
    """A fresh execution id."""
    return EXECUTION_PREFIX + _source()


def new_runner_id() -> str:
    """A fresh id for one driver of one execution."""
    return "rn-" + _source()


def new_vault_id() -> str:
    """A fresh id for the secrets of one home, whose entries in a keyring it sets apart."""
    return _source()


def flow_id(module: str, name: str) -> str:
    """The stable id of a flow: the same module and name always give the same id."""
    return FLOW_PREFIX + hashlib.blake2b(f"{module}:{name}".encode(), digest_size=6).hexdigest()


def call_id(name: str, count: int, *, lane: str = "") -> str:
    """The id of the `count`-th call of this name (1-based) that the flow's body makes.

    In a task of its own the task's number comes first: `research#2.1` is the first call of this
    name that the second task makes, whatever the other tasks do meanwhile.
    """
    if lane:
        return f"{name}#{lane}.{count}"
    return name if count == 1 else f"{name}#{count}"


def call_name(call: str) -> str:
    """The name a call id was made from."""
    return call.partition("#")[0]


def is_of_task(call: str, *, name: str) -> bool:
    """Whether a call id was made from this name inside a task."""
    made_from, _, place = call.partition("#")
    return made_from == name and "." in place


def qualified(exec_id: str, call: str) -> str:
    """A call's id that is unique across executions; also its idempotency key."""
    return f"{exec_id}/{call}"


@contextlib.contextmanager
def use(source: Callable[[], str]) -> Iterator[None]:
    """Draw random parts from another source for the time of a `with` block."""
    global _source
    previous, _source = _source, source
    try:
        yield
    finally:
        _source = previous
