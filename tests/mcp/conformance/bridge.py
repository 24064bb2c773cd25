"""A stdio server behind Streamable HTTP, for the conformance suite, which speaks HTTP only.

Each session of the handshake era gets a server process of its own; all requests of 2026-07-28
share one. What only HTTP has is done here: sessions, status codes, streams, and the checks of Host,
Origin and the headers that repeat the body. Every other word of an answer is the server's. It is
an adapter for tests: it knows no authorization and keeps no events for clients that come back.
"""

from __future__ import annotations

import json
import queue
import select
import socket
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import urlsplit

from mcp.shared.inbound import (
    ERROR_CODE_HTTP_STATUS,
    InboundLadderRejection,
    classify_inbound_request,
    find_duplicated_routing_header,
    validate_mcp_param_headers,
)
from mcp.types import (
    HEADER_MISMATCH,
    INVALID_REQUEST,
    PARSE_ERROR,
    PROTOCOL_VERSION_META_KEY,
)

from tests.mcp.conformance.processes import (
    MODERN,
    Child,
    Children,
    Command,
    Message,
    is_response,
    meta_of,
)

PATH = "/mcp"
LOCAL = ("127.0.0.1", "localhost", "::1")
#: How often a silent exchange looks whether its client is still there.
LOOK_SECONDS = 0.1


class Handler(BaseHTTPRequestHandler):
    """The one endpoint."""

    protocol_version = "HTTP/1.1"
    children: Children

    def do_POST(self) -> None:
        """Take one message."""
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        if not self._is_local():
            return self._refuse(
                HTTPStatus.FORBIDDEN, INVALID_REQUEST, "Host or Origin is not local"
            )
        try:
            message = json.loads(body)
        except ValueError:
            return self._refuse(HTTPStatus.BAD_REQUEST, PARSE_ERROR, "The body is not JSON")
        if not isinstance(message, dict):
            return self._refuse(HTTPStatus.BAD_REQUEST, INVALID_REQUEST, "Not one message")
        version = self.headers.get("MCP-Protocol-Version")
        if version == MODERN or PROTOCOL_VERSION_META_KEY in meta_of(message):
            return self._modern(message)
        return self._legacy(message)

    def do_DELETE(self) -> None:
        """End a session."""
        found = self.children.end(self.headers.get("Mcp-Session-Id", ""))
        self._reply(HTTPStatus.OK if found else HTTPStatus.NOT_FOUND)

    def do_GET(self) -> None:
        """There is no stream but those of requests."""
        self._reply(HTTPStatus.METHOD_NOT_ALLOWED, headers={"Allow": "POST, DELETE"})

    def _modern(self, message: Message) -> None:
        if "id" not in message or "method" not in message:
            return self._reply(HTTPStatus.ACCEPTED)  # in this era clients have none that matter
        fault = self._header_fault(message)
        if fault is not None:
            return self._refuse(HTTPStatus.BAD_REQUEST, fault.code, fault.message, message["id"])
        return self._exchange(self.children.shared, message, statuses=ERROR_CODE_HTTP_STATUS)

    def _legacy(self, message: Message) -> None:
        session = self.headers.get("Mcp-Session-Id")
        if message.get("method") == "initialize":
            session, child = self.children.begin()
            return self._exchange(child, message, headers={"Mcp-Session-Id": session})
        if session is None:
            return self._refuse(
                HTTPStatus.BAD_REQUEST, INVALID_REQUEST, "Mcp-Session-Id is missing"
            )
        found = self.children.of(session)
        if found is None:
            return self._refuse(HTTPStatus.NOT_FOUND, INVALID_REQUEST, "There is no such session")
        if "id" in message and "method" in message:
            return self._exchange(found, message)
        found.notify(message)
        return self._reply(HTTPStatus.ACCEPTED)

    def _is_local(self) -> bool:
        hosts = [urlsplit(f"//{self.headers.get('Host', '')}").hostname]
        if "Origin" in self.headers:
            hosts.append(urlsplit(self.headers["Origin"]).hostname)
        return all(host in LOCAL for host in hosts)

    def _header_fault(self, message: Message) -> InboundLadderRejection | None:
        repeated = find_duplicated_routing_header(self.headers.items())
        if repeated is not None:
            return InboundLadderRejection(HEADER_MISMATCH, f"{repeated} is there more than once")
        headers = {name.lower(): value.strip() for name, value in self.headers.items()}
        verdict = classify_inbound_request(message, headers=headers)
        if isinstance(verdict, InboundLadderRejection):
            # Whatever else is wrong with it, the server is to find.
            return verdict if verdict.code == HEADER_MISMATCH else None
        params = message["params"]
        if message["method"] != "tools/call" or not isinstance(params.get("arguments"), dict):
            return None
        for tool in self.children.shared.ask("tools/list")["tools"]:
            if tool["name"] == params.get("name"):
                return validate_mcp_param_headers(tool["inputSchema"], params["arguments"], headers)
        return None

    def _exchange(
        self,
        child: Child,
        request: Message,
        *,
        headers: Mapping[str, str] | None = None,
        statuses: Mapping[int, int] | None = None,
    ) -> None:
        is_stream = False
        with child.exchange(request) as exchange:
            while True:
                try:
                    message = exchange.answers.get(timeout=LOOK_SECONDS)
                except queue.Empty:
                    if self._is_alone():
                        return child.cancel(exchange)
                    continue
                if message is None:
                    self.close_connection = True
                    return None if is_stream else self._reply(HTTPStatus.BAD_GATEWAY)
                if is_response(message) and not is_stream:
                    code = message.get("error", {}).get("code")
                    return self._reply((statuses or {}).get(code, 200), message, headers)
                if not is_stream:
                    self._begin_stream(headers or {})
                    is_stream = True
                self.wfile.write(b"data: " + json.dumps(message).encode() + b"\n\n")
                if is_response(message):
                    return None

    def _is_alone(self) -> bool:
        readable, _, _ = select.select([self.connection], [], [], 0)
        return bool(readable) and not self.connection.recv(1, socket.MSG_PEEK)

    def _begin_stream(self, headers: Mapping[str, str]) -> None:
        self.close_connection = True  # the end of the connection is the end of the stream
        self.send_response(HTTPStatus.OK)
        for name, value in {**headers, "Content-Type": "text/event-stream"}.items():
            self.send_header(name, value)
        self.send_header("Connection", "close")
        self.end_headers()

    def _refuse(self, status: int, code: int, words: str, id: Any = None) -> None:
        error = {"code": code, "message": words}
        self._reply(status, {"jsonrpc": "2.0", "id": id, "error": error})

    def _reply(
        self, status: int, message: Message | None = None, headers: Mapping[str, str] | None = None
    ) -> None:
        body = b"" if message is None else json.dumps(message).encode()
        self.send_response(status)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        if body:
            self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        """The suite tells what went wrong."""


class _Server(ThreadingHTTPServer):
    """A server whose clients may leave in the middle of an answer, as the suite's do."""

    def handle_error(self, request: Any, client_address: Any) -> None:
        if not isinstance(sys.exc_info()[1], ConnectionError):
            super().handle_error(request, client_address)


@contextmanager
def serving(command: Command) -> Iterator[str]:
    """Serve a command on a free local port; gives the address of its endpoint."""
    children = Children(command)
    handler = type("BoundHandler", (Handler,), {"children": children})
    server = _Server(("127.0.0.1", 0), handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}{PATH}"
    finally:
        server.shutdown()
        server.server_close()
        children.close()
