"""What cannot be undone: a person is asked where the client can, else the call has to confirm."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from mcp.types import ElicitRequestFormParams, ElicitResult

from kitaru_mcp.tools import TOOLS
from tests import warm
from tests.mcp.serving import Bare, Place, Served, bare, served

MODES = ["auto", "legacy"]


class Person:
    """Who answers the client's forms."""

    def __init__(self, action: Any) -> None:
        self.is_to_say(action)

    def is_to_say(self, action: Any, content: dict[str, Any] | None = None) -> None:
        """The answer from now on."""
        self.answer = ElicitResult(action=action, content=content)
        self.questions: list[str] = []

    async def __call__(self, context: Any, params: Any) -> ElicitResult:
        assert isinstance(params, ElicitRequestFormParams)
        self.questions.append(params.message)
        return self.answer


def waiting(server: Served) -> str:
    """An execution that asks its question."""
    reply = server.call("kitaru_executions_run", target="flows.py:agent", wait_seconds=50)
    assert reply["execution"]["status"] == "waiting"
    exec_id: str = reply["execution"]["exec_id"]
    return exec_id


def status_of(place: Place, exec_id: str) -> str:
    return place.client.executions.get(exec_id).status.value


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("person", [None, Person("accept")], ids=["nobody", "somebody"])
def test_every_tool_is_driven(place: Place, mode: str, person: Person | None) -> None:
    abilities = {} if person is None else {"elicitation_callback": person}
    confirm = {} if person else {"confirm": True}
    with served(place, mode=mode, **abilities) as server:
        called = set()

        def call(tool: str, **arguments: Any) -> Any:
            called.add(tool)
            reply = server.reply(tool, **arguments)
            assert not reply.is_error, reply.text
            return reply.data

        started = call("kitaru_executions_run", target="flows.py:agent", args={"topic": "tea"})
        which = {"exec_id": started["execution"]["exec_id"]}
        assert call("kitaru_executions_wait", **which)["status"] == "waiting"
        listed = call("kitaru_executions_list", status="waiting", flow="agent")["items"]
        assert which["exec_id"] in [row["exec_id"] for row in listed]
        assert call("kitaru_executions_get", **which)["inputs"] == {"topic": "tea"}
        assert call("kitaru_executions_latest", flow="agent")["exec_id"] == which["exec_id"]
        call("get_execution_logs", **which)
        artifact_id = call("kitaru_artifacts_list", **which)["items"][-1]["artifact_id"]
        assert call("kitaru_artifacts_get", artifact_id=artifact_id)["value"] == "About tea"
        call("kitaru_executions_input", **which, wait="approve", value=True)
        assert call("kitaru_executions_wait", **which)["result"] == "ABOUT TEA"
        replayed = call("kitaru_executions_replay", **which, from_="draft", **confirm)
        which = {"exec_id": replayed["execution"]["exec_id"]}
        assert call("kitaru_executions_cancel", **which, **confirm)["execution"]["next"]
        broken = call("kitaru_executions_run", target="flows.py:broken", wait_seconds=50)
        which = {"exec_id": broken["execution"]["exec_id"]}
        assert call("kitaru_executions_retry", **which)["execution"]["exec_id"] == which["exec_id"]
        groups = call("kitaru_executions_statistics", group_by=["status"])["groups"]
        assert sum(group["execution_count"] for group in groups) >= 3
        assert call("kitaru_stacks_list")["items"][0]["name"] == "local"
        assert call("kitaru_status")["exists"] is True
    assert called == {tool.name for tool in TOOLS}


CANCEL = "kitaru_executions_cancel"
REPLAY = "kitaru_executions_replay"


@pytest.fixture(scope="module")
def undecided(place: Place) -> Iterator[str]:
    """An execution that nothing happens to."""
    with served(place) as server:
        exec_id = waiting(server)
    yield exec_id
    assert status_of(place, exec_id) == "waiting"
    place.client.executions.cancel(exec_id)


@pytest.fixture(scope="module", params=MODES)
def asked(request: pytest.FixtureRequest, place: Place) -> Iterator[tuple[Served, Person]]:
    """A server whose client asks a person."""
    person = Person("accept")
    with served(place, mode=request.param, elicitation_callback=person) as server:
        yield server, person


@pytest.mark.parametrize("content", [{"confirm": True}, {}, None])
def test_a_person_who_agrees_is_enough(asked: tuple[Served, Person], content: Any) -> None:
    server, person = asked
    person.is_to_say("accept", content)
    exec_id = waiting(server)
    reply = server.call(CANCEL, exec_id=exec_id)
    assert reply["execution"]["status"] == "cancelled"
    (question,) = person.questions
    assert exec_id in question
    assert "(agent)" in question


@pytest.mark.parametrize(
    "answer",
    [("decline", None), ("cancel", None), ("accept", {"confirm": False})],
    ids=["declines", "dismisses", "unticks"],
)
def test_a_person_who_does_not_agree_outweighs_the_call(
    place: Place, asked: tuple[Served, Person], undecided: str, answer: tuple[str, Any]
) -> None:
    server, person = asked
    person.is_to_say(*answer)
    refusal = server.refusal(CANCEL, exec_id=undecided, confirm=True)
    assert refusal.startswith("not_confirmed: Nothing was done")
    before = len(place.client.executions.list(limit=200))
    server.refusal(REPLAY, exec_id=undecided, from_="draft", confirm=True)
    assert len(place.client.executions.list(limit=200)) == before
    assert status_of(place, undecided) == "waiting"


def test_what_is_refused_anyway_is_not_asked(place: Place, asked: tuple[Served, Person]) -> None:
    server, person = asked
    exec_id = waiting(server)
    place.client.executions.cancel(exec_id)
    person.is_to_say("accept")
    assert server.refusal(CANCEL, exec_id=exec_id).startswith("invalid_state: ")
    refusal = server.refusal(REPLAY, exec_id=exec_id, from_="nothing")
    assert refusal.startswith("invalid_state: ")
    assert person.questions == []


def test_without_a_person_the_call_has_to_confirm(place: Place, server: Served) -> None:
    exec_id = waiting(server)
    for tool, more in ((CANCEL, {}), (REPLAY, {"from_": "draft"})):
        refusal = server.refusal(tool, exec_id=exec_id, **more)
        assert refusal.startswith("not_confirmed: Nothing was done")
        assert "confirm=true" in refusal
    assert status_of(place, exec_id) == "waiting"
    replayed = server.call(REPLAY, exec_id=exec_id, from_="draft", confirm=True)
    assert replayed["execution"]["original_exec_id"] == exec_id
    place.client.executions.cancel(replayed["execution"]["exec_id"])
    reply = server.call(CANCEL, exec_id=exec_id, confirm="true")
    assert reply["execution"]["status"] == "cancelled"


def question(server: Bare, exec_id: str, **more: Any) -> Any:
    """Cancel as a client that can ask; the id of the question it is to ask."""
    server.tool(CANCEL, exec_id=exec_id, **more)
    asked = server.answer()
    assert asked["method"] == "elicitation/create"
    return asked["id"]


@pytest.fixture(scope="module")
def plain(place: Place) -> Iterator[Bare]:
    """A bare server whose client says that it can ask."""
    with bare(place, abilities={"elicitation": {}}, program=warm.command()) as server:
        yield server


def told(server: Bare) -> str:
    text: str = server.answer()["result"]["content"][0]["text"]
    return text


@pytest.mark.parametrize(
    "answer",
    [
        {"result": {"action": "perhaps"}},
        {"result": {}},
        {"result": 5},
        {"result": {"action": "accept", "content": {"confirm": "false"}}},
        {"result": {"action": "accept", "content": {"confirm": None}}},
        {"result": {"action": "decline", "content": {"why": {"not": 1}}}},
        {"error": {"code": -1, "message": "The user rejected it."}},
        {"error": "no"},
    ],
)
def test_an_odd_answer_is_no_agreement(
    place: Place, plain: Bare, undecided: str, answer: dict[str, Any]
) -> None:
    asked = question(plain, undecided, confirm=True)
    plain.send({"id": asked, **answer})
    assert told(plain).startswith("not_confirmed: Nothing was done: ")
    assert status_of(place, undecided) == "waiting"


def test_a_client_that_cannot_ask_after_all_leaves_it_to_the_call(
    server: Served, plain: Bare
) -> None:
    refusal = {"error": {"code": -32601, "message": "Method not found"}}
    exec_id = waiting(server)
    plain.send({"id": question(plain, exec_id), **refusal})
    assert "call again with confirm=true" in told(plain)
    plain.send({"id": question(plain, exec_id, confirm=True), **refusal})
    assert '"status":"cancelled"' in told(plain)


def test_what_a_person_can_no_longer_answer_is_not_waited_for(place: Place, undecided: str) -> None:
    with bare(place, abilities={"elicitation": {}}, program=warm.command()) as server:
        question(server, undecided)
        server.tool(CANCEL, exec_id=undecided)
        text = server.end_input().decode()
    assert text.count("not_confirmed: Nothing was done: ") == 2


def test_an_answer_counts_for_the_execution_it_was_given_for(place: Place) -> None:
    with served(place) as server:
        first, second = waiting(server), waiting(server)
    meta = {
        "io.modelcontextprotocol/protocolVersion": "2026-07-28",
        "io.modelcontextprotocol/clientCapabilities": {"elicitation": {"form": {}}},
    }
    agreed = {f"confirm {first}": {"action": "accept"}}
    with bare(place, greet=False, program=warm.command()) as plain:
        for exec_id in (second, first):
            plain.request(
                "tools/call",
                name=CANCEL,
                arguments={"exec_id": exec_id},
                inputResponses=agreed,
                _meta=meta,
            )
        asked, done = sorted((plain.answer() for _ in range(2)), key=lambda each: each["id"])
    assert list(asked["result"]["inputRequests"]) == [f"confirm {second}"]
    assert done["result"]["resultType"] == "complete"
    assert (status_of(place, first), status_of(place, second)) == ("cancelled", "waiting")
    place.client.executions.cancel(second)
