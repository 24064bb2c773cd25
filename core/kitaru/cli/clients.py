"""The MCP clients that `kitaru mcp install` knows: their files and how they start servers.

What is written here about a client is what its documentation says and what was seen of it. Two
facts decide what a server must be told so that SDK, CLI and server agree on a store: whether the
client starts servers in the project's folder, and whether it hands on the environment it was
started with. Nothing here reads or writes a file; `kitaru.cli.merging` changes the text of one.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeAlias

Scope: TypeAlias = Literal["project", "user"]
Format: TypeAlias = Literal["json", "toml"]


@dataclass(frozen=True, slots=True)
class Machine:
    """Whose files they are: the project's folder, the user's, the system and its variables."""

    project: Path
    user: Path
    platform: str
    environ: Mapping[str, str]

    def folder(self, variable: str, default: Path) -> Path:
        """The folder that a variable names, or the default."""
        return Path(self.environ.get(variable) or default)

    def app_data(self) -> Path:
        """Where desktop programs keep their settings."""
        if self.platform == "darwin":
            return self.user / "Library" / "Application Support"
        if self.platform == "win32":
            return self.folder("APPDATA", self.user / "AppData" / "Roaming")
        return self.xdg_config()

    def xdg_config(self) -> Path:
        """Where programs that follow the XDG rules keep their settings, on every system."""
        return self.folder("XDG_CONFIG_HOME", self.user / ".config")


@dataclass(frozen=True, slots=True)
class Client:
    """One MCP client.

    `files` has the file of each scope it has, its default scope first. `servers` says under which
    keys of that file servers stand. `starts_in_project` has the scopes whose servers are started
    in the project's folder; `hands_on` is whether a server sees the variables of the user's shell.
    """

    title: str
    files: Mapping[Scope, Callable[[Machine], Path]]
    servers: Callable[[Mapping[str, Any]], tuple[str, ...]]
    entry: Callable[[Sequence[str], Scope], dict[str, Any]]
    starts_in_project: tuple[Scope, ...]
    hands_on: bool
    then: str
    format: Format = "json"

    @property
    def default_scope(self) -> Scope:
        """The scope when none is named."""
        return next(iter(self.files))


def _under(*keys: str) -> Callable[[Mapping[str, Any]], tuple[str, ...]]:
    return lambda _: keys


def _plain(line: Sequence[str], _: Scope) -> dict[str, Any]:
    return {"command": line[0], "args": [*line[1:]]}


def _typed(line: Sequence[str], scope: Scope) -> dict[str, Any]:
    return {"type": "stdio", **_plain(line, scope)}


def _vscode_entry(line: Sequence[str], scope: Scope) -> dict[str, Any]:
    # Only in a workspace's own file does the variable always stand for a folder.
    cwd = {"cwd": "${workspaceFolder}"} if scope == "project" else {}
    return {**_typed(line, scope), **cwd}


def _opencode_entry(line: Sequence[str], _: Scope) -> dict[str, Any]:
    return {"type": "local", "command": [*line]}


def _opencode_servers(data: Mapping[str, Any]) -> tuple[str, ...]:
    mcp = data.get("mcp")
    inner = mcp.get("servers") if isinstance(mcp, dict) else None
    # Version 2 has them one level deeper. A server that is merely called "servers" has a type.
    is_version_2 = isinstance(inner, dict) and "type" not in inner
    return ("mcp", "servers") if is_version_2 else ("mcp",)


def _opencode_file(folder: Path) -> Path:
    plain, commented = folder / "opencode.json", folder / "opencode.jsonc"
    return commented if commented.exists() and not plain.exists() else plain


def _claude_desktop_file(machine: Machine) -> Path:
    folder = machine.app_data() / "Claude"
    if machine.platform == "win32":
        # As a Windows package it sees a private copy of the roaming folder.
        local = machine.folder("LOCALAPPDATA", machine.user / "AppData" / "Local")
        packaged = sorted((local / "Packages").glob("Claude_*/LocalCache/Roaming/Claude"))
        folder = packaged[0] if packaged else folder
    return folder / "claude_desktop_config.json"


CLIENTS: Mapping[str, Client] = {
    "claude": Client(
        title="Claude Code",
        files={
            "project": lambda on: on.project / ".mcp.json",
            "user": lambda on: on.folder("CLAUDE_CONFIG_DIR", on.user) / ".claude.json",
        },
        servers=_under("mcpServers"),
        entry=_typed,
        starts_in_project=("project", "user"),
        hands_on=True,
        then="start Claude Code again; it asks before it uses a project's servers",
    ),
    "claude-desktop": Client(
        title="Claude Desktop",
        files={"user": _claude_desktop_file},
        servers=_under("mcpServers"),
        entry=_plain,
        starts_in_project=(),
        hands_on=False,
        then="quit Claude Desktop and start it again",
    ),
    "cursor": Client(
        title="Cursor",
        files={
            "project": lambda on: on.project / ".cursor" / "mcp.json",
            "user": lambda on: on.user / ".cursor" / "mcp.json",
        },
        servers=_under("mcpServers"),
        entry=_typed,
        starts_in_project=(),
        hands_on=False,
        then="switch the server on in Cursor's MCP settings",
    ),
    "vscode": Client(
        title="VS Code",
        files={
            "project": lambda on: on.project / ".vscode" / "mcp.json",
            "user": lambda on: on.app_data() / "Code" / "User" / "mcp.json",
        },
        servers=_under("servers"),
        entry=_vscode_entry,
        starts_in_project=("project",),
        hands_on=False,
        then="run 'MCP: List Servers' in VS Code and start the server",
    ),
    "codex": Client(
        title="Codex",
        files={
            "project": lambda on: on.project / ".codex" / "config.toml",
            "user": lambda on: on.folder("CODEX_HOME", on.user / ".codex") / "config.toml",
        },
        servers=_under("mcp_servers"),
        entry=_plain,
        starts_in_project=("project", "user"),
        hands_on=False,
        then="start Codex again; it reads a project's file only in a trusted project",
        format="toml",
    ),
    "gemini": Client(
        title="Gemini CLI",
        files={
            "project": lambda on: on.project / ".gemini" / "settings.json",
            "user": lambda on: on.user / ".gemini" / "settings.json",
        },
        servers=_under("mcpServers"),
        entry=_plain,
        starts_in_project=("project", "user"),
        hands_on=True,
        then="start Gemini CLI again in a trusted folder",
    ),
    "opencode": Client(
        title="OpenCode",
        files={
            "project": lambda on: _opencode_file(on.project),
            "user": lambda on: _opencode_file(on.xdg_config() / "opencode"),
        },
        servers=_opencode_servers,
        entry=_opencode_entry,
        starts_in_project=("project", "user"),
        hands_on=True,
        then="start OpenCode again",
    ),
}
