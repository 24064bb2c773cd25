"""The store's folder: nobody else's, not everybody's, and private from its first moment on."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

import kitaru
from kitaru import KitaruBackendError, KitaruClient
from tests import support
from tests.store.test_faults import AS_NOBODY, IS_ROOT
from tests.store.test_faults import open_folder as open_folder

STATUS = f"{AS_NOBODY}\ntry: print(KitaruClient().home.path)\nexcept KitaruError as exc: print(exc)"


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


def test_without_a_umask_all_that_is_made_is_private(tmp_path: Path) -> None:
    home = tmp_path / "a" / "b" / "home"
    program = (
        "import os; os.umask(0)\n"
        "import kitaru\nfrom tests import flows\n"
        "kitaru.create_secret('a', {'K': '0123456789'})\n"
        "flows.chain.run(length=1).wait()\n"
        "client = kitaru.KitaruClient()\n"
        "client.store.backup(os.environ['KITARU_HOME'] + '/../copy')\n"
        "id_ = client.executions.run('tests/flows.py:chain', args={'length': 1}).exec_id\n"
        "while not client.executions.get(id_).status.is_finished: pass\n"
        "client.executions.export(id_, os.environ['KITARU_HOME'] + '/../export')\n"
    )
    support.run_python(home, program)
    for path in (home, *home.rglob("*"), home.parent / "copy", home.parent / "export"):
        mode = stat.S_IMODE(path.stat().st_mode)
        assert mode == (0o700 if path.is_dir() else 0o600), f"{path}: {mode:o}"
    for path in (home.parent, home.parent.parent):
        assert not path.stat().st_mode & 0o022


@pytest.mark.skipif(not IS_ROOT, reason="only root can make a folder of another user")
def test_a_project_folder_of_another_user_is_used_only_when_it_is_named(open_folder: Path) -> None:
    (open_folder / ".kitaru").mkdir(mode=0o755)
    environment = {**os.environ, "PYTHONPATH": f"{support.ROOT}/core:{support.ROOT}"}
    environment.pop("KITARU_HOME", None)

    def said(**more: str) -> str:
        return subprocess.run(
            [sys.executable, "-c", STATUS],
            cwd=open_folder,
            env=environment | more,
            capture_output=True,
            text=True,
            check=True,
        ).stdout

    found = said()
    assert "a store of another user" in found
    assert f"KITARU_HOME='{open_folder / '.kitaru'}'" in found
    assert said(KITARU_HOME=str(open_folder / ".kitaru")).strip() == f"{open_folder / '.kitaru'}"


@pytest.mark.skipif(not IS_ROOT, reason="only root can make a folder of another user")
def test_root_may_use_the_store_of_any_user(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    project = home / "project"
    (project / ".kitaru").mkdir(parents=True, mode=0o700)
    os.chown(project / ".kitaru", 65534, 65534)
    monkeypatch.delenv("KITARU_HOME")
    monkeypatch.chdir(project)
    assert KitaruClient().executions.list() == []
