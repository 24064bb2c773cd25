"""`kitaru executions export` and `import`, and `kitaru artifacts export`."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.cli.conftest import Cli
from tests.support import forget


def test_an_execution_moves_to_another_store(
    cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    exec_id, file = cli.completed(topic="dogs"), tmp_path / "report.kitaru"
    assert cli.good("executions", "export", exec_id, "--to", str(file)) == (
        f"Exported executions\n  File: {file}\n  Executions: {exec_id}\n"
        f"  Size: {file.stat().st_size / 1000:.1f} kB\n"
        "  Secrets: masked where a key looks like one\n"
    )
    logs = cli.good("executions", "logs", exec_id)
    value = cli.good("artifacts", "get", f"{exec_id}/draft")
    assert cli.good("executions", "import", str(file)) == f"Already there: {exec_id}\n"
    other = tmp_path / "other"
    monkeypatch.setenv("KITARU_HOME", str(other))
    assert cli.good("executions", "import", str(file)) == f"Imported execution: {exec_id}\n"
    assert cli.good("executions", "logs", exec_id) == logs
    assert cli.good("artifacts", "get", f"{exec_id}/draft") == value
    refused = cli.json("executions", "replay", exec_id, "--from", "draft")
    assert (refused.code, refused.error["type"]) == (1, "KitaruStateError")
    assert "was imported from a file" in refused.error["message"]
    forget(other)


def test_exports_and_imports_as_json(cli: Cli, tmp_path: Path):
    exec_id, file = cli.completed(topic="dogs"), tmp_path / "report.kitaru"
    result = cli.json("executions", "export", exec_id, "--to", str(file), "--raw")
    assert result.document["command"] == "executions.export"
    size = file.stat().st_size
    made = {"path": str(file), "exec_ids": [exec_id], "bytes": size, "redacted": False}
    assert result.item == made
    assert cli("executions", "export", exec_id, "--to", str(file)).code == 1
    assert "kept" in cli.good(
        "executions", "export", exec_id, "--to", str(file), "--raw", "--force"
    )
    item = cli.json("executions", "import", str(file)).item
    assert item == {"exec_ids": [], "already": [exec_id], "redacted": False}
    assert cli("executions", "export", exec_id).code == 2
    refused = cli("executions", "import", str(tmp_path / "none"))
    assert (refused.code, "There is no file" in refused.err) == (1, True)


def test_an_artifact_becomes_a_file(cli: Cli, tmp_path: Path):
    exec_id, file = cli.completed(topic="dogs"), tmp_path / "draft.txt"
    assert cli.good("artifacts", "export", f"{exec_id}/draft", str(file)) == (
        f"Exported artifact: {exec_id}/draft\n  File: {file}\n  Format: text\n  Size: 27 bytes\n"
    )
    assert file.read_text() == "draft from notes about dogs"
    refused = cli("artifacts", "export", f"{exec_id}/draft", str(file))
    assert (refused.code, "exists already" in refused.err) == (1, True)
    made = cli.json("artifacts", "export", f"{exec_id}/research/sources", str(file), "--force")
    assert made.document["command"] == "artifacts.export"
    assert (made.item["format"], "sk-123" in file.read_text()) == ("json", True)
