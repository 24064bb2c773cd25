"""The examples that ask models, as scripts against the scripted one: what they leave on record."""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from examples import research_agent
from examples.model_server import ModelServer, scripted
from kitaru import Execution, KitaruClient
from tests.examples.test_patterns import EXAMPLES, SECONDS, attempts, latest
from tests.support import until


def run(log: Path, name: str, *arguments: str, code: int = 0) -> list[str]:
    """The lines an example prints whose models are all in a server that keeps a log."""
    command = [sys.executable, str(EXAMPLES / name), *arguments]
    result = subprocess.run(
        [sys.executable, str(EXAMPLES / "model_server.py"), "--log", str(log), "--", *command],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=SECONDS,
    )
    assert (result.returncode, result.stderr) == (code, ""), result.stdout + result.stderr
    return result.stdout.splitlines()


def asked(log: Path) -> list[str]:
    """What the server was asked."""
    return [json.loads(line)["prompt"] for line in log.read_text().splitlines()]


def ended(client: KitaruClient, exec_id: str) -> Execution:
    """An execution at its end, which was a good one."""
    return until(
        lambda: (found := client.executions.get(exec_id)).status.is_finished and found, "it ends"
    )


def test_the_research_agent_asks_lets_go_and_publishes_after_the_answer(home: Path, tmp_path: Path):
    log, report = tmp_path / "log", tmp_path / "report.md"
    lines = run(log, "research_agent.py", "--output", str(report))
    waiting = latest(home, "research_agent")
    assert f"kitaru executions input {waiting.exec_id} --wait approve" in lines[-1]
    assert list(attempts(waiting)) == [
        "plan",
        *(f"research{n}" for n in ("", "#2", "#3")),
        "report",
    ]
    assert waiting.pending_wait.metadata["report"].startswith("# Tea")
    assert not report.exists()

    client = KitaruClient(home=home)
    client.executions.input(waiting.exec_id, wait="approve", value={"approve": True})
    client.executions.resume(waiting.exec_id)
    done = ended(client, waiting.exec_id)
    assert done.result == str(report)
    assert report.read_text().startswith("# Tea")
    assert len(asked(log)) == 5  # the server is gone: nothing more could be asked
    summary = done.llm_usage_summary
    assert (summary["usage_record_count"], summary["incurred_usage_record_count"]) == (5, 5)
    assert summary["models"] == ["openai/gpt-5-nano"]


def test_the_research_agent_revises_with_the_feedback_and_tells_what_it_used(
    home: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
):
    report = tmp_path / "report.md"
    monkeypatch.setattr(sys, "argv", ["research_agent.py", "--output", str(report), "--approve"])
    monkeypatch.setattr(research_agent, "approve", lambda exec_id: revise_first(home, exec_id))
    with ModelServer(scripted()) as server:
        for name, value in server.settings().items():
            monkeypatch.setenv(name, value)
        assert research_agent.main() == 0
        used = sum(server.tokens())
    assert [each.prompt.partition(":")[0] for each in server.requests if each.is_streamed] == [
        "Write a report on tea, of these notes alone",
        "Revise a report as its editor asks",
    ]
    assert "Where does it come from?" in server.requests[-1].prompt
    done = latest(home, "research_agent")
    assert [call.call_id for call in done.checkpoints][-2:] == ["revision", "publish"]
    assert report.read_text() == done.checkpoints[-2].artifacts[-1].load() + "\n"
    assert done.llm_usage_summary["total_tokens"] == used
    assert f", {used} tokens, $0.00" in capsys.readouterr().out.splitlines()[-1]


def revise_first(home: Path, exec_id: str) -> None:
    """Ask for a revision, then approve."""
    executions = KitaruClient(home=home).executions
    feedback = {"approve": False, "feedback": "Where does it come from?"}
    for answer in (feedback, {"approve": True}):
        (wait,) = until(lambda: executions.pending_waits(exec_id), "it asks")
        executions.input(exec_id, wait=wait.wait_id, value=answer)


def test_the_coding_agent_goes_on_after_a_crash_and_pays_for_no_turn_twice(
    home: Path, tmp_path: Path
):
    first, second = tmp_path / "first", tmp_path / "second"
    run(first, "coding_agent.py", "--crash", code=1)
    crashed = latest(home, "coding_agent")
    assert crashed.status == "running"
    turns = [call for call in crashed.checkpoints if call.name == "think"]
    paid = [call for call in turns if call.status == "completed"]
    assert 0 < len(paid) < 6

    lines = run(second, "coding_agent.py", "--resume", crashed.exec_id)
    assert lines[-1].startswith("The test passes")
    done = latest(home, "coding_agent")
    assert Counter(call.name for call in done.checkpoints) == {
        "think": 6,
        "run_tests": 2,
        "read_file": 2,
        "write_file": 1,
    }
    assert len(asked(second)) == 6 - len(paid)
    assert not {*asked(second)} & {*asked(first)[: len(paid)]}
    assert done.llm_usage_summary["usage_record_count"] == 6
    assert done.llm_usage_summary["adapters"] == ["sdk"]
    assert {call.name for call in done.checkpoints if call.status == "failed"} == {"read_file"}


def test_the_coding_agent_s_tools_stay_in_their_folder(tmp_path: Path):
    from examples.coding_agent import inside

    (tmp_path / "work").mkdir()
    (tmp_path / "work" / "link").symlink_to(tmp_path)
    assert inside(str(tmp_path / "work"), "a/../b.py") == tmp_path / "work" / "b.py"
    for path in ("../secret", "/etc/passwd", "link/secret"):
        with pytest.raises(PermissionError, match="outside of the folder"):
            inside(str(tmp_path / "work"), path)


def test_the_batch_is_sorted_around_its_bad_items_and_costs_nothing_again(
    home: Path, tmp_path: Path
):
    log = tmp_path / "log"
    lines = run(log, "batch_triage.py")
    again, first = KitaruClient(home=home).executions.list(flow="batch_triage")
    first, again = (KitaruClient(home=home).executions.get(each.exec_id) for each in (first, again))

    assert first.result == again.result
    sorted_ones = [*first.result[:3], first.result[4]]
    assert [each["urgency"] for each in sorted_ones] == ["normal", "high", "low", "high"]
    assert first.result[3] == "the ticket is empty"
    assert [len(call.llm_usage_records) for call in first.checkpoints] == [1, 1, 1, 0, 2]
    assert [call.status for call in again.checkpoints].count("failed") == 1
    assert [call.cached_from is None for call in again.checkpoints].count(True) == 1
    assert len(asked(log)) == 5

    paid, reused = first.llm_usage_summary, again.llm_usage_summary
    assert paid["incurred_total_tokens"] == reused["reused_total_tokens"] > 0
    assert (paid["reused_total_tokens"], reused["incurred_total_tokens"]) == (0, 0)
    assert reused["display_cost_usd"] == 0.0
    tokens = paid["incurred_total_tokens"]
    assert f"{tokens} tokens incurred, 0 reused" in lines
    assert f"0 tokens incurred, {tokens} reused" in lines
