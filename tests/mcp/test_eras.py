"""One connection, any client: eras of the protocol mixed, and lines that are no messages."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests import warm
from tests.mcp.serving import Bare, Place, bare

MODERN = {
    "io.modelcontextprotocol/protocolVersion": "2026-07-28",
    "io.modelcontextprotocol/clientInfo": {"name": "test", "version": "1"},
    "io.modelcontextprotocol/clientCapabilities": {},
}
HELLO = {
    "protocolVersion": "2025-11-25",
    "capabilities": {},
    "clientInfo": {"name": "test", "version": "1"},
}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bare]:
    with bare(
        Place.under(tmp_path_factory.mktemp("eras")), greet=False, program=warm.command()
    ) as running:
        yield running


def asked(server: Bare, method: str, **parameters: Any) -> dict[str, Any]:
    server.request(method, **parameters)
    return server.answer()


def test_a_client_that_probed_the_newer_era_may_shake_hands_in_the_older(tmp_path: Path) -> None:
    with bare(Place.under(tmp_path), greet=False, program=warm.command()) as server:
        found = asked(server, "server/discover", _meta=MODERN)["result"]
        assert found["supportedVersions"] == ["2026-07-28"]
        assert asked(server, "initialize", **HELLO)["result"]["protocolVersion"] == "2025-11-25"
        assert len(asked(server, "tools/list")["result"]["tools"]) == 15
        modern = asked(server, "tools/list", _meta=MODERN)["result"]
        assert modern["resultType"] == "complete"
        assert asked(server, "initialize", **HELLO)["result"]["serverInfo"]["name"] == "kitaru"


def test_without_a_handshake_an_old_request_is_told_what_is_missing(tmp_path: Path) -> None:
    with bare(Place.under(tmp_path), greet=False, program=warm.command()) as server:
        assert "result" in asked(server, "server/discover", _meta=MODERN)
        assert asked(server, "tools/list")["error"]["code"] == -32602


@pytest.mark.parametrize("version", ["2024-11-05", "2025-03-26", "2025-06-18", "2025-11-25"])
def test_every_older_version_is_spoken(server: Bare, version: str) -> None:
    found = asked(server, "initialize", **{**HELLO, "protocolVersion": version})
    assert found["result"]["protocolVersion"] == version


def test_an_unknown_version_is_answered_with_one_that_is_spoken(server: Bare) -> None:
    found = asked(server, "initialize", **{**HELLO, "protocolVersion": "1999-01-01"})
    assert found["result"]["protocolVersion"] == "2025-11-25"
    meta = {**MODERN, "io.modelcontextprotocol/protocolVersion": "2099-01-01"}
    assert asked(server, "server/discover", _meta=meta)["error"]["code"] == -32022


@pytest.mark.parametrize(
    ("line", "code", "request_id"),
    [
        (b"hello", -32700, None),
        (b"\xff\xfe{}", -32700, None),
        (b'{"jsonrpc":"2.0","id":1,"method":', -32700, None),
        (b'{"jsonrpc":"2.0","id":1,"method":"ping","params":{"x":NaN}}', -32700, 1),
        (b'{"jsonrpc":"2.0","id":2,"method":"ping","params":{"x":"\\ud83d"}}', -32700, 2),
        (b'{"jsonrpc":"2.0","id":3,"result":NaN}', -32700, None),
        (b"[" * 100_000, -32700, None),
        (b"null", -32600, None),
        (b"[]", -32600, None),
        (b'[{"jsonrpc":"2.0","id":1,"method":"ping"}]', -32600, None),
        (b'{"jsonrpc":"1.0","id":7,"method":"ping"}', -32600, 7),
        (b'{"jsonrpc":"2.0","id":"seven"}', -32600, "seven"),
        (b'{"jsonrpc":"2.0","id":null,"method":"ping"}', -32600, None),
        (b'{"jsonrpc":"2.0","id":1.5,"method":"ping"}', -32600, None),
        (b'{"jsonrpc":"2.0","id":8,"method":["ping"]}', -32600, 8),
        (b'{"jsonrpc":"2.0","id":9,"method":"ping","params":[1]}', -32600, 9),
        (b'{"jsonrpc":"2.0","id":10,"method":"no/such"}', -32601, 10),
        (b'{"jsonrpc":"2.0","id":11,"method":"tools/call"}', -32602, 11),
        (b'{"jsonrpc":"2.0","id":12,"method":"tools/call","params":{"name":5}}', -32602, 12),
    ],
)
def test_nonsense_gets_an_error_and_the_connection_goes_on(
    server: Bare, line: bytes, code: int, request_id: Any
) -> None:
    asked(server, "initialize", **HELLO)
    server.write(line + b"\n")
    answer = server.answer()
    assert answer["id"] == request_id
    assert answer["error"]["code"] == code
    assert "Traceback" not in json.dumps(answer)
    assert "result" in asked(server, "ping")


@pytest.mark.parametrize(
    "line",
    [
        b"",
        b"   \r",
        b'{"jsonrpc":"2.0","id":12345,"result":{}}',
        b'{"jsonrpc":"2.0","id":12345,"result":5}',
        b'{"jsonrpc":"2.0","id":12345,"error":"no"}',
        b'{"jsonrpc":"2.0","id":null,"error":{"code":1,"message":"m"}}',
        b'{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":[]}}',
        b'{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":99}}',
        b'{"jsonrpc":"2.0","method":"notifications/nobody/knows"}',
    ],
)
def test_what_needs_no_answer_gets_none(server: Bare, line: bytes) -> None:
    asked(server, "initialize", **HELLO)
    server.write(line + b"\n")
    assert "result" in asked(server, "ping")


def test_lines_may_end_with_a_carriage_return_and_come_in_pieces(server: Bare) -> None:
    line = json.dumps({"jsonrpc": "2.0", "id": 77, "method": "initialize", "params": HELLO})
    for piece in (line[:5], line[5:40], line[40:] + "\r\n"):
        server.write(piece.encode())
    assert server.answer()["id"] == 77


def test_a_line_that_is_too_long_is_refused_and_the_next_one_served(server: Bare) -> None:
    asked(server, "initialize", **HELLO)
    piece = b"x" * 1_000_000
    for _ in range(18):
        server.write(piece)
    server.write(b"\n")
    answer = server.answer()
    assert (answer["id"], answer["error"]["code"]) == (None, -32600)
    assert "16777216 bytes" in answer["error"]["message"]
    assert "result" in asked(server, "ping")


def test_many_requests_at_once_are_each_answered_once(server: Bare) -> None:
    asked(server, "initialize", **HELLO)
    lines = [
        json.dumps({"jsonrpc": "2.0", "id": f"many-{number}", "method": "tools/list"})
        for number in range(200)
    ]
    server.write(("\n".join(lines) + "\n").encode())
    ids = [server.answer()["id"] for _ in lines]
    assert sorted(ids) == sorted(f"many-{number}" for number in range(200))
