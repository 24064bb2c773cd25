"""What the environment says of models is nowhere in the store, the logs or any answer.

Keys are unique here, and so are an organisation, a project, addresses and headers. The model tells
what it was sent wherever it can: in its refusals, in what breaks off, and in an answer.
"""

from __future__ import annotations

import contextlib
import io
import json
import logging
import secrets
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import kitaru
from examples.model_server import ModelServer, Reply, Request
from kitaru import KitaruClient, cli, model_aliases, model_variables
from kitaru.redaction import MASK
from tests import support, warm
from tests.mcp.serving import Place, bare
from tests.models import leaky_models
from tests.models.conftest import Models

LOGGERS = ("openai", "anthropic", "httpx", "httpcore", "httpx2", "httpcore2")
VERBS = ("get", "timeline")
HEADERS = ("authorization", "x-api-key", "openai-organization", "openai-project", "x-canary")
#: Each way to let something out, the model that is asked, and whether the flow comes to its end.
WAYS = (
    ("events", leaky_models.OPENAI, True),
    ("events", leaky_models.ANTHROPIC, True),
    ("events", leaky_models.ROUTER, True),
    ("events", "by-alias", True),
    ("awaited", leaky_models.ANTHROPIC, True),
    ("body", leaky_models.OPENAI, False),
    ("by_sdk", leaky_models.OPENAI, False),
    ("raises", leaky_models.OPENAI, False),
)


class Canaries:
    """Values that nobody may find, by their names, and the environment they are in."""

    def __init__(self, server: ModelServer) -> None:
        names = ("openai", "anthropic", "router", "alias", "org", "project", "path", "user")
        drawn = {
            name: f"canary-{name}-{secrets.token_hex(12)}"
            for name in (*names, "password", "header", "other")
        }
        host = server.address.partition("//")[2]
        self.values = drawn
        self.variables = {
            **server.settings(),
            "OPENAI_API_KEY": drawn["openai"],
            "ANTHROPIC_API_KEY": drawn["anthropic"],
            "OPENROUTER_API_KEY": drawn["router"],
            "OPENAI_ORG_ID": drawn["org"],
            "OPENAI_PROJECT_ID": drawn["project"],
            "OPENAI_BASE_URL": f"http://{host}/{drawn['path']}/v1",
            "ANTHROPIC_BASE_URL": f"http://{drawn['user']}:{drawn['password']}@{host}",
            "ANTHROPIC_CUSTOM_HEADERS": f"X-Canary: {drawn['header']}",
            "OPENAI_CUSTOM_HEADERS": f"X-Canary: {drawn['header']}-of-openai",
            "SOMETHING_ELSE": drawn["other"],
        }

    def check(self, what: str, data: bytes) -> None:
        """None of them is in it, nor the end of one."""
        for name, value in self.values.items():
            at = data.find(value[-12:].encode())
            assert at < 0, f"{what} has {name}: …{data[max(0, at - 300) : at + 50]!r}"


def reply(request: Request) -> Reply:
    """Tell what was sent."""
    told = " ".join(filter(None, (request.headers.get(name) for name in HEADERS)))
    headers = {"x-request-id": told, "openai-organization": told}
    match request.prompt:
        case leaky_models.REFUSE:
            return Reply(f"Incorrect key provided: {told}", status=401, headers=headers)
        case leaky_models.FAIL:
            return Reply(f"Failed for {told}", status=500, headers=headers)
        case leaky_models.BREAK:
            return Reply(f"Yours: {told}{', and so on' * 20}", breaks_after=len(told) // 8 + 6)
        case leaky_models.KEEP:
            return Reply(f"Yours: {told}")
    return Reply("Nothing of interest.", headers=headers, input_tokens=11, output_tokens=7)


@pytest.fixture
def canaries(models: Models, monkeypatch: pytest.MonkeyPatch) -> Iterator[Canaries]:
    """Canaries in the environment, and loggers that tell all they can."""
    models.reply = reply
    canaries = Canaries(models.server)
    for name, value in canaries.variables.items():
        monkeypatch.setenv(name, value)
    before = {name: logging.getLogger(name).level for name in LOGGERS}
    for name in LOGGERS:
        logging.getLogger(name).setLevel(logging.DEBUG)
    yield canaries
    for name, level in before.items():
        logging.getLogger(name).setLevel(level)


@pytest.fixture
def place(home: Path, tmp_path: Path) -> Place:
    """The store, and a folder of flows."""
    place = Place(home, tmp_path / "project")
    place.project.mkdir()
    shutil.copy(leaky_models.__file__, place.project)
    return place


def let_out(way: str, model: str) -> str:
    """Run a flow; gives its execution."""
    handle = leaky_models.leak.run(way, model)
    with contextlib.suppress(kitaru.KitaruExecutionError):
        handle.wait()
    return handle.exec_id


def let_out_apart(place: Place) -> str:
    """The same in a runner, which keeps a file of what is written past Python."""
    executions = KitaruClient(home=place.home).executions
    target = f"{place.project / 'leaky_models.py'}:leak"
    exec_id = executions.run(target, args={"way": "apart"}).exec_id
    support.until(lambda: executions.get(exec_id).status.is_finished, "it ends")
    pid = support.runner_pid(place.home, exec_id)
    support.until(lambda: not support.is_running(pid), "its runner ends")
    return exec_id


def said(*arguments: str) -> str:
    """What a command line prints, on either stream."""
    streams = [io.TextIOWrapper(io.BytesIO(), "utf-8", write_through=True) for _ in range(2)]
    with contextlib.redirect_stdout(streams[0]), contextlib.redirect_stderr(streams[1]):
        cli.main(arguments)
    return "".join(stream.buffer.getvalue().decode() for stream in streams)  # type: ignore[attr-defined]


def commands(exec_id: str) -> Iterator[str]:
    """What the command line tells of an execution."""
    for verb in (*VERBS, "logs"):
        for form in ((), ("-o", "json")):
            yield said("executions", verb, exec_id, *form)
    yield said("executions", "logs", exec_id, "--source", "runner")
    for ref in KitaruClient().artifacts.list(exec_id):
        yield said("artifacts", "get", ref.artifact_id)


def told(place: Place, *exec_ids: str) -> Iterator[str]:
    """What the server tells an assistant."""
    with bare(place, program=warm.command()) as server:

        def call(tool: str, **arguments: Any) -> str:
            server.tool(tool, **arguments)
            return json.dumps(server.answer(), ensure_ascii=False)

        for exec_id in exec_ids:
            yield call("kitaru_executions_get", exec_id=exec_id, detail="full")
            for source in ("step", "runner"):
                yield call("get_execution_logs", exec_id=exec_id, source=source)
            for ref in KitaruClient().artifacts.list(exec_id):
                yield call("kitaru_artifacts_get", artifact_id=ref.artifact_id)
        yield call("kitaru_executions_list", detail="full")
        assert server.end_input() == b""


def test_nothing_of_the_environment_is_kept_or_told(canaries: Canaries, place: Place):
    kitaru.create_secret("creds", {"OPENAI_API_KEY": canaries.values["alias"]})
    model_aliases.register_model("by-alias", model=leaky_models.OPENAI, secret="creds")
    exec_ids = [let_out(way, model) for way, model, _ in WAYS]
    apart = let_out_apart(place)
    ended = [KitaruClient().executions.get(exec_id) for exec_id in [*exec_ids, apart]]
    assert [each.status == "completed" for each in ended] == [*(ends for *_, ends in WAYS), True]
    answers = [text for each in [*exec_ids, apart] for text in commands(each)]
    for text in (*answers, *told(place, *exec_ids, apart)):
        canaries.check("an answer", text.encode())
    said("executions", "export", *exec_ids, "--to", str(place.project / "all.kitaru"))
    files = [*place.home.rglob("*"), *place.project.rglob("*")]
    assert f"past Python: {MASK}" in (place.home / "runners" / f"{apart}.log").read_text()
    for path in files:
        if path.is_file() and path.name != "secrets.json":
            canaries.check(path.name, path.read_bytes())


def test_a_request_leaves_no_address_in_the_log(canaries: Canaries, models: Models):
    exec_ids = [let_out(*way) for way in (("events", WAYS[0][1]), ("awaited", WAYS[1][1]))]
    address = models.server.address.partition("//")[2].encode()
    for exec_id in exec_ids:
        lines = [line.message for line in KitaruClient().executions.logs(exec_id)]
        assert "Nothing of interest." in lines  # what streams is heard all the while
        assert any(line.startswith("refused") for line in lines)
        assert not [line for line in lines if address.decode() in line]


def test_an_answer_that_holds_a_key_is_kept_exactly_shown_masked_and_warned_of(canaries: Canaries):
    handle = leaky_models.keeps.run()
    key = canaries.values["openai"]
    assert key in handle.wait()
    (call,) = KitaruClient().executions.get(handle.exec_id).checkpoints
    assert (
        key in KitaruClient().artifacts.get(f"{handle.exec_id}/llm/{call.call_id}_response").load()
    )
    logged = "\n".join(line.message for line in KitaruClient().executions.logs(handle.exec_id))
    assert "holds the registered secret OPENAI_API_KEY" in logged
    for text in (logged, *commands(handle.exec_id)):
        canaries.check("an answer", text.encode())


def counts(data: Any) -> Iterator[tuple[str, Any]]:
    """Everything in JSON that is called a count of tokens."""
    if isinstance(data, dict):
        yield from ((key, value) for key, value in data.items() if "tokens" in key)
        data = list(data.values())
    if isinstance(data, list):
        for each in data:
            yield from counts(each)


def test_counts_of_tokens_are_numbers_wherever_they_are_shown(canaries: Canaries, place: Place):
    exec_id = let_out("awaited", leaky_models.OPENAI)
    shown = [json.loads(text) for text in told(place, exec_id)]
    shown += [json.loads(said("executions", verb, exec_id, "-o", "json")) for verb in VERBS]
    for data in shown:
        wrong = {name: value for name, value in counts(data) if isinstance(value, str)}
        assert not wrong
    seen = [dict(counts(data)) for data in shown]
    for flat in ("kitaru_llm_total_tokens_v1", "kitaru_llm_incurred_input_tokens_v1"):
        assert {18 if "total" in flat else 11} == {each[flat] for each in seen if flat in each}
    assert {each["output_tokens"] for each in seen if "output_tokens" in each} == {7}


def test_a_key_that_code_sets_itself_is_masked_too(models: Models, monkeypatch: pytest.MonkeyPatch):
    models.reply = reply

    @kitaru.flow
    def sets() -> None:
        monkeypatch.setenv("OPENAI_API_KEY", "canary-set-by-the-flow")
        kitaru.llm(leaky_models.PLAIN, model=leaky_models.OPENAI)
        print("canary-set-by-the-flow")

    handle = sets.run()
    handle.wait()
    assert [line.message for line in KitaruClient().executions.logs(handle.exec_id)] == [MASK]


@pytest.mark.parametrize(
    ("address", "hidden"),
    [
        ("http://127.0.0.1:11434", set()),
        ("gateway.example/v1/openai-compatible", set()),
        (
            "https://user:pass%40word@host/v1",
            {"user:pass%40word", "user:pass@word", "user", "pass@word"},
        ),
        ("https://host/v1/0123456789abcdef0/openai", {"0123456789abcdef0"}),
        ("https://host/v1?key=token", {"token"}),
        ("http://[broken", {"http://[broken"}),
    ],
)
def test_of_an_address_only_what_lets_in_is_hidden(address: str, hidden: set[str]):
    variables = (("OPENAI_BASE_URL", address),)
    assert {value for _, value in model_variables.secrets_in(variables)} == hidden


@pytest.mark.parametrize(
    ("longest", "told"),
    [
        (500, lambda text: Reply(text, status=401)),
        (300, lambda text: Reply(text, finish="refusal")),
    ],
)
def test_what_is_cut_off_is_masked_before(
    canaries: Canaries, models: Models, longest: int, told: Callable[[str], Reply]
):
    """The rest of a value is another text, which nobody would know."""
    account = canaries.values["org"]
    models.reply = lambda request: told(f"{'x' * (longest - 20)} {account}")
    handle = leaky_models.leak.run("body", leaky_models.ANTHROPIC)
    with pytest.raises(kitaru.KitaruExecutionError) as caught:
        handle.wait()
    assert account[:12] not in str(caught.value)
    (call,) = KitaruClient().executions.get(handle.exec_id).checkpoints
    assert account[:12] not in json.dumps([call.llm_usage_records, str(call.failure)])
