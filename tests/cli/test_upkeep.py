"""`kitaru executions delete` and `prune`."""

from __future__ import annotations

import re
import sys

import pytest

from tests.cli.conftest import Cli
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
