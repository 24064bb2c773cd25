"""Flows by target: `module:flow` or `path.py:flow`, and back from a flow to its target.

A target with its root folder is recorded when an execution starts, so that another process can
find the same code later. What a target names must be a flow; importing is the only effect.
"""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

from kitaru import codec
from kitaru.errors import KitaruUsageError


@dataclass(frozen=True, slots=True)
class Target:
    """Where a flow's code is; `target` is `None` where no other process could find it.

    `module` names it in ids, `root` is the folder its import starts from, `problem` says why it
    cannot be found again.
    """

    target: str | None
    module: str
    root: str | None
    source_digest: str
    problem: str | None = None


def describe(fn: Callable[..., Any]) -> Target:
    """The target of a flow's function."""
    digest = _source_digest(fn)
    module = sys.modules.get(fn.__module__)
    file = getattr(module, "__file__", None)
    name = fn.__module__
    if "<locals>" in fn.__qualname__ or "<lambda>" in fn.__qualname__:
        problem = f"flow {fn.__qualname__} is defined inside a function; move it to module level"
        return Target(None, name, None, digest, problem)
    if file is None:
        problem = f"flow {fn.__qualname__} was defined interactively; put it in a .py file"
        return Target(None, name, None, digest, problem)
    path = Path(file).resolve()
    if name == "__main__" or getattr(module, "__kitaru_path__", None):
        return Target(f"{path}:{fn.__qualname__}", path.stem, str(path.parent), digest)
    root = path.parent
    for _ in range(name.count(".") + (path.name == "__init__.py")):
        root = root.parent
    return Target(f"{name}:{fn.__qualname__}", name, str(root), digest)


def load(target: str, *, root: str | None = None) -> Any:
    """Import a target and return its flow.

    Args:
        target: `module:flow` or `path.py:flow`; a relative path starts from `root`.
        root: a folder to import from, first of all; the working directory by default.

    Raises:
        KitaruUsageError: the target is malformed, cannot be imported, or names no flow.
    """
    from kitaru.flow import Flow

    place, _, attribute = target.rpartition(":")
    if not place or not attribute or target.startswith("-") or "\0" in target:
        raise KitaruUsageError(
            f"{target!r} is not a target; write 'module:flow' or 'path/to/file.py:flow'."
        )
    folder = Path(root).absolute() if root is not None else Path.cwd()
    if str(folder) not in sys.path:
        sys.path.insert(0, str(folder))
    module = _import(place, folder, target)
    found: Any = module
    for part in attribute.split("."):
        found = inspect.getattr_static(found, part, None)
    if not isinstance(found, Flow):
        flows = [name for name, value in vars(module).items() if isinstance(value, Flow)]
        raise KitaruUsageError(
            f"{target!r} names no flow. Flows in {place}: {', '.join(flows) or 'none'}."
        )
    return found


def _import(place: str, folder: Path, target: str) -> ModuleType:
    try:
        if place.endswith(".py"):
            return _import_file(folder / place)
        return importlib.import_module(place)
    except KitaruUsageError:
        raise
    except BaseException as exc:  # user code runs here: an import can raise anything
        if isinstance(exc, KeyboardInterrupt):
            raise
        raise KitaruUsageError(
            f"Target {target!r} cannot be imported from {folder}: {type(exc).__name__}: {exc}. "
            "Fix the import, or run from the folder it works in."
        ) from exc


def _import_file(path: Path) -> ModuleType:
    path = path.resolve()
    if not path.is_file():
        raise KitaruUsageError(f"There is no file {path}; check the target's path.")
    parts, root = [path.stem], path.parent
    while (root / "__init__.py").exists():
        parts.insert(0, root.name)
        root = root.parent
    if str(root) not in sys.path:
        sys.path.insert(0, str(root))
    name = ".".join(parts)
    known = sys.modules.get(name)
    if known is not None and _is_file(known, path):
        return known
    if len(parts) > 1:
        module = importlib.import_module(name)
        if _is_file(module, path):
            return module
    if known is not None or name in sys.stdlib_module_names:
        name = f"{name}_{codec.digest(str(path).encode()).hex()[:8]}"
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    module.__kitaru_path__ = str(path)  # type: ignore[attr-defined]
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return module


def _is_file(module: ModuleType, path: Path) -> bool:
    file = getattr(module, "__file__", None)
    return file is not None and Path(file).resolve() == path


def _source_digest(fn: Callable[..., Any]) -> str:
    try:
        source = inspect.getsource(fn)
    except (OSError, TypeError):
        source = fn.__code__.co_code.hex()
    return codec.digest(source.encode("utf-8", "backslashreplace")).hex()
