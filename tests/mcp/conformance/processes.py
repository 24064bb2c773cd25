"""Server processes on stdio: one per session, and one that all requests without a session share.

Many HTTP clients use the same ids; on stdio each request gets an id and a progress token of its
own, and what comes back is given to the request that waits for it, under the names its client
uses. A line that is no message ends the process, and with it all that wait.
"""

from __future__ import annotations

import itertools
import json
import queue
import subprocess
import threading
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias

from mcp.shared.subscriptions import SUBSCRIPTION_ID_META_KEY
from mcp.types import CLIENT_CAPABILITIES_META_KEY, PROTOCOL_VERSION_META_KEY

Message: TypeAlias = dict[str, Any]

MODERN = "2026-07-28"
#: Processes that are started before they are asked for; a session need not wait for its start.
SPARES = 2
#: How long a process may take to end after its input has ended.
END_SECONDS = 10


@dataclass(frozen=True)
class Command:
    """How a server process is started; `log` takes its standard error."""

    arguments: Sequence[str]
    environment: Mapping[str, str]
    folder: Path
    log: Path


@dataclass(frozen=True)
class Exchange:
    """One request on its way: `id` is its id and its progress token on stdio."""

    id: str
    request: Message
    answers: queue.Queue[Message | None] = field(default_factory=queue.Queue)

    def outbound(self) -> Message:
        """The request as the server gets it."""
        message: Message = {**self.request, "id": self.id}
        if self._token is not None:
            params = self.request["params"]
            message["params"] = {**params, "_meta": {**params["_meta"], "progressToken": self.id}}
        return message

    def inbound(self, message: Message) -> Message:
        """What the server wrote, with the names the client gave."""
        if is_response(message):
            message["id"] = self.request["id"]
        said = message.get("params") or message.get("result") or {}
        if said.get("progressToken") == self.id:
            said["progressToken"] = self._token
        meta = said.get("_meta") or {}
        if meta.get(SUBSCRIPTION_ID_META_KEY) == self.id:
            meta[SUBSCRIPTION_ID_META_KEY] = self.request["id"]
        return message

    @property
    def _token(self) -> Any:
        return meta_of(self.request).get("progressToken")


class Child:
    """A server process, and the exchanges that wait for what it writes."""

    def __init__(self, command: Command) -> None:
        with command.log.open("ab") as log:
            self._process = subprocess.Popen(
                command.arguments,
                env=command.environment,
                cwd=command.folder,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
            )
        self._log = command.log
        self._exchanges: dict[str, Exchange] = {}
        self._numbers = itertools.count(1)
        self._writing = threading.Lock()
        threading.Thread(target=self._pump, daemon=True).start()

    def send(self, message: Message) -> None:
        """Write one line."""
        assert self._process.stdin is not None
        with self._writing:
            self._process.stdin.write(json.dumps(message).encode() + b"\n")
            self._process.stdin.flush()

    @contextmanager
    def exchange(self, request: Message) -> Iterator[Exchange]:
        """Send a request, and take what belongs to it until the end of the block."""
        exchange = Exchange(f"bridge-{next(self._numbers)}", request)
        self._exchanges[exchange.id] = exchange
        try:
            self.send(exchange.outbound())
            yield exchange
        finally:
            del self._exchanges[exchange.id]

    def ask(self, method: str) -> Message:
        """The result of a request of the bridge's own, in the era without sessions."""
        meta = {PROTOCOL_VERSION_META_KEY: MODERN, CLIENT_CAPABILITIES_META_KEY: {}}
        request = {"jsonrpc": "2.0", "id": 0, "method": method, "params": {"_meta": meta}}
        with self.exchange(request) as exchange:
            while (message := exchange.answers.get()) is not None:
                if is_response(message):
                    result: Message = message["result"]
                    return result
        log = self._log.read_text()
        raise RuntimeError(f"the server ended while it was asked for {method}:\n{log}")

    def cancel(self, exchange: Exchange) -> None:
        """Tell the server that nobody waits any more."""
        params = {"requestId": exchange.id}
        self.send({"jsonrpc": "2.0", "method": "notifications/cancelled", "params": params})

    def notify(self, message: Message) -> None:
        """Pass on a notification or a response; a cancelled request has another id on stdio."""
        params = message.get("params") or {}
        if message.get("method") == "notifications/cancelled":
            for exchange in list(self._exchanges.values()):
                if exchange.request["id"] == params.get("requestId"):
                    self.cancel(exchange)
        else:
            self.send(message)

    def end_input(self) -> None:
        """Close the input, which is how a client on stdio says that it is done."""
        assert self._process.stdin is not None
        self._process.stdin.close()

    def wait(self) -> None:
        """Wait for the process to end, which it must soon."""
        try:
            self._process.wait(END_SECONDS)
        finally:
            self._process.kill()
            self._process.wait()

    def _pump(self) -> None:
        assert self._process.stdout is not None
        try:
            for line in self._process.stdout:
                message = json.loads(line)
                exchange = self._owner(message)
                if exchange is not None:
                    exchange.answers.put(exchange.inbound(message))
        finally:  # it has ended, or it wrote what is no message: nobody gets more from it
            self._process.kill()
            for exchange in list(self._exchanges.values()):
                exchange.answers.put(None)

    def _owner(self, message: Message) -> Exchange | None:
        if is_response(message):
            return self._exchanges.get(message["id"])
        named = (message.get("params") or {}).get("progressToken")
        key = named or meta_of(message).get(SUBSCRIPTION_ID_META_KEY)
        if key is not None:
            return self._exchanges.get(key)
        # On stdio nothing says which request a log message or a question belongs to.
        return next(reversed(list(self._exchanges.values())), None)


def is_response(message: Message) -> bool:
    """Whether it answers a request."""
    return "id" in message and "method" not in message


def meta_of(message: Message) -> Mapping[str, Any]:
    """The `_meta` of a message's parameters; empty where it is missing or no object."""
    params = message.get("params")
    meta = params.get("_meta") if isinstance(params, dict) else None
    return meta if isinstance(meta, dict) else {}


class Children:
    """All server processes of one bridge."""

    def __init__(self, command: Command) -> None:
        self._command = command
        self._all: list[Child] = []
        self._sessions: dict[str, Child] = {}
        self.shared = self._start()
        self._spares = [self._start() for _ in range(SPARES)]
        # A server may settle for the era of the first request that it gets.
        self.shared.ask("server/discover")

    def _start(self) -> Child:
        child = Child(self._command)
        self._all.append(child)
        return child

    def begin(self) -> tuple[str, Child]:
        """A new session, with its name."""
        self._spares.append(self._start())
        name, child = uuid.uuid4().hex, self._spares.pop(0)
        self._sessions[name] = child
        return name, child

    def of(self, session: str) -> Child | None:
        """The server of a session, if there is such a session."""
        return self._sessions.get(session)

    def end(self, session: str) -> bool:
        """End a session; whether there was one."""
        child = self._sessions.pop(session, None)
        if child is not None:
            child.end_input()
        return child is not None

    def close(self) -> None:
        """End all processes."""
        for child in self._all:
            child.end_input()
        for child in self._all:
            child.wait()
