"""The options of a run, and where each value came from.

The first of these that names a value wins: the run, `@flow`, `configure`, `KITARU_*`,
`[tool.kitaru]` of the nearest pyproject.toml upward from the working directory, the default. `None`
means "not set here". All of them are checked each time, the hidden ones too, so a wrong value never
waits for its day. Nothing here opens the store: the caller asks it whether a stack exists.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from types import MappingProxyType
from typing import Any, Generic, NoReturn, TypeAlias, TypeVar

from kitaru import clock, config
from kitaru.errors import KitaruUsageError
from kitaru.frozen import Model

T = TypeVar("T")

PROJECT_FILE = "pyproject.toml"
#: A file that was changed so long ago, in nanoseconds, looks another one when it changes again.
_SETTLED_NS = 1_000_000_000

_CHECKS: Mapping[str, tuple[Callable[[Any], bool], str]] = {
    "retries": (lambda value: type(value) is int and value >= 0, "a whole number >= 0"),
    "cache": (lambda value: type(value) is bool, "true or false"),
    "stack": (
        lambda value: isinstance(value, str) and value.strip() == value != "",
        "the name of a stack",
    ),
}
_NOTHING: Mapping[str, Any] = MappingProxyType({})
_configured: dict[str, Any] = {}


@dataclass(frozen=True, slots=True)
class Setting(Model, Generic[T]):
    """A value, and where it came from in a reader's words."""

    value: T
    source: str


@dataclass(frozen=True, slots=True)
class Settings(Model):
    """The options that one run has."""

    retries: Setting[int]
    cache: Setting[bool]
    stack: Setting[str]


#: The settings that somebody names.
Named: TypeAlias = Mapping[str, Setting[Any]]


class Unset(Enum):
    """What an argument is that was not given, where `None` means something."""

    UNSET = "unset"


def configure(
    *,
    stack: str | Unset | None = Unset.UNSET,
    cache: bool | Unset | None = Unset.UNSET,
    retries: int | Unset | None = Unset.UNSET,
) -> None:
    """Set defaults for all runs that this process starts from now on.

    They yield to what a run or its `@flow` says, and win over `KITARU_*` and pyproject.toml.
    `None` takes a default back; what is not given stays as it is.

    Args:
        stack: the stack to run on.
        cache: whether checkpoints may take the result of an earlier equal call.
        retries: how often a failed run is driven again.

    Raises:
        KitaruUsageError: a value cannot be right; then none of them is set.

    Example:
        >>> import kitaru
        >>> kitaru.configure(retries=2, cache=True)
        >>> kitaru.configure(retries=None, cache=None)
        >>> kitaru.configure(retries=-1)
        Traceback (most recent call last):
        ...
        kitaru.errors.KitaruUsageError: configure(): retries is -1; it must be a whole number >= 0.
    """
    arguments = {"stack": stack, "cache": cache, "retries": retries}
    given = {name: value for name, value in arguments.items() if value is not Unset.UNSET}
    checked("configure()", given)
    _configured.update(given)


def checked(owner: str, values: Mapping[str, Any]) -> dict[str, Any]:
    """The settings that have a value, once all of them can be right.

    Args:
        owner: who names them, as an error says it.
        values: setting -> value; `None` is no value.

    Raises:
        KitaruUsageError: there is no such setting, or a value cannot be right.
    """
    for name, value in values.items():
        if name not in _CHECKS:
            raise KitaruUsageError(
                f"{owner}: there is no setting {name!r:.60}; there are {', '.join(_CHECKS)}."
            )
        fits, allowed = _CHECKS[name]
        if value is not None and not fits(value):
            raise KitaruUsageError(f"{owner}: {name} is {value!r:.60}; it must be {allowed}.")
    return {name: value for name, value in values.items() if value is not None}


def resolve(
    *,
    active_stack: str,
    flow_name: str | None = None,
    flow: Mapping[str, Any] = _NOTHING,
    run: Mapping[str, Any] = _NOTHING,
) -> Settings:
    """The options of a run; without a flow, those that a run has which names none itself.

    Args:
        active_stack: the store's active stack.
        flow_name: the flow's name.
        flow: what its `@flow` names.
        run: what the run itself names.

    Raises:
        KitaruUsageError: a value cannot be right, or pyproject.toml cannot be read.

    Example:
        >>> from kitaru.settings import resolve
        >>> found = resolve(active_stack="local", flow_name="agent", flow={"retries": 2})
        >>> found.retries
        Setting(value=2, source='@flow agent')
        >>> found.cache
        Setting(value=False, source='default')
    """
    return settle(named(flow_name=flow_name, flow=flow, run=run), active_stack=active_stack)


def named(
    *,
    flow_name: str | None = None,
    flow: Mapping[str, Any] = _NOTHING,
    run: Mapping[str, Any] = _NOTHING,
) -> Named:
    """The part of `resolve` that reads files and needs no store: what is named anywhere."""
    return (
        _project()
        | _environment()
        | _from("configure()", _configured)
        | _from(f"@flow {flow_name}", flow)
        | _from("run", run)
    )


def settle(named: Named, *, active_stack: str) -> Settings:
    """The rest of `resolve`: defaults where nothing is named."""
    defaults: Named = {
        "retries": Setting(0, "default"),
        "cache": Setting(False, "default"),
        "stack": Setting(active_stack, "active stack"),
    }
    return Settings(**{**defaults, **named})


def _from(owner: str, values: Mapping[str, Any]) -> dict[str, Setting[Any]]:
    return {name: Setting(value, owner) for name, value in checked(owner, values).items()}


def _environment() -> dict[str, Setting[Any]]:
    return {
        **_from("KITARU_RETRIES", {"retries": _number(os.environ.get("KITARU_RETRIES"))}),
        **_from("KITARU_CACHE", {"cache": config.env_flag("KITARU_CACHE")}),
        **_from("KITARU_STACK", {"stack": os.environ.get("KITARU_STACK")}),
    }


def _number(text: str | None) -> int | str | None:
    try:
        return text if text is None else int(text)
    except ValueError:
        return text  # refused as it stands, with what is allowed


def _project() -> dict[str, Setting[Any]]:
    path = _nearest_project_file()
    if path is None:
        return {}
    try:
        found = path.stat()
    except OSError as exc:
        _refuse_file(path, exc.strerror)
    settled = clock.now_us() * 1000 - found.st_mtime_ns > _SETTLED_NS
    read = _read_project if settled else _read_project.__wrapped__
    return read(path, (found.st_ino, found.st_mtime_ns, found.st_size))


@functools.lru_cache(maxsize=8)
def _read_project(path: Path, mark: tuple[int, int, int]) -> dict[str, Setting[Any]]:
    """The settings in a project's file, which is another one where its mark is."""
    owner = f"{path} [tool.kitaru]"
    table: Any = _read_toml(path)
    for key in ("tool", "kitaru"):
        table = table.get(key, {}) if isinstance(table, dict) else table
    if not isinstance(table, dict):
        raise KitaruUsageError(f"{owner} is {table!r:.60}; it must be a table.")
    values = checked(owner, table)
    return {name: Setting(value, f"{owner} {name}") for name, value in values.items()}


def _nearest_project_file() -> Path | None:
    try:
        here = Path.cwd()
    except FileNotFoundError:
        return None  # a directory that was removed is in no project
    paths = (folder / PROJECT_FILE for folder in (here, *here.parents))
    return next(filter(os.path.isfile, paths), None)


def _read_toml(path: Path) -> dict[str, Any]:
    import tomllib

    try:
        return tomllib.loads(path.read_bytes().decode())
    except (OSError, ValueError, RecursionError) as exc:
        _refuse_file(path, exc.strerror if isinstance(exc, OSError) else exc)


def _refuse_file(path: Path, reason: object) -> NoReturn:
    raise KitaruUsageError(
        f"{path} cannot be read as TOML: {reason}. Kitaru looks there for [tool.kitaru]; "
        "correct the file."
    ) from None
