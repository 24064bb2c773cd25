"""What a flow is, apart from how it is run: function, name, options, and where its code is.

A flow's target with its root folder is recorded when an execution starts, so that another
process can find the same code later.
"""

from __future__ import annotations

import functools
import inspect
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import CodeType
from typing import Any

from kitaru import codec, ids


@dataclass(frozen=True, slots=True)
class Target:
    """Where a function's code is; `target` is `None` where no other process could find it.

    `module` names it in ids, `root` is the folder its import starts from, `problem` says why it
    cannot be found again.
    """

    target: str | None
    module: str
    root: str | None
    source_digest: str
    problem: str | None = None


def describe(fn: Callable[..., Any], *, what: str = "flow") -> Target:
    """The target of a function that was made a flow (or `what` it was made)."""
    digest = _source_digest(fn)
    module = sys.modules.get(fn.__module__)
    file = getattr(module, "__file__", None)
    name = fn.__module__
    if "<locals>" in fn.__qualname__ or "<lambda>" in fn.__qualname__:
        problem = f"{what} {fn.__qualname__} is defined inside a function; move it to module level"
        return Target(None, name, None, digest, problem)
    if file is None:
        problem = f"{what} {fn.__qualname__} was defined interactively; put it in a .py file"
        return Target(None, name, None, digest, problem)
    path = Path(file).resolve()
    if name == "__main__" or getattr(module, "__kitaru_path__", None):
        # `python -m package.script` has the package's modules at hand, and so must a resume.
        package = getattr(module, "__package__", None) or ""
        root = path.parents[len(package.split("."))] if package else path.parent
        return Target(f"{path}:{fn.__qualname__}", path.stem, str(root), digest)
    root = path.parents[name.count(".") + (path.name == "__init__.py")]
    return Target(f"{name}:{fn.__qualname__}", name, str(root), digest)


def _source_digest(fn: Callable[..., Any]) -> str:
    try:
        source = inspect.getsource(fn)
    except (OSError, TypeError):
        source = _bytecode(fn.__code__)
    return codec.digest(source.encode("utf-8", "backslashreplace")).hex()


def _bytecode(code: CodeType) -> str:
    """What a function does, as text; its constants are part of that, its lines are not."""
    constants = [_bytecode(c) if isinstance(c, CodeType) else repr(c) for c in code.co_consts]
    return repr((code.co_code, code.co_names, constants))


@dataclass(frozen=True)
class FlowDefinition:
    """A flow's function with its options.

    `options` are the settings its `@flow` names, `run_options` those of its next runs; `timeout`
    is in seconds.
    """

    fn: Callable[..., Any]
    name: str
    options: Mapping[str, Any] = field(default_factory=dict)
    run_options: Mapping[str, Any] = field(default_factory=dict)
    timeout: float | None = None
    tags: tuple[str, ...] = ()

    @property
    def is_async(self) -> bool:
        """Whether it is an `async def`."""
        return inspect.iscoroutinefunction(self.fn)

    @functools.cached_property
    def target(self) -> Target:
        """Where another process finds this flow."""
        return describe(self.fn)

    @functools.cached_property
    def flow_id(self) -> str:
        """The stable id of the flow."""
        return ids.flow_id(self.target.module, self.name)

    @functools.cached_property
    def returns(self) -> codec.DeclaredTypes:
        """The user types its result may hold."""
        return codec.return_types(self.fn)
