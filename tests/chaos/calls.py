"""Thousands of odd calls, several at a time and in both eras, to one server on a real store.

Each is answered, soon and with a valid reply that leaks no fault's text and no path of the
machine's; the server neither ends nor grows. Only a small share may start processes; answers and
cancellations come at will. Each tool has its share of the calls.
"""

from __future__ import annotations

import contextlib
import json
import queue
import random
import re
import subprocess
import threading
import time
from collections import Counter, deque
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kitaru.errors import KitaruStateError
from tests.chaos.trial import Scope, Trial
from tests.mcp.judging import judge, judge_error, parse
from tests.mcp.odd import Odd
from tests.mcp.serving import Place
from tests.support import run_python

AT_ONCE = 8
#: For what starts a process, and for what waits.
LONG_SECONDS = 90.0
#: How much memory may grow after the first quarter: threads' heaps fill, then it stays.
GROWTH_MB = 16.0
#: How much there may be of it at all.
MEMORY_MB = 200.0
#: Calls of each tool, with the odd lines and other requests between them.
PER_TOOL = 700
#: A nightly run is ten times as long, and has twice the share of this then.
NIGHTLY_FACTOR, NIGHTLY_PER_TOOL = 10.0, 20_000
#: An absolute path of several parts, in a message that is JSON.
_PATH = re.compile(r"(?<![\w.:/…-])/[\w.-]+(?:/[\w.@-]+)+")
_STARTING = ("kitaru_executions_run", "kitaru_executions_retry", "kitaru_executions_replay")
#: Share of a tool's calls that are to have its effect.
_SHARES = {
    **dict.fromkeys(_STARTING, 0.05),
    "kitaru_executions_input": 0.3,
    "kitaru_executions_cancel": 0.04,
}
_META = {
    "io.modelcontextprotocol/protocolVersion": "2026-07-28",
    "io.modelcontextprotocol/clientCapabilities": {},
}
_GREETING = {
    "protocolVersion": "2025-11-25",
    "capabilities": {},
    "clientInfo": {"name": "chaos", "version": "1"},
}
#: Runs some of tests/mcp/flows.py and prints the executions' ids.
_STORE = """
import flows
handles = [flows.broken.run(), flows.drawing.run(), flows.noisy.run(),
           flows.steps.run(count=30, gate="open"), flows.agent.run(topic="\\u202e\\x1b[31m " * 900)]
for handle in handles[:-1]:
    try: handle.wait()
    except Exception: pass
while handles[-1].status != "waiting": pass
"""


@dataclass
class Asked:
    """A request under way."""

    method: str
    params: Any
    is_modern: bool
    at: float
    #: What is cancelled, or stands until it is, may be answered or not.
    is_awaited: bool = True

    @property
    def tool(self) -> str | None:
        """The tool it calls."""
        return self.params.get("name") if self.method == "tools/call" else None

    @property
    def is_long(self) -> bool:
        """Whether it may take its time."""
        return self.tool in (*_STARTING, "kitaru_executions_wait") or self.method == "initialize"


class Barrage:
    """The calls, and the server under them.

    Args:
        place: the store and the flows.
        rng: draws the calls.
        seconds: how soon each is to be answered.
    """

    def __init__(self, place: Place, rng: random.Random, *, seconds: float) -> None:
        self._rng, self._seconds = rng, seconds
        self._folders = (place.home, place.project)
        self._process = place.start()
        self._came: queue.SimpleQueue[tuple[float, bytes]] = queue.SimpleQueue()
        self._ear = threading.Thread(target=self._listen, daemon=True)
        self._ear.start()
        self._asked: dict[int, Asked] = {}
        self._nameless: deque[float] = deque()
        self._listening: list[int] = []
        self._count = 0
        self.slowest = 0.0
        self.errors = 0
        self.counts: Counter[str] = Counter()
        self._ask("initialize", _GREETING, is_modern=False)
        self._settle(0)
        self._send({"method": "notifications/initialized"})
        self._ask("tools/list", {}, is_modern=False)
        tools = self._settle(0)["result"]["tools"]
        self._schemas = {tool["name"]: tool["inputSchema"] for tool in tools}
        self._next: list[str] = []
        self.odd = Odd(rng, _known(place))

    def run(self, per_tool: int) -> None:
        """Make so many calls of each tool, and hear the answers."""
        wanted = min((self.counts[name] for name in self._schemas), default=0) + per_tool
        while min(self.counts[name] for name in self._schemas) < wanted:
            self._settle(self._rng.randrange(AT_ONCE))
            self._one()
        self._settle(0)

    def memory_mb(self) -> float:
        """Memory of the server; 0 where the system does not tell it so."""
        rollup = Path(f"/proc/{self._process.pid}/smaps_rollup")
        if not rollup.exists():
            return 0.0
        return int(rollup.read_text().partition("\nPss:")[2].split()[0]) / 1024

    def end(self) -> None:
        """Close the server's input, and see that it ends in order."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        assert self._process.wait(10) == 0, "the server did not end in order"

    def kill(self) -> None:
        """End it for certain."""
        with self._process:
            self._process.kill()
            self._ear.join()

    # --- asking -----------------------------------------------------------------------------------

    def _one(self) -> None:
        rng, odd = self._rng, self.odd
        is_modern, chance = rng.random() < 0.5, rng.random()
        if chance < 0.8:
            if not self._next:
                self._next = rng.sample([*self._schemas], len(self._schemas))
            name = self._next.pop()
            self.counts[name] += 1
            self._oddly("tools/call", self._tool(name), is_modern=is_modern)
        elif chance < 0.86:
            self._oddly("resources/read", {"uri": odd.uri()}, is_modern=is_modern)
        elif chance < 0.89:
            self._oddly("prompts/get", odd.prompt(), is_modern=is_modern)
        elif chance < 0.92:
            self._oddly("completion/complete", odd.completion(), is_modern=is_modern)
        elif chance < 0.95:
            self._subscribe(is_modern=is_modern)
        elif chance < 0.97:
            self._nameless.append(time.monotonic())
            self._write(odd.line())
        else:
            listing = ["tools/list", "resources/list", "prompts/list", "resources/templates/list"]
            method = rng.choice([*listing, "server/discover", "ping", "no/such", odd.text()])
            self._oddly(method, rng.choice([{}, {}, {"cursor": odd.text()}]), is_modern=is_modern)
        if rng.random() < 0.03 and self._asked:
            self._cancel(rng.choice([*self._asked, 10**9]))

    def _oddly(self, method: str, params: Any, *, is_modern: bool) -> None:
        """Ask, now and then with metadata that is odd, too."""
        if self._rng.random() < 0.05:
            params = {**params, "_meta": self._odd_meta() if is_modern else self.odd.value()}
        self._ask(method, params, is_modern=is_modern)

    def _tool(self, name: str) -> dict[str, Any]:
        arguments = self.odd.arguments(self._schemas[name])
        if self._rng.random() < _SHARES.get(name, 0.0):
            arguments = self.odd.fitting(self._schemas[name])
        elif name in _STARTING and isinstance(arguments, dict):
            # Nothing to start: such a call is refused, but for any of many reasons.
            arguments |= {"target" if name == _STARTING[0] else "exec_id": self.odd.text() + "?"}
        if name == "kitaru_executions_wait" and isinstance(arguments, dict):
            arguments["timeout_seconds"] = self._rng.choice([0, 1, self.odd.text()])
        if self._rng.random() < 0.005:
            name = self.odd.text()
        call = {"name": name, "arguments": arguments}
        if self._rng.random() < 0.03:
            accepted = {"action": "accept", "content": {"confirm": self.odd.value()}}
            call["inputResponses"] = self._rng.choice([{"confirm kr-": accepted}, self.odd.value()])
        return call

    def _subscribe(self, *, is_modern: bool) -> None:
        uri = self.odd.uri()
        if not is_modern:
            verb = self._rng.choice(["subscribe", "unsubscribe"])
            return self._ask(f"resources/{verb}", {"uri": uri}, is_modern=False)
        if self._listening and self._rng.random() < 0.5:
            return self._cancel(self._listening.pop())
        self._ask(
            "subscriptions/listen",
            {"notifications": {"resourceSubscriptions": [uri]}},
            is_modern=True,
            is_awaited=False,
        )
        return self._listening.append(self._count)

    def _cancel(self, id_: int) -> None:
        if id_ in self._asked:
            self._asked[id_].is_awaited = False
        self._send({"method": "notifications/cancelled", "params": {"requestId": id_}})

    def _ask(self, method: str, params: Any, *, is_modern: bool, is_awaited: bool = True) -> None:
        self._count += 1
        if is_modern:
            params = {**params, "_meta": {**_META, **params.get("_meta", {})}}
        self._asked[self._count] = Asked(
            method, params, is_modern, time.monotonic(), is_awaited=is_awaited
        )
        self._send({"id": self._count, "method": method, "params": params})

    def _odd_meta(self) -> dict[str, Any]:
        name = self._rng.choice(
            [*_META, "progressToken", "claudecode/toolUseId", "traceparent", self.odd.text()]
        )
        can_ask = {"elicitation": {}, "roots": self.odd.value()}
        return {name: self._rng.choice([can_ask, self.odd.value()])}

    def _send(self, message: dict[str, Any]) -> None:
        self._write(json.dumps({"jsonrpc": "2.0", **message}).encode())

    def _write(self, line: bytes) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(line + b"\n")
        self._process.stdin.flush()

    # --- hearing ----------------------------------------------------------------------------------

    def _listen(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self._came.put((time.monotonic(), line))
        self._came.put((0.0, b""))

    def _settle(self, most: int) -> dict[str, Any]:
        """Hear until at most so many requests are under way; returns the last message."""
        message: dict[str, Any] = {}
        while self._due() > most or not self._came.empty():
            try:
                at, line = self._came.get(timeout=LONG_SECONDS)
            except queue.Empty:
                raise AssertionError(f"no answer to {self._shown()}") from None
            assert line, f"the server has ended; under way: {self._shown()}"
            message = parse(line)
            self._judge_paths(line.decode())
            self._take(message, at)
        return message

    def _due(self) -> int:
        return sum(each.is_awaited for each in self._asked.values()) + len(self._nameless)

    def _take(self, message: dict[str, Any], at: float) -> None:
        if "method" in message:
            assert message["method"].startswith("notifications/"), message["method"]
            return
        if message["id"] is None:
            judge_error(message["error"])
            assert self._nameless, "an error for nothing"
            self._time(at - self._nameless.popleft(), most=self._seconds)
            return
        asked = self._asked.pop(message["id"])
        self.errors += "error" in message or bool(message["result"].get("isError"))
        try:
            judge(message, method=asked.method, tool=asked.tool, is_modern=asked.is_modern)
            if asked.is_awaited:
                most = LONG_SECONDS if asked.is_long else self._seconds
                self._time(at - asked.at, most=most)
        except (AssertionError, KeyError, ValueError) as wrong:
            told = f"{asked.method} {asked.params!r:.2000}\nanswer: {message!r:.2000}"
            raise AssertionError(f"{wrong!r}, call {message['id']}: {told}") from wrong

    def _judge_paths(self, line: str) -> None:
        """What is there on this machine is nobody's business, but for the store and the flows."""
        for path in map(Path, _PATH.findall(line)):
            is_ours = any(path.is_relative_to(folder) for folder in self._folders)
            if not is_ours and str(path) != "/etc/passwd":  # that one is ours: we ask for it
                assert not path.exists(), f"it tells of {path}: {line:.2000}"

    def _time(self, seconds: float, *, most: float) -> None:
        assert seconds <= most, f"answered after {seconds:.2f} s"
        if most == self._seconds:
            self.slowest = max(self.slowest, seconds)

    def _shown(self) -> str:
        return "; ".join(f"{each.method} {each.params!r:.500}" for each in self._asked.values())


def _known(place: Place) -> dict[str, list[Any]]:
    executions = place.client.executions.list()
    ids = [each.exec_id for each in executions]
    artifacts = [ref.artifact_id for id_ in ids for ref in place.client.artifacts.list(id_)][:40]
    return {
        "exec_id": [*ids, *ids, *["latest:failed", "latest:waiting"] * 4, "latest", ids[0][:6]],
        "artifact_id": artifacts,
        "target": ["flows.py:broken", "flows:agent", "flows.py:agent", "flows.py:nothing"],
        "wait": ["approve"],
        "value": [True, False, "true"],
        "from_": ["draft", "draw", "who"],
        "confirm": [True],
        "flow": ["agent", "broken", "steps"],
        "tags": [["nightly"]],
        "since": ["24h", "2026-11-20T08:00Z", "2026-11-20", "999999d"],
        "timeout_seconds": [0, 1],
        "wait_seconds": [0, 1],
        "checkpoint": ["draft", "draft#2"],
        "text": ["line", "%", "_"],
        "limit": [1, 2, 200, 5000, 18_000],
        "offset": [0, 1, 10**9],
    }


def run(home: Path, *, per_tool: int, rng: random.Random, seconds: float = 1.0) -> str:
    """Make a store and so many calls, a quarter of them before memory is first looked at."""
    place = Place.under(home)
    (place.project / "open").touch()
    program = f"import os; os.chdir({str(place.project)!r})\n{_STORE}"
    run_python(place.home, program, stderr=subprocess.DEVNULL, errors="replace")
    barrage = Barrage(place, rng, seconds=seconds)
    try:
        barrage.run(per_tool // 4)
        early = barrage.memory_mb()
        barrage.run(per_tool - per_tool // 4)
        late = barrage.memory_mb()
        barrage.end()
    finally:
        barrage.kill()
        for execution in place.client.executions.list():
            with contextlib.suppress(KitaruStateError):  # it has ended already
                place.client.executions.cancel(execution.exec_id)
    assert late - early <= GROWTH_MB, f"memory grew from {early:.1f} to {late:.1f} MB"
    assert late <= MEMORY_MB, f"{late:.1f} MB"
    assert "Traceback" not in (place.project / "stderr.txt").read_text()
    return (
        f"{barrage.counts.total()} calls, {per_tool} of each of {len(barrage.counts)} tools, "
        f"{barrage.errors} refused, slowest {1000 * barrage.slowest:.0f} ms, "
        f"memory {early:.1f} -> {late:.1f} MB, 0 tracebacks, 0 paths"
    )


def _per_tool(scope: Scope) -> int:
    return NIGHTLY_PER_TOOL if scope.factor >= NIGHTLY_FACTOR else scope.times(PER_TOOL)


TRIALS = (
    Trial(
        name="calls",
        run=lambda scope: run(scope.home, per_tool=_per_tool(scope), rng=scope.rng),
    ),
)
