"""Many calls at once, cancelled ones, ids used twice, and a store that is lost and comes back."""

from __future__ import annotations

import json
import resource
import shutil
import sys
from pathlib import Path

import anyio
import pytest

from kitaru_mcp.app import App
from kitaru_mcp.desk import Desk
from kitaru_mcp.eras import Eras
from kitaru_mcp.policy import Policy
from kitaru_mcp.resources import fingerprint
from kitaru_mcp.tools import TOOLS
from tests.mcp.serving import Bare, Place, bare, reached

LIST = "kitaru_executions_list"
RUN = "kitaru_executions_run"
WAIT = "kitaru_executions_wait"
MODERN = {
    "io.modelcontextprotocol/protocolVersion": "2026-07-28",
    "io.modelcontextprotocol/clientCapabilities": {},
}


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place.under(tmp_path)


def running(server: Bare, place: Place) -> tuple[str, Path]:
    """An execution that runs until its gate exists."""
    gate = place.project / "gate"
    found = server.data(RUN, target="flows.py:gated", args={"gate": str(gate)})
    reached(gate)
    return found["execution"]["exec_id"], gate


def test_waits_and_questions_keep_no_other_call_waiting(place: Place) -> None:
    with bare(place, greet=False) as server:
        server.greet(elicitation={})
        exec_id, gate = running(server, place)
        waits = [server.tool(WAIT, exec_id=exec_id, timeout_seconds=50) for _ in range(50)]
        for _ in range(20):
            server.tool("kitaru_executions_cancel", exec_id=exec_id)
        for _ in range(20):
            assert exec_id in server.question()
        server.reply_to(server.request("ping"))
        assert server.data(LIST)["count"] == 1
        assert server.data("kitaru_executions_get", exec_id=exec_id)["status"] == "running"
        gate.touch()
        answers = [server.answer() for _ in waits]
        assert sorted(answer["id"] for answer in answers) == waits
        assert all(answer["result"]["structuredContent"]["settled"] for answer in answers)


def test_cancelled_waits_are_not_answered_and_the_execution_goes_on(place: Place) -> None:
    with bare(place) as server:
        exec_id, gate = running(server, place)
        for number in range(200):
            waiting = server.tool(WAIT, exec_id=exec_id, timeout_seconds=50)
            if number % 2:  # let it begin
                pinged = server.request("ping")
                assert server.answer()["id"] == pinged
            server.notify("notifications/cancelled", requestId=waiting)
        pinged = server.request("ping")
        assert server.answer()["id"] == pinged
        if sys.platform == "linux":
            assert len(list(Path(f"/proc/{server.process.pid}/task").iterdir())) < 20
        gate.touch()
        assert server.data(WAIT, exec_id=exec_id)["result"] == "through"


def test_an_id_used_twice_in_either_era_harms_no_other_request(place: Place) -> None:
    with bare(place) as server:
        exec_id, gate = running(server, place)
        call = {"name": WAIT, "arguments": {"exec_id": exec_id, "timeout_seconds": 50}}
        for meta in ({}, {"_meta": MODERN}) * 3:
            server.send({"id": "twice", "method": "tools/call", "params": {**call, **meta}})
        server.reply_to(server.request("ping"))
        server.notify("notifications/cancelled", requestId="twice")
        server.reply_to(server.request("ping"))
        gate.touch()
        assert server.data(WAIT, exec_id=exec_id)["result"] == "through"
        server.end_input()
        assert server.process.wait(5) == 0


def test_a_store_that_is_lost_and_comes_back(place: Place) -> None:
    kept = place.home.with_name("kept")
    with bare(place) as server:
        server.data(RUN, target="flows.py:broken", wait_seconds=50)
        place.home.rename(kept)
        assert server.data("kitaru_status")["exists"] is False
        assert server.data(LIST)["count"] == 0
        for file in place.home.iterdir():
            file.unlink()
        (place.home / "kitaru.db").write_bytes(b"rubbish" * 1000)
        (refusal,) = server.reply_to(server.tool(LIST))["content"]
        assert refusal["text"].startswith("store_damaged: ")
        shutil.rmtree(place.home)
        kept.rename(place.home)
        assert server.data(LIST)["items"][0]["status"] == "failed"


@pytest.mark.skipif(sys.platform != "linux", reason="limits another process")
def test_on_a_full_disk_calls_still_read_and_write_again_when_there_is_room(place: Place) -> None:
    with bare(place) as server:
        run = {"target": "flows.py:broken", "wait_seconds": 50}
        server.data(RUN, **run)
        whole = resource.prlimit(server.process.pid, resource.RLIMIT_FSIZE)
        # Room for what an import of the flows writes, and not for a page of the store.
        room = 3 * (place.home / "imports.txt").stat().st_size
        resource.prlimit(server.process.pid, resource.RLIMIT_FSIZE, (room, whole[1]))
        (refusal,) = server.reply_to(server.tool(RUN, **run))["content"]
        assert refusal["text"].startswith("store_unavailable: ")
        assert server.data(LIST)["count"] == 1
        resource.prlimit(server.process.pid, resource.RLIMIT_FSIZE, whole)
        assert server.data(RUN, **run)["execution"]["status"] == "failed"


def desk_of(home: Path) -> Desk:
    policy = Policy(read_only=False, roots=())
    return Desk(home=str(home), policy=policy, offered=frozenset())


def test_watching_does_not_make_a_store_that_was_removed(tmp_path: Path) -> None:
    home = tmp_path / "removed"
    desk = desk_of(home)
    assert fingerprint(desk, "kitaru://executions") == fingerprint(desk, "kitaru://executions/kr-")
    assert not home.exists()


def test_an_answer_that_a_client_has_not_taken_yet_is_still_under_way(tmp_path: Path) -> None:
    async def scenario() -> None:
        begun, taken, done = anyio.Event(), anyio.Event(), anyio.Event()

        async def write(line: bytes) -> None:
            begun.set()
            await taken.wait()
            done.set()

        async with anyio.create_task_group() as tasks:
            eras = Eras(App(desk_of(tmp_path), TOOLS).server, tasks, write)
            request = {"method": "server/discover", "params": {"_meta": MODERN}}
            await eras.take(json.dumps({"jsonrpc": "2.0", "id": 1, **request}).encode())
            await begun.wait()
            assert eras.is_busy
            taken.set()
            await done.wait()
            await anyio.wait_all_tasks_blocked()
            assert not eras.is_busy
            for loop in eras._loops.values():
                loop.close()

    anyio.run(scenario)
