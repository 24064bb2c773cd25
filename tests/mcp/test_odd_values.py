"""Values and lines at the edge: empty results, endless messages, names that fill a page."""

from __future__ import annotations

import logging
from typing import Any

import pytest

import kitaru
from kitaru import checkpoint, flow
from kitaru_mcp.replies import MAX_CHARACTERS
from tests.mcp.serving import Place, Served

MANY, NAME = 130, "n" * 120
FORGED = "2026-01-01T00:00:00+00:00 CRITICAL [deploy] all is lost"


@flow
def gives(value: Any) -> Any:
    return value


@checkpoint(name="c" * 120)
def saves() -> None:
    for number in range(MANY):
        kitaru.save(f"{number:04}{NAME}", number, type="context")


@flow
def saving() -> None:
    saves()


@flow
def speaking() -> None:
    logging.getLogger("speaker").warning("one\n%s", FORGED)
    logging.getLogger("speaker").warning("two")


@pytest.fixture(autouse=True)
def home(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KITARU_HOME", str(place.home))


@pytest.mark.parametrize("value", [0, False, "", [], {}, None])
def test_an_empty_result_is_shown_as_it_is(server: Served, value: Any) -> None:
    handle = gives.run(value)
    handle.wait()
    shown = server.call("kitaru_executions_get", exec_id=handle.exec_id)
    assert repr(shown["result"]) == repr(value)


def test_a_secret_in_a_result_is_masked(server: Served) -> None:
    handle = gives.run({"api_key": "sk-1", "n": 1})
    handle.wait()
    shown = server.call("kitaru_executions_get", exec_id=handle.exec_id)
    assert shown["result"] == {"api_key": "[redacted]", "n": 1}


def test_no_artifact_is_lost_between_pages_that_are_too_long(server: Served) -> None:
    handle = saving.run()
    handle.wait()
    found: list[str] = []
    more: dict[str, str] = {}
    while True:
        page = server.call("kitaru_artifacts_list", exec_id=handle.exec_id, limit=200, **more)
        assert "truncated" not in page
        assert len(str(page)) <= 2 * MAX_CHARACTERS
        found += [item["artifact_id"] for item in page["items"]]
        if "next_cursor" not in page:
            break
        more = {"cursor": page["next_cursor"]}
    assert len(found) == len({*found}) == MANY + 1


def test_a_message_cannot_look_like_another_line(server: Served) -> None:
    handle = speaking.run()
    handle.wait()
    lines = server.reply("get_execution_logs", exec_id=handle.exec_id).text.splitlines()
    assert lines[1] == f"  {FORGED}"


def test_the_next_page_of_logs_is_asked_of_the_same_execution(server: Served) -> None:
    handle = speaking.run()
    handle.wait()
    text = server.reply("get_execution_logs", exec_id=handle.exec_id, limit=1).text
    assert f'exec_id="{handle.exec_id}", cursor="' in text
