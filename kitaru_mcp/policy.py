"""What this server may do: whether it may change anything, and which flows it may start.

A flow may be started only from a file under one of the allowed roots, links followed. That is
decided from the target's text and the file system alone; nothing is imported. Whether the target
names a flow shows in the runner that imports it.
"""

from __future__ import annotations

import difflib
import importlib.machinery
import re
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from kitaru.errors import KitaruError, KitaruUsageError

if TYPE_CHECKING:
    from kitaru_mcp.registry import Tool

_DOTTED = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)*")
_MAX_TARGET = 1000
_ROOTS = "the flow roots (kitaru_status lists them; --flow-root adds one)"


class NotAllowed(KitaruError):
    """The server was started without the right to do this."""


@dataclass(frozen=True, slots=True)
class AllowedTarget:
    """A target that may be run, and the root its import starts from."""

    target: str
    root: str


@dataclass(frozen=True, slots=True)
class Policy:
    """The rights a server was started with; `roots` are resolved folders."""

    read_only: bool
    roots: tuple[Path, ...]

    def target(self, target: str) -> AllowedTarget:
        """The target, if its file is under one of the roots; nothing is imported.

        Args:
            target: `path/to/file.py:flow` or `module:flow`, from one of the roots.

        Raises:
            KitaruUsageError: it is malformed, or there is no such file under the roots.
            NotAllowed: its file is not under any root.
        """
        place, _, attribute = target.rpartition(":")
        well_formed = (
            place
            and len(target) <= _MAX_TARGET
            and target.isprintable()
            and not target.startswith("-")
            and _DOTTED.fullmatch(attribute)
        )
        if not well_formed:
            raise KitaruUsageError(
                f"{target[:80]!r} is not a target; write 'path/to/file.py:flow' or 'module:flow'."
            )
        if place.endswith(".py"):
            return self._file(place, attribute)
        return self._module(place, attribute)

    def check_recorded(self, target: str, *, root: str) -> None:
        """Refuse code an execution was started from, unless this server might have started it.

        Args:
            target: the recorded target.
            root: the recorded folder its import starts from.

        Raises:
            NotAllowed: its import would execute a file that is not under one of the roots.
        """
        place = target.rpartition(":")[0]
        try:
            start = Path(root).resolve()
            files = _files_of_recorded(place, start)
        except (OSError, RuntimeError, ValueError):  # a loop of links, or a name no file can have
            raise _outside(place) from None
        for allowed in self.roots:
            starts_here = start.is_relative_to(allowed) or start == _start_of(allowed)
            if files and starts_here and all(file.is_relative_to(allowed) for file in files):
                return
        raise _outside(place)

    def _file(self, place: str, attribute: str) -> AllowedTarget:
        # Whether a file outside exists is nobody's business here: both look the same.
        leaves = Path(place).is_absolute() or ".." in Path(place).parts
        for root in self.roots:
            path = _real_file(root / place)
            if path is not None and path.is_relative_to(root):
                _refuse_outside(_packages(path, root), root, place)
                return AllowedTarget(f"{path}:{attribute}", str(root))
            leaves = leaves or path is not None
        if leaves:
            raise _outside(place)
        raise KitaruUsageError(f"There is no file {place[:80]!r} under {_ROOTS}.")

    def _module(self, place: str, attribute: str) -> AllowedTarget:
        if not _DOTTED.fullmatch(place):
            raise KitaruUsageError(
                f"{place[:80]!r} is neither a module's name nor the path of a .py file."
            )
        for root in self.roots:
            files = [*_files_of_import(root, place.split("."))]
            if files[-1] is not None:
                _refuse_outside(files, root, place)
                _refuse_taken(place, root)
                return AllowedTarget(f"{place}:{attribute}", str(root))
        raise KitaruUsageError(
            f"There is no module {place[:80]!r} under {_ROOTS}. "
            "A target may also be a path: 'path/to/file.py:flow'."
        )


def resolve_roots(folders: Sequence[str]) -> tuple[Path, ...]:
    """The allowed roots with links followed; the working directory when none is named.

    Some clients start servers in the topmost folder. That is no choice of anybody's, and would
    allow every file there is, so it has to be named to be a root.

    Raises:
        KitaruUsageError: one is not a folder.
    """
    roots = tuple(Path(folder).expanduser().resolve() for folder in folders or ["."])
    if not folders and roots[0] == Path(roots[0].anchor):
        return ()
    for folder, root in zip(folders, roots, strict=False):
        if not root.is_dir():
            raise KitaruUsageError(f"--flow-root {folder!r} is not a folder.")
    return roots


def offered_of(
    tools: Sequence[Tool], policy: Policy, *, only: str | None, without: str | None
) -> frozenset[str]:
    """The names of the tools a server offers.

    Args:
        tools: all there are.
        policy: the server's rights.
        only: names with commas between them; None for all.
        without: names to leave out.

    Raises:
        KitaruUsageError: a name is no tool's, or none is left.
    """
    known = [tool.name for tool in tools]
    allowed = {tool.name for tool in tools if tool.effect.read_only or not policy.read_only}
    chosen = _named("--tools", only, known) if only is not None else {*known}
    offered = frozenset(allowed & chosen - _named("--exclude-tools", without or "", known))
    if not offered:
        raise KitaruUsageError("No tool is left to offer; name others, or leave out an option.")
    return offered


def _named(option: str, text: str, known: Sequence[str]) -> set[str]:
    names = {name.strip() for name in text.split(",") if name.strip()}
    for name in sorted(names.difference(known)):
        near = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
        hint = f" Did you mean {near[0]}?" if near else ""
        raise KitaruUsageError(
            f"{option}: there is no tool {name[:60]!r}.{hint} There are: {', '.join(known)}."
        )
    return names


def _files_of_import(root: Path, parts: Sequence[str]) -> Iterator[Path | None]:
    """The files an import would execute, the module's own last; None where there is none."""
    folder = root
    for part in parts[:-1]:
        folder = folder / part
        yield _real_file(folder / "__init__.py")
    # Python prefers a package to a module of the same name.
    package = _real_file(folder / parts[-1] / "__init__.py")
    yield package or _real_file(folder / f"{parts[-1]}.py")


def _files_of_recorded(place: str, start: Path) -> list[Path]:
    """The files an import of recorded code would execute; none where it would be other code."""
    if place.endswith(".py"):
        path = (start / place).resolve()
        return [path, *filter(None, _packages(path, start))]
    files = [*_files_of_import(start, place.split("."))]
    if files[-1] is None or _is_taken(place, start):
        return []
    return [*filter(None, files)]


def _start_of(root: Path) -> Path:
    """Where imports from a root start: a root that is a package itself is imported by its name."""
    return root.parent if _real_file(root / "__init__.py") else root


def _packages(path: Path, root: Path) -> Iterator[Path | None]:
    """The packages a file is in, up to its root: importing it executes them first."""
    for folder in path.parents:
        yield _real_file(folder / "__init__.py")
        if folder == root:
            return


def _refuse_outside(files: Iterable[Path | None], root: Path, place: str) -> None:
    if not all(file is None or file.is_relative_to(root) for file in files):
        raise _outside(place)


def _refuse_taken(place: str, root: Path) -> None:
    if _is_taken(place, root):
        raise KitaruUsageError(
            f"An installed package is called {place.partition('.')[0]!r} too, and Python would "
            "import that one. Give the target as a path: 'path/to/file.py:flow'."
        )


def _is_taken(place: str, root: Path) -> bool:
    """Whether an installed package hides a folder of the same name without `__init__.py`."""
    spec = importlib.machinery.PathFinder.find_spec(place.partition(".")[0], [str(root), *sys.path])
    return bool(spec and spec.origin and not Path(spec.origin).resolve().is_relative_to(root))


def _outside(place: str) -> NotAllowed:
    return NotAllowed(f"{place[:80]!r} is not under {_ROOTS}, so this server may not run it.")


def _real_file(path: Path) -> Path | None:
    try:
        path = path.resolve()
        return path if path.is_file() else None
    except (OSError, RuntimeError):  # a loop of links, or a name no file can have
        return None
