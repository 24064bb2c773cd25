"""Which flows a server may run: decided without importing anything."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from kitaru.errors import KitaruUsageError
from kitaru_mcp.policy import NotAllowed, Policy, resolve_roots

BOOBY_TRAP = "raise SystemExit('imported')\n"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A root with flows in it, links out of it, and files beside it."""
    outside, root = tmp_path / "outside", tmp_path / "root"
    for folder in (outside / "pkg", root / "pkg" / "deep", root / "plain", root / "mixed"):
        folder.mkdir(parents=True)
    for path in (
        outside / "evil.py",
        outside / "pkg" / "__init__.py",
        outside / "pkg" / "mod.py",
        root / "flows.py",
        root / "pkg" / "__init__.py",
        root / "pkg" / "deep" / "__init__.py",
        root / "plain" / "mod.py",
        root / "mixed" / "mod.py",
        root / "with space.py",
    ):
        path.write_text(BOOBY_TRAP)
    (root / "json").mkdir()
    (root / "json" / "mod.py").write_text(BOOBY_TRAP)
    (root / "link.py").symlink_to(outside / "evil.py")
    (root / "inner.py").symlink_to(root / "flows.py")
    (root / "linked").symlink_to(outside / "pkg")
    (root / "mixed" / "__init__.py").symlink_to(outside / "evil.py")
    (root / "loop.py").symlink_to(root / "loop.py")
    return root


def policy(*roots: Path) -> Policy:
    return Policy(read_only=False, roots=resolve_roots([str(root) for root in roots]))


@pytest.mark.parametrize(
    ("target", "found"),
    [
        ("flows.py:agent", "{root}/flows.py:agent"),
        ("./plain/../flows.py:agent", "{root}/flows.py:agent"),
        ("{root}/flows.py:agent", "{root}/flows.py:agent"),
        ("inner.py:agent", "{root}/flows.py:agent"),
        ("with space.py:agent", "{root}/with space.py:agent"),
        ("plain/mod.py:Flows.agent", "{root}/plain/mod.py:Flows.agent"),
        ("flows:agent", "flows:agent"),
        ("pkg:agent", "pkg:agent"),
        ("pkg.deep:agent", "pkg.deep:agent"),
        ("plain.mod:agent", "plain.mod:agent"),
    ],
)
def test_a_flow_under_the_root_may_run(root: Path, target: str, found: str) -> None:
    root = root.resolve()
    allowed = policy(root).target(target.replace("{root}", str(root)))
    assert allowed.target == found.replace("{root}", str(root))
    assert allowed.root == str(root)
    assert "flows" not in sys.modules


@pytest.mark.parametrize(
    "target",
    [
        "../outside/evil.py:agent",
        "plain/../../outside/evil.py:agent",
        "{outside}/evil.py:agent",
        "{outside}/nothing.py:agent",
        "/etc/passwd.py:x",
        "link.py:agent",
        "linked/mod.py:agent",
        "linked.mod:agent",
        "linked:agent",
        "mixed/mod.py:agent",
        "mixed.mod:agent",
    ],
)
def test_a_flow_outside_the_root_may_not_run(root: Path, target: str) -> None:
    outside = root.parent / "outside"
    with pytest.raises(NotAllowed, match="--flow-root"):
        policy(root).target(target.replace("{outside}", str(outside)))


@pytest.mark.parametrize(
    "target",
    [
        "",
        ":",
        "flows.py",
        "flows.py:",
        ":agent",
        "-m:agent",
        "--help.py:agent",
        "flows.py\0:agent",
        "flows.py\n:agent",
        "flows.py:agent()",
        "flows.py:__import__('os')",
        "flows.py:a b",
        "flows\u202e.py:agent",
        "..:agent",
        "pkg..deep:agent",
        "pkg/deep:agent",
        "os:system",
        "json.mod:agent",
        "kitaru.flow:flow",
        "loop.py:agent",
        "nothing.py:agent",
        "plain:agent",
        "~/flows.py:agent",
        "https://example.org/flows.py:agent",
        "x" * 5000 + ".py:agent",
    ],
)
def test_what_is_no_target_is_refused(root: Path, target: str) -> None:
    with pytest.raises(KitaruUsageError):
        policy(root).target(target)


def test_any_root_will_do(root: Path) -> None:
    outside = root.parent / "outside"
    allowed = policy(root, outside).target("evil.py:agent")
    assert allowed.root == str(outside.resolve())
    assert policy(root, outside).target(f"{outside}/evil.py:agent").root == str(outside.resolve())


def test_the_working_directory_is_the_default_root(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(root)
    assert resolve_roots([]) == (root.resolve(),)
