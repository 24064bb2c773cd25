"""From a target, `module:name` or `path.py:name`, to the flow or checkpoint it names.

What a target names must be of the kind that is looked for; importing its module is the only
effect. `definition` goes the other way.
"""

from __future__ import annotations

import importlib
import importlib.machinery
import importlib.util
import inspect
import sys
from pathlib import Path
from types import CodeType, ModuleType
from typing import Any, TypeVar

from kitaru import codec, context
from kitaru.errors import KitaruUsageError

T = TypeVar("T")


def load(target: str, *, root: str | None = None) -> Any:
    """Import a target and return its flow.

    Args:
        target: `module:flow` or `path.py:flow`; a relative path starts from `root`.
        root: a folder to import from, first of all; the working directory by default.

    Raises:
        KitaruUsageError: the target is malformed, cannot be imported, or names no flow.
    """
    from kitaru.flow import Flow  # here: a process that finds a checkpoint can do without

    return find(target, root=root, kind=Flow)


def find(target: str, *, root: str | None = None, kind: type[T]) -> T:
    """Import a target and return what it names.

    Args:
        target: `module:name` or `path.py:name`; a relative path starts from `root`.
        root: a folder to import from, first of all; the working directory by default.
        kind: the class of what is looked for, `Flow` or `Checkpoint`.

    Raises:
        KitaruUsageError: the target is malformed, cannot be imported, or names nothing of the kind.
    """
    noun = kind.__name__.lower()
    place, _, attribute = target.rpartition(":")
    if not place or not attribute or target.startswith("-") or "\0" in target:
        raise KitaruUsageError(
            f"{target!r} is not a target; write 'module:{noun}' or 'path/to/file.py:{noun}'."
        )
    folder = Path(root).absolute() if root is not None else Path.cwd()
    _import_first_from(folder)
    module = _import(place, folder, target)
    found: Any = module
    for part in attribute.split("."):
        found = inspect.getattr_static(found, part, None)
    if not isinstance(found, kind):
        names = [name for name, value in vars(module).items() if isinstance(value, kind)]
        raise KitaruUsageError(
            f"{target!r} names no {noun}. {noun.title()}s in {place}: {', '.join(names) or 'none'}."
        )
    return found


def _import(place: str, folder: Path, target: str) -> ModuleType:
    is_file = place.endswith(".py")
    path = (folder / place).resolve()
    if is_file and not path.is_file():
        raise KitaruUsageError(f"There is no file {path}; check the target's path.")
    token = context.importing.set(target)
    try:
        return _import_file(path, folder.resolve()) if is_file else importlib.import_module(place)
    except BaseException as exc:  # user code runs here: an import can raise anything
        if isinstance(exc, KeyboardInterrupt):
            raise
        raise KitaruUsageError(
            f"Target {target!r} cannot be imported from {folder}: "
            f"{type(exc).__name__}: {str(exc).removesuffix('.')}. "
            "Fix the import, or run from the folder it works in."
        ) from exc
    finally:
        context.importing.reset(token)


def _import_file(path: Path, folder: Path) -> ModuleType:
    parts, root = [path.stem], path.parent
    # The folder the target starts from may itself be a package; what is above is not run.
    while (root / "__init__.py").exists():
        parts.insert(0, root.name)
        is_top = root == folder
        root = root.parent
        if is_top:
            break
    _import_first_from(root)
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
    loader = _Source(name, str(path))
    spec = importlib.util.spec_from_file_location(name, path, loader=loader)
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


class _Source(importlib.machinery.SourceFileLoader):
    """Reads a flow's file itself, never what was compiled of it.

    Bytecode is matched with its source by size and whole seconds, and a file may well be mended,
    and its execution retried, within one.
    """

    def get_code(self, fullname: str) -> CodeType:
        return self.source_to_code(self.get_data(self.path), self.path)


def _import_first_from(folder: Path) -> None:
    # Moved to the front: a module of the same name further on must not win.
    sys.path[:] = [str(folder), *(entry for entry in sys.path if entry != str(folder))]


def _is_file(module: ModuleType, path: Path) -> bool:
    file = getattr(module, "__file__", None)
    return file is not None and Path(file).resolve() == path
