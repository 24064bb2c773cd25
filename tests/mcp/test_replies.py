"""What a model gets to read: short rows, pages that lose nothing, the same data twice."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

import kitaru
from kitaru import KitaruClient, checkpoint, flow
from kitaru_mcp.replies import MAX_CHARACTERS
from tests.mcp.serving import Place, Served, served

LIMITS = {"row": 150, "tools/list": 10_240, "instructions": 1024}
SNAPSHOT = Path(__file__).with_name("tools.json")
SURPRISES = "\x1b[31mred\x1b[0m \u202eevil\u202c \u200bzero \x07bell"


@checkpoint
def talk(lines: int) -> str:
    for number in range(lines):
        print(f"line {number} " + "x" * (number % 60))
    kitaru.log(cost=1.5)
    kitaru.record_llm_usage(provider="mine", model="small", input_tokens=1234, actual_cost_usd=0.25)
    return "é" * 50_000


@checkpoint(type="tool_call")
def fail(text: str) -> None:
    raise ValueError(text)


@flow
def a_flow_with_a_name_that_is_as_long_as_anybody_would_want_it_to_be(lines: int) -> str:
    return talk(lines)


@flow
def failing(text: str) -> None:
    fail(text)


@pytest.fixture(scope="module")
def ids(place: Place) -> dict[str, str]:
    """Executions with much to say, made in this process."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("KITARU_HOME", str(place.home))
        long = a_flow_with_a_name_that_is_as_long_as_anybody_would_want_it_to_be.run(lines=3000)
        odd = failing.run(text=f"{SURPRISES} password=hunter2 " + "ü€" * 500)
        long.wait()
        with pytest.raises(kitaru.KitaruExecutionError):
            odd.wait()
    return {"long": long.exec_id, "odd": odd.exec_id}


def size(data: Any) -> int:
    return len(json.dumps(data, ensure_ascii=False, separators=(",", ":")).encode())


def test_a_row_of_the_list_is_short_and_says_what_went_wrong(
    modern: Served, ids: dict[str, str]
) -> None:
    rows = {row["exec_id"]: row for row in modern.call("kitaru_executions_list")["items"]}
    assert max(size(row) for row in rows.values()) <= LIMITS["row"]
    odd = rows[ids["odd"]]
    assert (odd["flow"], odd["status"]) == ("failing", "failed")
    assert odd["note"].startswith("ValueError: \\x1b[31mred")
    assert rows[ids["long"]]["used"] == "1,234 tokens $0.2500"
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\dZ", odd["at"])
    assert re.fullmatch(r"[\d.]+(ms|[smhd])", odd["age"])
    full = modern.call("kitaru_executions_list", detail="full")["items"][0]
    assert "failure" in full


def test_what_happens_next_is_suggested_where_it_may_be_called(
    place: Place, modern: Served, ids: dict[str, str]
) -> None:
    exec_id = ids["odd"]
    shown = modern.call("kitaru_executions_get", exec_id=exec_id)
    assert shown["next"] == [
        f'get_execution_logs(exec_id="{exec_id}", tail=50)',
        f'kitaru_executions_retry(exec_id="{exec_id}")',
    ]
    with served(place, "--read-only") as careful:
        shown = careful.call("kitaru_executions_get", exec_id=exec_id)
        assert shown["next"] == [f'get_execution_logs(exec_id="{exec_id}", tail=50)']


def test_an_execution_is_shown_shortly_and_in_full(modern: Served, ids: dict[str, str]) -> None:
    short = modern.call("kitaru_executions_get", exec_id=ids["long"])
    assert size(short) < 3000
    assert short["checkpoints"]["counts"] == {"completed": 1}
    assert short["llm_usage"] == {"total_tokens": 1234, "display_cost_usd": 0.25}
    assert short["checkpoints"]["last"][0]["llm_usage"] == short["llm_usage"]
    assert "metadata" not in short
    assert short["result"].endswith("more characters]")
    assert "T" in short["created_at"]
    full = modern.call("kitaru_executions_get", exec_id=ids["long"], detail="full")
    assert full["checkpoints"][0]["metadata"] == {"cost": 1.5}
    (record,) = full["llm_usage_records"]
    assert record["usage"]["total_tokens"] == full["metadata"]["kitaru_llm_total_tokens_v1"] == 1234
    odd = modern.call("kitaru_executions_get", exec_id=ids["odd"])
    assert odd["failure"]["type"] == "ValueError"
    assert "in fail" in odd["failure"]["traceback"]


def test_no_reply_carries_a_character_that_hides(modern: Served, ids: dict[str, str]) -> None:
    calls: list[tuple[str, dict[str, Any]]] = [
        ("kitaru_executions_list", {}),
        ("kitaru_executions_list", {"detail": "full"}),
        ("kitaru_executions_get", {"exec_id": ids["odd"]}),
        ("kitaru_executions_get", {"exec_id": ids["odd"], "detail": "full"}),
        ("get_execution_logs", {"exec_id": ids["odd"]}),
        ("kitaru_artifacts_list", {"exec_id": ids["odd"]}),
    ]
    for tool, arguments in calls:
        text = modern.reply(tool, **arguments).text
        assert not re.search("[\x00-\x08\x0b-\x1f\x7f-\x9f\u200b-\u200f\u202a-\u202e]", text), tool


def test_all_log_lines_are_reached_by_cursor_once(modern: Served, ids: dict[str, str]) -> None:
    seen, cursor = [], None
    while True:
        more = {} if cursor is None else {"cursor": cursor}
        text = modern.reply("get_execution_logs", exec_id=ids["long"], limit=5000, **more).text
        assert len(text) <= MAX_CHARACTERS
        *lines, last = text.splitlines()
        found = re.search('cursor="([^"]+)"', last)
        if not found:
            seen += [*lines, last]
            break
        assert f"{len(lines)} lines shown" in last
        seen += lines
        cursor = found[1]
    assert [int(line.split()[4]) for line in seen] == [*range(3000)]


def test_logs_are_narrowed(modern: Served, ids: dict[str, str]) -> None:
    def lines(**arguments: Any) -> list[str]:
        return modern.reply(
            "get_execution_logs", exec_id=ids["long"], **arguments
        ).text.splitlines()

    assert [line.split()[4] for line in lines(tail=3)] == ["2997", "2998", "2999"]
    assert len(lines(text="LINE 299 ")) == 1
    assert lines(level="error") == ["No log lines found."]
    assert lines(level="INFO", limit=1)[0].rstrip().endswith("line 0")
    assert lines(tail=5000)[0].startswith("… only the last ")
    refusal = modern.refusal("get_execution_logs", exec_id=ids["long"], tail=3, limit=3)
    assert refusal.startswith("bad_argument: ")


def test_a_value_is_read_piece_by_piece(modern: Served, ids: dict[str, str]) -> None:
    value, offset = "", 0
    while offset is not None:
        piece = modern.call(
            "kitaru_artifacts_get",
            artifact_id=f"{ids['long']}/talk",
            offset=offset,
            limit=18_000,
        )
        value += piece["text"]
        offset = piece.get("next_offset")
    assert value == "é" * 50_000


def test_many_artifacts_are_paged(place: Place, modern: Served, ids: dict[str, str]) -> None:
    whole = KitaruClient(home=place.home).artifacts.list(ids["long"])
    page = modern.call("kitaru_artifacts_list", exec_id=ids["long"], limit=1)
    assert [item["artifact_id"] for item in page["items"]] == [whole[0].artifact_id]
    assert ("next_cursor" in page) is (len(whole) > 1)


def test_the_list_of_tools_is_as_it_was_and_small(server: Served) -> None:
    listed = server.ask("list_tools").tools
    tools = [tool.model_dump(by_alias=True, mode="json", exclude_none=True) for tool in listed]
    found = {"bytes": size(tools), "tools": tools}
    assert found["bytes"] <= LIMITS["tools/list"]
    text = json.dumps(found, indent=1, ensure_ascii=False, sort_keys=True) + "\n"
    if text != SNAPSHOT.read_text():
        SNAPSHOT.with_suffix(".new.json").write_text(text)
        raise AssertionError("tools/list has changed; is tools.new.json right?")


def test_every_tool_can_be_found_and_two_are_there_at_once(server: Served) -> None:
    metas = {tool.name: tool.meta or {} for tool in server.ask("list_tools").tools}
    assert all(meta["anthropic/searchHint"] for meta in metas.values())
    loaded = [name for name, meta in metas.items() if meta.get("anthropic/alwaysLoad")]
    assert loaded == ["kitaru_executions_list", "kitaru_executions_get"]


def test_every_schema_is_flat_plain_and_described(server: Served) -> None:
    for tool in server.ask("list_tools").tools:
        assert tool.description
        assert len(tool.name) <= 30
        text = json.dumps(tool.input_schema)
        words = ("$ref", "$defs", "anyOf", "oneOf", "allOf", '"title"', 'null"')
        assert not any(word in text for word in words)
        assert tool.input_schema["type"] == "object"
        for argument in tool.input_schema["properties"].values():
            assert argument["description"]
            assert not isinstance(argument.get("type"), list)


def test_the_instructions_are_short_and_begin_with_what_it_is(server: Served) -> None:
    instructions = server.client.instructions or ""
    assert len(instructions.encode()) <= LIMITS["instructions"]
    assert "durable executions" in instructions[:250]
