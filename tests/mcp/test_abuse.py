"""Calls no sane client makes, to one server: each is answered well, and nothing of it stays.

`python3 dev chaos calls` makes ten thousand, of each tool its share.
"""

from __future__ import annotations

import os
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from kitaru.errors import KitaruUsageError
from kitaru_mcp.parameters import accept
from kitaru_mcp.tools import TOOLS
from tests.chaos import calls
from tests.mcp import judging
from tests.mcp.serving import Bare, Place, bare

#: Draws the calls; named where one fails.
SEED = int(os.environ.get("KITARU_TEST_SEED") or random.randrange(1_000_000))
CALLS = 32


def test_odd_calls_are_all_answered_as_the_protocol_wants(tmp_path: Path) -> None:
    rng = random.Random(SEED)
    try:
        calls.run(tmp_path, per_tool=CALLS, rng=rng, seconds=calls.LONG_SECONDS)
    except AssertionError as wrong:
        raise AssertionError(f"KITARU_TEST_SEED={SEED}: {wrong}") from wrong


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bare]:
    with bare(Place.under(tmp_path_factory.mktemp("abuse"))) as running:
        yield running


@pytest.mark.parametrize("value", [r'"cut \ud83d off"', "9" * 5000, "NaN", "[" * 500 + "]" * 500])
def test_a_request_that_cannot_be_read_whole_is_answered_under_its_id(
    server: Bare, value: str
) -> None:
    line = '{"jsonrpc":"2.0","id":"mine","method":"tools/call","params":{"name":%s}}\n'
    server.write((line % value).encode())
    answer = server.answer()
    assert (answer["id"], answer["error"]["code"]) == ("mine", -32700)


@pytest.mark.parametrize("line", ["{", '{"jsonrpc":"2.0","id":%s,"a":NaN}' % ("9" * 5000)])
def test_a_line_without_a_readable_id_is_answered_without_one(server: Bare, line: str) -> None:
    server.write(f"{line}\n".encode())
    assert server.answer()["id"] is None


@pytest.mark.parametrize("tags", [r'["cut \ud83d off"]', "[NaN]", "[" * 500 + "]" * 500])
def test_text_is_read_as_json_only_by_the_rules_of_the_wire(tags: str) -> None:
    (listing,) = (tool for tool in TOOLS if tool.name == "kitaru_executions_list")
    assert accept(listing.parameters, {"tags": tags}, tool="") == {"tags": [tags]}
    (run,) = (tool for tool in TOOLS if tool.name == "kitaru_executions_run")
    with pytest.raises(KitaruUsageError, match="args is"):
        accept(run.parameters, {"target": "a:b", "args": tags}, tool="")


@pytest.mark.parametrize("name", ["\u202e" * 1000, "resume\0" * 1000, "é" * 100_000])
def test_the_name_of_an_unknown_tool_is_not_repeated_in_full(server: Bare, name: str) -> None:
    server.tool(name)
    judging.judge_error(server.answer()["error"])


def test_subscriptions_that_have_ended_take_no_memory(server: Bare) -> None:
    status = Path(f"/proc/{server.process.pid}/status")
    if not status.exists():
        pytest.skip("needs /proc")

    def kilobytes() -> int:
        return int(status.read_text().partition("VmRSS:")[2].split()[0])

    def subscribe(count: int) -> None:
        for number in range(count):
            for verb in ("subscribe", "unsubscribe"):
                uri = f"kitaru://executions/{number:0>100000}/logs"
                server.request(f"resources/{verb}", uri=uri)
                assert server.answer()["result"] == {}

    subscribe(50)
    before = kilobytes()
    subscribe(400)
    assert kilobytes() - before < 20_000


def test_more_subscriptions_than_anybody_needs_are_refused(server: Bare) -> None:
    uris = [f"kitaru://executions/kr-{number}" for number in range(1001)]
    meta = {
        "io.modelcontextprotocol/protocolVersion": "2026-07-28",
        "io.modelcontextprotocol/clientCapabilities": {},
    }
    notifications = {"resourceSubscriptions": uris}
    server.request("subscriptions/listen", notifications=notifications, _meta=meta)
    assert (
        server.answer()["error"]["message"]
        == "1000 resources are the most that can be subscribed to."
    )


WRONG: list[tuple[dict[str, Any], str]] = [
    ({"error": {"code": -1, "message": "Traceback (most recent call last)"}}, "Traceback"),
    ({"error": {"code": -1, "message": "x" * 401}}, "long error"),
    ({"result": {"isError": True, "content": [{"text": "internal: oh"}]}}, "code word"),
    ({"result": {"content": [{"text": "{}"}]}}, "structured"),
    ({"result": {"content": [{"text": "{}"}], "structuredContent": {"a": 1}}}, "differ"),
    ({"result": {"content": [{"text": "x" * 50_001}], "structuredContent": {}}}, "long text"),
    ({"result": {"content": [{"text": "\u202e"}], "structuredContent": {}}}, "hidden"),
]


@pytest.mark.parametrize(("message", "said"), WRONG)
def test_the_judge_notices_what_is_wrong(message: dict[str, Any], said: str) -> None:
    with pytest.raises(AssertionError, match=said):
        judging.judge(message, method="tools/call", tool="kitaru_status", is_modern=False)
