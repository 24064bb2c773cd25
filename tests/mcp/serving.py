"""A `kitaru-mcp` process for tests: driven by the SDK's client, or by its bare lines."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Awaitable, Callable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import IO, Any, TypeVar

from anyio.from_thread import BlockingPortal, start_blocking_portal
from mcp import Client
from mcp.client.stdio import StdioServerParameters
from mcp.types import TextContent

from kitaru import KitaruClient
from tests import warm
from tests.support import ROOT, until

T = TypeVar("T")
FLOWS = Path(__file__).with_name("flows.py")


@dataclass(frozen=True)
class Place:
    """A store's folder, and a folder of flows."""

    home: Path
    project: Path

    @classmethod
    def under(cls, folder: Path) -> Place:
        """A fresh one, with a copy of the flows."""
        place = cls(folder / "home", folder / "project")
        place.home.mkdir(mode=0o700)
        place.project.mkdir()
        shutil.copy(FLOWS, place.project / "flows.py")
        return place

    @property
    def client(self) -> KitaruClient:
        """The store, as this process sees it."""
        return KitaruClient(home=self.home)

    @property
    def environment(self) -> dict[str, str]:
        """What the server finds."""
        paths = os.pathsep.join([str(ROOT / "core"), str(ROOT)])
        return {"KITARU_HOME": str(self.home), "PYTHONPATH": paths}

    def start(
        self,
        *options: str,
        program: Sequence[str] = (sys.executable,),
        stderr: int | IO[bytes] | None = None,
    ) -> subprocess.Popen[bytes]:
        """A server; what it complains of goes to `stderr.txt` by default."""
        with (self.project / "stderr.txt").open("ab") as errors:
            return subprocess.Popen(
                [*program, "-m", "kitaru_mcp.server", *options],
                cwd=self.project,
                env=os.environ | self.environment,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors if stderr is None else stderr,
            )

    def blocking_import(self, name: str) -> tuple[str, Path]:
        """A target whose import lasts until the file beside it exists."""
        path = self.project / f"blocking_import_{name}.py"
        shutil.copy(FLOWS, path)
        return f"{path.name}:agent", path.with_suffix(".gate")


@dataclass(frozen=True)
class Reply:
    """What a tool answered."""

    text: str
    data: Any
    is_error: bool


class Served:
    """A server and the SDK's client of it; each call may be awaited or left running."""

    def __init__(self, portal: BlockingPortal, client: Client) -> None:
        self._portal = portal
        self.client = client

    def start(self, tool: str, /, **arguments: Any) -> Future[Reply]:
        """Call a tool and go on."""
        return self._portal.start_task_soon(self._call, tool, arguments)

    def reply(self, tool: str, /, **arguments: Any) -> Reply:
        """Call a tool."""
        return self.start(tool, **arguments).result(60)

    def call(self, tool: str, /, **arguments: Any) -> Any:
        """The data of a call that must not fail."""
        found = self.reply(tool, **arguments)
        assert not found.is_error, found.text
        return found.data

    def refusal(self, tool: str, /, **arguments: Any) -> str:
        """The message of a call that must fail."""
        found = self.reply(tool, **arguments)
        assert found.is_error, found.text
        return found.text

    def ask(self, method: str, /, *given: Any, **named: Any) -> Any:
        """Call a method of the client."""
        return self._portal.call(partial(getattr(self.client, method), *given, **named))

    def do(self, work: Callable[[Client], Awaitable[T]]) -> T:
        """Do something with the client that takes more than one call."""
        return self._portal.call(work, self.client)

    async def _call(self, tool: str, arguments: dict[str, Any]) -> Reply:
        result = await self.client.call_tool(tool, arguments)
        (content,) = result.content
        assert isinstance(content, TextContent)
        return Reply(content.text, result.structured_content, result.is_error)


@contextmanager
def served(place: Place, *options: str, mode: str = "auto", **abilities: Any) -> Iterator[Served]:
    """A warm server on a place, and its client with these abilities."""
    program, *first = warm.command()
    parameters = StdioServerParameters(
        command=program,
        args=[*first, "-m", "kitaru_mcp.server", *options],
        env=place.environment,
        cwd=place.project,
    )
    with (
        start_blocking_portal() as portal,
        portal.wrap_async_context_manager(Client(parameters, mode=mode, **abilities)) as client,
    ):
        yield Served(portal, client)


class Bare:
    """A server spoken to line by line; greeted, it is in the era of the handshake.

    What it writes to standard error is added to `stderr.txt` in the place's project. `program` is
    Python, or `warm.command()` where the process is not what is tested.
    """

    def __init__(
        self,
        place: Place,
        *options: str,
        greet: bool = True,
        abilities: dict[str, Any] | None = None,
        stderr: int | IO[bytes] | None = None,
        program: Sequence[str] = (sys.executable,),
    ) -> None:
        self.process = place.start(*options, program=program, stderr=stderr)
        self.lines: list[dict[str, Any]] = []
        if greet:
            self.greet(**(abilities or {}))

    def greet(self, **abilities: Any) -> None:
        """Shake hands, as a client with these abilities."""
        parameters = {
            "protocolVersion": "2025-06-18",
            "capabilities": abilities,
            "clientInfo": {"name": "test", "version": "1"},
        }
        self.request("initialize", **parameters)
        self.answer()
        self.notify("notifications/initialized")

    def request(self, method: str, **parameters: Any) -> int:
        """Send a request; its id is its number."""
        self._requests = getattr(self, "_requests", 0) + 1
        self.send({"id": self._requests, "method": method, "params": parameters})
        return self._requests

    def notify(self, method: str, **parameters: Any) -> None:
        """Send a notification."""
        self.send({"method": method, "params": parameters})

    def tool(self, tool: str, /, **arguments: Any) -> int:
        """Send a tool call."""
        return self.request("tools/call", name=tool, arguments=arguments)

    def data(self, tool: str, /, **arguments: Any) -> Any:
        """The data of a call that must not fail; what comes before its answer is left out."""
        return self.reply_to(self.tool(tool, **arguments))["structuredContent"]

    def reply_to(self, request_id: int) -> dict[str, Any]:
        """The result of a request; what comes before it is left out."""
        while (answer := self.answer()).get("id") != request_id or "method" in answer:
            pass
        result: dict[str, Any] = answer["result"]
        return result

    def question(self) -> str:
        """What a person is to be asked; what comes before it is left out."""
        while (asked := self.answer()).get("method") != "elicitation/create":
            pass
        message: str = asked["params"]["message"]
        return message

    def answer(self) -> dict[str, Any]:
        """The next line the server writes; it must be a message of the protocol."""
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert line, "the server has ended"
        message: dict[str, Any] = json.loads(line)
        assert message["jsonrpc"] == "2.0"
        self.lines.append(message)
        return message

    def end_input(self) -> bytes:
        """Close the server's input; what else it writes until it ends."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.close()
        return self.process.stdout.read()

    def send(self, message: dict[str, Any]) -> None:
        """Send a message."""
        self.write(json.dumps({"jsonrpc": "2.0", **message}).encode() + b"\n")

    def write(self, data: bytes) -> None:
        """Send bytes."""
        assert self.process.stdin is not None
        self.process.stdin.write(data)
        self.process.stdin.flush()


@contextmanager
def bare(place: Place, *options: str, **given: Any) -> Iterator[Bare]:
    """A bare server, killed at the end if it is still there."""
    server = Bare(place, *options, **given)
    try:
        yield server
    finally:
        with server.process as process:
            process.kill()


def reached(gate: Path) -> None:
    """Wait until a flow stands before a gate."""
    until(Path(f"{gate}.reached").exists, f"a flow reached {gate.name}")
