"""Which flows a server may run: decided without importing anything."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from kitaru.errors import KitaruUsageError
from kitaru_mcp import app
from kitaru_mcp.policy import NotAllowed, Policy, resolve_roots
from tests.mcp.serving import Place, Served, served
from tests.support import until

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


@pytest.mark.parametrize(
    ("target", "start"),
    [
        ("{root}/flows.py:agent", "{root}"),
        ("{root}/plain/mod.py:Flows.agent", "{root}/plain"),
        ("flows:agent", "{root}"),
        ("plain.mod:agent", "{root}"),
        ("mod:agent", "{root}/plain"),
        ("pkg.deep:agent", "{root}"),
        ("{root}/pkg/gone.py:agent", "{root}/pkg"),
    ],
)
def test_recorded_code_under_a_root_may_run_again(root: Path, target: str, start: str) -> None:
    root = root.resolve()
    target, start = (text.replace("{root}", str(root)) for text in (target, start))
    policy(root).check_recorded(target, root=start)


@pytest.mark.parametrize(
    ("target", "start"),
    [
        ("{outside}/evil.py:agent", "{outside}"),
        ("{outside}/evil.py:agent", "{root}"),
        ("{root}/../outside/evil.py:agent", "{root}"),
        ("{root}/link.py:agent", "{root}"),
        ("{root}/mixed/mod.py:agent", "{root}/mixed"),
        ("{root}/flows.py:agent", "{outside}/.."),
        ("evil:agent", "{outside}"),
        ("root.flows:agent", "{outside}/.."),
        ("link:agent", "{root}"),
        ("linked.mod:agent", "{root}"),
        ("mixed.mod:agent", "{root}"),
        ("json.mod:agent", "{root}"),
        ("nothing:agent", "{root}"),
    ],
)
def test_recorded_code_from_elsewhere_may_not_run_again(
    root: Path, target: str, start: str
) -> None:
    names = {"{root}": str(root), "{outside}": str(root.parent / "outside")}
    for name, path in names.items():
        target, start = target.replace(name, path), start.replace(name, path)
    with pytest.raises(NotAllowed, match="--flow-root"):
        policy(root).check_recorded(target, root=start)


def test_code_of_a_root_that_is_a_package_may_run_again(root: Path) -> None:
    package = root / "pkg"
    policy(package).check_recorded("pkg.deep:agent", root=str(root))
    with pytest.raises(NotAllowed):
        policy(package).check_recorded("plain.mod:agent", root=str(root))


OUTSIDE = """
import os
from pathlib import Path
from kitaru import flow
Path(os.environ["KITARU_HOME"], "imports_outside").open("a").write("imported\\n")

@flow
def elsewhere():
    raise ValueError("no luck")

def main():
    @flow
    def local():
        raise ValueError("no luck")
    return local

if __name__ == "__main__":
    elsewhere.run()
    main().run()
"""


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Place:
    """A store with failed executions of code that is not under the server's root."""
    folder = tmp_path_factory.mktemp("policy")
    place = Place.under(folder)
    (folder / "outside.py").write_text(OUTSIDE)
    environment = {**place.environment, "PATH": "/usr/bin:/bin"}
    for command in (["outside.py"], ["-c", "import outside; outside.elsewhere.run()"]):
        subprocess.run([sys.executable, *command], cwd=folder, env=environment, check=True)

    def ended() -> bool:
        found = place.client.executions.list()
        return len(found) == 3 and all(each.status == "failed" for each in found)

    until(ended, "all have failed")
    return place


@pytest.fixture(scope="module")
def server(place: Place) -> Iterator[Served]:
    with served(place) as running:
        yield running


STEERING = [("kitaru_executions_retry", {}), ("kitaru_executions_replay", {"from_": "c"})]


@pytest.mark.parametrize(("tool", "arguments"), STEERING)
def test_recorded_code_outside_the_roots_is_neither_retried_nor_replayed(
    server: Served, place: Place, tool: str, arguments: dict[str, str]
) -> None:
    mark = place.home / "imports_outside"
    before = mark.read_text()
    for execution in place.client.executions.list(flow="elsewhere"):
        refusal = server.refusal(tool, exec_id=execution.exec_id, **arguments)
        assert refusal.startswith("not_allowed: ")
        assert "--flow-root" in refusal
    assert mark.read_text() == before
    assert len(place.client.executions.list()) == 3


def test_an_execution_without_a_target_still_says_why(server: Served, place: Place) -> None:
    execution = place.client.executions.latest(flow="local")
    refusal = server.refusal("kitaru_executions_retry", exec_id=execution.exec_id)
    assert "cannot be found again" in refusal


def test_the_instructions_name_the_field_an_answer_has() -> None:
    assert "continues_by_itself=false" in app.INSTRUCTIONS
    assert " continues=" not in app.INSTRUCTIONS


@pytest.mark.parametrize(
    ("tool", "arguments"),
    [
        ("kitaru_executions_list", {"limit": "[" * 100_000}),
        ("kitaru_executions_run", {"target": "flows.py:agent", "args": "[" * 100_000}),
        ("kitaru_executions_cancel", {"exec_id": "kr-1", "confirm": '{"a":' * 100_000}),
    ],
)
def test_text_nested_without_end_is_a_bad_argument(
    server: Served, tool: str, arguments: dict[str, str]
) -> None:
    assert server.refusal(tool, **arguments).startswith("bad_argument: ")


def test_tags_given_as_text_nested_without_end_are_one_tag(server: Served) -> None:
    assert server.call("kitaru_executions_list", tags="[" * 100_000)["items"] == []


def test_imports_that_block_leave_other_tools_their_threads(place: Place) -> None:
    with served(place) as server:
        gates, replies = [], []
        for number in range(9):
            target, gate = place.blocking_import(f"many_{number}")
            gates.append(gate)
            replies.append(server.start("kitaru_executions_run", target=target))
        try:
            assert server.call("kitaru_status")["executions"]["failed"] == 3
        finally:
            for gate in gates:
                gate.touch()
        for reply in replies:
            assert not reply.result(60).is_error


def test_errors_tell_paths_of_the_store_and_of_flows_only(server: Served, place: Place) -> None:
    (place.project / "importing.py").write_text("from json import nothing_like_that\n")
    refusal = server.refusal("kitaru_executions_run", target="importing.py:agent")
    assert "nothing_like_that" in refusal
    assert "importing.py" in refusal
    assert str(place.project) not in refusal
    assert sys.prefix not in refusal
    assert "python3" not in refusal
    refusal = server.refusal("kitaru_executions_run", target="flows.py:nobody")
    assert "'flows.py:nobody' names no flow" in refusal
    with served(Place(place.project / "flows.py", place.project)) as broken:
        refusal = broken.refusal("kitaru_executions_list")
        assert str(place.project / "flows.py") in refusal
