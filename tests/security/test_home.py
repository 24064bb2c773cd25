"""The store's folder: not everybody's, and of another user only where it is named.

`python3 dev chaos private` becomes another user, and takes the umask away.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

import kitaru
from kitaru import KitaruBackendError, KitaruClient, KitaruUsageError
from tests.store.test_faults import IS_ROOT


def test_a_folder_that_everybody_may_write_is_refused_and_nothing_is_made(home: Path) -> None:
    home.chmod(0o777)
    for use in (
        lambda: KitaruClient().executions.list(),
        lambda: kitaru.create_secret("a", {"K": "0123456789"}),
        lambda: kitaru.flow(lambda: 1, name="one").run(),
    ):
        with pytest.raises(KitaruBackendError, match=rf"chmod o-w '{home}'.*KITARU_HOME"):
            use()
    assert not [*home.iterdir()] or [*home.iterdir()] == [home / "secrets.lock"]
    home.chmod(0o770)
    assert KitaruClient().executions.list() == []


def test_a_sticky_folder_of_all_users_is_refused_too(home: Path) -> None:
    home.chmod(0o1777)
    with pytest.raises(KitaruBackendError, match="chmod o-w"):
        KitaruClient().executions.list()


@pytest.mark.skipif(not IS_ROOT, reason="only root can make a folder of another user")
def test_root_may_use_the_store_of_any_user(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    project = home / "project"
    (project / ".kitaru").mkdir(parents=True, mode=0o700)
    os.chown(project / ".kitaru", 65534, 65534)
    monkeypatch.delenv("KITARU_HOME")
    monkeypatch.chdir(project)
    assert KitaruClient().executions.list() == []


def test_a_project_folder_of_another_user_is_found_only_by_name(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (home / ".kitaru").mkdir()
    monkeypatch.chdir(home)
    monkeypatch.delenv("KITARU_HOME")
    monkeypatch.setattr(os, "geteuid", lambda: os.stat(home).st_uid + 1)
    with pytest.raises(KitaruUsageError, match=rf"another user.*KITARU_HOME='{home}/.kitaru'"):
        KitaruClient()
    assert KitaruClient(home=home / ".kitaru").home.path == home / ".kitaru"


@pytest.mark.parametrize("missing", ["home", "a/b/home"])
def test_without_a_umask_folders_are_private_from_the_first(tmp_path: Path, missing: str) -> None:
    before = os.umask(0)
    try:
        KitaruClient(home=tmp_path / missing).executions.list()
    finally:
        os.umask(before)
    for path in (tmp_path / missing).iterdir():
        assert path.stat().st_mode & 0o077 == 0
    assert (tmp_path / missing).stat().st_mode & 0o077 == 0
    assert (tmp_path / missing).parent.stat().st_mode & 0o022 == 0
