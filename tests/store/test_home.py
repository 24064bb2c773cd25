"""Where the store is (argument, `KITARU_HOME`, `.kitaru`, user data), and how durable."""

from __future__ import annotations

from pathlib import Path

import pytest

from kitaru import KitaruClient, config
from kitaru.errors import KitaruUsageError
from kitaru.store import open_store


@pytest.fixture
def folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project with a sub-folder to work in, a home by name, and a user of its own."""
    (tmp_path / "project" / "src" / "deep").mkdir(parents=True)
    (tmp_path / "project" / ".kitaru").mkdir()
    monkeypatch.chdir(tmp_path / "project" / "src" / "deep")
    monkeypatch.setenv("KITARU_HOME", str(tmp_path / "named"))
    monkeypatch.setenv("HOME", str(tmp_path / "user"))
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "user" / "data"))
    return tmp_path


def test_the_first_that_is_there_wins(folders: Path, monkeypatch: pytest.MonkeyPatch):
    found = config.find_home(folders / "argument")
    assert (found.path, found.source) == (folders / "argument", "explicit argument")

    found = config.find_home()
    assert (found.path, found.source) == (folders / "named", "KITARU_HOME")

    monkeypatch.delenv("KITARU_HOME")
    found = config.find_home()
    assert found.path == folders / "project" / ".kitaru"
    assert str(folders / "project") in found.source

    (folders / "project" / "src" / ".kitaru").mkdir()
    assert config.find_home().path == folders / "project" / "src" / ".kitaru"

    monkeypatch.chdir(folders)
    found = config.find_home()
    assert (found.path.is_relative_to(folders / "user"), found.source) == (True, "user data folder")


def test_a_client_takes_the_argument(folders: Path):
    client = KitaruClient(home=folders / "argument")

    assert client.executions.list() == []
    assert (folders / "argument" / config.DATABASE_NAME).exists()
    assert not (folders / "named").exists()


def test_looking_for_a_home_makes_none(folders: Path):
    KitaruClient()

    assert not (folders / "named").exists()


def test_a_relative_home_and_one_of_the_user_are_made_absolute(
    folders: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("KITARU_HOME", "here")
    assert config.find_home().path == Path.cwd() / "here"
    monkeypatch.setenv("KITARU_HOME", "~/mine")
    assert config.find_home().path == folders / "user" / "mine"


def test_a_file_of_that_name_is_no_project(folders: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv("KITARU_HOME")
    Path(".kitaru").write_text("not a folder")

    assert config.find_home().path == folders / "project" / ".kitaru"


@pytest.mark.parametrize("by", ["argument", "KITARU_HOME"])
@pytest.mark.parametrize("value", ["", "  ", "a file"])
def test_a_home_that_is_no_folder_is_refused(
    folders: Path, monkeypatch: pytest.MonkeyPatch, by: str, value: str
):
    Path("a file").touch()
    if by == "KITARU_HOME":
        monkeypatch.setenv("KITARU_HOME", value)

    with pytest.raises(KitaruUsageError) as caught:
        KitaruClient(home=value if by == "argument" else None)

    assert by in str(caught.value)
    assert repr(value) in str(caught.value)
    assert "Name a folder" in str(caught.value)


@pytest.mark.parametrize(
    ("value", "synchronous"),
    [(None, 2), ("full", 2), (" FULL ", 2), ("normal", 1), ("Normal", 1)],
)
def test_durability_is_full_unless_it_is_asked_for_less(
    monkeypatch: pytest.MonkeyPatch, home: Path, value: str | None, synchronous: int
):
    monkeypatch.delenv("KITARU_DURABILITY", raising=False)
    if value is not None:
        monkeypatch.setenv("KITARU_DURABILITY", value)

    store = open_store(config.find_home())

    for conn in (store._writer, store._reader):
        assert conn.execute("PRAGMA synchronous").fetchone()[0] == synchronous


@pytest.mark.parametrize("value", ["", "off", "0", "extra", "full;"])
def test_a_durability_of_another_name_is_refused(
    monkeypatch: pytest.MonkeyPatch, home: Path, value: str
):
    monkeypatch.setenv("KITARU_DURABILITY", value)

    with pytest.raises(KitaruUsageError, match=r"KITARU_DURABILITY is .*'full' or 'normal'"):
        KitaruClient().executions.list()

    assert not (home / config.DATABASE_NAME).exists()


def test_a_server_that_is_named_is_not_passed_over(home: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("KITARU_SERVER_URL", "https://kitaru.example")

    with pytest.raises(KitaruUsageError, match="KITARU_SERVER_URL is set"):
        config.find_home()

    assert config.find_home(home).path == home
