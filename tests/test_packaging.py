"""What is shipped: a wheel and an sdist with both packages, and nothing that belongs elsewhere."""

from __future__ import annotations

import re
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
LOCK = (ROOT / "requirements.lock").read_text()


def build(source: Path, folder: Path, *targets: str) -> None:
    command = [sys.executable, "-m", "hatchling", "build", "-d", str(folder)]
    for target in targets:
        command += ["-t", target]
    result = subprocess.run(command, cwd=source, capture_output=True, text=True, timeout=120)
    assert result.returncode == 0, result.stdout + result.stderr


@pytest.fixture(scope="module")
def project() -> dict:
    return tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with an sdist and the wheel that is built from it, as installers do."""
    folder = tmp_path_factory.mktemp("built")
    build(ROOT, folder, "sdist")
    (sdist,) = folder.glob("*.tar.gz")
    with tarfile.open(sdist) as archive:
        archive.extractall(folder / "unpacked", filter="data")
    (source,) = (folder / "unpacked").iterdir()
    build(source, folder, "wheel")
    return folder


@pytest.fixture(scope="module")
def wheel(built: Path) -> dict[str, str]:
    """The wheel's members and their text."""
    (path,) = built.glob("*.whl")
    with zipfile.ZipFile(path) as archive:
        return {name: archive.read(name).decode() for name in archive.namelist()}


def sources() -> set[str]:
    """The modules in the repository, as a wheel names them."""
    return {
        path.relative_to(folder.parent).as_posix()
        for folder in (ROOT / "core" / "kitaru", ROOT / "kitaru_mcp")
        for path in folder.rglob("*.py")
    }


def test_the_wheel_has_every_module_of_both_packages(wheel: dict[str, str]):
    assert {name for name in wheel if name.endswith(".py")} == sources()


def test_the_wheel_has_nothing_else_at_its_top(wheel: dict[str, str]):
    tops = {name.split("/")[0] for name in wheel}
    assert {top for top in tops if not top.endswith(".dist-info")} == {"kitaru", "kitaru_mcp"}


def test_the_wheel_is_typed_and_licensed(wheel: dict[str, str]):
    assert {"kitaru/py.typed", "kitaru_mcp/py.typed"} <= set(wheel)
    (licence,) = (text for name, text in wheel.items() if name.endswith("licenses/LICENSE"))
    assert "Apache License" in licence


def test_the_wheel_declares_both_console_scripts(wheel: dict[str, str]):
    (entry_points,) = (text for name, text in wheel.items() if name.endswith("entry_points.txt"))
    assert entry_points.split("\n\n")[0].split() == (
        "[console_scripts] kitaru = kitaru.cli:main kitaru-mcp = kitaru_mcp.server:main".split()
    )


def test_the_sdist_has_what_a_packager_needs(built: Path):
    (path,) = built.glob("*.tar.gz")
    with tarfile.open(path) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    needed = {"LICENSE", "CHANGELOG.md", "pyproject.toml", "dev", "tests/test_packaging.py"}
    assert needed <= names
    assert {f"kitaru_mcp/{name}" for name in ("__init__.py", "py.typed")} <= names
    assert "core/kitaru/py.typed" in names
    assert not [name for name in names if "__pycache__" in name or name.startswith(".venv")]


def test_a_readme_is_shown_with_the_package(project: dict):
    if (ROOT / "README.md").exists():
        assert project.get("readme") == "README.md", 'add readme = "README.md" to [project]'


def test_dependencies_have_lower_bounds_only(project: dict):
    for dependency in project["dependencies"]:
        assert re.fullmatch(r"[a-z-]+>=[\d.]+", dependency)


def test_the_lock_holds_every_dependency_with_hashes(project: dict):
    entries = re.split(r"\n(?=[a-z])", LOCK.partition("\n\n")[0])
    pins = {entry.partition("==")[0]: entry for entry in entries if "==" in entry.split("\n")[0]}
    for dependency in project["dependencies"]:
        assert dependency.partition(">")[0] in pins
    assert "hatchling" in pins, "the build backend is installed from the lock too"
    assert [name for name, entry in pins.items() if "--hash=sha256:" not in entry] == []


def test_the_lock_names_no_place():
    assert not re.search(r"://|--(extra-)?index-url|--find-links|[\s=@]/", LOCK)
