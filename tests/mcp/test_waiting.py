"""Waiting for an execution: what ends it, what it tells meanwhile, and what it leaves alone."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

import anyio
import pytest
from mcp import Client

from tests.mcp.serving import Place, Served, bare, reached, served
from tests.support import until

WAIT = "kitaru_executions_wait"
RUN = "kitaru_executions_run"


def started(server: Served, target: str, **args: Any) -> str:
    exec_id: str = server.call(RUN, target=target, args=args)["execution"]["exec_id"]
    return exec_id


def test_a_wait_ends_with_the_execution_and_tells_of_each_checkpoint(
    server: Served, tmp_path: Path
) -> None:
    gate, told = tmp_path / "gate", []
    exec_id = started(server, "flows.py:steps", count=3, gate=str(gate))
    reached(gate)

    async def hear(progress: float, total: float | None, message: str | None) -> None:
        told.append((progress, message))
        gate.touch()

    async def wait(client: Client) -> Any:
        given = {"exec_id": exec_id, "timeout_seconds": 50}
        return await client.call_tool(WAIT, given, progress_callback=hear)

    found = server.do(wait).structured_content
    assert (found["settled"], found["status"], found["result"]) == (True, "completed", 3)
    # Of what had ended before only the last is told, then each as it ends.
    assert [number for number, _ in told] == [3, 4, 5, 6]
    assert [name for _, name in told] == [f"draft#{number}: completed" for number in range(3, 7)]


def test_a_wait_ends_with_a_question_and_goes_on_after_its_answer(modern: Served) -> None:
    exec_id = started(modern, "flows.py:agent")
    found = modern.call(WAIT, exec_id=exec_id, timeout_seconds=50)
    assert (found["settled"], found["status"]) == (True, "waiting")
    assert found["next"][0].startswith("kitaru_executions_input(")
    modern.call("kitaru_executions_input", exec_id=exec_id, wait="approve", value=True)
    found = modern.call(WAIT, exec_id=exec_id, timeout_seconds=50)
    assert (found["settled"], found["result"]) == (True, "ABOUT DOGS")


def test_a_wait_ends_when_the_driver_dies(modern: Served, place: Place, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    exec_id = started(modern, "flows.py:gated", gate=str(gate))
    reached(gate)
    waiting = modern.start(WAIT, exec_id=exec_id, timeout_seconds=50)
    (line,) = place.client.executions.logs(exec_id, source="runner", limit=1)
    os.kill(int(line.message.partition(",")[0].rpartition(":")[2]), signal.SIGKILL)
    found = waiting.result(60).data
    assert (found["settled"], found["stalled"]) == (True, True)
    assert found["next"] == [
        f"in a shell: KITARU_HOME={place.home} kitaru executions resume {exec_id}"
    ]


def test_a_wait_whose_time_is_up_says_so_and_stops_nothing(modern: Served, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    exec_id = started(modern, "flows.py:gated", gate=str(gate))
    reached(gate)
    found = modern.call(WAIT, exec_id=exec_id, timeout_seconds=0)
    assert (found["settled"], found["status"]) == (False, "running")
    assert found["next"] == [f'{WAIT}(exec_id="{exec_id}")']
    gate.touch()
    assert modern.call(WAIT, exec_id=exec_id)["result"] == "through"


def test_an_answered_question_that_nobody_takes_up_ends_a_wait(
    modern: Served, place: Place
) -> None:
    exec_id = started(modern, "flows.py:agent")
    modern.call(WAIT, exec_id=exec_id)
    pid = modern.call("kitaru_artifacts_get", artifact_id=f"{exec_id}/who")["value"]
    os.kill(pid, signal.SIGKILL)
    until(lambda: not place.client.executions.continues(exec_id), "the runner is gone")
    modern.call("kitaru_executions_input", exec_id=exec_id, wait="approve", value=True)
    found = modern.call(WAIT, exec_id=exec_id, timeout_seconds=50)
    assert found["settled"] is True
    assert found["next"] == [
        f"in a shell: KITARU_HOME={place.home} kitaru executions resume {exec_id}"
    ]


def test_cancelling_the_call_leaves_the_execution_alone(modern: Served, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    exec_id = started(modern, "flows.py:gated", gate=str(gate))
    reached(gate)

    async def give_up(client: Client) -> None:
        async def heard(progress: float, total: float | None, message: str | None) -> None:
            return None

        with anyio.move_on_after(0.01) as scope:
            await client.call_tool(WAIT, {"exec_id": exec_id}, progress_callback=heard)
        assert scope.cancelled_caught

    modern.do(give_up)
    assert modern.call("kitaru_executions_get", exec_id=exec_id)["status"] == "running"
    gate.touch()
    assert modern.call(WAIT, exec_id=exec_id)["result"] == "through"


def test_the_end_of_the_input_ends_a_wait_with_what_there_is(place: Place, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    with bare(place) as server:
        server.tool(RUN, target="flows.py:gated", args={"gate": str(gate)})
        exec_id = server.answer()["result"]["structuredContent"]["execution"]["exec_id"]
        reached(gate)
        server.tool(WAIT, exec_id=exec_id, timeout_seconds=50)
        server.tool("kitaru_stacks_list")
        assert server.answer()["id"] == 4
        last = server.end_input()
        assert b'"settled":false' in last
        assert server.process.wait(5) == 0
    gate.touch()
    until(
        lambda: place.client.executions.get(exec_id).status == "completed", "the execution went on"
    )


@pytest.mark.parametrize("seconds", [-1, 51, 1.5, "soon"])
def test_a_wait_is_never_longer_than_a_client_waits(modern: Served, seconds: Any) -> None:
    refusal = modern.refusal(WAIT, exec_id="kr-", timeout_seconds=seconds)
    assert refusal.startswith("bad_argument: timeout_seconds is ")


def test_the_same_key_runs_once(place: Place) -> None:
    with served(place) as server:
        given = {"target": "flows.py:broken", "idempotency_key": "once"}
        first = server.call(RUN, **given)
        again = server.call(RUN, **given)
        assert again["execution"]["exec_id"] == first["execution"]["exec_id"]
        assert ("repeated" in first, again["repeated"]) == (False, True)
        meta = {"claudecode/toolUseId": "toolu_1"}

        async def twice(client: Client) -> list[Any]:
            call = {"name": RUN, "arguments": {"target": "flows.py:broken"}, "meta": meta}
            return [await client.call_tool(**call) for _ in range(2)]  # type: ignore[arg-type]

        ids = [each.structured_content["execution"]["exec_id"] for each in server.do(twice)]
        assert ids[0] == ids[1] != first["execution"]["exec_id"]
        refusal = server.refusal(RUN, **{**given, "target": "flows.py:agent"})
        assert refusal.startswith("bad_argument: Idempotency key 'once'")
