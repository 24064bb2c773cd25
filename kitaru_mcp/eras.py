"""One connection, both eras of the protocol: each message is served by what it says itself.

The SDK serves a connection in the era of its first request. Clients are known to probe the newer
era and then shake hands in the older one, so here each era has a loop of the SDK's own, and every
message goes to the loop it belongs to. What is no message gets an error, never silence. Taking a
line never waits for the client to read, so the end of its input is always seen.
"""

from __future__ import annotations

import json
import math
from collections.abc import Awaitable, Callable, Mapping
from types import TracebackType
from typing import Any, Self

import anyio
import anyio.abc
from anyio.streams.memory import MemoryObjectSendStream
from mcp.server.lowlevel import Server
from mcp.server.runner import serve_dual_era_loop
from mcp.shared.dispatcher import coerce_request_id
from mcp.shared.message import SessionMessage
from mcp.types import (
    CONNECTION_CLOSED,
    INVALID_REQUEST,
    METHOD_NOT_FOUND,
    PARSE_ERROR,
    PROTOCOL_VERSION_META_KEY,
    ErrorData,
    JSONRPCError,
    JSONRPCMessage,
    JSONRPCNotification,
    JSONRPCRequest,
    JSONRPCResponse,
)
from pydantic import ValidationError
from pydantic_core import from_json

from kitaru_mcp.stdio import MAX_LINE_BYTES

#: A request that is answered when its subscription ends.
_STANDING = "subscriptions/listen"
_UNREAD = (
    "The line cannot be read: it is no JSON in UTF-8, or it has half of a surrogate pair, a number "
    "of thousands of digits, or more than 200 levels."
)
#: Integers with more digits are no ids.
_ID_DIGITS = 20


class Eras:
    """Takes a client's lines, and sends it the server's.

    Args:
        server: what answers.
        tasks: where the loops run.
        write: sends one line.
    """

    def __init__(
        self,
        server: Server[Any],
        tasks: anyio.abc.TaskGroup,
        write: Callable[[bytes], Awaitable[None]],
    ) -> None:
        self._server = server
        self._tasks = tasks
        self._write = write
        self._loops: dict[str, MemoryObjectSendStream[SessionMessage | Exception]] = {}
        self._unanswered: set[int | str] = set()
        self._refusals = 0

    @property
    def is_busy(self) -> bool:
        """Whether answers are under way."""
        return bool(self._unanswered) or self._refusals > 0

    async def take(self, line: bytes | None) -> None:
        """Serve one line; None stands for one that was too long."""
        if line is None:
            text = f"The message is longer than {MAX_LINE_BYTES} bytes."
            return self._refuse(None, INVALID_REQUEST, text)
        try:
            data = from_json(line, allow_inf_nan=False)
        except (ValueError, RecursionError):
            return self._refuse(_unread_id(line), PARSE_ERROR, _UNREAD)
        message = _message(data)
        if message is None:
            request_id = data.get("id") if isinstance(data, dict) else None
            return self._refuse(request_id, INVALID_REQUEST, "This is no JSON-RPC message.")
        if isinstance(message, JSONRPCRequest):
            return await self._take_request(message)
        if isinstance(message, JSONRPCNotification):
            if message.method == "notifications/cancelled":
                self._forget((message.params or {}).get("requestId"))
            for era in [*self._loops] or ["handshake"]:
                await self._pass(era, message)
        elif "handshake" in self._loops:  # only there the server asks its client
            await self._pass("handshake", message)

    async def _take_request(self, message: JSONRPCRequest) -> None:
        is_modern = _has_envelope(message.params)
        if message.method == "initialize":
            if is_modern:
                text = "Method not found: the protocol of this request's _meta has no initialize."
                return self._refuse(message.id, METHOD_NOT_FOUND, text)
        elif not is_modern and "handshake" not in self._loops:
            # Nobody shook hands: the newer era's loop can say what is missing.
            is_modern = "modern" in self._loops
        if message.method != _STANDING:
            self._unanswered.add(coerce_request_id(message.id))
        await self._pass("modern" if is_modern else "handshake", message)

    async def _pass(self, era: str, message: JSONRPCMessage) -> None:
        if era not in self._loops:
            send, receive = anyio.create_memory_object_stream[SessionMessage | Exception](math.inf)
            self._loops[era] = send
            self._tasks.start_soon(self._serve, receive)
        await self._loops[era].send(SessionMessage(message))

    async def _serve(self, receive: Any) -> None:
        await serve_dual_era_loop(self._server, receive, self, lifespan_state={})

    def _refuse(self, request_id: Any, code: int, text: str) -> None:
        known = request_id if _is_id(request_id) else None
        error = ErrorData(code=code, message=text)
        self._refusals += 1
        self._tasks.start_soon(
            self._send_refusal, JSONRPCError(jsonrpc="2.0", id=known, error=error)
        )

    async def _send_refusal(self, error: JSONRPCError) -> None:
        try:
            await self._send(error)
        finally:
            self._refusals -= 1

    async def _send(self, message: JSONRPCMessage) -> None:
        try:
            await self._write(message.model_dump_json(by_alias=True, exclude_unset=True).encode())
        finally:
            if isinstance(message, (JSONRPCResponse, JSONRPCError)):
                self._forget(message.id)

    def _forget(self, request_id: Any) -> None:
        if _is_id(request_id):
            self._unanswered.discard(coerce_request_id(request_id))

    # --- the stream the loops write to: it stays open when one of them ends -----------------------

    async def send(self, item: SessionMessage, /) -> None:
        """Send a message."""
        await self._send(item.message)

    async def aclose(self) -> None:
        """Nothing: the other loop goes on."""

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc_val: BaseException | None,
        exc_tb: TracebackType | None,
    ) -> bool | None:
        return None


def _is_id(value: Any) -> bool:
    return isinstance(value, (int, str)) and not isinstance(value, bool)


def _unread_id(line: bytes) -> Any:
    """The id in a line that is not served but that the standard library can read, else None.

    Without it the client would wait for its answer: a text cut within an emoji is enough.
    """
    try:
        data = json.loads(line, parse_int=_short_int)
    except (ValueError, RecursionError):
        return None
    return data.get("id") if isinstance(data, dict) and "method" in data else None


def _short_int(text: str) -> int | None:
    return int(text) if len(text) <= _ID_DIGITS else None


def _message(data: Any) -> JSONRPCMessage | None:
    """The message this is; None if it is none. One with an id is never a notification.

    An answer that cannot be understood is an error, for whoever waits for it.
    """
    if not isinstance(data, dict) or data.get("jsonrpc") != "2.0":
        return None
    kinds: tuple[type[JSONRPCMessage], type[JSONRPCMessage]]
    if "method" in data:
        kinds, is_first = (JSONRPCRequest, JSONRPCNotification), "id" in data
    else:
        kinds, is_first = (JSONRPCError, JSONRPCResponse), "error" in data
    try:
        return kinds[not is_first].model_validate(data, by_name=False)
    except ValidationError:
        if "method" in data or not _is_id(data.get("id")) or not data.keys() & {"result", "error"}:
            return None
        error = ErrorData(code=CONNECTION_CLOSED, message="The answer is no JSON-RPC message.")
        return JSONRPCError(jsonrpc="2.0", id=data["id"], error=error)


def _has_envelope(params: Mapping[str, Any] | None) -> bool:
    """Whether a request says for itself which version it speaks, as the newer era's do."""
    meta = (params or {}).get("_meta")
    return isinstance(meta, Mapping) and PROTOCOL_VERSION_META_KEY in meta
