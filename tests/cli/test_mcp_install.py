"""`kitaru mcp install`: each client's own file, of which nothing else changes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import kitaru
from kitaru.cli import clients, merging
from kitaru.cli.clients import CLIENTS, Machine

SERVER = str(Path(sys.executable).with_name("kitaru-mcp"))
CODEX = merging.Place(CLIENTS["codex"].servers, "kitaru")
JSON_CLIENTS = [name for name, client in CLIENTS.items() if client.format == "json"]


@pytest.fixture
def user(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The user's folder; no variable of a client's leads elsewhere."""
    for variable in ("CLAUDE_CONFIG_DIR", "CODEX_HOME", "XDG_CONFIG_HOME", "XDG_DATA_HOME"):
        monkeypatch.delenv(variable, raising=False)
    folder = tmp_path / "user"
    folder.mkdir()
    monkeypatch.setenv("HOME", str(folder))
    return folder


@pytest.fixture
def project(tmp_path: Path, user: Path, monkeypatch: pytest.MonkeyPatch, home: Path) -> Path:
    """The working directory: a project with a store of its own, and no KITARU_HOME."""
    folder = tmp_path / "project"
    (folder / ".kitaru").mkdir(parents=True)
    monkeypatch.chdir(folder)
    monkeypatch.delenv("KITARU_HOME")
    return folder


def entry_of(item: dict[str, Any]) -> dict[str, Any]:
    """Our entry as the client will read it."""
    client = CLIENTS[item["client"]]
    text = Path(item["path"]).read_text()
    data = tomllib.loads(text) if client.format == "toml" else json.loads(text)
    for key in (*client.servers(data), item["name"]):
        data = data[key]
    return data


# --- what is written, and where -------------------------------------------------------------------


@pytest.mark.parametrize(
    ("client", "file", "text"),
    [
        (
            "claude",
            ".mcp.json",
            '{"mcpServers": {"kitaru": {"type": "stdio", "command": SERVER, "args": []}}}',
        ),
        (
            "cursor",
            ".cursor/mcp.json",
            '{"mcpServers": {"kitaru": {"type": "stdio", "command": SERVER,'
            ' "args": ["--home", STORE, "--flow-root", PROJECT]}}}',
        ),
        (
            "vscode",
            ".vscode/mcp.json",
            '{"servers": {"kitaru": {"type": "stdio", "command": SERVER,'
            ' "args": ["--home", STORE], "cwd": "${workspaceFolder}"}}}',
        ),
        (
            "codex",
            ".codex/config.toml",
            '[mcp_servers.kitaru]\ncommand = SERVER\nargs = ["--home", STORE]\n',
        ),
        (
            "gemini",
            ".gemini/settings.json",
            '{"mcpServers": {"kitaru": {"command": SERVER, "args": []}}}',
        ),
        (
            "opencode",
            "opencode.json",
            '{"mcp": {"kitaru": {"type": "local", "command": [SERVER]}}}',
        ),
    ],
)
def test_a_projects_file_gets_the_clients_own_format(cli, project, client, file, text):
    names = {"SERVER": SERVER, "STORE": str(project / ".kitaru"), "PROJECT": str(project)}
    for name, value in names.items():
        text = text.replace(name, json.dumps(value))
    assert cli.good("mcp", "install", "--client", client).startswith("Added kitaru to ")
    written = (project / file).read_text()
    if file.endswith(".json"):
        assert json.loads(written) == json.loads(text)
        assert written == json.dumps(json.loads(text), indent=2) + "\n"
    else:
        assert written == text


def test_claude_desktop_is_told_of_everything_because_it_starts_servers_anywhere(
    cli, project, user
):
    item = cli.json("mcp", "install", "--client", "claude-desktop").item
    assert item["scope"] == "user"
    assert Path(item["path"]).is_relative_to(user)
    home_and_root = ["--home", str(project / ".kitaru"), "--flow-root", str(project)]
    assert entry_of(item) == {"command": SERVER, "args": home_and_root}


@pytest.mark.parametrize(
    ("client", "scope", "says"),
    [
        ("claude", "project", False),
        ("claude", "user", False),
        ("gemini", "project", False),
        ("opencode", "project", False),
        ("codex", "project", True),
        ("codex", "user", True),
        ("vscode", "project", True),
        ("vscode", "user", True),
        ("cursor", "project", True),
        ("claude-desktop", "user", True),
    ],
)
def test_a_store_from_kitaru_home_is_named_where_the_client_hides_the_variable(
    cli, project, monkeypatch, home, client, scope, says
):
    monkeypatch.setenv("KITARU_HOME", str(home))
    command = cli.json("mcp", "install", "--client", client, "--scope", scope).item["command"]
    assert (command[1:3] == ["--home", str(home)]) is says


@pytest.mark.parametrize("client", ["claude", "codex", "gemini", "opencode"])
def test_the_store_of_one_folder_does_not_become_that_of_all_projects(cli, project, client):
    item = cli.json("mcp", "install", "--client", client, "--scope", "user").item
    assert item["command"] == [SERVER]


def test_what_is_given_is_handed_on_in_full(cli, project, monkeypatch):
    (project / "flows").mkdir()
    item = cli.json(
        *("mcp", "install", "--client", "claude", "--home", "kept-here", "--flow-root", "flows"),
        *("--flow-root", str(project), "--read-only", "--name", "my-runs"),
    ).item
    roots = ["--flow-root", str(project / "flows"), "--flow-root", str(project)]
    assert item["command"] == [SERVER, "--home", str(project / "kept-here"), *roots, "--read-only"]
    assert entry_of(item)["args"] == item["command"][1:]
    assert [*json.loads(Path(item["path"]).read_text())["mcpServers"]] == ["my-runs"]


def test_the_module_is_run_where_there_is_no_script(cli, project, tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))
    item = cli.json("mcp", "install", "--client", "claude").item
    assert item["command"] == [str(tmp_path / "python"), "-m", "kitaru_mcp.server"]


def test_the_command_written_starts_this_server(cli, project):
    item = cli.json("mcp", "install", "--client", "claude-desktop", "--read-only").item
    # The options before it are read first, and refused where the server does not have them.
    version = [*item["command"], "--version"]
    told = subprocess.run(version, capture_output=True, text=True, timeout=60)
    assert (told.returncode, told.stdout) == (0, f"kitaru-mcp {kitaru.__version__}\n")


@pytest.mark.parametrize(
    ("client", "scope", "platform", "environ", "path"),
    [
        ("claude", "user", "linux", {}, "/u/.claude.json"),
        ("claude", "user", "linux", {"CLAUDE_CONFIG_DIR": "/c"}, "/c/.claude.json"),
        ("claude-desktop", "user", "linux", {}, "/u/.config/Claude/claude_desktop_config.json"),
        (
            "claude-desktop",
            "user",
            "darwin",
            {"XDG_CONFIG_HOME": "/x"},
            "/u/Library/Application Support/Claude/claude_desktop_config.json",
        ),
        (
            "claude-desktop",
            "user",
            "win32",
            {"APPDATA": "/a"},
            "/a/Claude/claude_desktop_config.json",
        ),
        ("cursor", "user", "linux", {}, "/u/.cursor/mcp.json"),
        ("vscode", "user", "linux", {"XDG_CONFIG_HOME": "/x"}, "/x/Code/User/mcp.json"),
        (
            "vscode",
            "user",
            "darwin",
            {},
            "/u/Library/Application Support/Code/User/mcp.json",
        ),
        ("codex", "user", "linux", {}, "/u/.codex/config.toml"),
        ("codex", "user", "linux", {"CODEX_HOME": "/c"}, "/c/config.toml"),
        ("gemini", "user", "linux", {}, "/u/.gemini/settings.json"),
        ("opencode", "user", "darwin", {}, "/u/.config/opencode/opencode.json"),
    ],
)
def test_the_users_own_file_is_found_on_every_system(client, scope, platform, environ, path):
    machine = Machine(Path("/p"), Path("/u"), platform, environ)
    assert str(CLIENTS[client].files[scope](machine)) == path


def test_claude_desktop_as_a_windows_package_reads_its_private_folder(tmp_path):
    private = tmp_path / "Packages" / "Claude_x1" / "LocalCache" / "Roaming" / "Claude"
    private.mkdir(parents=True)
    machine = Machine(tmp_path, tmp_path, "win32", {"LOCALAPPDATA": str(tmp_path)})
    file = CLIENTS["claude-desktop"].files["user"](machine)
    assert file == private / "claude_desktop_config.json"


def test_opencodes_commented_file_is_used_where_it_is_the_only_one(cli, project):
    (project / "opencode.jsonc").write_text("{}")
    assert cli.json("mcp", "install", "--client", "opencode").item["path"].endswith(".jsonc")


def test_opencodes_second_version_gets_its_own_shape(cli, project):
    (project / "opencode.json").write_text('{"mcp": {"servers": {}}}')
    item = cli.json("mcp", "install", "--client", "opencode").item
    assert entry_of(item) == {"type": "local", "command": [SERVER]}
    data = json.loads((project / "opencode.json").read_text())
    assert [*data["mcp"]] == ["servers"]


@pytest.mark.parametrize("client", CLIENTS)
def test_print_shows_what_would_be_written_and_writes_nothing(cli, project, user, client):
    shown = cli.json("mcp", "install", "--client", client, "--print").item
    text = cli.good("mcp", "install", "--client", client, "--print")
    assert text == f"{shown['path']}\n\n{shown['snippet']}"
    assert [path.name for path in project.iterdir()] == [".kitaru"]
    assert [*user.iterdir()] == []
    cli.good("mcp", "install", "--client", client)
    assert Path(shown["path"]).read_text() == shown["snippet"]


# --- what is there already ------------------------------------------------------------------------


@pytest.mark.parametrize("client", CLIENTS)
def test_a_second_install_finds_it_there_and_touches_nothing(cli, project, client):
    first = cli.json("mcp", "install", "--client", client).item
    path = Path(first["path"])
    before = path.read_bytes(), path.stat().st_ino, path.stat().st_mtime_ns
    second = cli.json("mcp", "install", "--client", client).item
    assert (first["action"], second["action"]) == ("added", "unchanged")
    assert (path.read_bytes(), path.stat().st_ino, path.stat().st_mtime_ns) == before
    assert cli.good("mcp", "install", "--client", client).startswith("Already there: kitaru in ")


@pytest.mark.parametrize("client", CLIENTS)
def test_one_that_differs_is_replaced_and_that_is_said(cli, project, client):
    cli.good("mcp", "install", "--client", client)
    assert cli.good("mcp", "install", "--client", client, "--read-only").startswith("Replaced ")
    item = cli.json("mcp", "install", "--client", client, "--read-only").item
    assert item["action"] == "unchanged"
    assert "--read-only" in json.dumps(entry_of(item))


def test_all_that_belongs_to_others_stays_as_it_was(cli, project):
    path = project / ".mcp.json"
    path.write_text(
        '{\n\t"zeta": [1.5, "\\ud83d"],\n\t"mcpServers": {\n\t\t"other": {"url": "é"},\n'
        '\t\t"kitaru": {"command": "old", "args": ["x"], "env": {"KEY": "1"}}\n\t}\n}',
        newline="\r\n",
    )
    assert cli.json("mcp", "install", "--client", "claude").item["action"] == "replaced"
    written = path.read_bytes().decode()
    assert json.loads(written) == {
        "zeta": [1.5, "\ud83d"],
        "mcpServers": {
            "other": {"url": "é"},
            "kitaru": {"command": SERVER, "args": [], "env": {"KEY": "1"}, "type": "stdio"},
        },
    }
    assert written.startswith('{\r\n\t"zeta": [\r\n')
    assert '"é"' in written
    assert written.endswith("}")


def test_a_server_of_another_kind_leaves_nothing_behind(cli, project):
    (project / ".mcp.json").write_text('{"mcpServers": {"kitaru": {"type": "http", "url": "x"}}}')
    item = cli.json("mcp", "install", "--client", "claude").item
    assert item["action"] == "replaced"
    assert entry_of(item) == {"type": "stdio", "command": SERVER, "args": []}
    assert "\n" not in (project / ".mcp.json").read_text()


@pytest.mark.parametrize("client", JSON_CLIENTS)
@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"{\n  // mine\n}", "is not plain JSON"),
        (b'{"a": 1,}', "is not plain JSON"),
        (b'{"a": 1, "a": 2}', "the same key twice"),
        (b'{"a": NaN}', "NaN"),
        (b"\xef\xbb\xbf{}", "is not plain JSON"),
        (b"[]", "no object"),
        (b"\xff", "is not UTF-8"),
        (b"[" * 100_000, "is not plain JSON"),
        (b'{"a": 1e999}', "cannot be written anew"),
    ],
)
def test_json_that_cannot_be_kept_is_refused_with_what_to_paste(
    cli, project, client, content, reason
):
    path = Path(cli.json("mcp", "install", "--client", client, "--print").item["path"])
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    refused = cli.json("mcp", "install", "--client", client)
    assert refused.code == 1
    assert refused.error["type"] == "KitaruUsageError"
    assert str(path) in refused.error["message"]
    assert reason in refused.error["message"]
    pasted = json.loads(refused.error["message"].partition("\n\n")[2])
    assert "kitaru" in json.dumps(pasted)
    assert path.read_bytes() == content
    assert [
        each.name for each in path.parent.iterdir() if each.name.startswith(f".{path.name}")
    ] == []


@pytest.mark.parametrize("servers", ["[]", '"x"', "null", "1"])
def test_servers_that_are_no_object_are_refused(cli, project, servers):
    (project / ".mcp.json").write_text(f'{{"mcpServers": {servers}}}')
    refused = cli.json("mcp", "install", "--client", "claude")
    assert refused.code == 1
    assert "mcpServers is" in refused.error["message"]


def test_an_empty_file_is_as_good_as_none(cli, project):
    (project / ".mcp.json").write_text(" \n")
    assert cli.json("mcp", "install", "--client", "claude").item["action"] == "added"


# --- TOML -----------------------------------------------------------------------------------------

BEFORE = """\
# my settings
model = "x"   # keep me

[mcp_servers.other]
command = "o"

"""
AFTER = """
[profiles.a]
text = '''
[mcp_servers.kitaru]
'''
"""


@pytest.mark.parametrize(
    "header", ["[mcp_servers.kitaru]", ' [ mcp_servers . "kitaru" ] # our own']
)
@pytest.mark.parametrize("newline", ["\n", "\r\n"])
def test_toml_changes_in_our_table_only(header, newline):
    ours = f"""\
{header}
# how it starts
args = [
  "old", # why
  "[x]",
]
command = "old"
env.KEY = '''
args = 1
'''
startup_timeout_sec = 20
[mcp_servers.kitaru.tools.a]
command = "mine"
"""
    text = (BEFORE + ours + AFTER).replace("\n", newline)
    merged = merging.merge_toml(text, CODEX, {"command": "new", "args": ["a\\b", 'q"']})
    expected = f"""\
{header}
command = "new"
args = ["a\\\\b", "q\\""]
# how it starts
env.KEY = '''
args = 1
'''
startup_timeout_sec = 20
[mcp_servers.kitaru.tools.a]
command = "mine"
"""
    assert merged.action == "replaced"
    assert merged.text == (BEFORE + expected + AFTER).replace("\n", newline)


@pytest.mark.parametrize(
    ("text", "between"),
    [
        ("", ""),
        ("a = 1\n", "\n"),
        ("a = 1", "\n\n"),
        ("[mcp_servers.kitaru.env]\nA = '1'\n", "\n"),
    ],
)
def test_a_new_toml_table_is_put_at_the_end(text, between):
    merged = merging.merge_toml(text, CODEX, {"command": "c", "args": []})
    assert merged.text == f'{text}{between}[mcp_servers.kitaru]\ncommand = "c"\nargs = []\n'


@pytest.mark.parametrize(
    "text",
    [
        "mcp_servers = {kitaru = {command = 'x'}}\n",
        "mcp_servers.kitaru.command = 'x'\n",
        "[mcp_servers]\nkitaru = {command = 'x'}\n",
        "mcp_servers = {}\n",
        "mcp_servers = 1\n",
        "mcp_servers = [{}]\n",
        "text = '''\n[mcp_servers.kitaru]\n'''\n[mcp_servers.kitaru]\ncommand = 'x'\n",
        "broken",
    ],
)
def test_toml_that_cannot_be_kept_is_refused_with_what_to_paste(cli, project, text):
    path = project / ".codex" / "config.toml"
    path.parent.mkdir()
    path.write_text(text)
    refused = cli.json("mcp", "install", "--client", "codex")
    assert refused.code == 1
    assert path.read_text() == text
    pasted = refused.error["message"].partition("\n\n")[2]
    assert tomllib.loads(pasted)["mcp_servers"]["kitaru"]["command"] == SERVER


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)
entries = st.dictionaries(st.sampled_from(["command", "args", "env"]), values)


@given(
    others=st.dictionaries(st.text(), values, max_size=3),
    servers=st.dictionaries(st.sampled_from(["kitaru", "other"]), values | entries),
    indent=st.sampled_from([None, 1, 2, 4, "\t"]),
)
def test_in_any_json_only_our_entry_changes(others, servers, indent):
    data = {**others, "mcpServers": servers}
    place = merging.Place(CLIENTS["claude"].servers, "kitaru")
    entry = {"command": "c", "args": ["a"]}
    merged = merging.merge_json(json.dumps(data, indent=indent), place, entry)
    result = json.loads(merged.text)
    assert result["mcpServers"].pop("kitaru").items() >= entry.items()
    servers.pop("kitaru", None)
    assert result == data
    assert merging.merge_json(merged.text, place, entry).action == "unchanged"


# --- the file itself ------------------------------------------------------------------------------


def test_a_files_mode_is_kept_and_a_link_still_leads_to_it(cli, project, user):
    real = project / "dotfiles.json"
    real.write_text("{}")
    real.chmod(0o640)
    (project / ".mcp.json").symlink_to(real)
    cli.good("mcp", "install", "--client", "claude")
    assert (project / ".mcp.json").is_symlink()
    assert "mcpServers" in real.read_text()
    assert real.stat().st_mode & 0o777 == 0o640


def test_where_nothing_can_be_written_nothing_is_left_behind(cli, project, monkeypatch):
    (project / ".mcp.json").write_text("{}")

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    refused = cli.json("mcp", "install", "--client", "claude")
    assert refused.code == 1
    assert "No space left" in refused.error["message"]
    assert sorted(path.name for path in project.iterdir()) == [".kitaru", ".mcp.json"]
    assert (project / ".mcp.json").read_text() == "{}"


# --- command lines that cannot be right -----------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        ([], 2, "--client"),
        (["--client", "emacs"], 2, "emacs"),
        (["--client", "claude-desktop", "--scope", "project"], 1, "leave --scope away"),
        (["--client", "claude", "--name", "a b"], 1, "--name 'a b'"),
        (["--client", "codex", "--name", "a.b"], 1, "--name 'a.b'"),
        (["--client", "claude", "--name", ""], 1, "--name ''"),
        (["--client", "claude", "--flow-root", "nowhere"], 1, "'nowhere' is not a folder"),
        (["--client", "claude", "--home", " "], 1, "not a folder"),
    ],
)
def test_what_cannot_be_right_is_refused_and_writes_nothing(cli, project, arguments, code, says):
    refused = cli.json("mcp", "install", *arguments)
    assert refused.code == code
    assert says in refused.error["message"]
    assert [path.name for path in project.iterdir()] == [".kitaru"]


def test_every_client_can_be_named_and_says_what_to_do_next(cli, project):
    assert set(clients.CLIENTS) == {
        *("claude", "claude-desktop", "cursor", "vscode", "codex", "gemini", "opencode"),
    }
    for name, client in CLIENTS.items():
        assert f"Next: {client.then}" in cli.good("mcp", "install", "--client", name)
