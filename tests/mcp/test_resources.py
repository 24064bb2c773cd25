"""Resources, completions, prompts and subscriptions, with the SDK's client in both eras."""

from __future__ import annotations

import base64
import json
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import anyio
import pytest
from mcp import Client, MCPDeprecationWarning, MCPError
from mcp.types import (
    PromptReference,
    ResourceTemplateReference,
    ResourceUpdatedNotification,
    TextContent,
)

from tests.mcp.serving import Place, Served, served
from tests.support import until

EXECUTIONS = "kitaru://executions"
TEMPLATE = ResourceTemplateReference(uri="kitaru://executions/{exec_id}")
ARTIFACT = ResourceTemplateReference(uri="kitaru://executions/{exec_id}/artifacts/{+name}")


@pytest.fixture(scope="module")
def ids(place: Place) -> Iterator[dict[str, str]]:
    """An execution that waits and one that failed."""
    with served(place) as server:
        made = {}
        for name, target in (("waiting", "flows.py:agent"), ("failed", "flows.py:broken")):
            reply = server.call("kitaru_executions_run", target=target, wait_seconds=50)
            assert reply["execution"]["status"] == name
            made[name] = reply["execution"]["exec_id"]
    yield made
    place.client.executions.cancel(made["waiting"])


def read(server: Served, uri: str) -> Any:
    (contents,) = server.ask("read_resource", uri).contents
    assert contents.uri == uri
    return contents


def data(server: Served, uri: str) -> Any:
    contents = read(server, uri)
    assert contents.mime_type == "application/json"
    return json.loads(contents.text)


def test_the_newest_executions_are_listed(server: Served, ids: dict[str, str]) -> None:
    listed = server.ask("list_resources").resources
    assert {resource.uri for resource in listed} >= {
        f"{EXECUTIONS}/{each}" for each in ids.values()
    }
    (waiting,) = (each for each in listed if each.name == ids["waiting"])
    assert waiting.title.startswith("agent: waiting, ")
    templates = server.ask("list_resource_templates").resource_templates
    assert [template.uri_template for template in templates] == [
        "kitaru://executions{?flow,status}",
        "kitaru://executions/{exec_id}",
        "kitaru://executions/{exec_id}/logs",
        "kitaru://executions/{exec_id}/artifacts/{+name}",
    ]
    assert all(template.description for template in templates)


def test_an_execution_is_what_the_tool_shows(server: Served, ids: dict[str, str]) -> None:
    found = data(server, f"{EXECUTIONS}/{ids['failed']}")
    shown = server.call("kitaru_executions_get", exec_id=ids["failed"])
    assert found.keys() == shown.keys()
    assert (found["exec_id"], found["failure"]) == (ids["failed"], shown["failure"])
    assert data(server, f"{EXECUTIONS}/latest:failed")["exec_id"] == ids["failed"]


def test_lists_logs_and_artifacts_have_addresses(server: Served, ids: dict[str, str]) -> None:
    exec_id = ids["waiting"]
    rows = data(server, f"{EXECUTIONS}?status=waiting&flow=agent")["items"]
    assert exec_id in [row["exec_id"] for row in rows]
    logs = read(server, f"{EXECUTIONS}/{exec_id}/logs")
    assert logs.mime_type == "text/plain"
    assert logs.text.endswith("drafting dogs")
    assert read(server, f"{EXECUTIONS}/{exec_id}/artifacts/draft").text == "About dogs"
    for name in ("outline", "draft/outline", "draft%2Foutline"):
        assert data(server, f"{EXECUTIONS}/{exec_id}/artifacts/{name}") == ["intro", "dogs"]


def test_an_image_is_sent_as_its_bytes(server: Served, place: Place) -> None:
    reply = server.call("kitaru_executions_run", target="flows.py:drawing", wait_seconds=50)
    exec_id = reply["execution"]["exec_id"]
    contents = read(server, f"{EXECUTIONS}/{exec_id}/artifacts/draw")
    assert contents.mime_type == "image/png"
    assert base64.b64decode(contents.blob).startswith(b"\x89PNG")
    shown = server.ask("call_tool", "kitaru_artifacts_get", {"artifact_id": f"{exec_id}/draw"})
    text, image = shown.content
    assert json.loads(text.text)["format"] == "image"
    assert (image.type, image.mime_type, image.data) == ("image", "image/png", contents.blob)
    assert shown.structured_content is None


@pytest.mark.parametrize(
    ("uri", "says"),
    [
        ("kitaru://executions/kr-zzzz", "not_found: "),
        ("kitaru://executions/{failed}/artifacts/nothing", "not_found: "),
        ("kitaru://executions/{failed}/nothing", "not_found: Nothing is at"),
        ("kitaru://elsewhere", "kitaru://executions/{exec_id}/logs"),
        ("kitaru://executions?state=failed", "give flow or status"),
        ("kitaru://executions?status=dead", "Unknown status"),
        ("file:///etc/passwd", "not_found: "),
        ("kitaru://executions/..%2f..%2fetc", "not_found: "),
    ],
)
def test_an_address_where_nothing_is_says_so(
    server: Served, ids: dict[str, str], uri: str, says: str
) -> None:
    uri = uri.replace("{failed}", ids["failed"])
    with pytest.raises(MCPError) as caught:
        server.ask("read_resource", uri)
    assert caught.value.error.code == -32602
    assert caught.value.error.data == {"uri": uri}
    assert says in caught.value.error.message
    assert len(caught.value.error.message) <= 400


def test_ids_flows_statuses_and_names_are_completed(server: Served, ids: dict[str, str]) -> None:
    def completed(ref: Any, name: str, value: str, **context: Any) -> Any:
        argument = {"name": name, "value": value}
        return server.ask("complete", ref, argument, **context).completion.values

    exec_id = ids["waiting"]
    assert exec_id in completed(TEMPLATE, "exec_id", "")
    assert completed(TEMPLATE, "exec_id", exec_id[:9]) == [exec_id]
    assert completed(TEMPLATE, "exec_id", "LATEST:f") == ["latest:failed"]
    assert exec_id in completed(PromptReference(name="triage"), "exec_id", "kr-")
    assert completed(PromptReference(name="review_waits"), "flow", "ag") == ["agent"]
    whole = ResourceTemplateReference(uri="kitaru://executions{?flow,status}")
    assert completed(whole, "status", "c") == ["completed", "cancelled"]
    names = completed(ARTIFACT, "name", "draft", context_arguments={"exec_id": exec_id})
    assert names == ["draft/outline", "draft"]
    assert completed(ARTIFACT, "name", "", context_arguments={"exec_id": "kr-zzzz"}) == []
    assert completed(TEMPLATE, "nothing", "") == []


def prompt(server: Served, name: str, **arguments: str) -> str:
    (message,) = server.ask("get_prompt", name, arguments).messages
    assert isinstance(message.content, TextContent)
    return message.content.text


def test_prompts_bring_what_the_store_says_now(server: Served, ids: dict[str, str]) -> None:
    assert [each.name for each in server.ask("list_prompts").prompts] == ["triage", "review_waits"]
    text = prompt(server, "triage")
    assert f"execution {ids['failed']} is failed" in text
    assert "no luck today" in text
    assert "never instructions" in text
    assert "drafting dogs" in prompt(server, "triage", exec_id=ids["waiting"])
    text = prompt(server, "review_waits", flow="agent")
    assert ids["waiting"] in text
    assert "Publish?" in text
    assert "No execution waits" in prompt(server, "review_waits", flow="broken")


def test_what_a_flow_printed_cannot_end_the_fence_around_it(server: Served) -> None:
    for count in range(3, 9):
        reply = server.call(
            "kitaru_executions_run",
            target="flows.py:agent",
            args={"topic": "`" * count},
            wait_seconds=50,
        )
        exec_id = reply["execution"]["exec_id"]
        text = prompt(server, "triage", exec_id=exec_id)
        server.call("kitaru_executions_cancel", exec_id=exec_id, confirm=True)
        assert text.count("```") == 4


@pytest.mark.parametrize(
    ("name", "arguments", "says"),
    [
        ("triaj", {}, "triage or review_waits"),
        ("triage", {"exec": "kr-"}, "takes exec_id"),
        ("triage", {"exec_id": "kr-zzzz"}, "not_found: "),
    ],
)
def test_a_prompt_that_cannot_be_says_why(
    server: Served, ids: dict[str, str], name: str, arguments: dict[str, str], says: str
) -> None:
    with pytest.raises(MCPError, match=says):
        prompt(server, name, **arguments)


def test_a_newer_client_hears_what_another_process_changed(place: Place) -> None:
    with served(place) as server:
        reply = server.call("kitaru_executions_run", target="flows.py:agent", wait_seconds=50)
        exec_id = reply["execution"]["exec_id"]
        uri = f"{EXECUTIONS}/{exec_id}"

        async def listen(client: Client) -> str:
            async with client.listen(resource_subscriptions=[uri, f"{EXECUTIONS}/kr-0"]) as news:
                place.client.executions.cancel(exec_id)
                with anyio.fail_after(30):
                    async for event in news:
                        return str(event.uri)  # type: ignore[union-attr]
            raise AssertionError("the stream has ended")

        assert server.do(listen) == uri


def test_an_older_client_hears_what_another_process_changed(place: Place) -> None:
    heard: list[str] = []

    async def hear(message: Any) -> None:
        if isinstance(message, ResourceUpdatedNotification):
            heard.append(str(message.params.uri))

    with served(place, mode="legacy", message_handler=hear) as server:
        first, second = (
            server.call("kitaru_executions_run", target="flows.py:agent", wait_seconds=50)
            for _ in range(2)
        )
        ids = [reply["execution"]["exec_id"] for reply in (first, second)]
        uris = [f"{EXECUTIONS}/{each}" for each in ids]
        with warnings.catch_warnings(action="ignore", category=MCPDeprecationWarning):
            for uri in uris:
                server.ask("subscribe_resource", uri)
            server.ask("unsubscribe_resource", uris[0])
        for exec_id in ids:
            place.client.executions.cancel(exec_id)
        until(lambda: heard, "the change was heard of")
        assert set(heard) == {uris[1]}


LEGACY = pytest.mark.filterwarnings("ignore::mcp.MCPDeprecationWarning")


@contextmanager
def hearing(place: Place) -> Iterator[tuple[Served, list[str]]]:
    """An older client, and the addresses it hears of."""
    heard: list[str] = []

    async def hear(message: Any) -> None:
        if isinstance(message, ResourceUpdatedNotification):
            heard.append(str(message.params.uri))

    with served(place, mode="legacy", message_handler=hear) as server:
        yield server, heard


def waiting(server: Served) -> str:
    reply = server.call("kitaru_executions_run", target="flows.py:agent", wait_seconds=50)
    return str(reply["execution"]["exec_id"])


@LEGACY
def test_a_list_changes_with_each_execution_on_it(place: Place) -> None:
    lists = [EXECUTIONS, f"{EXECUTIONS}?status=cancelled"]
    with hearing(place) as (server, heard):
        older, newer = waiting(server), waiting(server)
        for uri in (*lists, f"{EXECUTIONS}?status=completed", "file:///etc/passwd"):
            server.ask("subscribe_resource", uri)
        place.client.executions.cancel(older)
        until(lambda: len(heard) >= len(lists), "both lists have changed")
        place.client.executions.cancel(newer)
        until(lambda: len(heard) >= 2 * len(lists), "both lists have changed again")
        assert set(heard) == set(lists)


@LEGACY
def test_who_subscribes_later_takes_no_news_from_who_did_before(place: Place) -> None:
    with hearing(place) as (server, heard):
        uri = f"{EXECUTIONS}/{waiting(server)}"
        server.ask("subscribe_resource", uri)
        place.client.executions.cancel(uri.rpartition("/")[2])
        server.ask("subscribe_resource", uri)
        until(lambda: heard, "the change was heard of")


@LEGACY
def test_a_subscription_makes_no_store_and_hears_when_there_is_one(tmp_path: Path) -> None:
    place = Place.under(tmp_path)
    with hearing(place) as (server, heard):
        server.ask("subscribe_resource", f"{EXECUTIONS}/latest")
        assert not (place.home / "kitaru.db").exists()
        exec_id = waiting(server)
        until(lambda: heard, "the execution was heard of")
        place.client.executions.cancel(exec_id)


def test_subscriptions_have_a_limit_in_both_eras(server: Served) -> None:
    uris = [f"{EXECUTIONS}/kr-{number}" for number in range(1001)]

    async def listen(client: Client) -> None:
        async with client.listen(resource_subscriptions=uris):
            raise AssertionError("it was accepted")

    async def subscribe(client: Client) -> None:
        for uri in uris:
            await client.subscribe_resource(uri)

    is_legacy = server.client.protocol_version < "2026"
    with (
        warnings.catch_warnings(action="ignore", category=MCPDeprecationWarning),
        pytest.raises(MCPError, match="1000 resources are the most"),
    ):
        server.do(subscribe if is_legacy else listen)
