"""What is shipped: a wheel and an sdist with both packages, and nothing that belongs elsewhere."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from pathlib import Path

import pytest

import kitaru
from kitaru.cli.clients import CLIENTS
from kitaru_mcp.tools import TOOLS

ROOT = Path(__file__).resolve().parent.parent
LOCKS = {
    name: (ROOT / name).read_text() for name in ("requirements.lock", "requirements-lowest.lock")
}
SKILL = ROOT / "plugin" / "skills" / "kitaru" / "SKILL.md"


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
        "[console_scripts] kitaru = kitaru.__main__:main "
        "kitaru-mcp = kitaru_mcp.server:main".split()
    )


def test_the_sdist_has_what_a_packager_needs(built: Path):
    (path,) = built.glob("*.tar.gz")
    with tarfile.open(path) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    needed = {"LICENSE", "CHANGELOG.md", "pyproject.toml", "dev", "tests/test_packaging.py"}
    assert needed <= names
    assert {f"kitaru_mcp/{name}" for name in ("__init__.py", "py.typed")} <= names
    assert "core/kitaru/py.typed" in names
    plugin = {"plugin.json": "plugin/.claude-plugin", "marketplace.json": ".claude-plugin"}
    assert {f"{folder}/{name}" for name, folder in plugin.items()} <= names
    assert {"plugin/skills/kitaru/SKILL.md", "server.json", "claude_config.json"} <= names
    assert not [name for name in names if "__pycache__" in name or name.startswith(".venv")]


def test_a_readme_is_shown_with_the_package(project: dict):
    if (ROOT / "README.md").exists():
        assert project.get("readme") == "README.md", 'add readme = "README.md" to [project]'


def test_dependencies_have_lower_bounds_only(project: dict):
    for dependency in project["dependencies"]:
        assert re.fullmatch(r"[a-z-]+>=[\d.]+", dependency)


def test_an_extra_is_what_its_name_says(project: dict, wheel: dict[str, str]):
    (metadata,) = (text for name, text in wheel.items() if name.endswith("METADATA"))
    shipped: dict[str, set[str]] = {}
    pattern = r"^Requires-Dist: (\S+); extra == '(\w+)'$"
    for dependency, extra in re.findall(pattern, metadata, re.MULTILINE):
        shipped.setdefault(extra, set()).add(dependency)
    extras = project["optional-dependencies"]
    assert shipped.pop("llm") == {*extras["openai"], *extras["anthropic"]}
    assert shipped == {extra: {*extras[extra]} for extra in extras if extra != "llm"}
    for extra, package in {"openai": "openai", "anthropic": "anthropic"}.items():
        assert [each.partition(">=")[0] for each in extras[extra]] == [package]
    assert [each.partition(">=")[0] for each in extras["prices"]] == ["genai-prices"]


def pins(lock: str) -> dict[str, str]:
    """Each package of a lock file, and its entry there."""
    entries = re.split(r"\n(?=[a-z])", lock.partition("\n\n")[0])
    return {entry.partition("==")[0]: entry for entry in entries if "==" in entry.split("\n")[0]}


@pytest.mark.parametrize("name", LOCKS)
def test_a_lock_holds_every_dependency_with_hashes(name: str, project: dict):
    found = pins(LOCKS[name])
    extras = project["optional-dependencies"]
    needed = project["dependencies"] + extras["openai"] + extras["anthropic"] + extras["prices"]
    for dependency in needed:
        assert dependency.partition(">")[0] in found
    assert "hatchling" in found, "the build backend is installed from the lock too"
    assert [name for name, entry in found.items() if "--hash=sha256:" not in entry] == []


@pytest.mark.parametrize("name", LOCKS)
def test_a_lock_names_no_place(name: str):
    assert not re.search(r"://|--(extra-)?index-url|--find-links|[\s=@]/", LOCKS[name])


def test_the_lock_of_lower_bounds_has_them_and_else_what_the_other_has(project: dict):
    current, lowest = (pins(lock) for lock in LOCKS.values())
    extras = project["optional-dependencies"]
    for dependency in extras["openai"] + extras["anthropic"] + extras["prices"]:
        name, _, bound = dependency.partition(">=")
        version = lowest[name].split("\n")[0].removeprefix(f"{name}==").split()[0]
        assert [*map(int, version.split("."))][: bound.count(".") + 1] == [
            *map(int, bound.split("."))
        ]
    for dependency in project["dependencies"]:
        name = dependency.partition(">")[0]
        assert lowest[name].split()[0] == current[name].split()[0]


# --- what clients and registries read ------------------------------------------------------------


def document(*path: str) -> dict:
    return json.loads(ROOT.joinpath(*path).read_text())


@pytest.mark.parametrize("path", ["claude_config.json", "plugin/.claude-plugin/plugin.json"])
def test_claudes_configuration_starts_the_console_script(path: str, project: dict):
    (server,) = document(path)["mcpServers"].values()
    assert server["command"] in project["scripts"]
    assert server == CLIENTS["claude-desktop"].entry([server["command"]], "user")


def test_the_marketplace_leads_to_the_plugin():
    (listed,) = document(".claude-plugin", "marketplace.json")["plugins"]
    assert listed["source"].startswith("./"), "a path from the repository's top"
    plugin = document(listed["source"], ".claude-plugin", "plugin.json")
    shared = ("name", "description")
    assert {key: plugin[key] for key in shared} == {key: listed[key] for key in shared}
    assert "version" not in listed, "the plugin's own counts"


def test_every_manifest_has_the_version_of_the_package():
    (package,) = document("server.json")["packages"]
    versions = [
        document("plugin", ".claude-plugin", "plugin.json")["version"],
        document("server.json")["version"],
        package["version"],
    ]
    assert versions == [kitaru.__version__] * 3


def test_the_registrys_manifest_names_the_package_and_options_it_has(project: dict):
    manifest = document("server.json")
    (package,) = manifest["packages"]
    assert re.fullmatch(r"[a-zA-Z0-9.-]+/[a-zA-Z0-9._-]+", manifest["name"])
    assert len(manifest["description"]) <= 100
    assert (package["registryType"], package["identifier"]) == ("pypi", project["name"])
    assert package["transport"] == {"type": "stdio"}
    helped = subprocess.run(
        [sys.executable, "-m", "kitaru_mcp.server", "--help"],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    ).stdout
    assert [
        each["name"] for each in package["packageArguments"] if each["name"] not in helped
    ] == []


def test_the_skill_has_the_frontmatter_that_skills_need():
    _, frontmatter, body = SKILL.read_text().split("---\n", 2)
    pairs = dict(line.split(": ", 1) for line in frontmatter.splitlines())
    assert pairs.keys() == {"name", "description"}
    assert pairs["name"] == SKILL.parent.name
    assert "Use when" in pairs["description"]
    assert len(pairs["description"]) <= 1024
    assert len(body.splitlines()) < 500


def test_the_skill_names_every_tool_and_no_other():
    tools = {tool.name for tool in TOOLS}
    named = {*re.findall(r"\b(?:kitaru_|get_)\w+", SKILL.read_text())}
    assert named == tools


def test_the_skill_says_what_no_tool_does():
    assert "kitaru executions resume ID" in SKILL.read_text()
    assert not [tool.name for tool in TOOLS if "resume" in tool.name]
