"""`kitaru status`, `info` and `init`: which store and settings hold and why, and a project's own.

Looking never makes a store: `status` and `info` open the file only where there is one.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from kitaru import config
from kitaru.cli import output
from kitaru.cli.command import Answer, Command, open_client
from kitaru.errors import KitaruBackendError, KitaruError
from kitaru.models import ExecutionStatus

if TYPE_CHECKING:
    from kitaru.client import KitaruClient


@click.command("status", cls=Command)
def status() -> Answer:
    """Show the version, and which store is used and why.

    \b
    Example:
      kitaru status -o json
    """
    from kitaru.client.about import facts

    home = config.find_home()
    item = facts(home)
    item["executions"], error = None, None
    item |= {"log_store_status": "not set", "log_store_warning": None}
    if item["exists"]:
        from kitaru.log_store import standing

        try:
            item |= standing(home)
            counts = open_client().executions.status_counts()
            item["executions"] = {each.value: counts.get(each, 0) for each in ExecutionStatus}
        except KitaruError as exc:  # reported after what can be said all the same
            error = exc
    return Answer(json=lambda: {"item": item}, text=lambda: _status_text(item), error=error)


def _status_text(item: dict[str, Any]) -> str:
    pairs = [
        ("SDK version", item["sdk_version"]),
        ("Python version", item["python_version"]),
        ("Store", item["database"]),
        ("Chosen by", item["home_source"]),
        ("Exists", "yes" if item["exists"] else "no (the first execution makes it)"),
        ("Writable", "yes" if item["writable"] else "no"),
        ("Durability", item["durability"]),
        ("SQLite version", item["sqlite_version"]),
        ("Executions", _counted(item["executions"])),
    ]
    if item["log_store_status"] != "not set":
        pairs.append(("Log store", item["log_store_status"]))
    if item["log_store_warning"] is not None:
        pairs.append(("Log store warning", item["log_store_warning"]))
    if item["sqlite_note"] is not None:
        pairs.append(("Note", item["sqlite_note"]))
    return output.fields("Kitaru status", pairs)


def _counted(counts: dict[str, int] | None) -> str:
    if counts is None:
        return "not available"
    return ", ".join(f"{n} {name}" for name, n in counts.items() if n) or "none"


@click.command("info", cls=Command)
def info() -> Answer:
    """Show versions, what the store holds, and every setting with where its value came from.

    \b
    Example:
      kitaru info -o json
    """
    from kitaru import render
    from kitaru.client.about import facts, settings_in_force

    home = config.find_home()
    about = facts(home)
    kept = ("sdk_version", "python_version", "sqlite_version", "sqlite_note")
    item = {key: about[key] for key in kept}
    item["settings"] = {key: each.to_dict() for key, each in settings_in_force(home).items()}
    item["store"] = _store(open_client()) if about["exists"] else None
    return Answer(json=lambda: {"item": render.shown(item)}, text=lambda: _info_text(item))


def _store(client: KitaruClient) -> dict[str, Any]:
    counts = client.executions.status_counts()
    statuses = {each.value: counts.get(each, 0) for each in ExecutionStatus}
    return client.store.facts().to_dict() | {"statuses": statuses}


def _info_text(item: dict[str, Any]) -> str:
    pairs = [
        ("SDK version", item["sdk_version"]),
        ("Python version", item["python_version"]),
        ("SQLite version", item["sqlite_version"]),
    ]
    for name, setting in item["settings"].items():
        value = setting["value"]
        if isinstance(value, bool):
            value = "yes" if value else "no"
        pairs.append((name.replace("_", " ").capitalize(), f"{value} ({setting['source']})"))
    if item["sqlite_note"] is not None:
        pairs.append(("Note", item["sqlite_note"]))
    return output.fields("Kitaru info", pairs + _store_pairs(item["store"]))


def _store_pairs(store: dict[str, Any] | None) -> list[tuple[str, Any]]:
    if store is None:
        return []
    free, wal = output.size(store["free_bytes"]), output.size(store["wal_bytes"])
    rows = ", ".join(
        f"{name} {'many' if count is None else count}" for name, count in store["rows"].items()
    )
    return [
        ("Schema", store["schema"]),
        ("Store size", f"{output.size(store['bytes'])} ({free} of it free, {wal} in the WAL)"),
        ("Executions", _counted(store["statuses"])),
        ("Rows", rows),
    ]


@click.command("init", cls=Command)
def init() -> Answer:
    """Give the working directory a store of its own, kept out of git.

    \b
    Example:
      kitaru init
    """
    project = Path.cwd()
    folder = project / config.PROJECT_FOLDER
    ignore = folder / ".gitignore"
    try:
        created = not folder.is_dir()
        folder.mkdir(mode=0o700, exist_ok=True)
        if not ignore.exists():
            ignore.write_text("*\n", encoding="utf-8")
    except OSError as exc:
        raise KitaruBackendError(
            f"{folder} cannot be made: {exc.strerror}. Make the directory writable, or remove "
            "what has this name."
        ) from exc
    home = config.find_home()
    item = {
        "project": str(project),
        "home": str(folder),
        "created": created,
        "in_use": home.path == folder,
    }
    return Answer(json=lambda: {"item": item}, text=lambda: _init_text(item, home))


def _init_text(item: dict[str, Any], home: config.Home) -> str:
    done = "Initialized" if item["created"] else "Already initialized"
    made = "Created" if item["created"] else "Kept"
    lines = [f"{done} Kitaru project in {item['project']}", f"  {made} {item['home']}"]
    if not item["in_use"]:
        lines.append(f"  Not in use: {home.source} names {home.path}")
    return "\n".join(map(output.line, lines))
