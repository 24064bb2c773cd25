"""What a tool is: a function over the client, with what a client of the server may know about it.

`tool` turns a function into a `Tool`; its docstring is the description, its keyword-only
parameters are the arguments. `kitaru_mcp.tools.TOOLS` is the one list of all tools.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeAlias

from mcp.types import CallToolResult

from kitaru_mcp.parameters import Parameter, parameters_of, schema_of

#: Data (shown in both channels), text, or a reply made by the tool itself.
Result: TypeAlias = dict[str, Any] | str | CallToolResult
#: `fn(call, *, …)`: a plain function gives a `Result`, a coroutine function one that is awaited.
ToolFunction: TypeAlias = Callable[..., Any]


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
RUNS_CODE_AGAIN = Effect(read_only=False, destructive=True, open_world=True)
DESTROYS = Effect(read_only=False, destructive=True, idempotent=True)


@dataclass(frozen=True, slots=True)
class Tool:
    """One tool.

    A plain function runs in a worker thread, a coroutine function on the event loop.

    Args:
        name: its name, the same for every client.
        description: what it does, for models.
        fn: `fn(call, *, …)`.
        parameters: its arguments.
        effect: its annotations.
        hint: words that a search for tools should find it by.
        narrow: tells a client whose reply was shortened how to ask for less.
        always_load: whether clients that load tools when they are searched should load it at once.
    """

    name: str
    description: str
    fn: ToolFunction
    parameters: tuple[Parameter, ...]
    effect: Effect
    hint: str
    narrow: str
    always_load: bool

    @property
    def schema(self) -> dict[str, Any]:
        """The JSON Schema of its arguments."""
        return schema_of(self.parameters)

    @property
    def is_async(self) -> bool:
        """Whether its function is a coroutine function."""
        return inspect.iscoroutinefunction(self.fn)


def tool(
    name: str,
    effect: Effect,
    *,
    hint: str,
    narrow: str = "",
    always_load: bool = False,
) -> Callable[[ToolFunction], Tool]:
    """Make a tool of a function `fn(call, *, …)`; the arguments are those of `Tool`."""

    def made(fn: ToolFunction) -> Tool:
        description = " ".join((inspect.getdoc(fn) or "").split())
        return Tool(
            name,
            description,
            fn,
            parameters_of(fn),
            effect,
            hint=hint,
            narrow=narrow,
            always_load=always_load,
        )

    return made
