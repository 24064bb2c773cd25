"""A light MCP client for measuring: lines of JSON over pipes, in one thread, nothing validated.

A request is made ready before the clock starts, and a load's replies are counted, not parsed, so
that little of what is measured is the client.
"""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

Era = Literal["initialize", "server/discover"]
ERAS: tuple[Era, ...] = ("initialize", "server/discover")

_LEGACY = {
    "protocolVersion": "2025-11-25",
    "capabilities": {},
    "clientInfo": {"name": "bench", "version": "1"},
}
_META = {
    "io.modelcontextprotocol/protocolVersion": "2026-07-28",
    "io.modelcontextprotocol/clientCapabilities": {},
    "io.modelcontextprotocol/clientInfo": {"name": "bench", "version": "1"},
}
_READ_BYTES = 1 << 20
_PATIENCE_SECONDS = 60.0


class Piped:
    """A server process and its pipes; `era` is its opening message.

    Args:
        command: what starts it.
        era: how it is spoken to.
        environment: its variables.
    """

    def __init__(self, command: Sequence[str], era: Era, *, environment: Mapping[str, str]) -> None:
        self._modern = era == "server/discover"
        self._count = 0
        self._rest = b""
        self.began = time.perf_counter()
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=dict(environment), bufsize=0
        )
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._in, self._out = self._process.stdin, self._process.stdout
        self.pid = self._process.pid
        self.request(era, {} if self._modern else _LEGACY)
        self.first_ms = 1000 * (time.perf_counter() - self.began)
        if not self._modern:
            self._in.write(_line({"jsonrpc": "2.0", "method": "notifications/initialized"}))

    def prepared(self, method: str, params: Mapping[str, Any]) -> bytes:
        """A request as it goes over the pipe."""
        self._count += 1
        meta = {"_meta": _META} if self._modern else {}
        message = {"jsonrpc": "2.0", "id": self._count, "method": method}
        return _line({**message, "params": {**params, **meta}})

    def request(self, method: str, params: Mapping[str, Any]) -> bytes:
        """Ask, and return the line of the reply; a refusal ends the benchmark."""
        line = self.exchange(self.prepared(method, params))
        reply = json.loads(line)
        if "error" in reply or reply["result"].get("isError"):
            raise SystemExit(f"{method} {params} was refused: {line[:500]!r}")
        return line

    def exchange(self, request: bytes) -> bytes:
        """Send a prepared request and return the next line."""
        self._in.write(request)
        while b"\n" not in self._rest:
            self._rest += self._read()
        line, _, self._rest = self._rest.partition(b"\n")
        return line

    def post(self, requests: Sequence[bytes]) -> None:
        """Send prepared requests, and read no reply."""
        self._in.write(b"".join(requests))

    def load(self, requests: Sequence[bytes], *, at_once: int) -> float:
        """Seconds that prepared requests take, so many of them under way at any time."""
        begun = time.perf_counter()
        self._in.write(b"".join(requests[:at_once]))
        sent, answered = at_once, 0
        while answered < len(requests):
            came = self._read().count(b"\n")
            answered += came
            if more := requests[sent : sent + came]:
                self._in.write(b"".join(more))
                sent += len(more)
        return time.perf_counter() - begun

    def _read(self) -> bytes:
        if not select.select([self._out], [], [], _PATIENCE_SECONDS)[0]:
            raise SystemExit(f"no answer for {_PATIENCE_SECONDS:.0f} seconds")
        if not (chunk := os.read(self._out.fileno(), _READ_BYTES)):
            raise SystemExit("the server ended")
        return chunk

    def cpu_ms(self) -> float:
        """CPU time of the process so far, with 10 ms of error."""
        fields = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        return 1000 * (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def memory_mb(self) -> float:
        """Memory of the process; pages it shares with others count in part."""
        rollup = Path(f"/proc/{self.pid}/smaps_rollup").read_text()
        return int(rollup.partition("\nPss:")[2].split()[0]) / 1024

    def end(self, how: signal.Signals | None = None) -> float:
        """End it by a signal, or by the end of its input; milliseconds until it is gone."""
        begun = time.perf_counter()
        if how is None:
            self._in.close()
        else:
            self._process.send_signal(how)
        try:
            self._process.wait(_PATIENCE_SECONDS)
        finally:
            self._process.kill()
            self._in.close()
            self._out.close()
        return 1000 * (time.perf_counter() - begun)


def _line(message: Mapping[str, Any]) -> bytes:
    return json.dumps(message).encode() + b"\n"
