"""Everything that is wrong with a store, in and around its file: `client.store.examine`.

Looking makes no store and changes nothing. Repairs are those that are always safe; each is told.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

from kitaru import config, vault
from kitaru.client.upkeep import Progress
from kitaru.errors import KitaruBackendError, KitaruCorruptionError, KitaruError
from kitaru.store import Store, doctor, executions, maintenance
from kitaru.upkeep import Finding

#: A WAL that is larger was kept from being folded into the file.
_LARGE_WAL = 128 * 1024 * 1024
_REPAIRED_INSIDE = ("orphaned_wait", "orphaned_chunk", "wrong_counts")


def examine(
    open_: Callable[[], Store],
    home: config.Home,
    *,
    full: bool,
    repair: bool,
    progress: Progress | None,
) -> list[Finding]:
    """What is wrong; with `repair`, after what can be put right was."""
    if not home.database.exists():
        return []
    found = [_tightened(each) if repair else each for each in _permissions(home)]
    try:
        store = open_()
    except KitaruError as exc:
        return [*found, _refused(home.database, exc)]
    if store.hindrance is not None:
        message = f"The store can be read, but not written: {store.hindrance.reason}."
        advice = f"To go on, {store.hindrance.advice}."
        found.append(Finding("read_only", str(home.path), message, advice))
    size = maintenance.wal_bytes(home.database)
    if size > _LARGE_WAL:
        message = f"The WAL has {size} bytes: somebody has been reading one state for very long."
        advice = "End processes that have the store open without need; the next write shrinks it."
        found.append(Finding("large_wal", f"{home.database}-wal", message, advice))
    inside = doctor.examine(store, full=full, progress=progress)
    if repair and not store.read_only and any(_is_repaired(each) for each in inside):
        doctor.repair(store, counts=any(each.code == "wrong_counts" for each in inside))
        inside = [replace(each, repaired=_is_repaired(each)) for each in inside]
    logs = [_removed(each) if repair else each for each in _leftover_logs(store, home)]
    return [*found, *inside, *logs]


def _is_repaired(finding: Finding) -> bool:
    return finding.code in _REPAIRED_INSIDE


def _refused(path: Path, exc: KitaruError) -> Finding:
    if isinstance(exc, KitaruCorruptionError):
        return Finding("damaged", str(path), str(exc), "Restore it from a backup.")
    version = doctor.newer_schema(path) if isinstance(exc, KitaruBackendError) else None
    if version is not None:
        message = f"The store has schema {version}, which a newer Kitaru wrote."
        return Finding("newer_schema", str(path), message, "Upgrade kitaru-mcp.")
    return Finding("unusable", str(path), str(exc), "See `kitaru status` for which store is used.")


def _permissions(home: config.Home) -> Iterator[Finding]:
    if os.name != "posix":
        return
    runners = home.path / config.RUNNER_LOGS
    files = [Path(f"{home.database}{end}") for end in ("", "-wal", "-shm", ".lock")]
    files.append(vault.path_in(home.path))
    for path in (home.path, *files, runners, *sorted(runners.glob("*.log"))):
        try:
            mode = stat.S_IMODE(path.stat().st_mode)
        except FileNotFoundError:
            continue
        if mode & 0o077:
            wanted = mode & 0o700
            message = f"Others than its owner may use it: its permissions are {mode:04o}."
            yield Finding("permissions", str(path), message, f"chmod {wanted:04o} '{path}'")


def _tightened(finding: Finding) -> Finding:
    path = Path(finding.id)
    try:
        # Its owner's own stay: a store that was made read-only remains so.
        path.chmod(path.stat().st_mode & 0o700)
    except PermissionError:  # its owner has to
        return finding
    return replace(finding, repaired=True)


def _leftover_logs(store: Store, home: config.Home) -> Iterator[Finding]:
    for path in sorted((home.path / config.RUNNER_LOGS).glob("*.log")):
        with store.snapshot() as conn:
            is_known = executions.exists(conn, path.stem)
        if not is_known:
            message = "It is of an execution that is not there any more."
            yield Finding(
                "leftover_log", str(path), message, "`kitaru doctor --repair` removes it."
            )


def _removed(finding: Finding) -> Finding:
    try:
        Path(finding.id).unlink(missing_ok=True)
    except PermissionError:
        return finding
    return replace(finding, repaired=True)
