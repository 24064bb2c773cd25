"""The examples, one per pattern: each runs as a script, offline, and leaves the record it shows."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from kitaru import Execution, KitaruClient

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
SECONDS = 60


def run(name: str, *arguments: str) -> list[str]:
    """The lines that an example prints."""
    result = subprocess.run(
        [sys.executable, str(EXAMPLES / name), *arguments],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=SECONDS,
    )
    assert (result.returncode, result.stderr) == (0, ""), result.stdout + result.stderr
    return result.stdout.splitlines()


def latest(home: Path, flow: str) -> Execution:
    return KitaruClient(home=home).executions.latest(flow=flow)


def attempts(execution: Execution) -> dict[str, int]:
    return {call.call_id: len(call.attempts) for call in execution.checkpoints}


def test_sequential_runs_its_steps_in_order(home: Path):
    lines = run("sequential.py", "cats")
    assert lines[-2] == "About cats: cats are old friends of ours, and cats sleep a lot."
    done = latest(home, "article")
    assert lines[-1].endswith(done.exec_id)
    assert list(attempts(done)) == ["research", "draft", "polish"]


def test_parallel_reads_only_the_page_that_failed_again(home: Path):
    lines = run("parallel.py")
    assert lines[0] == "10 words"
    assert lines[1:4] == ["de(welcome to the shop)", "fr(welcome to the shop)", "de(we sell tea)"]
    counted = attempts(latest(home, "site"))
    again = {call_id for call_id, count in counted.items() if count > 1}
    assert again == {"fetch#2"}
    assert len(counted) == 3 + 1 + 6


def test_conditional_makes_only_the_calls_of_its_branch(home: Path):
    assert run("conditional.py", "A crash") == ["opened an issue: A crash"]
    assert list(attempts(latest(home, "triage"))) == ["classify", "open_issue"]
    assert run("conditional.py", "Why?") == ["answer 2 to: Why?"]
    calls = list(attempts(latest(home, "triage")))
    assert calls == ["classify", "answer", "grade", "answer#2", "grade#2"]


def test_human_in_the_loop_is_answered_by_another_thread(home: Path):
    lines = run("human_in_the_loop.py")
    assert lines[-1] == "published: About tea (green tea, please)"
    assert list(attempts(latest(home, "publish"))) == ["draft", "draft#2"]


def test_children_are_linked_to_their_parent(home: Path):
    lines = run("children.py")
    assert lines[0] == "core: 4 findings, website: 7 findings, docs: 4 findings"
    parent = latest(home, "audit_all")
    children = KitaruClient(home=home).executions.list(flow="audit")
    assert {child.parent_exec_id for child in children} == {parent.exec_id}
    assert len(children) == 3


def test_batch_runs_only_the_mended_item_again(home: Path):
    lines = run("batch.py")
    assert "total: 100" in lines
    assert any("invalid literal for int()" in line for line in lines)
    done = latest(home, "batch")
    assert attempts(done) == {"load": 1, "load#2": 1, "load#3": 2, "load#4": 1, "total": 1}


def test_async_agent_calls_off_the_slower_mirror(home: Path):
    lines = run("async_agent.py", "tea")
    assert lines[0] == "tea found something on 'tea 2' (by quick)"
    done = latest(home, "agent")
    cancelled = [call.call_id for call in done.checkpoints if call.status == "cancelled"]
    assert cancelled == ["mirror"]


def test_every_example_is_run_by_a_test():
    tests = "".join(path.read_text() for path in Path(__file__).parent.glob("test_*.py"))
    assert [path.name for path in EXAMPLES.glob("*.py") if path.name not in tests] == []
