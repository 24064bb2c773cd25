"""Commands that look: executions get, list, logs; artifacts list, get."""

from __future__ import annotations

import re
from datetime import timedelta, timezone

import pytest

import kitaru
from tests.support import plant_pickle

TIME = r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\dZ"


def matches(pattern: str, text: str) -> bool:
    return re.fullmatch(pattern, text, re.DOTALL) is not None


def test_a_completed_execution_as_text(cli):
    exec_id = cli.completed(topic="dogs")
    text = cli.good("executions", "get", exec_id)
    expected = (
        f"Kitaru execution\n  Execution ID: {exec_id}\n  Flow: pipeline\n  Status: completed\n"
        f"  Started: {TIME}\n  Ended: {TIME}\n  Stack: local\n  Pending wait: none\n"
        "  Wait question: none\n  Failure: none\n"
        r"  Checkpoints: research \(completed\), draft \(completed\)"
        "\n  LLM usage: none\n"
    )
    assert matches(expected, text), text


def test_an_execution_as_json_has_everything(cli):
    exec_id = cli.completed(topic="dogs")
    result = cli.json("executions", "get", exec_id)
    assert (result.code, result.err) == (0, "")
    assert result.document["command"] == "executions.get"
    assert result.item["result"] == "draft from notes about dogs!"
    assert result.item["inputs"] == {"topic": "dogs", "mark": "!"}
    assert [call["call_id"] for call in result.item["checkpoints"]] == ["research", "draft"]


def test_the_long_form_of_the_output_option_works_too(cli):
    assert cli("executions", "list", "--output=json").document["items"] == []
    assert cli("executions", "list", "--output", "text").out.startswith("Kitaru executions")


def test_a_waiting_execution_shows_its_question_on_one_line(cli):
    exec_id = cli.waiting()
    text = cli.good("executions", "get", exec_id)
    assert "  Pending wait: approve\n" in text
    assert "  Wait question: Go?\\n  Failure: none\\x1b[2J\n" in text
    assert "  Ended: not available\n" in text
    assert "resume" not in text


def test_a_failed_execution_shows_why(cli, tmp_path):
    exec_id = cli.run("flaky", path=str(tmp_path / "missing"))
    cli.until(exec_id, "failed")
    text = cli.good("executions", "get", exec_id)
    assert "\n  Failure: ValueError: no input yet\n" in text
    assert "  Checkpoints: needs (failed)\n" in text


def test_of_very_many_checkpoints_the_last_are_named_and_the_others_counted(cli):
    step = kitaru.checkpoint(lambda number: number, name="step")
    handle = kitaru.flow(lambda: [step(number) for number in range(150)], name="many").run()
    handle.wait()
    text = cli.good("executions", "get", handle.exec_id)
    (line,) = [each for each in text.splitlines() if "Checkpoints" in each]
    assert line.startswith("  Checkpoints: 50 before these (-o json has all), step#51 (completed)")
    assert line.endswith("step#150 (completed)")
    assert len(cli.json("executions", "get", handle.exec_id).item["checkpoints"]) == 150


def test_a_replay_names_its_original(cli):
    exec_id = cli.completed(topic="dogs")
    replayed = cli.json("executions", "replay", exec_id, "--from", "draft").item["exec_id"]
    assert f"\n  Replay of: {exec_id}\n" in cli.good("executions", "get", replayed)


def test_an_unfinished_listing_is_a_table(cli):
    exec_id = cli.waiting()
    text = cli.good("executions", "list")
    title, headings, rule, row = text.splitlines()
    assert title == "Kitaru executions"
    assert headings.split() == ["ID", "Flow", "Status", "Started", "Ended", "Stack"]
    assert set(rule) == {" ", "-"}
    assert matches(f"  {exec_id}   agent   waiting   {TIME}   -       local", row), row


def test_an_empty_listing_says_so(cli):
    assert cli.good("executions", "list") == "Kitaru executions\n  executions: none found\n"
    document = cli.json("executions", "list").document
    assert document == {
        "command": "executions.list",
        "items": [],
        "count": 0,
        "next_cursor": None,
    }


def test_listings_filter(cli):
    done, asking = cli.completed(topic="dogs"), cli.waiting()

    def ids(*filters: str) -> list[str]:
        return [item["exec_id"] for item in cli.json("executions", "list", *filters).items]

    assert ids() == [asking, done]
    assert ids("--status", "COMPLETED") == [done]
    assert ids("--flow", "agent") == [asking]
    assert ids("--stack", "local") == [asking, done]
    assert ids("--stack", "other") == []
    assert ids("--tag", "plain") == [asking, done]
    assert ids("--tag", "plain", "--tag", "quick") == [done]
    created = cli.client.executions.get(asking).created_at
    east = created.astimezone(timezone(timedelta(hours=14)))
    assert ids("--since", created.isoformat()) == [asking]
    assert ids("--until", created.isoformat()) == [done]
    assert ids("--since", east.isoformat(), "--until", "0m") == [asking]
    assert ids("--since", "1h") == ids("--since", "7d") == [asking, done]
    assert ids("--until", "30m") == []


def test_listings_page(cli):
    older, newer = cli.completed(topic="a"), cli.completed(topic="b")
    first = cli.json("executions", "list", "--limit", "1")
    assert [item["exec_id"] for item in first.items] == [newer]
    cursor = first.document["next_cursor"]
    assert cli.good("executions", "list", "--limit", "1").endswith(f"--cursor {cursor}\n")
    last = cli.json("executions", "list", "--limit", "1", "--cursor", cursor)
    assert [item["exec_id"] for item in last.items] == [older]
    assert last.document["next_cursor"] is None
    assert cli.json("executions", "list", "--cursor", "x").error["type"] == "KitaruUsageError"


def test_a_unique_prefix_is_enough_and_an_ambiguous_one_names_its_executions(cli):
    ids = [cli.completed(topic="a"), cli.completed(topic="b")]
    assert ids[0] in cli.good("executions", "get", ids[0][:10])
    assert ids[0] in cli.good("executions", "get", ids[0].removeprefix("kr-"))
    assert ids[0] in cli.good("artifacts", "list", ids[0][:10])
    result = cli("executions", "get", "kr-")
    assert (result.code, result.out) == (1, "")
    assert all(exec_id in result.err for exec_id in ids)
    assert cli.json("executions", "get", "kr-").error["type"] == "KitaruStateError"


@pytest.mark.parametrize(
    "command",
    ["executions get", "executions logs", "executions resume", "artifacts list", "artifacts get"],
)
def test_an_unknown_id_is_refused(cli, command):
    result = cli(*command.split(), "kr-nothing")
    assert (result.code, result.out) == (1, "")
    assert result.err.startswith("Error: No execution 'kr-nothing'.")
    refused = cli.json(*command.split(), "kr-nothing")
    assert refused.code == 1
    assert refused.error["type"] == "KitaruNotFoundError"
    assert f'"command": "{command.replace(" ", ".")}"' in refused.err


def test_logs_are_the_lines_written_with_control_characters_escaped(cli):
    exec_id = cli.waiting()
    assert cli.good("executions", "logs", exec_id) == (
        "noise of the body\nlooking up dogs\\x1b[31m\n"
    )
    first = cli.good("executions", "logs", exec_id, "--limit", "1")
    assert first == "noise of the body\n"
    entries = cli.json("executions", "logs", exec_id, "--checkpoint", "research").items
    assert [(e["level"], e["checkpoint_name"]) for e in entries] == [("INFO", "research")]
    assert entries[0]["message"] == "looking up dogs\\x1b[31m"
    assert "epoch 1" in cli.good("executions", "logs", exec_id, "--source", "runner")
    none = cli.good("executions", "logs", exec_id, "--text", "nothing")
    assert none == f"No log entries found for execution {exec_id}.\n"
    refused = cli("executions", "logs", exec_id, "--checkpoint", "reserch")
    assert refused.code == 1
    assert "has not called a checkpoint 'reserch'. Nearest: research." in refused.err


def test_logs_are_narrowed_by_level_text_and_to_the_last(cli):
    exec_id = cli.waiting()
    both = cli.good("executions", "logs", exec_id)
    first, last = both.splitlines(keepends=True)
    assert cli.good("executions", "logs", "latest", "--level", "info") == both
    assert "No log entries" in cli.good("executions", "logs", exec_id, "--level", "WARNING")
    assert cli.good("executions", "logs", exec_id, "--text", "BODY") == first
    assert cli.good("executions", "logs", exec_id, "--tail", "1") == last
    refused = cli("executions", "logs", exec_id, "--tail", "1", "--limit", "1")
    assert (refused.code, "leave out limit" in refused.err) == (1, True)


def test_artifacts_are_listed_and_shown(cli):
    exec_id = cli.completed(topic="dogs")
    text = cli.good("artifacts", "list", exec_id)
    assert text.splitlines()[1].split() == ["ID", "Name", "Kind", "Type", "Call", "Bytes"]
    assert f"  {exec_id}/research/sources   sources    context    manual " in text

    def names(*filters: str) -> list[str]:
        return [item["name"] for item in cli.json("artifacts", "list", exec_id, *filters).items]

    assert names() == ["sources", "research", "draft"]
    assert names("--kind", "response") == ["draft"]
    assert names("--name", "research") == ["research"]
    assert names("--producing-call", "research") == ["sources", "research"]
    assert cli.good("artifacts", "list", exec_id, "--name", "x").endswith(
        "\n  artifacts: none found\n"
    )

    draft = cli.good("artifacts", "get", f"{exec_id}/draft")
    assert draft.startswith(f"Kitaru artifact\n  Artifact ID: {exec_id}/draft\n  Name: draft\n")
    assert draft.endswith("\n  Value:\n    draft from notes about dogs\n")
    sources = cli.json("artifacts", "get", f"{exec_id}/research/sources")
    assert sources.document["command"] == "artifacts.get"
    assert sources.item["value"] == {"topic": "dogs", "api_key": "[redacted]"}
    assert "[redacted]" in cli.good("artifacts", "get", f"{exec_id}/research/sources")
    assert cli("artifacts", "get", f"{exec_id}/nothing").code == 1


def test_no_command_that_looks_unpickles_what_it_shows(cli, tmp_path):
    exec_id, mark = cli.completed(topic="dogs"), tmp_path / "mark"
    plant_pickle(cli.home, exec_id, mark)
    shown = ""
    for command in [
        "status",
        "executions list",
        f"executions get {exec_id}",
        f"executions logs {exec_id}",
        f"artifacts list {exec_id}",
        f"artifacts get {exec_id}/draft",
        f"artifacts get {exec_id}/research/sources",
    ]:
        shown += cli.good(*command.split()) + cli.good(*command.split(), "-o", "json")
    assert not mark.exists()
    assert shown.count('"pickle": ') >= 6
    cli.client.artifacts.get(f"{exec_id}/draft").load(allow_pickle=True)
    assert mark.exists(), "the pickle does what it is planted for"
