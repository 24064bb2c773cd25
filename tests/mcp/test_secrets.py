"""Secrets are in no reply, resource, prompt, error or line of stderr.

One lies under a secret's key, the other is registered and stands in text of any kind.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import kitaru
from kitaru.redaction import MASK
from tests.mcp import serving
from tests.mcp.serving import Bare, Place, bare

SECRET = "canary-5f1e9b"
REGISTERED = "registered 7c2d's"
FLOW = "secretive.py:secretive"
SOURCE = Path(serving.__file__).with_name("secretive.py")


class Told:
    """What a server said; `exec_ids` are a completed, a failed and a waiting execution."""

    def __init__(self, server: Bare) -> None:
        self.server = server
        self.exec_ids: list[str] = []

    def ask(self, method: str, /, **params: Any) -> Any:
        """The result of a request, or its error."""
        self.server.request(method, **params)
        answer = self.server.answer()
        return answer.get("result") or answer["error"]

    def call(self, tool: str, /, **arguments: Any) -> Any:
        """The data of a tool's reply, or its text."""
        result = self.ask("tools/call", name=tool, arguments=arguments)
        return result.get("structuredContent") or result["content"][0]["text"]

    def answer(self, exec_id: str, wait: str, value: Any) -> Any:
        """Answer a question."""
        return self.call("kitaru_executions_input", exec_id=exec_id, wait=wait, value=value)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Place:
    place = Place.under(tmp_path_factory.mktemp("secrets"))
    shutil.copy(SOURCE, place.project)
    kitaru.create_secret("canary", {"VALUE": REGISTERED}, home=place.home)
    return place


@pytest.fixture(scope="module")
def told(place: Place) -> Iterator[Told]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("KITARU_TEST_API_KEY", SECRET)
        with bare(place) as server:
            told = Told(server)
            for args in ({"config": {"secret": SECRET}}, {"fails": True, "password": SECRET}, {}):
                told.exec_ids.append(_asking(told, args))
            for exec_id in told.exec_ids[:2]:
                _answered(told, exec_id)
            yield told
            told.call("kitaru_executions_cancel", exec_id=told.exec_ids[2], confirm=True)


def _asking(told: Told, args: dict[str, Any]) -> str:
    found = told.call("kitaru_executions_run", target=FLOW, args=args, wait_seconds=50)
    assert found["execution"]["pending_waits"][0]["name"] == "api_key", found
    exec_id: str = found["execution"]["exec_id"]
    return exec_id


def _answered(told: Told, exec_id: str) -> None:
    told.answer(exec_id, "api_key", SECRET)
    told.call("kitaru_executions_wait", exec_id=exec_id, timeout_seconds=50)
    refused = told.answer(exec_id, "private_key", SECRET)
    assert refused.startswith("bad_argument: "), refused
    told.answer(exec_id, "private_key", 7)
    found = told.call("kitaru_executions_wait", exec_id=exec_id, timeout_seconds=50)
    assert found["settled"], found


def silent(told: Told) -> None:
    """Nothing of what was said since the last look has the secret."""
    lines, told.server.lines = told.server.lines, []
    assert lines
    for line in lines:
        for text in (json.dumps(line), str(line)):
            assert SECRET not in text, text[:3000]
            assert REGISTERED not in text, text[:3000]


def test_nothing_is_told_while_flows_run_and_are_answered(told: Told) -> None:
    silent(told)


def test_no_tool_that_reads_tells(told: Told) -> None:
    for exec_id in told.exec_ids:
        for detail in ("concise", "full"):
            found = told.call("kitaru_executions_get", exec_id=exec_id, detail=detail)
            assert MASK in json.dumps(found)
            told.call("kitaru_executions_list", detail=detail)
        for source in ("step", "runner"):
            told.call("get_execution_logs", exec_id=exec_id, source=source)
        told.call("kitaru_executions_wait", exec_id=exec_id, timeout_seconds=0)
        artifacts = told.call("kitaru_artifacts_list", exec_id=exec_id)["items"]
        assert len(artifacts) >= 4
        for artifact in artifacts:
            id_ = artifact["artifact_id"]
            for offset, limit in ((0, 4000), (1, 18_000), (0, 50)):
                told.call("kitaru_artifacts_get", artifact_id=id_, offset=offset, limit=limit)
    told.call("kitaru_status")
    told.call("kitaru_stacks_list")
    told.call("kitaru_executions_latest", flow="secretive")
    silent(told)


def test_no_resource_prompt_or_completion_tells(told: Told) -> None:
    for exec_id in told.exec_ids:
        uri = f"kitaru://executions/{exec_id}"
        for part in ("", "/logs", *(f"/artifacts/{name}" for name in ("login", "api_key", "long"))):
            assert "contents" in told.ask("resources/read", uri=uri + part), part
        told.ask("prompts/get", name="triage", arguments={"exec_id": exec_id})
    told.ask("prompts/get", name="review_waits")
    told.ask("resources/list")
    told.ask("resources/read", uri="kitaru://executions")
    for name in ("exec_id", "flow", "name"):
        told.ask(
            "completion/complete",
            ref={"type": "ref/prompt", "name": "triage"},
            argument={"name": name, "value": ""},
            context={"arguments": {"exec_id": told.exec_ids[0]}},
        )
    silent(told)


@pytest.mark.parametrize(
    ("tool", "arguments"),
    [
        ("kitaru_executions_run", {"target": FLOW, "args": {"password": [SECRET]}}),
        ("kitaru_executions_run", {"target": FLOW, "args": {"password": SECRET, "extra": 1}}),
        ("kitaru_executions_run", {"target": FLOW, "args": f'{{"password": "{SECRET}"'}),
        ("kitaru_executions_run", {"target": FLOW, "args": [{"password": SECRET}]}),
        ("kitaru_executions_replay", {"flow_inputs": {"password": [SECRET]}}),
        ("kitaru_executions_replay", {"overrides": {"checkpoint.no": {"token": SECRET}}}),
        ("kitaru_executions_replay", {"overrides": f'{{"token": "{SECRET}"'}),
        ("kitaru_executions_input", {"wait": "api_key", "value": {"secret": SECRET}}),
        ("kitaru_executions_input", {"wait": "api_key", "value": [SECRET]}),
        ("kitaru_executions_input", {"wait": "no", "value": SECRET}),
        ("kitaru_executions_input", {"wait": "private_key", "value": REGISTERED}),
        ("kitaru_executions_input", {"wait": REGISTERED, "value": 1}),
        ("kitaru_executions_get", {"exec_id": REGISTERED}),
        ("kitaru_executions_list", {"limit": REGISTERED}),
        ("kitaru_executions_list", {"status": REGISTERED}),
        ("kitaru_executions_list", {REGISTERED: 1}),
        ("kitaru_executions_run", {"target": REGISTERED}),
        ("kitaru_executions_replay", {"from_": REGISTERED}),
    ],
)
def test_no_refusal_tells(told: Told, tool: str, arguments: dict[str, Any]) -> None:
    if tool.endswith("replay"):
        arguments = {"exec_id": told.exec_ids[0], "from_": "talk", "confirm": True, **arguments}
    if tool.endswith("input"):
        arguments = {"exec_id": told.exec_ids[2], **arguments}
    text = told.call(tool, **arguments)
    assert isinstance(text, str), text
    silent(told)


def test_no_replay_or_retry_tells(told: Told) -> None:
    found = told.call(
        "kitaru_executions_replay",
        exec_id=told.exec_ids[0],
        from_="talk",
        overrides={"checkpoint.login": {"user": "you", "password": SECRET}},
        flow_inputs={"password": SECRET},
        confirm=True,
    )
    new = found["execution"]["exec_id"]
    told.call("kitaru_executions_wait", exec_id=new, timeout_seconds=50)
    told.call("kitaru_executions_get", exec_id=new, detail="full")
    told.call("kitaru_executions_retry", exec_id=told.exec_ids[1])
    told.call("kitaru_executions_wait", exec_id=told.exec_ids[1], timeout_seconds=50)
    silent(told)


def test_standard_error_tells_nothing(told: Told, place: Place) -> None:
    for path in (place.project / "stderr.txt", *place.home.glob("runners/*")):
        assert SECRET not in path.read_text()
        assert REGISTERED not in path.read_text()
