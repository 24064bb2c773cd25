"""From a target, `module:flow` or `path.py:flow`, to its flow.

What a target names must be a flow; importing its module is the only effect. `definition` goes
the other way.
"""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

from kitaru import codec, context
from kitaru.errors import KitaruUsageError
from kitaru.flow import Flow


def load(target: str, *, root: str | None = None) -> Any:
    """Import a target and return its flow.

    Args:
        target: `module:flow` or `path.py:flow`; a relative path starts from `root`.
        root: a folder to import from, first of all; the working directory by default.

    Raises:
        KitaruUsageError: the target is malformed, cannot be imported, or names no flow.
    """
    place, _, attribute = target.rpartition(":")
    if not place or not attribute or target.startswith("-") or "\0" in target:
        raise KitaruUsageError(
            f"{target!r} is not a target; write 'module:flow' or 'path/to/file.py:flow'."
        )
    folder = Path(root).absolute() if root is not None else Path.cwd()
    _import_first_from(folder)
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


def _import_first_from(folder: Path) -> None:
    # Moved to the front: a module of the same name further on must not win.
    sys.path[:] = [str(folder), *(entry for entry in sys.path if entry != str(folder))]


def _is_file(module: ModuleType, path: Path) -> bool:
    file = getattr(module, "__file__", None)
    return file is not None and Path(file).resolve() == path
