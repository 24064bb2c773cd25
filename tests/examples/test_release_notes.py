"""The examples do what they say: on a real git repository, through real runner processes."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from kitaru import Execution, KitaruClient, KitaruWaitValidationError

ROOT = Path(__file__).resolve().parents[2]
TARGET = "examples/release_notes.py:release_notes"
SECONDS = 60
POLL = 0.01

#: subject, file, lines of the file afterwards; oldest first.
COMMITS = [
    ("Initial commit", "README.md", 3),
    ("feat(core): keep what was read", "core/read.py", 20),
    ("docs: explain reading", "docs/read.md", 5),
    ("fix: close the file", "core/read.py", 22),
    ("Add a command line", "cli/main.py", 40),
    ("cli: Prevent a crash without arguments", "cli/main.py", 41),
    ("feat(api)!: rename every call", "core/read.py", 30),
    ("Bump the linter", "setup.cfg", 2),
    ("perf(core): read ahead", "core/read.py", 33),
    ("Überraschung · *stars* & <tags>", "misc.txt", 1),
    ("cli: one word is enough", "cli/main.py", 43),
]


def git(folder: Path, *arguments: str) -> None:
    identity = ["-c", "user.name=Ann Author", "-c", "user.email=ann@example.org"]
    # Settings of whoever runs the tests: no signatures, no hooks.
    plain = ["-c", "commit.gpgSign=false", "-c", "tag.gpgSign=false", "-c", "core.hooksPath=none"]
    command = ["git", "-C", str(folder), *identity, *plain, *arguments]
    subprocess.run(command, check=True, capture_output=True)


@pytest.fixture(scope="module")
def history(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A repository with eleven commits; the third is tagged."""
    folder = tmp_path_factory.mktemp("history")
    git(folder, "init", "-q")
    for number, (subject, name, lines) in enumerate(COMMITS):
        path = folder / name
        path.parent.mkdir(exist_ok=True)
        path.write_text("".join(f"line {line}\n" for line in range(lines)))
        git(folder, "add", "--all")
        git(folder, "commit", "-q", "-m", subject)
        if number == 2:
            git(folder, "tag", "v1.4.2")
    return folder


class Flow:
    """Runs the example in runner processes; whatever still runs at the end is cancelled."""

    def __init__(self, client: KitaruClient, repository: Path, folder: Path) -> None:
        self.client = client
        self.repository = repository
        self.output = folder / "out" / "NOTES.md"

    def run(self, **inputs: str) -> Execution:
        args = {"repository": str(self.repository), "output": str(self.output), **inputs}
        return self.client.executions.run(TARGET, args, root=str(ROOT))

    def until(self, exec_id: str, done: Callable[[Execution], object]) -> Execution:
        deadline = time.monotonic() + SECONDS
        while not done(found := self.client.executions.get(exec_id)):
            assert not found.status.is_finished, found.failure
            assert time.monotonic() < deadline, f"still {found.status}"
            time.sleep(POLL)
        return found

    def waiting(self, **inputs: str) -> Execution:
        return self.until(self.run(**inputs).exec_id, lambda found: found.pending_wait)

    def answer(self, exec_id: str, **value: object) -> Execution:
        self.client.executions.input(exec_id, wait="approve", value=value)
        return self.ended(exec_id)

    def ended(self, exec_id: str) -> Execution:
        return self.until(exec_id, lambda found: found.status.is_finished)

    def artifact(self, exec_id: str, name: str) -> str:
        (ref,) = self.client.artifacts.list(exec_id, name=name)
        return ref.load()

    def kill_runner(self, exec_id: str) -> None:
        lines = self.client.executions.logs(exec_id, source="runner")
        pid = int(re.search(r"by process .+:(\d+), epoch", lines[-1].message)[1])
        os.kill(pid, signal.SIGKILL)
        deadline = time.monotonic() + SECONDS
        while self.client.executions.continues(exec_id):
            assert time.monotonic() < deadline, "the runner is still alive"
            time.sleep(POLL)


@pytest.fixture
def flow(home: Path, history: Path, tmp_path: Path) -> Iterator[Flow]:
    client = KitaruClient(home=home)
    yield Flow(client, history, tmp_path)
    for execution in client.executions.list():
        if not execution.status.is_finished:
            client.executions.cancel(execution.exec_id)


def test_notes_are_written_after_approval(flow: Flow):
    asked = flow.waiting()
    assert not flow.output.exists()
    assert asked.pending_wait.metadata["proposed_version"] == "v2.0.0"
    ended = flow.answer(asked.exec_id, approve=True)
    assert ended.result == {
        "status": "written",
        "version": "v2.0.0",
        "path": str(flow.output),
        "commits": 8,
    }
    notes = flow.output.read_text(encoding="utf-8")
    assert notes.startswith("## v2.0.0 (")
    assert "8 commits by Ann Author (v1.4.2..HEAD)." in notes
    assert re.findall(r"^### (.*)$", notes, re.MULTILINE) == [
        "Breaking changes",
        "Features",
        "Fixes",
        "Speed",
        "Maintenance",
        "cli",
        "Other changes",
    ]
    shown = re.sub(r" \([0-9a-f]{8},", " (SHA,", notes)
    assert "- **api**: rename every call (SHA, 8 lines)\n" in shown
    assert "- **cli**: Add a command line (SHA, 40 lines)\n" in shown
    assert "- **cli**: Prevent a crash without arguments (SHA, 1 lines)\n" in shown
    assert "- **cli**: one word is enough (SHA, 2 lines)\n" in shown
    assert "- Überraschung · *stars* & <tags> (SHA, 1 lines)\n" in shown
    assert "keep what was read" not in notes, "it was released already"


def test_each_kind_is_ranked_in_a_checkpoint_of_its_own(flow: Flow):
    asked = flow.waiting(revisions="HEAD")
    ranked = [call for call in asked.checkpoints if call.name.startswith("rank_changes")]
    assert len(ranked) == 8
    assert len({call.parent_call_ids for call in ranked}) == 1, "none waits for another"
    assert ranked[2].metadata == {"commits": 2, "lines": 3}


def test_the_largest_change_of_a_kind_comes_first(flow: Flow):
    draft = flow.artifact(flow.waiting(revisions="HEAD").exec_id, "release_notes_draft")
    features = draft[draft.index("### Features") : draft.index("### Fixes")]
    assert features.index("Add a command line") < features.index("keep what was read")


def test_a_relative_output_lies_in_the_repository_and_keeps_what_it_had(flow: Flow):
    notes = flow.repository / "NEWS.md"
    notes.write_text("## v1.4.2\n\nOlder.\n")
    try:
        asked = flow.waiting(output="NEWS.md")
        flow.answer(asked.exec_id, approve=True, version="1.5.0", edits="One thing.")
        text = notes.read_text()
        assert re.fullmatch(
            r"## 1\.5\.0 \([0-9-]+\)\n\nOne thing\.\n\n## v1\.4\.2\n\nOlder\.\n", text
        )
    finally:
        notes.unlink()


def test_a_rejection_writes_nothing(flow: Flow):
    ended = flow.answer(flow.waiting().exec_id, approve=False)
    assert ended.result["status"] == "rejected"
    assert ended.result["path"] is None
    assert not flow.output.parent.exists()


def test_an_answer_that_does_not_fit_leaves_the_question_open(flow: Flow):
    asked = flow.waiting()
    with pytest.raises(KitaruWaitValidationError, match="version"):
        flow.answer(asked.exec_id, approve=True, version="the next one")
    assert flow.client.executions.get(asked.exec_id).status == "waiting"
    assert flow.answer(asked.exec_id, approve=True).status == "completed"


@pytest.mark.parametrize(
    ("revisions", "complaint"),
    [
        ("--output=/tmp/x", "does not begin with '-'"),
        ("nowhere..HEAD", "nowhere"),
        ("HEAD..HEAD", "no changes in HEAD..HEAD"),
    ],
)
def test_a_range_that_cannot_be_right_is_named(flow: Flow, revisions: str, complaint: str):
    failed = flow.until(flow.run(revisions=revisions).exec_id, lambda found: found.failure)
    assert failed.status == "failed"
    assert complaint in failed.failure.message


def test_a_folder_without_a_repository_is_named(flow: Flow, tmp_path: Path):
    failed = flow.until(flow.run(repository=str(tmp_path)).exec_id, lambda found: found.failure)
    assert "not a git repository" in failed.failure.message
    assert str(tmp_path) in failed.failure.message


def test_a_repository_without_commits_is_named(flow: Flow, tmp_path: Path):
    git(tmp_path, "init", "-q")
    failed = flow.until(flow.run(repository=str(tmp_path)).exec_id, lambda found: found.failure)
    assert "has no commits yet" in failed.failure.message


def test_it_goes_on_after_its_runner_was_killed_while_it_waited(flow: Flow):
    asked = flow.waiting()
    flow.kill_runner(asked.exec_id)
    flow.client.executions.input(asked.exec_id, wait="approve", value={"approve": True})
    assert flow.client.executions.get(asked.exec_id).status == "waiting"
    flow.client.executions.resume(asked.exec_id)
    ended = flow.ended(asked.exec_id)
    assert ended.status == "completed"
    assert flow.output.exists()
    before = {call.call_id: call.ended_at for call in asked.checkpoints if call.ended_at}
    after = {call.call_id: call.ended_at for call in ended.checkpoints}
    assert before.items() <= after.items(), "no recorded checkpoint ran again"


def test_a_replay_from_the_draft_uses_a_replaced_ranking(flow: Flow):
    first = flow.waiting()
    flow.answer(first.exec_id, approve=True)
    (ref,) = flow.client.artifacts.list(first.exec_id, name="rank_changes")
    section = {
        "title": "Highlights",
        "changes": [{"text": "Everything has a new name", "area": "api", "sha": "0", "lines": 8}],
    }
    other = flow.output.with_name("REPLAYED.md")
    replay = flow.client.executions.replay(
        first.exec_id,
        "draft_notes",
        {f"checkpoint.{ref.producing_call}#1": section},
        output=str(other),
    )
    asked = flow.until(replay.exec_id, lambda found: found.pending_wait)
    ended = flow.answer(asked.exec_id, approve=True, version="2.0.1")
    assert ended.original_exec_id == first.exec_id
    reused = [call.call_id for call in ended.checkpoints if call.original_call_id is not None]
    assert "read_history" in reused
    assert "draft_notes" not in reused
    notes = other.read_text()
    assert "### Highlights\n\n- **api**: Everything has a new name" in notes
    assert "rename every call" not in notes
    assert "rename every call" in flow.output.read_text(), "the first notes are as they were"


def test_a_replay_can_replace_the_draft_itself(flow: Flow):
    first = flow.waiting()
    draft = {"version": "3.0.0", "day": "2026-01-02", "text": "All is new."}
    replay = flow.client.executions.replay(
        first.exec_id, "draft_notes", {"checkpoint.draft_notes": draft}
    )
    asked = flow.until(replay.exec_id, lambda found: found.pending_wait)
    flow.answer(asked.exec_id, approve=True)
    assert flow.output.read_text() == "## 3.0.0 (2026-01-02)\n\nAll is new.\n"


def test_the_command_line_says_what_went_wrong(home: Path, tmp_path: Path):
    command = [sys.executable, str(ROOT / "examples" / "release_notes.py")]
    result = subprocess.run([*command, str(tmp_path)], capture_output=True, text=True)
    assert result.returncode == 1
    assert "not a git repository" in result.stderr
    result = subprocess.run([*command, "--help"], capture_output=True, text=True)
    assert result.returncode == 2
    assert result.stderr.startswith("usage:")


def demonstrate(root: Path, **place: str) -> str:
    kept = {key: value for key, value in os.environ.items() if key != "KITARU_HOME"}
    result = subprocess.run(
        [sys.executable, str(root / "examples" / "demo.py")],
        env=kept | place,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=SECONDS,
    )
    assert result.returncode == 0, result.stdout + result.stderr
    assert result.stderr == ""
    return result.stdout


def test_the_demonstration_leaves_its_store_in_a_folder_of_its_own(tmp_path: Path):
    notes = sorted(ROOT.rglob("RELEASE_NOTES*"))
    shown = demonstrate(ROOT, TMPDIR=str(tmp_path))
    (folder,) = tmp_path.glob("kitaru-demo-*")
    assert f"export KITARU_HOME={folder}" in shown
    executions = KitaruClient(home=folder).executions.list()
    assert [each.status for each in executions] == ["completed", "completed", "failed"]
    assert "A change put into better words" in (folder / "RELEASE_NOTES_REPLAYED.md").read_text()
    assert sorted(ROOT.rglob("RELEASE_NOTES*")) == notes, "the repository is as it was"


def test_the_demonstration_makes_a_history_where_there_is_none(home: Path, tmp_path: Path):
    archive = tmp_path / "archive"
    shutil.copytree(ROOT / "examples", archive / "examples")
    code = (
        "import sys; from pathlib import Path; sys.path.insert(0, 'examples'); import demo\n"
        "folder, revisions = demo.choose_history(Path(sys.argv[1]))\n"
        "print(demo.run(['git', 'log', '--format=%s', revisions], folder, folder))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(home)],
        cwd=archive,
        capture_output=True,
        text=True,
        check=True,
    )
    assert "made a small one" in done.stdout
    assert len(re.findall("^(?:feat|fix|docs|perf|Add|Prevent)", done.stdout, re.MULTILINE)) == 6
