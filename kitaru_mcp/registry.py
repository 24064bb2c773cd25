"""What a tool is: a function over the client, with what a client of the server may know about it.

`tool` turns a function into a `Tool`; its docstring is the description, its keyword-only
parameters are the arguments. `kitaru_mcp.tools.TOOLS` is the one list of all tools.
"""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, TypeAlias

from kitaru_mcp.parameters import Parameter, parameters_of, schema_of
from kitaru_mcp.policy import Policy

if TYPE_CHECKING:
    from kitaru.client import KitaruClient

Result: TypeAlias = dict[str, Any] | str
ToolFunction: TypeAlias = Callable[..., Result] | Callable[..., Awaitable[Result]]


class Desk:
    """What every tool works with: the client of one store, and the server's rights.

    The client is made when it is first needed, so that the server's first answer is not kept
    waiting for the store's code.
    """

    def __init__(self, *, home: str | None, policy: Policy) -> None:
        self._home = home
        self.policy = policy

    @cached_property
    def client(self) -> KitaruClient:
        """The store's client."""
        from kitaru.client import KitaruClient

        return KitaruClient(home=self._home)


@dataclass(frozen=True, slots=True)
class Effect:
    """A tool's four annotations: what calling it can do."""

    read_only: bool
    destructive: bool = False
    idempotent: bool = False
    open_world: bool = False


READS = Effect(read_only=True, idempotent=True)
#: Flow code goes on, and flow code may do anything.
RUNS_CODE = Effect(read_only=False, open_world=True)
DESTROYS = Effect(read_only=False, destructive=True, idempotent=True)


@dataclass(frozen=True, slots=True)
class Tool:
    """One tool; `narrow` tells a client whose reply was shortened how to ask for less.

    A plain function runs in a worker thread, a coroutine function on the event loop.
    """

    name: str
    title: str
    description: str
    fn: ToolFunction
    parameters: tuple[Parameter, ...]
    effect: Effect
    narrow: str

    @property
    def schema(self) -> dict[str, Any]:
        """The JSON Schema of its arguments."""
        return schema_of(self.parameters)


def tool(
    name: str, effect: Effect, *, title: str, narrow: str = ""
) -> Callable[[ToolFunction], Tool]:
    """Make a tool of a function `fn(desk, *, …)`."""

    def made(fn: ToolFunction) -> Tool:
        description = " ".join((inspect.getdoc(fn) or "").split())
        return Tool(name, title, description, fn, parameters_of(fn), effect, narrow)

    return made
