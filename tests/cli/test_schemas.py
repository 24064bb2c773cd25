"""What commands print with `-o json` is what docs/schemas/cli.json promises."""

from __future__ import annotations

import json
from typing import Any

import jsonschema
import pytest

from tests.cli import schemas
from tests.cli.conftest import FLOWS, Cli
from tests.cli.test_tree import LEAVES

NAMES = {path.removeprefix("kitaru ").replace(" ", ".") for path in LEAVES}
HOW = "put it into COMMANDS in tests/cli/schemas.py, then run `python -m tests.cli.schemas`"


def check(data: Any, name: str) -> None:
    """Refuse a document that is not as the schema says."""
    published = json.loads(schemas.PATH.read_text(encoding="utf-8"))
    schema = {**published, "anyOf": [schemas.ref(name)]}
    jsonschema.Draft202012Validator(
        schema, format_checker=jsonschema.Draft202012Validator.FORMAT_CHECKER
    ).validate(data)


def test_the_file_is_what_the_generator_makes():
    assert schemas.PATH.read_text(encoding="utf-8") == schemas.text(), (
        f"{schemas.PATH.name} is out of date; run `python -m tests.cli.schemas`"
    )
    jsonschema.Draft202012Validator.check_schema(schemas.whole())


def test_every_command_has_a_schema_and_every_schema_a_command():
    missing, left = NAMES - schemas.COMMANDS.keys(), schemas.COMMANDS.keys() - NAMES
    assert not missing, f"{', '.join(sorted(missing))} has no schema: {HOW}"
    assert not left, f"{', '.join(sorted(left))} is no command any more: remove it there"


#: A command line for every command; `{…}` are executions of the fixture.
LINES = {
    "artifacts.export": "{done}/research research.json",
    "artifacts.get": "{done}/research",
    "artifacts.list": "{done}",
    "backup": "copy.db",
    "completion": "fish",
    "cost": "--by day",
    "doctor": "--full",
    "executions.cancel": "{waiting}",
    "executions.get": "{done}",
    "executions.export": "{done} --to done.kitaru",
    "executions.import": "done.kitaru",
    "executions.timeline": "{done}",
    "executions.watch": "{done}",
    "executions.input": "{asking} --value true",
    "executions.list": "",
    "executions.logs": "{done}",
    "executions.replay": "{done} --from draft",
    "executions.resume": "{asking}",
    "executions.retry": "{failed}",
    "executions.run": "{flows}:agent",
    "executions.statistics": "--group-by status --metric n:step_count:sum",
    "executions.prune": "--older-than 1d --vacuum",
    "executions.delete": "{waiting}",
    "info": "",
    "init": "",
    "log-store.set": "jsonl --endpoint logs.jsonl --from-start",
    "log-store.show": "",
    "log-store.push": "",
    "log-store.reset": "",
    "mcp.install": "--client codex --print",
    "secrets.set": "openai --API_KEY=abcdefghijkl",
    "secrets.show": "openai --reveal",
    "secrets.list": "",
    "model.register": "fast --model openai/gpt-5-nano --secret openai",
    "model.default": "fast",
    "model.list": "",
    "model.delete": "fast",
    "secrets.delete": "openai",
    "stack.create": "nightly",
    "stack.current": "",
    "stack.delete": "nightly",
    "stack.list": "",
    "stack.use": "local",
    "status": "",
    "worker": "--once",
}


@pytest.fixture
def ids(cli: Cli, tmp_path, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    found = {
        "done": cli.run("pipeline", topic="dogs"),
        "failed": cli.run("flaky", path=str(tmp_path / "missing")),
        "waiting": cli.run("agent"),
        "asking": cli.run("agent"),
        "due": cli.run("agent"),
        "other": cli.run("agent"),
    }
    cli.until(found["done"], "completed")
    cli.until(found["failed"], "failed")
    for name in ("waiting", "asking", "due", "other"):
        cli.until(found[name], "waiting")
        cli.until(found[name], lambda each: not cli.client.executions.continues(each.exec_id))
    cli.client.executions.input(found["due"], wait="approve", value=True)
    return found


def test_every_command_prints_what_its_schema_says(cli: Cli, ids: dict[str, str]):
    unseen = NAMES - LINES.keys()
    assert not unseen, f"{', '.join(sorted(unseen))}: give it a line in LINES of {__name__}"
    for name, line in LINES.items():
        parts = [part.format(**ids, flows=FLOWS) for part in line.split()]
        given = [*name.split("."), *parts]
        result = cli.json(*given)
        assert (result.code, result.err) == (0, ""), given
        if name in schemas.EVENTS:
            assert result.out
            for each in result.out.splitlines():
                check(json.loads(each), name)
        else:
            check(result.document, name)
            assert result.document["command"] == name
    for exec_id in (ids["failed"], ids["other"]):
        check(cli.json("executions", "get", exec_id).document, "executions.get")
    followed = cli.json("executions", "logs", ids["failed"], "--follow")
    for each in followed.out.splitlines():
        check(json.loads(each), "executions.logs")
    aborted = cli.json("executions", "input", ids["other"], "--abort")
    check(aborted.document, "executions.input")


@pytest.mark.parametrize("name", sorted(NAMES))
def test_every_command_reports_an_error_as_the_schema_says(cli: Cli, name: str):
    result = cli.json(*name.split("."), "--no-such-option")
    assert (result.code, result.out) == (2, "")
    check(json.loads(result.err), "error")


def test_a_refusal_is_as_the_schema_says(cli: Cli):
    result = cli.json("executions", "get", "kr-zzzz")
    check(json.loads(result.err), "error")


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("stack.current", {"command": "stack.current", "item": {"name": "a", "type": "local"}}),
        ("stack.list", {"command": "stack.list", "items": [], "count": 0, "new": 1}),
        ("stack.list", {"command": "stack.other", "items": [], "count": 0}),
    ],
)
def test_drift_is_noticed(name: str, data: Any):
    with pytest.raises(jsonschema.ValidationError):
        check(data, name)
