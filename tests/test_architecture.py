"""The laws of the code's shape: which module may import which, and how large things may grow.

Sources are parsed, never imported, so an import inside a function counts as much as one at the
top; only what stands under `if TYPE_CHECKING` is let through. A new module gets its line in
`LAYERS`. Each rule is a function from a module to its complaints, and each is shown to complain.
"""

from __future__ import annotations

import ast
import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent

#: Every module or sub-package of `kitaru`: it imports its own layer or a lower one.
LAYERS: dict[str, int] = {
    # values
    "errors": 0,
    "frozen": 0,
    "models": 0,
    "clock": 0,
    "ids": 0,
    "version": 0,
    # value <-> bytes; settings, home, limits
    "codec": 1,
    "serializers": 1,
    "answers": 1,
    "naming": 1,
    "redaction": 1,
    "config": 1,
    "files": 1,
    "host": 1,
    "locks": 1,
    "private": 1,
    "vault": 1,
    "masks": 1,
    "model_variables": 1,
    "limits": 1,
    "statistics": 1,
    "upkeep": 1,
    "usage": 1,
    "usage_summary": 1,
    # the one SQLite file
    "store": 2,
    # pure decisions
    "context": 3,
    "journal": 3,
    "timeline": 3,
    "replay": 3,
    "retry": 3,
    "failures": 3,
    "inputs": 3,
    "prompts": 3,
    "asking": 3,
    "busy": 3,
    "effects": 3,
    "settings": 3,
    "secrets": 3,
    "model_aliases": 3,
    "log_backends": 3,
    "log_store": 3,
    "prices": 3,
    "providers": 3,
    # what user code calls inside a flow
    "definition": 4,
    "requests": 4,
    "checkpoint": 4,
    "artifacts": 4,
    "waits": 4,
    "terminal": 4,
    "logs": 4,
    "capture": 4,
    "llm": 4,
    "conversation": 4,
    "llm_usage": 4,
    "futures": 4,
    "current": 4,
    # drive one execution
    "flow": 5,
    "launch": 5,
    "runtime": 5,
    "targets": 5,
    "driver": 5,
    "attempts": 5,
    "calls": 5,
    "course": 5,
    "pending": 5,
    "children": 5,
    "nested": 5,
    "awaited": 5,
    "batches": 5,
    "tasks": 5,
    "turns": 5,
    "tries": 5,
    "exits": 5,
    "pool": 5,
    "ledger": 5,
    "heart": 5,
    "handle": 5,
    "isolation": 5,
    # a process that drives; the one door for everybody
    "runner": 6,
    "isolated": 6,
    "worker": 6,
    "spawn": 6,
    "stacks": 6,
    "client": 6,
    # models -> JSON
    "render": 7,
    "pictures": 7,
    # the command line
    "cli": 8,
    "__main__": 8,
}
#: Which part of `kitaru` the MCP server may use.
MCP_MAY_IMPORT = {"", "client", "config", "errors", "models", "render", "targets"}

MAX_MODULE_LINES = 400
MAX_FUNCTION_LINES = 50
MAX_POSITIONAL = 3

Function = ast.FunctionDef | ast.AsyncFunctionDef


@dataclass(frozen=True)
class Import:
    """One imported module or name, written in full."""

    target: str
    line: int
    top_level: bool


@dataclass(frozen=True)
class Module:
    """A parsed source; `known` are the names of all modules, to tell a module from a name."""

    name: str
    source: str = field(repr=False)
    is_package: bool = False
    known: frozenset[str] = field(default=frozenset(), repr=False)

    @cached_property
    def tree(self) -> ast.Module:
        """The syntax tree."""
        return ast.parse(self.source, self.name)

    @cached_property
    def imports(self) -> list[Import]:
        """Everything it imports, except for type checking only."""
        return [*self._imports(self.tree, top_level=True)]

    @property
    def part(self) -> str | None:
        """The module or sub-package of `kitaru` it belongs to; "" for the package itself."""
        return part_of_kitaru(self.name)

    def _imports(self, node: ast.AST, *, top_level: bool) -> Iterator[Import]:
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            for child in node.orelse:
                yield from self._imports(child, top_level=top_level)
            return
        for target in self._targets(node):
            yield Import(target, getattr(node, "lineno", 0), top_level)
        inside = top_level and not isinstance(node, Function | ast.Lambda)
        for child in ast.iter_child_nodes(node):
            yield from self._imports(child, top_level=inside)

    def _targets(self, node: ast.AST) -> Iterator[str]:
        match node:
            case ast.Import(names=names):
                yield from (alias.name for alias in names)
            case ast.ImportFrom(module=module, names=names, level=level):
                base = self._absolute(module or "", level)
                for alias in names:
                    full = f"{base}.{alias.name}"
                    yield full if full in self.known else base
            case ast.Call(func=func, args=[ast.Constant(value=str(name)), *_]):
                if ast.unparse(func).split(".")[-1] in ("import_module", "__import__"):
                    yield self._absolute(name.lstrip("."), len(name) - len(name.lstrip(".")))

    def _absolute(self, module: str, level: int) -> str:
        if not level:
            return module
        parts = self.name.split(".")
        kept = parts[: len(parts) - level + self.is_package]
        return ".".join([*kept, module] if module else kept)


def part_of_kitaru(name: str) -> str | None:
    """`store` for `kitaru.store.schema`, "" for `kitaru`, nothing for what is not Kitaru's."""
    root, _, rest = name.partition(".")
    return rest.partition(".")[0] if root == "kitaru" else None


def functions(tree: ast.Module) -> Iterator[tuple[Function, bool]]:
    """Each function, and whether its first argument is `self` or `cls`."""
    for parent in ast.walk(tree):
        for node in ast.iter_child_nodes(parent):
            if isinstance(node, Function):
                static = any(ast.unparse(d) == "staticmethod" for d in node.decorator_list)
                yield node, isinstance(parent, ast.ClassDef) and not static


# --- rules ----------------------------------------------------------------------------------------


def layers(module: Module) -> Iterator[str]:
    """A module imports its own layer or a lower one."""
    if not module.part:
        return
    if module.part not in LAYERS:
        yield f"has no layer; add {module.part!r} to LAYERS in tests/test_architecture.py"
        return
    for imported in module.imports:
        part = part_of_kitaru(imported.target)
        if part is None or part == module.part:
            continue
        if part == "" and module.part != "cli":
            yield f"{imported.line}: imports kitaru itself; name the module that has it"
        elif part and LAYERS.get(part, 0) > LAYERS[module.part]:
            yield (
                f"{imported.line}: layer {LAYERS[module.part]} imports {imported.target} "
                f"of layer {LAYERS[part]}"
            )


def borders(module: Module) -> Iterator[str]:
    """Who may import SQLite, MCP, the MCP server, and which parts of the SDK the server may."""
    in_kitaru = module.part is not None
    for imported in module.imports:
        root = imported.target.partition(".")[0]
        part = part_of_kitaru(imported.target)
        if root in ("sqlite3", "sqlite_utils") and module.part != "store":
            yield f"{imported.line}: only kitaru.store imports {root}"
        if root in ("mcp", "mcp_types") and in_kitaru:
            yield f"{imported.line}: only kitaru_mcp imports {root}"
        if root == "kitaru_mcp" and in_kitaru:
            yield f"{imported.line}: kitaru never imports kitaru_mcp"
        if root == "core":
            yield f"{imported.line}: core is a source root, not a package"
        if part is not None and not in_kitaru and part not in MCP_MAY_IMPORT:
            yield f"{imported.line}: kitaru_mcp may not import {imported.target}"


def one_clock(module: Module) -> Iterator[str]:
    """Only kitaru.clock asks what time it is."""
    if module.part == "clock":
        return
    for imported in module.imports:
        if imported.target == "time":
            yield f"{imported.line}: imports time; use kitaru.clock"
    classes = {"datetime", "date"}
    for node in ast.walk(module.tree):
        if isinstance(node, ast.ImportFrom) and node.module == "datetime":
            classes |= {alias.asname or alias.name for alias in node.names}
    for node in ast.walk(module.tree):
        if isinstance(node, ast.Attribute) and node.attr in ("now", "utcnow", "today"):
            owner = ast.unparse(node.value)
            if owner.split(".")[-1] in classes:
                yield f"{node.lineno}: calls {owner}.{node.attr}; use kitaru.clock"


def sizes(module: Module) -> Iterator[str]:
    """Modules and functions stay short; docstrings do not count in functions."""
    lines = len(module.source.splitlines())
    if lines > MAX_MODULE_LINES:
        yield f"{lines} lines; at most {MAX_MODULE_LINES}"
    for function, _ in functions(module.tree):
        assert function.end_lineno is not None
        length = function.end_lineno - function.lineno + 1
        if ast.get_docstring(function, clean=False) is not None:
            docstring = function.body[0]
            assert docstring.end_lineno is not None
            length -= docstring.end_lineno - docstring.lineno + 1
        if length > MAX_FUNCTION_LINES:
            yield (
                f"{function.lineno}: {function.name} has {length} lines; "
                f"at most {MAX_FUNCTION_LINES}"
            )


def signatures(module: Module) -> Iterator[str]:
    """Few positional parameters; the rest are keyword-only."""
    for function, is_method in functions(module.tree):
        arguments = function.args
        count = len(arguments.posonlyargs) + len(arguments.args) - is_method
        if count > MAX_POSITIONAL:
            yield (
                f"{function.lineno}: {function.name} has {count} positional parameters; "
                f"at most {MAX_POSITIONAL}, the rest behind a *"
            )


def docstrings(module: Module) -> Iterator[str]:
    """A module opens by saying what it is."""
    if not ast.get_docstring(module.tree):
        yield "has no docstring"


RULES: list[Callable[[Module], Iterator[str]]] = [
    layers,
    borders,
    one_clock,
    sizes,
    signatures,
    docstrings,
]


def circles(modules: list[Module]) -> Iterator[str]:
    """No modules import each other in a circle while they are being loaded."""
    graph = {
        module.name: {i.target for i in module.imports if i.top_level} - {module.name}
        for module in modules
        if module.name != "kitaru"
    }
    done: set[str] = set()

    def visit(name: str, path: list[str]) -> Iterator[str]:
        if name in path:
            yield " -> ".join([*path[path.index(name) :], name])
        elif name in graph and name not in done:
            for target in sorted(graph[name]):
                yield from visit(target, [*path, name])
            done.add(name)

    for name in sorted(graph):
        yield from visit(name, [])


# --- the packages themselves ----------------------------------------------------------------------


def load_packages() -> list[Module]:
    """All modules of both packages."""
    found = {}
    for folder in (ROOT / "core" / "kitaru", ROOT / "kitaru_mcp"):
        for path in sorted(folder.rglob("*.py")):
            parts = path.relative_to(folder.parent).with_suffix("").parts
            is_package = parts[-1] == "__init__"
            found[".".join(parts[:-1] if is_package else parts)] = (path, is_package)
    known = frozenset(found)
    return [
        Module(name, path.read_text(encoding="utf-8"), is_package=is_package, known=known)
        for name, (path, is_package) in found.items()
    ]


@pytest.fixture(scope="module")
def packages() -> list[Module]:
    modules = load_packages()
    assert any(module.name == "kitaru.errors" for module in modules), "found no sources"
    return modules


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
def test_every_module_keeps(rule: Callable[[Module], Iterator[str]], packages: list[Module]):
    complaints = [f"{module.name}: {text}" for module in packages for text in rule(module)]
    assert not complaints, "\n".join([str(rule.__doc__), *complaints])


def test_no_circles(packages: list[Module]):
    found = [*circles(packages)]
    assert not found, "\n".join(found)


def test_core_is_a_source_root_and_not_a_package():
    assert not (ROOT / "core" / "__init__.py").exists()


# --- the rules themselves -------------------------------------------------------------------------

KNOWN = frozenset({"kitaru", "kitaru_mcp", "kitaru_mcp.server"}) | {
    f"kitaru.{name}" for name in ("store.schema", *LAYERS)
}


def complaints_of(rule: Callable[[Module], Iterator[str]], name: str, source: str) -> str:
    is_package = any(other.startswith(f"{name}.") for other in KNOWN)
    return "\n".join(rule(Module(name, source, is_package=is_package, known=KNOWN)))


BODY = "\n    pass"


@pytest.mark.parametrize(
    ("rule", "name", "source", "expected"),
    [
        (layers, "kitaru.models", "import kitaru.codec", "layer 0 imports kitaru.codec of layer 1"),
        (layers, "kitaru.models", "from kitaru import codec", "imports kitaru.codec"),
        (layers, "kitaru.models", "from kitaru.codec import encode", "imports kitaru.codec"),
        (layers, "kitaru.models", "from .codec import encode", "imports kitaru.codec"),
        (layers, "kitaru.models", "from . import codec", "imports kitaru.codec"),
        (layers, "kitaru.store", "from ..flow import Flow", "imports kitaru.flow"),
        (layers, "kitaru.store.schema", "from ..flow import Flow", "imports kitaru.flow"),
        (layers, "kitaru.models", "def f():\n    import kitaru.codec", "2: layer 0 imports"),
        (layers, "kitaru.models", "__import__('kitaru.codec')", "imports kitaru.codec"),
        (layers, "kitaru.models", "importlib.import_module('.codec')", "imports kitaru.codec"),
        (layers, "kitaru.models", "if not TYPE_CHECKED:\n    import kitaru.cli", "imports"),
        (layers, "kitaru.flow", "from kitaru import KitaruClient", "imports kitaru itself"),
        (layers, "kitaru.novelty", "", "add 'novelty' to LAYERS in tests/test_architecture.py"),
        (borders, "kitaru.client", "import sqlite3", "only kitaru.store imports sqlite3"),
        (borders, "kitaru_mcp.server", "import sqlite_utils", "only kitaru.store imports"),
        (borders, "kitaru.cli", "from mcp import Client", "only kitaru_mcp imports mcp"),
        (borders, "kitaru.cli", "from kitaru_mcp import server", "never imports kitaru_mcp"),
        (borders, "kitaru_mcp.server", "from kitaru import store", "may not import kitaru.store"),
        (borders, "kitaru_mcp.server", "from core import kitaru", "core is a source root"),
        (one_clock, "kitaru.flow", "import time", "imports time"),
        (one_clock, "kitaru.flow", "def f():\n    from time import sleep", "2: imports time"),
        (one_clock, "kitaru.flow", "import datetime as d\nd.datetime.now()", "2: calls"),
        (one_clock, "kitaru.flow", "from datetime import date as D\nD.today()", "2: calls"),
        (sizes, "kitaru.flow", "\n" * 401, "401 lines; at most 400"),
        (sizes, "kitaru.flow", "def f():" + "\n    pass" * 50, "f has 51 lines"),
        (signatures, "kitaru.flow", f"def f(a, b, /, c, d):{BODY}", "f has 4 positional"),
        (signatures, "kitaru.flow", f"async def f(a, b, c, d=1):{BODY}", "f has 4 positional"),
        (docstrings, "kitaru.flow", "import os", "has no docstring"),
    ],
)
def test_a_rule_finds(rule, name, source, expected):
    assert expected in complaints_of(rule, name, source)


@pytest.mark.parametrize(
    ("rule", "name", "source"),
    [
        (layers, "kitaru.codec", "import json\nfrom kitaru import config, errors"),
        (layers, "kitaru.store.schema", "from kitaru.store import Store\nimport sqlite3"),
        (layers, "kitaru.models", "if TYPE_CHECKING:\n    from kitaru.flow import Flow"),
        (layers, "kitaru.cli", "import kitaru"),
        (layers, "kitaru", "from kitaru.cli import main"),
        (borders, "kitaru.store.schema", "import sqlite3, sqlite_utils"),
        (borders, "kitaru_mcp.server", "import kitaru, mcp\nfrom kitaru import client, errors"),
        (one_clock, "kitaru.clock", "import time\ntime.time()"),
        (one_clock, "kitaru.flow", "from kitaru import clock\nclock.now_us()"),
        (one_clock, "kitaru.flow", "from datetime import datetime, time\nx = datetime.max"),
        (sizes, "kitaru.flow", 'def f():\n    """' + "a\n" * 60 + '"""' + "\n    pass" * 49),
        (signatures, "kitaru.flow", f"def f(a, b, c, *args, d, e, **rest):{BODY}"),
        (signatures, "kitaru.flow", "class A:\n    def f(self, a, b, c): ..."),
        (docstrings, "kitaru.flow", '"""Says."""'),
    ],
)
def test_a_rule_lets_through(rule, name, source):
    assert complaints_of(rule, name, source) == ""


def test_circles_are_found_at_module_level_only():
    def module(name: str, source: str) -> Module:
        return Module(name, source, known=frozenset({"kitaru.a", "kitaru.b", "kitaru.c"}))

    a = module("kitaru.a", "from kitaru import b")
    b = module("kitaru.b", "import kitaru.c")
    c = module("kitaru.c", "from kitaru.a import x")
    for order in itertools.permutations([a, b, c]):
        assert [*circles([*order])] == ["kitaru.a -> kitaru.b -> kitaru.c -> kitaru.a"]
    lazy = module("kitaru.c", "def f():\n    from kitaru.a import x")
    assert not [*circles([a, b, lazy])]
