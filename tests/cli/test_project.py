"""`kitaru status`, `kitaru info` and `kitaru init`."""

from __future__ import annotations

import os
import platform
import re
import sqlite3
import stat
from pathlib import Path

import pytest

from kitaru import config
from kitaru.client.about import facts
from kitaru.store import schema
from kitaru.version import VERSION
from tests.support import query

OLD_ENGINE = tuple(map(int, sqlite3.sqlite_version.split("."))) < (3, 51, 3)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory without a store."""
    path = tmp_path / "project"
    path.mkdir()
    monkeypatch.chdir(path)
    return path


def test_status_does_not_make_the_store_it_looks_for(cli, monkeypatch, tmp_path):
    home = tmp_path / "not" / "there"
    monkeypatch.setenv("KITARU_HOME", str(home))
    monkeypatch.delenv("KITARU_DURABILITY")
    text = cli.good("status")
    assert text.startswith(f"Kitaru status\n  SDK version: {VERSION}\n")
    assert f"\n  Store: {home / 'kitaru.db'}\n  Chosen by: KITARU_HOME\n  Exists: no" in text
    assert "\n  Writable: yes\n  Durability: full\n" in text
    item = cli.json("status").item
    assert (item["exists"], item["writable"], item["executions"]) == (False, True, None)
    assert not (tmp_path / "not").exists()


def test_status_counts_executions(cli):
    cli.completed(topic="a")
    cli.completed(topic="b")
    cli.waiting()
    result = cli.json("status")
    assert result.document["command"] == "status"
    counts = result.item["executions"]
    assert {name: n for name, n in counts.items() if n} == {"waiting": 1, "completed": 2}
    assert "\n  Executions: 1 waiting, 2 completed" in cli.good("status")


def test_a_status_that_is_none_is_told_as_damage(cli):
    cli.completed(topic="a")
    query(cli.home, "UPDATE executions SET status = 'odd'")
    for command in ("status", "info"):
        result = cli(command)
        assert result.code == 1
        assert result.err.startswith("Error: An execution is damaged in the store")


@pytest.mark.parametrize(
    ("engine", "noted"),
    [
        ("3.9", True),
        ("3.44.5", True),
        ("3.44.6", False),
        ("3.45.0", True),
        ("3.50.7", False),
        ("3.51.2", True),
        ("3.51.3", False),
        ("4.0.0", False),
    ],
)
def test_status_notes_an_engine_with_the_wal_reset_bug(cli, monkeypatch, engine, noted):
    monkeypatch.setattr("kitaru.client.about.sqlite_version", lambda: engine)
    item = cli.json("status").item
    assert item["sqlite_version"] == engine
    assert ("3.51.3" in (item["sqlite_note"] or "")) is noted
    assert ("\n  Note: " in cli.good("status")) is noted


def test_status_of_a_damaged_store_says_what_it_can_and_fails(cli):
    (cli.home / "kitaru.db").write_bytes(b"not a database" * 1000)
    result = cli("status")
    assert result.code == 1
    assert "\n  Exists: yes\n" in result.out
    assert "\n  Executions: not available\n" in result.out
    assert "damaged" in result.err
    assert '"KitaruCorruptionError"' in cli.json("status").err


def test_status_refuses_a_setting_that_cannot_be_right(cli, monkeypatch):
    monkeypatch.setenv("KITARU_DURABILITY", "maybe")
    assert cli.json("status").error["type"] == "KitaruUsageError"


@pytest.fixture
def nothing_set(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory where no setting is made."""
    for name in [name for name in os.environ if name.startswith("KITARU_")]:
        if name != "KITARU_HOME":
            monkeypatch.delenv(name)
    return folder


def test_info_shows_each_setting_with_its_source_and_makes_no_store(cli, nothing_set, monkeypatch):
    monkeypatch.setenv("KITARU_CACHE", "on")
    monkeypatch.setenv("KITARU_DURABILITY", "normal")
    file = nothing_set / "pyproject.toml"
    file.write_text("[tool.kitaru]\nretries = 2\n")
    shown = cli.json("info")
    assert shown.document["command"] == "info"
    assert shown.item["settings"] == {
        "home": {"value": str(cli.home), "source": "KITARU_HOME"},
        "durability": {"value": "normal", "source": "KITARU_DURABILITY"},
        "allow_network_home": {"value": False, "source": "default"},
        "stack": {"value": "local", "source": "active stack"},
        "cache": {"value": True, "source": "KITARU_CACHE"},
        "retries": {"value": 2, "source": f"{file} [tool.kitaru] retries"},
    }
    assert not [*cli.home.iterdir()]


def test_info_names_versions_and_reads_well(cli, nothing_set):
    cli.good("stack", "create", "gpu")
    cli.good("stack", "use", "gpu")
    assert cli.good("info").splitlines() == [
        "Kitaru info",
        f"  SDK version: {VERSION}",
        f"  Python version: {platform.python_version()}",
        f"  SQLite version: {sqlite3.sqlite_version}",
        f"  Home: {cli.home} (KITARU_HOME)",
        "  Durability: full (default)",
        "  Allow network home: no (default)",
        "  Stack: gpu (active stack)",
        "  Cache: no (default)",
        "  Retries: 0 (default)",
        *([f"  Note: {facts(config.find_home())['sqlite_note']}"] if OLD_ENGINE else []),
        f"  Schema: {schema.SCHEMA_VERSION}",
        *(line for line in cli.good("info").splitlines() if line.startswith("  Store size: ")),
        "  Executions: none",
        *(line for line in cli.good("info").splitlines() if line.startswith("  Rows: ")),
    ]


def test_info_tells_what_the_store_holds(cli, nothing_set):
    assert cli.json("info").item["store"] is None
    cli.completed(topic="a")
    store = cli.json("info").item["store"]
    assert store["schema"] == schema.SCHEMA_VERSION
    assert store["bytes"] > 50_000
    assert store["wal_bytes"] == os.stat(cli.home / "kitaru.db-wal").st_size
    assert {name: n for name, n in store["statuses"].items() if n} == {"completed": 1}
    assert (store["rows"]["executions"], store["rows"]["calls"]) == (1, 2)
    text = cli.good("info")
    assert re.search(
        r"\n  Store size: [\d.]+ kB \(0 bytes of it free, [\d.]+ kB in the WAL\)\n", text
    )
    assert "\n  Executions: 1 completed\n  Rows: artifacts 1, calls 2, " in text


def test_info_of_a_damaged_store_is_refused(cli, nothing_set):
    (cli.home / "kitaru.db").write_bytes(b"not a database" * 1000)
    result = cli("info")
    assert (result.code, result.out, "damaged" in result.err) == (1, "", True)


def test_info_refuses_a_setting_that_cannot_be_right(cli, nothing_set, monkeypatch):
    monkeypatch.setenv("KITARU_RETRIES", "many")
    refused = cli.json("info")
    assert (refused.code, refused.error["type"]) == (1, "KitaruUsageError")
    assert refused.error["message"].startswith("KITARU_RETRIES: retries is 'many'")


def test_init_makes_a_store_of_the_projects_own(cli, folder, monkeypatch):
    monkeypatch.delenv("KITARU_HOME")
    text = cli.good("init")
    made = folder / ".kitaru"
    assert text == f"Initialized Kitaru project in {folder}\n  Created {made}\n"
    assert stat.S_IMODE(made.stat().st_mode) == 0o700
    assert (made / ".gitignore").read_text() == "*\n"
    (folder / "deeper").mkdir()
    monkeypatch.chdir(folder / "deeper")
    item = cli.json("status").item
    assert (item["home"], item["home_source"]) == (str(made), f"project folder {folder}")


def test_init_again_changes_nothing(cli, folder, monkeypatch):
    monkeypatch.delenv("KITARU_HOME")
    assert cli.json("init").item["created"] is True
    (folder / ".kitaru" / ".gitignore").write_text("mine\n")
    result = cli.json("init")
    assert result.document["command"] == "init"
    assert (result.item["created"], result.item["in_use"]) == (False, True)
    assert (folder / ".kitaru" / ".gitignore").read_text() == "mine\n"
    assert f"  Kept {folder / '.kitaru'}\n" in cli.good("init")


def test_init_says_when_another_store_is_used_all_the_same(cli, folder):
    text = cli.good("init")
    assert text.endswith(f"\n  Not in use: KITARU_HOME names {cli.home}\n")
    assert cli.json("init").item["in_use"] is False


def test_init_is_refused_where_the_name_is_taken(cli, folder):
    (folder / ".kitaru").write_text("a file")
    refused = cli.json("init")
    assert refused.code == 1
    assert refused.error["type"] == "KitaruBackendError"
    assert (folder / ".kitaru").read_text() == "a file"
