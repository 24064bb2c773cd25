"""Fixtures that any test may use, and how hard hypothesis searches."""

from __future__ import annotations

import atexit
import gc
import os
import shutil
import tempfile
import threading
from collections.abc import Iterator
from multiprocessing import util
from pathlib import Path

import pytest
from hypothesis import settings

from kitaru import clock, config, masks, model_variables, vault
from kitaru.heart import heart
from tests.support import TurnedClock, check_rollup, forget, until

# Processes under test find Python's own defaults, whatever the developer's shell has set.
for _name_of_python in ("PYTHONDONTWRITEBYTECODE", "PYTHONUNBUFFERED"):
    os.environ.pop(_name_of_python, None)

# Nor does a test ask a model with the developer's own key.
for _name_of_model in model_variables.NAMES:
    os.environ.pop(_name_of_model, None)

# No test writes into the developer's own keyring.
os.environ["PYTHON_KEYRING_BACKEND"] = "keyring.backends.null.Keyring"

# A process that is killed loses nothing at either level: only a power cut tells them apart.
os.environ.setdefault("KITARU_DURABILITY", "normal")

# What a disk is slow at, to keep what a power cut would take, is in memory as good as done.
_MEMORY = Path("/dev/shm")
_ENOUGH = 2 << 30


def _has_room(folder: Path) -> bool:
    """Whether a folder may hold the stores of a run, and programs that tests write and start."""
    return (
        os.access(folder, os.W_OK)
        and shutil.disk_usage(folder).free > _ENOUGH
        and not os.statvfs(folder).f_flag & os.ST_NOEXEC
    )


#: What this process has made there for itself and all it starts.
_in_memory: str | None = None
if "TMPDIR" not in os.environ and _has_room(_MEMORY):
    _in_memory = tempfile.mkdtemp(prefix="kitaru-tests-", dir=_MEMORY)
    os.chmod(_in_memory, 0o711)  # tests open folders in it to other users
    os.environ["TMPDIR"] = tempfile.tempdir = _in_memory
    os.chmod(_in_memory, 0o711)  # some tests are another user for a while

# Nor do they reach the developer's own store, but one for each process.
os.environ["XDG_DATA_HOME"] = _data = tempfile.mkdtemp(prefix="kitaru-tests-")
atexit.register(shutil.rmtree, _data, ignore_errors=True)

# Modules and tests stay to the end of the process: nothing of them is garbage.
gc.disable()

settings.register_profile("default", deadline=None)
settings.register_profile("nightly", deadline=None, max_examples=2000)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "default"))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the documents, the longest of all tests: by the end there is no one to share."""
    items.sort(key=lambda item: not item.name.startswith("test_document["))


def pytest_collection_finish() -> None:
    """Let the collector pass over what has been loaded, and begin with what tests make."""
    gc.freeze()
    gc.enable()


def pytest_sessionfinish(exitstatus: int) -> None:
    """Give the memory back, unless there is a failure to look into."""
    if _in_memory is not None and exitstatus == pytest.ExitCode.OK:
        # Last of all that is done at the end: `multiprocessing` removes its own folder in there.
        util.Finalize(None, shutil.rmtree, (_in_memory, True), exitpriority=-200)


@pytest.fixture
def unchecked_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A fresh store's home, which `KITARU_HOME` names; closed when the test has ended."""
    path = tmp_path / "home"
    path.mkdir(mode=0o700)
    monkeypatch.setenv("KITARU_HOME", str(path))
    yield path
    forget(path)


@pytest.fixture
def home(unchecked_home: Path) -> Iterator[Path]:
    """The same, for a store that is sound afterwards."""
    yield unchecked_home
    forget(unchecked_home)
    check_rollup(unchecked_home)
    (unchecked_home / vault.FILE).unlink(missing_ok=True)
    masks.watch(config.find_home(unchecked_home))  # later tests show what was a secret here


@pytest.fixture
def turned() -> Iterator[TurnedClock]:
    """A clock that the test turns on; no drive outlives it, to see time run backwards."""
    with clock.use(installed := TurnedClock()):
        yield installed
        for drive in heart.drives():
            drive.stop()
        until(lambda: "kitaru-heart" not in map(_name, threading.enumerate()), "no drive is left")


def _name(thread: threading.Thread) -> str:
    return thread.name
