"""Nothing of Kitaru's opens a connection or listens for one, in ordinary use.

Python itself reports each socket, in every process of the test. asyncio wakes its loop through a
pair of connected ones (AF_UNIX); copies of log lines go to the collector that a user has named.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from unittest import mock

from tests import support
from tests.mcp.serving import FLOWS, Place, bare

LISTENER = """
import os, socket, sys
def listen(event, args, events=os.environ["KITARU_TEST_EVENTS"]):
    of_loop = event == "socket.__new__" and args[1] == socket.AF_UNIX
    if event.startswith(("socket.", "urllib.", "http.client.")) and not of_loop:
        fd = os.open(events, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.write(fd, f"{event} {args!r:.200}\\n".encode())
        os.close(fd)
sys.addaudithook(listen)
"""
PROGRAM = f"""
import sys; sys.path.insert(0, {str(FLOWS.parent)!r})
import flows, kitaru
from kitaru.cli import main
flows.noisy.run().wait()
client = kitaru.KitaruClient()
client.executions.run({str(FLOWS)!r} + ":noisy")
kitaru.create_secret("a", {{"K": "0123456789"}})
for line in ("info", "executions list", "executions get latest", "doctor", "worker --once"):
    main(line.split())
@kitaru.checkpoint
async def awaited() -> int: return 1
@kitaru.flow
async def waits() -> int: return await awaited()
waits.run().wait()
"""


def test_neither_the_sdk_nor_the_command_line_nor_the_server_opens_a_socket(
    tmp_path: Path,
) -> None:
    place = Place.under(tmp_path)
    (tmp_path / "hooks").mkdir()
    (tmp_path / "hooks" / "sitecustomize.py").write_text(LISTENER)
    events = tmp_path / "events"
    paths = os.pathsep.join([place.environment["PYTHONPATH"], str(tmp_path / "hooks")])
    watched = {"PYTHONPATH": paths, "KITARU_TEST_EVENTS": str(events)}
    environment = os.environ | place.environment | watched

    def run(program: str) -> None:
        command = [sys.executable, "-c", program]
        subprocess.run(
            command, env=environment, cwd=support.ROOT, check=True, stdout=subprocess.DEVNULL
        )

    run("import socket; socket.socketpair()")
    assert not events.exists()
    run("import socket; socket.socket().close()")
    assert "socket.__new__" in events.read_text(), "the listener hears"
    events.unlink()
    run(PROGRAM)
    with mock.patch.object(Place, "environment", environment), bare(place) as server:
        server.data("kitaru_status")
        server.data("kitaru_executions_run", target="flows.py:noisy", wait_seconds=50)
        server.data("kitaru_executions_list")
        assert server.end_input() == b""
    assert not events.exists(), events.read_text()
