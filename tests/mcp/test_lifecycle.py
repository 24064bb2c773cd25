"""The server's process: what it writes, that it stays answerable, and how it ends."""

from __future__ import annotations

import array
import fcntl
import json
import os
import select
import signal
import subprocess
import sys
import termios
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import pytest
from mcp import MCPDeprecationWarning

from tests import warm
from tests.mcp.serving import Bare, Place, bare, reached, served
from tests.support import until

CANCEL = "kitaru_executions_cancel"
RUN = "kitaru_executions_run"
MODERN = {
    "io.modelcontextprotocol/protocolVersion": "2026-07-28",
    "io.modelcontextprotocol/clientCapabilities": {},
}
ENDS = ["eof", "sigint", "sigterm"]
SECONDS = 5
PIPE_BYTES = 64 * 1024


def end(server: Bare, how: str) -> None:
    """End a server, and see that it does."""
    if how == "eof":
        server.end_input()
    else:
        server.process.send_signal(signal.SIGINT if how == "sigint" else signal.SIGTERM)
    assert server.process.wait(SECONDS) == 0


def asking(place: Place) -> str:
    """An execution that asks its question."""
    executions = place.client.executions
    target = f"{place.project / 'flows.py'}:agent"
    exec_id = executions.run(target, root=str(place.project)).exec_id
    until(lambda: executions.get(exec_id).pending_waits, "the question is asked")
    return exec_id


@contextmanager
def locked(place: Place) -> Iterator[None]:
    """While another process holds the store's lock."""
    code = (
        "import sys\n"
        "from kitaru.store.locking import WriteLock\n"
        "with WriteLock(sys.argv[1]):\n"
        "    print('held', flush=True)\n"
        "    sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code, str(place.home / "kitaru.db.lock")],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as holder:
        assert holder.stdout is not None
        holder.stdout.readline()
        yield
        holder.kill()


@contextmanager
def launched(place: Place, code: str) -> Iterator[subprocess.Popen[bytes]]:
    """A process that starts a server: `command` is the server's."""
    code = f"import os, subprocess, sys\ncommand = [sys.executable, *sys.argv[1:]]\n{code}"
    with subprocess.Popen(
        [sys.executable, "-c", code, "-m", "kitaru_mcp.server"],
        cwd=place.project,
        env=os.environ | place.environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as process:
        yield process


def send(process: subprocess.Popen[bytes], method: str, **params: object) -> None:
    """A request of the newer era, which needs no greeting."""
    message = {"jsonrpc": "2.0", "id": 1, "method": method, "params": {**params, "_meta": MODERN}}
    assert process.stdin is not None
    process.stdin.write(json.dumps(message).encode() + b"\n")
    process.stdin.flush()


def quick(place: Place, **given: Any) -> AbstractContextManager[Bare]:
    """A bare server that has loaded all it imports: how it starts is not what is tested."""
    return bare(place, program=warm.command(), **given)


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place.under(tmp_path)


@pytest.mark.parametrize("how", ENDS)
def test_an_idle_server_ends(place: Place, how: str) -> None:
    with bare(place) as server:
        end(server, how)


@pytest.mark.parametrize("how", ENDS)
def test_a_busy_server_ends_and_its_runner_goes_on(place: Place, how: str) -> None:
    target, gate = place.blocking_import(how)
    with quick(place) as server:
        server.tool("kitaru_executions_run", target=target)
        reached(gate)
        end(server, how)
    gate.touch()
    executions = place.client.executions
    (waiting,) = until(lambda: executions.list(status="waiting"), "the runner has gone on")
    executions.cancel(waiting.exec_id)


@pytest.mark.parametrize("how", ENDS)
def test_a_server_ends_with_calls_of_every_kind_under_way(
    place: Place, how: str, tmp_path: Path
) -> None:
    target, gate = place.blocking_import(how)
    errors = tmp_path / "stderr"
    exec_id = asking(place)
    with errors.open("wb") as stderr, quick(place, greet=False, stderr=stderr) as server:
        server.greet(elicitation={})
        server.request("resources/subscribe", uri=f"kitaru://executions/{exec_id}")
        server.tool(CANCEL, exec_id=exec_id)
        assert exec_id in server.question()
        server.tool(RUN, target=target)
        reached(gate)
        with locked(place):
            server.tool("kitaru_executions_input", exec_id=exec_id, wait="approve", value=True)
            for _ in range(25):
                server.tool("kitaru_executions_wait", exec_id=exec_id)
                server.tool("kitaru_executions_list")
            end(server, how)
    assert errors.read_text() == ""
    place.client.executions.cancel(exec_id)
    gate.touch()
    until(lambda: place.client.executions.list(status="waiting"), "the runner has gone on")
    place.client.executions.cancel("latest")


@pytest.mark.parametrize("how", ENDS)
def test_a_server_ends_whose_client_does_not_read(place: Place, how: str) -> None:
    with quick(place) as server:
        for _ in range(40):
            server.request("tools/list")
        assert select.select([server.process.stdout], [], [], SECONDS)[0]
        if how == "eof":
            assert server.process.stdin is not None
            server.process.stdin.close()
        else:
            server.process.send_signal(signal.SIGINT if how == "sigint" else signal.SIGTERM)
        assert server.process.wait(SECONDS) == 0


def test_a_client_that_reads_no_more_is_still_served(place: Place) -> None:
    with quick(place) as server:
        assert server.process.stdout is not None
        server.process.stdout.close()
        server.request("tools/list")
        server.tool(RUN, target="flows.py:broken")
        until(lambda: place.client.executions.list(status="failed"), "the call was served")
        server.process.send_signal(signal.SIGTERM)
        assert server.process.wait(SECONDS) == 0


def test_a_question_ends_with_the_input_and_nothing_is_done(place: Place) -> None:
    exec_id = asking(place)
    with quick(place, greet=False) as server:
        server.greet(elicitation={})
        server.tool(CANCEL, exec_id=exec_id)
        server.question()
        *_, line = server.end_input().splitlines()
        (content,) = json.loads(line)["result"]["content"]
        assert content["text"].startswith(
            "not_confirmed: Nothing was done: the client was to ask a person, and left"
        )
        assert server.process.wait(SECONDS) == 0
    assert place.client.executions.get(exec_id).status == "waiting"
    place.client.executions.cancel(exec_id)


def test_a_server_is_gone_after_its_client_was_killed(place: Place) -> None:
    code = (
        "server = subprocess.Popen(command, stdin=subprocess.PIPE)\n"
        "server.stdin.write(sys.stdin.buffer.readline())\n"
        "server.stdin.flush()\n"
        "server.wait()"
    )
    with launched(place, code) as client:
        send(client, "server/discover")
        assert client.stdout is not None
        assert b"supportedVersions" in client.stdout.readline()
        client.kill()
        # The server holds the other end of this pipe for as long as it lives.
        rest, _ = client.communicate(timeout=SECONDS)
        assert rest == b""


@pytest.mark.parametrize("missing", [(2,), (1, 2)])
def test_a_launcher_may_have_closed_standard_streams(
    place: Place, missing: tuple[int, ...]
) -> None:
    code = f"for number in {missing}: os.close(number)\nos.execv(sys.executable, command)"
    with launched(place, code) as server:
        arguments = {"target": "flows.py:noisy"}
        send(server, "tools/call", name=RUN, arguments=arguments)
        executions = place.client.executions
        until(lambda: executions.list(status="completed"), "the call was served")
        answer, _ = server.communicate(timeout=SECONDS)
        assert server.returncode == 0
        if 1 not in missing:
            assert json.loads(answer)["result"]["resultType"] == "complete"


def test_without_standard_streams_there_is_nothing_to_serve(place: Place) -> None:
    code = "for number in range(3): os.close(number)\nos.execv(sys.executable, command)"
    with launched(place, code) as server:
        assert server.communicate(timeout=SECONDS)[0] == b""
        assert server.returncode == 0


@pytest.mark.skipif(sys.platform != "linux", reason="looks for children in /proc")
def test_runners_that_end_are_reaped(place: Place) -> None:
    with bare(place) as server:
        server.data(RUN, target="flows.py:broken", wait_seconds=50)
        tasks = Path(f"/proc/{server.process.pid}/task")
        until(
            lambda: not any(each.read_text() for each in tasks.glob("*/children")),
            "no child is left, dead or alive",
        )


def test_a_call_sent_just_before_the_end_is_answered(place: Place) -> None:
    with quick(place) as server:
        server.tool("kitaru_status")
        (line,) = server.end_input().splitlines()
        answer = json.loads(line)
        assert answer["id"] == 2
        assert answer["result"]["structuredContent"]["home"] == str(place.home)
        assert server.process.wait(SECONDS) == 0


def fill(server: Bare, requests: int) -> None:
    """Ask for more than the pipe holds, and do not read it."""
    for _ in range(requests):
        server.request("tools/list")
    assert server.process.stdout is not None
    answers = server.process.stdout.fileno()
    until(lambda: waiting_bytes(answers) > PIPE_BYTES // 2, "the pipe is full")


def waiting_bytes(pipe: int) -> int:
    size = array.array("i", [0])
    fcntl.ioctl(pipe, termios.FIONREAD, size)
    return size[0]


def test_a_slow_reader_gets_every_answer_after_the_end_of_its_input(place: Place) -> None:
    with quick(place) as server:
        fill(server, 30)
        ids = {json.loads(line)["id"] for line in server.end_input().splitlines()}
        assert ids == set(range(2, 32))


def test_a_client_that_reads_nothing_does_not_keep_the_server(place: Place) -> None:
    with quick(place) as server:
        fill(server, 30)
        server.write(b"no message\n")
        server.request("initialize", protocolVersion="2025-06-18")
        assert server.process.stdin is not None
        server.process.stdin.close()
        assert server.process.wait(SECONDS) == 0


def test_pipes_that_do_not_block_lose_nothing(place: Place) -> None:
    into, out = os.pipe(), os.pipe()
    os.set_blocking(into[0], False)
    os.set_blocking(out[1], False)
    command = [sys.executable, "-m", "kitaru_mcp.server"]
    environment = os.environ | place.environment
    with subprocess.Popen(command, stdin=into[0], stdout=out[1], env=environment) as process:
        os.close(into[0])
        os.close(out[1])
        with os.fdopen(into[1], "wb") as requests, os.fdopen(out[0], "rb") as answers:
            for number in range(3):  # between them, the server finds its input empty
                requests.write(b'{"jsonrpc":"2.0","id":%d,"method":"initialize"}\n' % number)
                requests.flush()
                assert json.loads(answers.readline())["id"] == number
        assert process.wait(SECONDS) == 0


def test_a_ping_is_answered_while_a_flow_runs_and_while_a_call_blocks(place: Place) -> None:
    target, gate = place.blocking_import("ping")
    flow_gate = place.project / "flow.gate"
    with served(place, mode="legacy") as server:
        running = server.call(
            "kitaru_executions_run", target="flows.py:gated", args={"gate": str(flow_gate)}
        )
        reached(flow_gate)
        blocked = server.start("kitaru_executions_run", target=target)
        reached(gate)
        with pytest.warns(MCPDeprecationWarning, match="ping"):
            server.ask("send_ping")
        exec_id = running["execution"]["exec_id"]
        found = server.call("kitaru_executions_get", exec_id=exec_id)
        assert found["status"] == "running"
        assert not blocked.done()
        gate.touch()
        flow_gate.touch()
        asking = blocked.result(60).data["execution"]["exec_id"]
        server.call("kitaru_executions_cancel", exec_id=asking, confirm=True)


def test_stdout_carries_only_messages_while_a_flow_writes_to_its_own(place: Place) -> None:
    with quick(place) as server:
        server.tool("kitaru_executions_run", target="flows.py:noisy", wait_seconds=50)
        answer = server.answer()
        assert answer["result"]["structuredContent"]["execution"]["result"] == "quiet again"
        server.tool("get_execution_logs", exec_id="kr-", limit=5000)
        (content,) = server.answer()["result"]["content"]
        assert len(content["text"]) <= 40_000
        assert "lines shown, more follow" in content["text"].splitlines()[-1]
        assert server.end_input() == b""


def test_looking_does_not_make_a_store(place: Place) -> None:
    with quick(place) as server:
        server.tool("kitaru_status")
        assert server.answer()["result"]["structuredContent"]["exists"] is False
        assert not (place.home / "kitaru.db").exists()


@pytest.mark.parametrize("option", ["--help", "--version"])
def test_help_and_version_answer_without_the_sdk(option: str) -> None:
    code = (
        "import sys, kitaru_mcp.server as server\n"
        "try: server.main([sys.argv[1]])\n"
        "except SystemExit as end: print(end.code, {'mcp', 'pydantic', 'anyio'} & {*sys.modules})"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, option], capture_output=True, text=True, check=True
    )
    assert done.stdout.startswith(("usage: kitaru-mcp", "kitaru-mcp "))
    assert done.stdout.splitlines()[-1] == "0 set()"


def test_a_flow_root_that_is_no_folder_is_a_usage_error() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "kitaru_mcp.server", "--flow-root", "/nowhere"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert "--flow-root '/nowhere' is not a folder." in done.stderr


def test_nothing_heavy_is_imported_before_the_first_call() -> None:
    code = (
        "import sys, kitaru_mcp.app, kitaru_mcp.tools\n"
        "heavy = 'sqlite3 sqlite_utils jsonschema kitaru.client kitaru.store kitaru.codec'\n"
        "print([name for name in heavy.split() if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
