"""`kitaru mcp install`: make the MCP server known to a coding assistant.

Writes the client's own file in the client's own format, changes nothing in it but the one entry,
and writes nothing at all where that cannot be promised or where the entry is there already. The
entry names the server by its full path, because clients do not share a shell's path.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from kitaru import config
from kitaru.cli import files, output
from kitaru.cli.clients import CLIENTS, Client, Machine, Scope
from kitaru.cli.command import Answer, Group
from kitaru.errors import KitaruUsageError

if TYPE_CHECKING:
    from kitaru.cli.merging import Merged

_NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")
_DONE = {
    "added": "Added {name} to {title}",
    "replaced": "Replaced {name} in {title}",
    "unchanged": "Already there: {name} in {title}",
}


@click.group("mcp", cls=Group)
def group() -> None:
    """Connect coding assistants.

    \b
    Example:
      kitaru mcp install --client claude
    """


@group.command("install")
@click.option("--client", required=True, type=click.Choice([*CLIENTS]), help="Which assistant.")
@click.option(
    "--scope",
    type=click.Choice(["project", "user"]),
    help="This folder's file, or the user's own; project where the client has one.",
)
@click.option("--home", help="The store's folder; by default as `kitaru status` finds it.")
@click.option(
    "--flow-root",
    "flow_roots",
    multiple=True,
    help="A folder whose flows may be run; repeatable; by default this folder.",
)
@click.option("--read-only", is_flag=True, help="Offer only tools that change nothing.")
@click.option("--name", default="kitaru", show_default=True, help="The server's name there.")
@click.option("--print", "shows", is_flag=True, help="Show what to write, and write nothing.")
def install(
    *,
    client: str,
    scope: Scope | None,
    home: str | None,
    flow_roots: Sequence[str],
    read_only: bool,
    name: str,
    shows: bool,
) -> Answer:
    """Make Kitaru's MCP server known to a coding assistant.

    \b
    Example:
      kitaru mcp install --client cursor --print
    """
    known = CLIENTS[client]
    chosen = _scope(known, scope)
    line = _server()
    line += _arguments(known, chosen, home=home, flow_roots=flow_roots)
    line += ["--read-only"] if read_only else []
    _check(name, line)
    machine = Machine(Path.cwd(), Path.home(), sys.platform, os.environ)
    path = known.files[chosen](machine)
    entry = known.entry(line, chosen)
    snippet = _merge("", known, name, entry=entry).text
    action = "shown" if shows else _install(path, known, name, entry=entry)
    item = {
        "client": client,
        "scope": chosen,
        "path": str(path),
        "name": name,
        "action": action,
        "command": line,
        "snippet": snippet,
    }
    return Answer(json=lambda: {"item": item}, text=lambda: _text(item, known))


def _scope(client: Client, scope: Scope | None) -> Scope:
    if scope is not None and scope not in client.files:
        raise KitaruUsageError(
            f"{client.title} has no {scope} file; leave --scope away, or name "
            f"{client.default_scope}."
        )
    return scope or client.default_scope


def _server() -> list[str]:
    """The command that starts the server of this installation."""
    # The interpreter's own folder, not that of the link's target: an environment's scripts.
    script = Path(sys.executable).with_name(
        "kitaru-mcp.exe" if sys.platform == "win32" else "kitaru-mcp"
    )
    return [str(script)] if script.is_file() else [sys.executable, "-m", "kitaru_mcp.server"]


def _arguments(
    client: Client, scope: Scope, *, home: str | None, flow_roots: Sequence[str]
) -> list[str]:
    """What the server must be told, so that it finds the store and the flows that the CLI finds."""
    found = config.find_home(home)
    in_project = scope in client.starts_in_project
    # The store of one folder must not become that of all projects.
    holds_here = found.source.startswith("project folder") and scope == "project"
    is_unseen = not client.hands_on and (found.source == "KITARU_HOME" or holds_here)
    names_home = home is not None or not in_project or is_unseen
    roots = [_root(each) for each in flow_roots]
    if not in_project:
        roots = roots or [Path.cwd()]
    line = ["--home", str(found.path)] if names_home else []
    return line + [part for root in roots for part in ("--flow-root", str(root))]


def _root(folder: str) -> Path:
    path = Path(folder).expanduser().absolute()
    if not path.is_dir():
        raise KitaruUsageError(f"--flow-root {folder!r} is not a folder.")
    return path


def _check(name: str, line: Sequence[str]) -> None:
    if not _NAME.fullmatch(name):
        raise KitaruUsageError(
            f"--name {name!r:.80} cannot be a server's name; use up to 64 letters, digits, - and _."
        )
    for part in line:
        try:
            part.encode()
        except UnicodeEncodeError:
            raise KitaruUsageError(
                f"{part!a} is not UTF-8 text, so no client can be told of it. Rename the folder."
            ) from None


def _merge(text: str, client: Client, name: str, *, entry: dict[str, Any]) -> Merged:
    from kitaru.cli import merging

    merge = merging.merge_toml if client.format == "toml" else merging.merge_json
    return merge(text, merging.Place(client.servers, name), entry)


def _install(path: Path, client: Client, name: str, *, entry: dict[str, Any]) -> str:
    """Write the entry into the client's file; says what had to be done."""
    from kitaru.cli.merging import CannotMergeError

    try:
        text = path.read_bytes().decode() if path.exists() else ""
        merged = _merge(text, client, name, entry=entry)
    except (UnicodeDecodeError, CannotMergeError) as exc:
        reason = exc if isinstance(exc, CannotMergeError) else "is not UTF-8 text"
        raise KitaruUsageError(
            f"{path} {reason}. It was left as it is. Correct it and try again, or put this into "
            f"it yourself:\n\n{_merge('', client, name, entry=entry).text.rstrip()}"
        ) from None
    if merged.action != "unchanged":
        files.replace(path, merged.text)
    return merged.action


def _text(item: dict[str, Any], client: Client) -> str:
    if item["action"] == "shown":
        return f"{output.line(item['path'])}\n\n{item['snippet']}".rstrip()
    title = _DONE[item["action"]].format(name=item["name"], title=client.title)
    pairs = [("File", item["path"]), ("Command", " ".join(item["command"]))]
    if item["action"] != "unchanged":
        pairs.append(("Next", client.then))
    return output.fields(title, pairs)
