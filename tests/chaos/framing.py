"""The lines between a client and the server: bad ones that come in, and only good ones that go out.

`framing` starts flows that print without end, crash, fork and close what is not theirs, and asks
the server other things meanwhile. `frames` sends what is no message, and cuts the input off in the
middle of one.
"""

from __future__ import annotations

import contextlib
import json
import os
import queue
import random
import shutil
import subprocess
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from kitaru_mcp.stdio import MAX_LINE_BYTES
from tests.chaos.trial import Scope, Skipped, Trial
from tests.mcp import hostile
from tests.mcp.judging import judge_error, parse
from tests.mcp.odd import Odd
from tests.mcp.serving import Place

#: Flows of `tests.mcp.hostile`, and the statuses that an execution of theirs may have then.
WAYS = {
    **dict.fromkeys(("one_line", "many_lines", "raw", "warns", "logs", "moves"), "completed"),
    **dict.fromkeys(("forks", "forks_and_leaves"), "completed"),
    **dict.fromkeys(("closes", "closes_standard_output", "raises_base", "exits", "mute"), "failed"),
    **dict.fromkeys(("interrupts", "swallows", "shouts", "orders"), "failed"),
    **dict.fromkeys(("leaves", "crashes"), "running"),
}
#: How soon half of all answers are to be there while flows do their worst, and the last one: the
#: machine has other work, too.
USUAL_SECONDS, LONGEST_SECONDS = 0.05, 1.0
END_SECONDS = 10.0


class Wire:
    """A server, and each line it writes with its moment."""

    def __init__(self, place: Place) -> None:
        self.process = place.start(stderr=subprocess.DEVNULL)
        self._lines: queue.SimpleQueue[tuple[float, bytes]] = queue.SimpleQueue()
        self._sent: dict[int, float] = {}
        self._answers: dict[int, tuple[float, dict[str, Any]]] = {}
        self.nameless: list[dict[str, Any]] = []
        self.count = 0
        threading.Thread(target=self._listen, daemon=True).start()

    def _listen(self) -> None:
        assert self.process.stdout is not None
        with self.process.stdout as stdout:
            for line in stdout:
                self._lines.put((time.monotonic(), line))
        self._lines.put((0.0, b""))

    def write(self, data: bytes) -> None:
        """Send bytes; a server that has ended takes none."""
        assert self.process.stdin is not None
        try:
            self.process.stdin.write(data)
            self.process.stdin.flush()
        except BrokenPipeError:
            return

    def ask(self, method: str, /, **params: Any) -> int:
        """Send a request."""
        self._sent[len(self._sent) + 1] = time.monotonic()
        message = {"jsonrpc": "2.0", "id": len(self._sent), "method": method, "params": params}
        self.write(json.dumps(message).encode() + b"\n")
        return len(self._sent)

    def call(self, tool: str, /, **arguments: Any) -> int:
        """Call a tool."""
        return self.ask("tools/call", name=tool, arguments=arguments)

    def greet(self) -> None:
        """Shake hands."""
        about = {"capabilities": {}, "clientInfo": {"name": "chaos", "version": "1"}}
        self.answer(self.ask("initialize", protocolVersion="2025-11-25", **about))
        self.write(b'{"jsonrpc":"2.0","method":"notifications/initialized"}\n')

    def answer(self, request: int) -> tuple[float, dict[str, Any]]:
        """How long a request took, and its answer; every line before it is a message, too."""
        while request not in self._answers:
            at, line = self._lines.get(timeout=90)
            assert line, "the server has ended"
            self.take(at, line)
        return self._answers.pop(request)

    def take(self, at: float, line: bytes) -> None:
        """See that a line is a message."""
        message = parse(line)
        self.count += 1
        if message.get("id") in self._sent:
            self._answers[message["id"]] = (at - self._sent[message["id"]], message)
        elif "error" in message:
            judge_error(message["error"])
            self.nameless.append(message)

    def end(self) -> int:
        """Close the input; the exit code. What is still written are messages."""
        assert self.process.stdin is not None
        with contextlib.suppress(BrokenPipeError):
            self.process.stdin.close()
        code = self.process.wait(END_SECONDS)
        while (each := self._lines.get(timeout=END_SECONDS))[1]:
            self.take(*each)
        return code


@dataclass
class Times:
    """How long answers took."""

    seconds: list[float] = field(default_factory=list)

    @property
    def usual(self) -> float:
        """What half of them took at most."""
        return sorted(self.seconds)[len(self.seconds) // 2]

    def __str__(self) -> str:
        ordered = sorted(self.seconds)
        late = ordered[int(len(ordered) * 0.99)]
        return (
            f"median {1000 * self.usual:.1f} ms, p99 {1000 * late:.0f} ms, "
            f"slowest {1000 * ordered[-1]:.0f} ms"
        )


def through_flows(home: Path, ways: list[str]) -> str:
    """Start each flow, and ask the server other things until it has ended."""
    if not hasattr(os, "fork"):
        raise Skipped("needs fork")
    place = Place.under(home)
    source = Path(hostile.__file__)
    times = Times()
    wire = Wire(place)
    try:
        wire.greet()
        for way in ways:
            shutil.copy(source, place.project / "hostile.py")
            target = {"target": f"hostile.py:{way}", "wait_seconds": 50}
            running = wire.call("kitaru_executions_run", **target)
            while running not in wire._answers:
                for tool in ("kitaru_status", "kitaru_executions_list"):
                    seconds, answer = wire.answer(wire.call(tool))
                    assert answer["result"].get("isError") is not True, answer
                    times.seconds.append(seconds)
                time.sleep(0.01)
            _, answer = wire.answer(running)
            found = answer["result"]["structuredContent"]["execution"]
            assert found["status"] == WAYS[way], (way, found)
            assert found.get("stalled", False) == (WAYS[way] == "running"), (way, found)
            if found["status"] == "running":
                cancel = {"exec_id": found["exec_id"], "confirm": True}
                wire.answer(wire.call("kitaru_executions_cancel", **cancel))
        assert wire.end() == 0
        assert not wire.nameless
    finally:
        wire.process.kill()
    assert times.usual <= USUAL_SECONDS, str(times)
    assert max(times.seconds) <= LONGEST_SECONDS, str(times)
    return f"{len(ways)} flows, {wire.count} lines, 0 others; {len(times.seconds)} answers: {times}"


def through_frames(home: Path, rng: random.Random, *, servers: int, frames: int) -> str:
    """Send what is no message, hear the answer to one that is, and cut the input off."""
    place = Place.under(home)
    odd = Odd(rng, {"exec_id": ["latest"]})
    errors = 0
    for _ in range(servers):
        wire = Wire(place)
        try:
            wire.greet()
            for _ in range(frames):
                wire.write(frame(rng, odd) + b"\n")
            _, answer = wire.answer(wire.ask("ping"))
            assert answer["result"] == {}, answer
            message = json.dumps(
                {"jsonrpc": "2.0", "id": 9, "method": "tools/call", "params": {"name": "é" * 40}}
            ).encode()
            wire.write(message[: rng.randrange(len(message))])
            assert wire.end() == 0, "it did not end in order"
            errors += len(wire.nameless)
        finally:
            wire.process.kill()
    return f"{servers} servers, {servers * frames} odd lines, {errors} refused, 0 hung"


def frame(rng: random.Random, odd: Odd) -> bytes:
    """A line that is no message, or one with a fault."""
    good = {"jsonrpc": "2.0", "id": "x", "method": "tools/list", "params": {}}
    wrong: list[Any] = [None, 7, "text", [], {}, [[good]], [good, good], True, 1e308]
    chance = rng.random()
    if chance < 0.3:
        return odd.line()
    if chance < 0.6:
        return json.dumps(
            {**good, rng.choice([*good, "result", "error"]): rng.choice(wrong)}
        ).encode()
    if chance < 0.7:
        return json.dumps({key: good[key] for key in rng.sample([*good], 2)}).encode()
    if chance < 0.8:
        return json.dumps(rng.choice(wrong)).encode() + rng.choice([b"\r", b"\r\r", b" \t", b"\0"])
    if chance < 0.97:
        data = bytearray(json.dumps({**good, "params": {"x": odd.text()}}).encode())
        for _ in range(rng.randrange(1, 4)):
            data[rng.randrange(len(data))] = rng.choice([*range(10), *range(11, 256)])
        return bytes(data)
    size = rng.choice([1_000_000, 3_000_000, MAX_LINE_BYTES + 2**20])
    return json.dumps({**good, "params": {"name": "x" * size}}).encode()


TRIALS = (
    Trial(name="framing", run=lambda scope: through_flows(scope.home, _ways(scope)), alone=True),
    Trial(
        name="frames",
        run=lambda scope: through_frames(
            scope.home, scope.rng, servers=scope.times(10), frames=200
        ),
    ),
)


def _ways(scope: Scope) -> list[str]:
    return scope.rng.sample([*WAYS], min(len(WAYS), scope.times(len(WAYS))))
