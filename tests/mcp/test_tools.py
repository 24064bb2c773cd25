"""The tools on a store that real flows made: the SDK's client over stdio, in both eras."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path
from typing import Any

import pytest

from kitaru_mcp.tools import TOOLS
from tests.mcp.serving import Place, Served, served
from tests.support import plant_pickle, until

READING = [
    "kitaru_executions_list",
    "kitaru_executions_get",
    "kitaru_executions_latest",
    "kitaru_executions_statistics",
    "get_execution_logs",
    "kitaru_artifacts_list",
    "kitaru_artifacts_get",
    "kitaru_executions_wait",
    "kitaru_stacks_list",
    "kitaru_status",
]
CHANGING = [
    "kitaru_executions_input",
    "kitaru_executions_run",
    "kitaru_executions_retry",
    "kitaru_executions_replay",
    "kitaru_executions_cancel",
]


def run(server: Served, target: str = "flows.py:agent", **args: Any) -> dict[str, Any]:
    """Run a flow until it ends or asks."""
    reply = server.call("kitaru_executions_run", target=target, args=args, wait_seconds=50)
    execution: dict[str, Any] = reply["execution"]
    return execution


def finished(server: Served, exec_id: str) -> dict[str, Any]:
    """The execution once it has ended."""

    def ended() -> dict[str, Any] | None:
        found: dict[str, Any] = server.call("kitaru_executions_get", exec_id=exec_id, detail="full")
        return found if found["status"] in ("completed", "failed", "cancelled") else None

    found = until(ended, f"{exec_id} has ended")
    assert found is not None
    return found


@pytest.fixture(scope="module")
def done(place: Place) -> dict[str, Any]:
    """A completed execution."""
    with served(place) as server:
        exec_id = run(server)["exec_id"]
        server.call("kitaru_executions_input", exec_id=exec_id, wait="approve", value=True)
        return finished(server, exec_id)


# --- what is offered ------------------------------------------------------------------------------


def test_the_list_of_tools_is_the_registry_and_cannot_resume(server: Served) -> None:
    listed = server.ask("list_tools").tools
    assert [tool.name for tool in listed] == [tool.name for tool in TOOLS]
    assert sorted(READING + CHANGING) == sorted(tool.name for tool in listed)
    assert not any("resume" in tool.name for tool in listed)


def test_annotations_tell_reading_running_and_destroying_apart(server: Served) -> None:
    hints = {
        tool.name: tool.annotations.model_dump(exclude_none=True)
        for tool in server.ask("list_tools").tools
    }
    assert all(len(hint) == 4 for hint in hints.values())
    assert [name for name, hint in hints.items() if hint["read_only_hint"]] == READING
    assert [name for name, hint in hints.items() if hint["destructive_hint"]] == CHANGING[-2:]


# --- the main job ---------------------------------------------------------------------------------


def test_a_flow_is_run_answered_and_read(server: Served) -> None:
    execution = run(server, topic="cats")
    exec_id = execution["exec_id"]
    assert execution["status"] == "waiting"
    assert execution["pending_waits"][0]["question"] == "Publish?"
    waiting = server.call("kitaru_executions_list", status="waiting")["items"]
    assert exec_id in [item["exec_id"] for item in waiting]

    reply = server.call("kitaru_executions_input", exec_id=exec_id, wait="approve", value=True)
    assert reply["continues_by_itself"] is True
    found = finished(server, exec_id)
    assert found["status"] == "completed"
    assert found["result"] == "ABOUT CATS"
    assert [call["name"] for call in found["checkpoints"]] == ["who", "draft", "publish"]
    latest = server.call("kitaru_executions_latest", flow="agent", status="completed")
    assert latest["exec_id"] == exec_id

    logs = server.reply("get_execution_logs", exec_id=exec_id, checkpoint="draft")
    assert logs.data is None
    assert logs.text.endswith("INFO [draft] drafting cats")
    listed = server.call("kitaru_artifacts_list", exec_id=exec_id, producing_call="draft")
    ids = [item["artifact_id"] for item in listed["items"]]
    assert ids == [f"{exec_id}/draft/outline", f"{exec_id}/draft"]
    outline = server.call("kitaru_artifacts_get", artifact_id=ids[0])
    assert (outline["value"], outline["kind"]) == (["intro", "cats"], "context")


def test_text_and_structured_content_are_the_same_data(
    server: Served, done: dict[str, Any]
) -> None:
    exec_id = done["exec_id"]
    for tool, arguments in [
        ("kitaru_status", {}),
        ("kitaru_executions_list", {"limit": 1}),
        ("kitaru_executions_get", {"exec_id": exec_id}),
        ("kitaru_artifacts_list", {"exec_id": exec_id}),
        ("kitaru_artifacts_get", {"artifact_id": f"{exec_id}/draft"}),
    ]:
        reply = server.reply(tool, **arguments)
        assert json.loads(reply.text) == reply.data
        assert "\n" not in reply.text


def test_no_reading_tool_unpickles_what_it_shows(
    server: Served, place: Place, tmp_path: Path
) -> None:
    exec_id, mark = run(server)["exec_id"], tmp_path / "mark"
    server.call("kitaru_executions_input", exec_id=exec_id, wait="approve", value=True)
    finished(server, exec_id)
    plant_pickle(place.home, exec_id, mark)
    which = {"exec_id": exec_id}
    arguments = {tool: {} for tool in READING} | {
        "kitaru_executions_get": which,
        "kitaru_executions_wait": which,
        "get_execution_logs": which,
        "kitaru_artifacts_list": which,
        "kitaru_artifacts_get": {"artifact_id": f"{exec_id}/draft/outline"},
    }
    replies = {tool: server.reply(tool, **given) for tool, given in arguments.items()}
    assert not any(reply.is_error for reply in replies.values())
    assert not mark.exists()
    shown = replies["kitaru_artifacts_get"].data
    assert shown["format"] == "pickle"
    assert "value" not in shown
    assert list(replies["kitaru_executions_get"].data["result"]) == ["pickle"]
    place.client.artifacts.get(f"{exec_id}/draft").load(allow_pickle=True)
    assert mark.exists(), "the pickle does what it is planted for"


def test_an_answer_after_the_runner_was_killed_names_the_command_that_resumes(
    server: Served, place: Place
) -> None:
    exec_id = run(server)["exec_id"]
    pid = server.call("kitaru_artifacts_get", artifact_id=f"{exec_id}/who")["value"]
    os.kill(pid, signal.SIGKILL)
    until(lambda: not place.client.executions.continues(exec_id), "the runner is gone")
    reply = server.call("kitaru_executions_input", exec_id=exec_id, wait="approve", value=True)
    assert reply["continues_by_itself"] is False
    assert reply["execution"]["next"] == [
        f"in a shell: KITARU_HOME={place.home} kitaru executions resume {exec_id}"
    ]
    assert reply["execution"]["status"] == "waiting"


def test_a_replay_is_a_new_execution_with_changed_results(
    server: Served, done: dict[str, Any]
) -> None:
    reply = server.call(
        "kitaru_executions_replay",
        exec_id=done["exec_id"],
        from_="publish",
        overrides=json.dumps({"checkpoint.draft": "changed"}),
        confirm=True,
    )
    assert (reply["available"], reply["operation"]) == (True, "replay")
    found = finished(server, reply["execution"]["exec_id"])
    assert found["original_exec_id"] == done["exec_id"]
    assert found["result"] == "CHANGED"


def test_a_failed_execution_shows_why_and_is_retried(server: Served) -> None:
    failed = run(server, "flows:broken")
    assert failed["status"] == "failed"
    assert "no luck today" in failed["failure"]["message"]
    again = server.call("kitaru_executions_retry", exec_id=failed["exec_id"])
    assert again["execution"]["exec_id"] == failed["exec_id"]
    assert finished(server, failed["exec_id"])["status"] == "failed"


def test_pages_follow_each_other(server: Served, done: dict[str, Any]) -> None:
    whole = server.call("kitaru_executions_list", limit=100)["items"]
    seen: list[Any] = []
    cursor = ""
    while cursor is not None:
        page = server.call("kitaru_executions_list", limit="1", cursor=cursor)
        seen += page["items"]
        cursor = page.get("next_cursor")
    assert [item["exec_id"] for item in seen] == [item["exec_id"] for item in whole]
    assert server.call("kitaru_executions_list", until="1d")["items"] == []
    assert server.call("kitaru_executions_list", since="1d", flow="agent", tags=["x"])["count"] == 0


def test_without_logs_there_is_a_sentence(server: Served, done: dict[str, Any]) -> None:
    reply = server.reply("get_execution_logs", exec_id=done["exec_id"], checkpoint="who")
    assert reply.text == "No log lines found."


# --- what is refused ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("tool", "arguments", "code", "says"),
    [
        ("kitaru_executions_list", {"limt": 5}, "bad_argument", "did you mean limit?"),
        ("kitaru_executions_list", {"limit": "many"}, "bad_argument", "a whole number"),
        ("kitaru_executions_list", {"limit": 1000}, "bad_argument", "from 1 to 200"),
        ("kitaru_executions_list", {"status": "dead"}, "bad_argument", "one of pending, running"),
        ("kitaru_executions_list", {"since": "yesterday"}, "bad_argument", "24h"),
        ("kitaru_executions_list", {"since": "2026-01-01"}, "bad_argument", "time zone"),
        ("kitaru_executions_list", {"cursor": "first"}, "bad_argument", "not a cursor"),
        ("kitaru_executions_get", {}, "bad_argument", "needs exec_id"),
        ("kitaru_executions_get", {"exec_id": {"id": 1}}, "bad_argument", "must be text"),
        ("kitaru_executions_get", {"exec_id": "kr-zzzz"}, "not_found", "kr-"),
        ("kitaru_executions_latest", {"flow": "nobody"}, "not_found", "flow=nobody"),
        ("kitaru_artifacts_get", {"artifact_id": "{done}/nothing"}, "not_found", "{done}/draft"),
        ("kitaru_executions_retry", {"exec_id": "{done}"}, "invalid_state", "works on failed"),
        (
            "kitaru_executions_replay",
            {"exec_id": "{done}", "from_": "drift", "confirm": True},
            "invalid_state",
            "draft",
        ),
        (
            "kitaru_executions_replay",
            {"exec_id": "{done}", "from_": "draft", "flow_inputs": {"self": 1}, "confirm": True},
            "bad_argument",
            "'self'",
        ),
        ("kitaru_executions_run", {"target": "flows.py:nobody"}, "bad_argument", "agent"),
        (
            "kitaru_executions_run",
            {"target": "flows.py:agent", "args": {"tpoic": 1}},
            "bad_argument",
            "topic",
        ),
    ],
)
def test_a_refusal_names_its_kind_and_the_way_out(
    server: Served, done: dict[str, Any], tool: str, arguments: Any, code: str, says: str
) -> None:
    filled = json.loads(json.dumps(arguments).replace("{done}", done["exec_id"]))
    refusal = server.refusal(tool, **filled)
    assert refusal.startswith(f"{code}: ")
    assert says.replace("{done}", done["exec_id"]) in refusal
    assert len(refusal) <= 400
    assert not any(word in refusal for word in ("Traceback", "pydantic", "Error executing"))


def test_an_unfit_answer_leaves_the_question_open_and_a_second_answer_is_refused(
    server: Served,
) -> None:
    exec_id = run(server)["exec_id"]
    ask = {"exec_id": exec_id, "wait": "approve"}
    refusal = server.refusal("kitaru_executions_input", **ask, value="perhaps")
    assert refusal.startswith("bad_argument: ")
    assert '{"type":"boolean"}' in refusal
    refusal = server.refusal("kitaru_executions_input", exec_id=exec_id, wait="other", value=True)
    assert "approve" in refusal
    found = server.call("kitaru_executions_get", exec_id=exec_id)
    assert found["status"] == "waiting"
    assert found["pending_waits"][0]["name"] == "approve"
    server.call("kitaru_executions_input", **ask, value="false")
    refusal = server.refusal("kitaru_executions_input", **ask, value=True)
    assert refusal.startswith("invalid_state: ")
    assert finished(server, exec_id)["result"] == "rejected"


def test_an_unknown_tool_is_a_protocol_error_that_names_the_nearest(server: Served) -> None:
    with pytest.raises(Exception, match="Did you mean kitaru_executions_get"):
        server.reply("kitaru_execution_get")


def test_a_read_only_server_offers_and_does_nothing_that_changes(
    place: Place, done: dict[str, Any]
) -> None:
    with served(place, "--read-only") as server:
        assert [tool.name for tool in server.ask("list_tools").tools] == READING
        assert server.call("kitaru_status")["read_only"] is True
        told = server.client.instructions or ""
        assert "durable executions" in told
        assert not any(name in told for name in CHANGING)
        for tool in CHANGING:
            refusal = server.refusal(tool, exec_id=done["exec_id"])
            assert refusal.startswith("read_only: ")
            assert "--read-only" in refusal
        assert finished(server, done["exec_id"]) == done


def test_only_runners_have_imported_the_flows(
    server: Served, place: Place, done: dict[str, Any]
) -> None:
    importers = (place.home / "imports.txt").read_text().splitlines()
    assert importers
    assert all(line.endswith("-m kitaru.runner") for line in importers)
