"""`kitaru executions delete` and `prune`, `kitaru backup` and `kitaru doctor`."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest

from tests.cli.conftest import Cli
from tests.support import query
from tests.terminals import Terminal


def test_finished_executions_are_deleted_with_their_logs(cli: Cli):
    one, two = cli.completed(topic="a"), cli.completed(topic="b")
    text = cli.good("executions", "delete", one, two)
    first, second, size = text.splitlines()
    assert {first, second} == {f"Deleted execution: {each}" for each in (one, two)}
    assert re.fullmatch(r"  Size: \d+ bytes", size)
    assert cli("executions", "get", one).code == 1


def test_an_execution_that_waits_is_refused(cli: Cli):
    exec_id = cli.waiting()
    refused = cli.json("executions", "delete", exec_id)
    assert (refused.code, refused.error["type"]) == (1, "KitaruStateError")
    assert "it is waiting. Only completed, failed and cancelled" in refused.error["message"]
    assert cli.json("executions", "prune", "--older-than", "0m").item["count"] == 0


def test_what_was_started_stays_and_is_told(cli: Cli, monkeypatch: pytest.MonkeyPatch):
    exec_id = cli.completed(topic="a")
    replay = cli.json("executions", "replay", exec_id, "--from", "draft").item["exec_id"]
    cli.until(replay, "completed")
    item = cli.json("executions", "delete", exec_id).item
    assert item["exec_ids"] == [exec_id]
    assert item["bytes"] > 0
    assert item["children"] == []
    assert cli.client.executions.get(replay).original_exec_id == exec_id


def test_prune_needs_a_limit_and_tells_what_went(cli: Cli):
    for wrong in ([], ["--keep-failed"], ["--status", "running"], ["--older-than", "old"]):
        assert cli("executions", "prune", *wrong).code == 2
    cli.completed(topic="a")
    asking = cli.waiting()
    dry = cli.json("executions", "prune", "--older-than", "0m", "--dry-run")
    assert dry.document["command"] == "executions.prune"
    assert dry.item == {"count": 1, "bytes": dry.item["bytes"], "kept": {}, "dry_run": True}
    assert cli.good("executions", "prune", "--older-than", "1h") == (
        "Deleted 0 executions\n  Size: 0 bytes\n"
    )
    assert cli.good("executions", "prune", "--older-than", "0m").startswith("Deleted 1 execution\n")
    assert [each.exec_id for each in cli.client.executions.list()] == [asking]


def test_a_terminal_sees_how_far_a_pruning_is(cli: Cli):
    cli.completed(topic="a")
    prune = ["-m", "kitaru.cli", "executions", "prune", "--older-than", "0m"]
    terminal = Terminal([sys.executable, *prune])
    try:
        shown = terminal.all()
    finally:
        terminal.close()
    assert "Deleting executions" in shown
    assert "Deleted 1 execution" in shown


def test_prune_makes_the_file_smaller_when_it_is_told_to(cli: Cli):
    cli.completed(topic="x" * 3_000_000)
    assert cli("executions", "prune", "--flow", "pipeline", "--dry-run", "--vacuum").code == 2
    text = cli.good("executions", "prune", "--flow", "pipeline", "--vacuum")
    pattern = r"  Compacted from [\d.]+ MB to [\d.]+ kB; others waited \d+\.\d s"
    assert re.fullmatch(pattern, text.splitlines()[-1])
    item = cli.json("executions", "prune", "--flow", "pipeline", "--vacuum").item
    assert {*item["compacted"]} == {"bytes_before", "bytes", "seconds"}


def test_a_terminal_hears_before_how_long_others_wait(cli: Cli):
    cli.completed(topic="a")
    prune = ["-m", "kitaru.cli", "executions", "prune", "--older-than", "0m", "--vacuum"]
    terminal = Terminal([sys.executable, *prune])
    try:
        shown = terminal.all()
    finally:
        terminal.close()
    assert shown.index("whoever writes waits about 1 s") < shown.index("Compacted from")


def test_a_backup_says_what_it_has_made(cli: Cli, tmp_path: Path):
    cli.completed(topic="a")
    target = tmp_path / "copy.db"
    text = cli.good("backup", str(target))
    assert text.startswith(f"Backed up the store\n  File: {target}\n  Size: ")
    assert text.endswith("\n  Executions: 1\n")
    refused = cli.json("backup", str(target))
    assert (refused.code, refused.error["type"]) == (1, "KitaruUsageError")
    again = cli.json("backup", str(target), "--force")
    assert again.document["command"] == "backup"
    size = target.stat().st_size
    assert again.item == {"path": str(target), "bytes": size, "executions": 1}


def test_without_a_store_there_is_nothing_to_back_up(cli: Cli, tmp_path: Path):
    refused = cli("backup", str(tmp_path / "copy.db"))
    assert (refused.code, "There is no store at" in refused.err) == (1, True)
    assert not [*cli.home.iterdir()]


def test_the_doctor_finds_nothing_in_a_sound_store(cli: Cli):
    assert cli.good("doctor") == (
        f"Kitaru doctor\n  Store: {cli.home / 'kitaru.db'}\n  Findings: none\n"
    )
    assert not [*cli.home.iterdir()]
    cli.completed(topic="a")
    assert cli.json("doctor", "--full").document == {"command": "doctor", "items": [], "count": 0}


def test_the_doctor_tells_what_it_finds_and_repairs(cli: Cli):
    cli.completed(topic="a")
    cli.home.chmod(0o755)
    query(cli.home, "INSERT INTO chunks VALUES ('inputs:99', 0, x'00')")
    result = cli("doctor")
    assert (result.code, result.err) == (1, "Error: The store has 2 findings that need somebody.\n")
    assert "\n  Findings: 2\n  permissions " in result.out
    assert "  orphaned_chunk inputs:99: Chunks of a value are left" in result.out
    repaired = cli.good("doctor", "--repair")
    assert repaired.count(" Repaired.") == 2
    assert cli.good("doctor").endswith("Findings: none\n")


def test_a_finding_as_json(cli: Cli):
    cli.completed(topic="a")
    query(cli.home, "UPDATE executions SET failure = NULL, status = 'failed'")
    result = cli.json("doctor")
    assert result.code == 1
    (item,) = result.items
    assert {*item} == {"code", "id", "message", "advice", "repaired"}
    assert (item["code"], item["repaired"]) == ("status_mismatch", False)
    assert "The store has 1 finding that needs somebody." in result.err
