"""`kitaru status` and `kitaru init`: which store is used and why, and a store of a project's own.

Looking never makes a store: `status` opens the file only where there is one.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from kitaru import config
from kitaru.cli import output
from kitaru.cli.command import Answer, Command, open_client
from kitaru.errors import KitaruBackendError, KitaruError
from kitaru.models import ExecutionStatus


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
    if item["exists"]:
        try:
            counts = open_client().executions.status_counts()
            item["executions"] = {each.value: counts.get(each, 0) for each in ExecutionStatus}
        except KitaruError as exc:  # reported after what can be said all the same
            error = exc
    return Answer(json=lambda: {"item": item}, text=lambda: _status_text(item), error=error)


def _status_text(item: dict[str, Any]) -> str:
    counts = item["executions"]
    shown = "not available"
    if counts is not None:
        shown = ", ".join(f"{n} {name}" for name, n in counts.items() if n) or "none"
    pairs = [
        ("SDK version", item["sdk_version"]),
        ("Python version", item["python_version"]),
        ("Store", item["database"]),
        ("Chosen by", item["home_source"]),
        ("Exists", "yes" if item["exists"] else "no (the first execution makes it)"),
        ("Writable", "yes" if item["writable"] else "no"),
        ("Durability", item["durability"]),
        ("SQLite version", item["sqlite_version"]),
        ("Executions", shown),
    ]
    if item["sqlite_note"] is not None:
        pairs.append(("Note", item["sqlite_note"]))
    return output.fields("Kitaru status", pairs)


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
