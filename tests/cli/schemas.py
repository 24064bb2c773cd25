"""JSON Schema of what every command prints with `-o json`: `python -m tests.cli.schemas` writes it.

The shapes come from the frozen models wherever there is one; what is put together by hand in a
command is written out in `COMMANDS`. A new command gets one entry there, under the name that its
JSON has: `one(…)` for an item, `listed(…)` for a list, `either(…)` where an option decides which.
A command that prints one object per line has that object there, and stands in `EVENTS` unless the
object has a `command` of its own.
"""

from __future__ import annotations

import collections.abc
import dataclasses
import json
import types
import typing
from datetime import datetime
from enum import Enum
from typing import Any

from kitaru import models, render, timeline, upkeep
from kitaru.client.costs import ExecutionCost, ExecutionCosts
from kitaru.frozen import Model
from kitaru.log_store import LogStore, Pushed
from kitaru.model_aliases import ModelAlias
from kitaru.secrets import SecretSummary
from kitaru.statistics import ExecutionStatistics
from kitaru.store import costs
from kitaru.worker import Event
from tests.support import ROOT

PATH = ROOT / "docs" / "schemas" / "cli.json"

Schema = dict[str, Any]

TEXT: Schema = {"type": "string"}
NUMBER: Schema = {"type": "integer"}
FLAG: Schema = {"type": "boolean"}
ANY: Schema = {}
PLAIN: dict[Any, Schema] = {
    str: TEXT,
    int: NUMBER,
    bool: FLAG,
    float: {"type": "number"},
    type(None): {"type": "null"},
    datetime: {"type": "string", "format": "date-time"},
}


def maybe(schema: Schema) -> Schema:
    return {"anyOf": [schema, {"type": "null"}]}


def words(*values: str) -> Schema:
    return {"enum": [*values]}


def array(schema: Schema) -> Schema:
    return {"type": "array", "items": schema}


def ref(name: str) -> Schema:
    return {"$ref": f"#/$defs/{name}"}


def record(optional: typing.Collection[str] = (), /, **properties: Schema) -> Schema:
    """An object with these properties and no others."""
    return {
        "type": "object",
        "properties": properties,
        "required": [name for name in properties if name not in optional],
        "additionalProperties": False,
    }


def of_type(hint: Any) -> Schema:
    """What a field with this annotation is as JSON."""
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if hint in PLAIN:
        return PLAIN[hint]
    if isinstance(hint, type) and issubclass(hint, Enum):
        return words(*(each.value for each in hint))
    if isinstance(hint, type) and issubclass(hint, Model):
        return ref(hint.__name__)
    if origin in (typing.Union, types.UnionType):
        return {"anyOf": [of_type(each) for each in arguments]}
    if origin is typing.Literal:
        return words(*arguments)
    if origin in (tuple, list):
        return array(of_type(arguments[0]))
    if origin in (dict, collections.abc.Mapping):
        values = of_type(arguments[1])
        return {"type": "object", **({"additionalProperties": values} if values else {})}
    assert hint is Any, f"{hint} has no JSON Schema yet; give it one in of_type"
    return ANY


def of_model(model: Any, *, without: typing.Collection[str] = (), **more: Schema) -> Schema:
    """A dataclass as its `to_dict` gives it, with what a command adds or says in another way."""
    hints = typing.get_type_hints(model)
    names = [each.name for each in dataclasses.fields(model) if not each.name.startswith("_")]
    fields = {name: of_type(hints[name]) for name in names if name not in without}
    return record(**{**fields, **more})


def one(item: Schema, **more: Schema) -> Schema:
    """The document `{"command", "item"}`."""
    return record(item=item, **more)


def listed(item: Schema, **more: Schema) -> Schema:
    """The document `{"command", "items", "count"}`."""
    return record(items=array(item), count=NUMBER, **more)


def either(*forms: Schema) -> Schema:
    """One of several documents, as its options decide."""
    return {"oneOf": [*forms]}


def event(name: str, item: Schema) -> Schema:
    """One line of a command that tells what happens as it happens."""
    return record(event={"const": name}, item=item)


STATUS = ref("ExecutionStatus")
STATUS_COUNTS = record(**{each.value: NUMBER for each in models.ExecutionStatus})
#: What every command that looks on tells besides.
ENDINGS = {
    "waiting": ref("PendingWait"),
    "stalled": record(message=TEXT),
    "terminal": record(status=STATUS, message=TEXT),
    "interrupted": record(),
}
SUMMARY = ref("ExecutionSummary")
LOG_FIELDS = {each.name: PLAIN[str] for each in dataclasses.fields(models.LogEntry)}

DEFINITIONS: dict[str, Schema] = {
    "ExecutionStatus": words(*models.ExecutionStatus),
    "Execution": of_model(
        models.Execution, status=STATUS, llm_usage_records=array({"type": "object"})
    ),
    "ExecutionSummary": of_model(models.Execution, without=render._LARGE, status=STATUS),
    "ArtifactValue": of_model(models.ArtifactRef, value=ANY, value_format=words("json", "pickle")),
    "LogEntry": record(
        ("checkpoint_name", "module", "filename", "lineno"),
        **LOG_FIELDS | {"timestamp": PLAIN[datetime], "lineno": NUMBER},
    ),
    "ExecutionStatistics": of_model(ExecutionStatistics, group_count=NUMBER),
    "ExecutionStatisticsGroup": record(
        keys={"type": "object"},
        execution_count=NUMBER,
        metrics={
            "type": "object",
            # Masked where it is read from metadata under a secret's key.
            "additionalProperties": {"anyOf": [{"type": ["number", "null"]}, TEXT]},
        },
    ),
    **{
        model.__name__: of_model(model)
        for model in (
            models.ArtifactRef,
            models.CheckpointAttempt,
            models.CheckpointCall,
            models.FailureInfo,
            models.PendingWait,
            models.StackInfo,
            ExecutionCost,
            ModelAlias,
            timeline.Call,
            timeline.Span,
            timeline.Usage,
        )
    },
}
STACK = ref("StackInfo")
MODEL = ref("ModelAlias")
SECRET = of_model(SecretSummary, location=TEXT)
LOG_STORE = one(
    {
        "oneOf": [
            record(configured={"const": False}),
            of_model(LogStore, configured={"const": True}),
        ]
    }
)
_VERSIONS = dict.fromkeys(("sdk_version", "python_version", "sqlite_version"), TEXT)
_SETTINGS = ("home", "durability", "allow_network_home", "stack", "cache", "retries")

#: By the name in JSON: all of a command's document but `command`, which `document` adds; or of
#: commands in `EVENTS` one line.
COMMANDS: dict[str, Schema] = {
    "artifacts.export": one(of_model(upkeep.ExportedArtifact)),
    "artifacts.get": one(ref("ArtifactValue")),
    "artifacts.list": listed(ref("ArtifactRef")),
    "backup": one(of_model(upkeep.Backup)),
    "completion": one(
        record(("script", "file", "changed"), shell=TEXT, script=TEXT, file=TEXT, changed=FLAG)
    ),
    "cost": one(of_model(ExecutionCosts, by=words(*costs.GROUPS), group_count=NUMBER)),
    "doctor": listed(of_model(upkeep.Finding)),
    "executions.cancel": one(SUMMARY),
    "executions.delete": one(of_model(upkeep.Deleted)),
    "executions.export": one(of_model(upkeep.Exported)),
    "executions.get": one(ref("Execution")),
    "executions.input": either(
        record(("continues_by_itself",), item=SUMMARY, continues_by_itself=FLAG),
        listed(
            record(
                exec_id=TEXT,
                wait=TEXT,
                action=words("answered", "aborted", "skipped", "closed"),
                status=words(*models.ExecutionStatus, "deleted"),
                continues_by_itself=FLAG,
            )
        ),
    ),
    "executions.import": one(of_model(upkeep.Imported)),
    "executions.list": listed(SUMMARY, next_cursor=maybe(TEXT)),
    "executions.logs": {
        "oneOf": [
            listed(ref("LogEntry")),
            *(event(name, item) for name, item in {"log": ref("LogEntry"), **ENDINGS}.items()),
        ]
    },
    "executions.prune": one(
        record(
            ("compacted",),
            **of_model(upkeep.Pruned)["properties"],
            compacted=of_model(upkeep.Compacted),
        )
    ),
    "executions.replay": one(SUMMARY, repeated=FLAG),
    "executions.resume": one(SUMMARY),
    "executions.retry": one(SUMMARY, repeated=FLAG),
    "executions.run": one(SUMMARY, repeated=FLAG),
    "executions.statistics": one(ref("ExecutionStatistics")),
    "executions.timeline": one(
        record(("file",), **of_model(timeline.Timeline)["properties"], file=TEXT)
    ),
    "executions.watch": {
        "oneOf": [
            event(name, item)
            for name, item in {
                "status": record(status=STATUS, stalled=FLAG),
                **dict.fromkeys(("checkpoint", "sleep", "child", "answered"), ref("Call")),
                **ENDINGS,
            }.items()
        ]
    },
    "info": one(
        record(
            **_VERSIONS,
            sqlite_note=maybe(TEXT),
            store=maybe(of_model(upkeep.StoreFacts, statuses=STATUS_COUNTS)),
            settings=record(**{name: record(value=ANY, source=TEXT) for name in _SETTINGS}),
        )
    ),
    "init": one(record(project=TEXT, home=TEXT, created=FLAG, in_use=FLAG)),
    "log-store.push": one(of_model(Pushed)),
    "log-store.reset": one(record(was_set=FLAG)),
    "log-store.set": LOG_STORE,
    "log-store.show": LOG_STORE,
    "mcp.install": one(
        record(
            client=TEXT,
            scope=words("project", "user"),
            path=TEXT,
            name=TEXT,
            action=words("added", "replaced", "unchanged", "shown"),
            command=array(TEXT),
            snippet=TEXT,
        )
    ),
    "model.default": one(MODEL),
    "model.delete": one(record(alias=TEXT, deleted=FLAG)),
    "model.list": listed(MODEL),
    "model.register": one(MODEL),
    "secrets.delete": one(record(name=TEXT, deleted=FLAG)),
    "secrets.list": listed(SECRET),
    "secrets.set": one(of_model(SecretSummary, location=TEXT, unmasked_keys=array(TEXT))),
    "secrets.show": one(
        record(
            ("values",),
            **SECRET["properties"],
            lengths={"type": "object", "additionalProperties": NUMBER},
            values={"type": "object", "additionalProperties": TEXT},
        )
    ),
    "stack.create": one(STACK),
    "stack.current": one(STACK),
    "stack.delete": one(record(name=TEXT, deleted=FLAG)),
    "stack.list": listed(STACK),
    "stack.use": one(STACK),
    "status": one(
        record(
            **_VERSIONS,
            home=TEXT,
            home_source=TEXT,
            database=TEXT,
            exists=FLAG,
            writable=FLAG,
            durability=words("full", "normal"),
            sqlite_note=maybe(TEXT),
            executions=maybe(STATUS_COUNTS),
            log_store_status=TEXT,
            log_store_warning=maybe(TEXT),
        )
    ),
    "worker": of_model(Event),
}
#: Commands that print one object per line, and those of them without their name in it.
EVENTS = {"executions.watch", "worker"}
UNNAMED = {"worker"}


def document(command: str) -> Schema:
    """All of what a command prints."""
    return COMMANDS[command] if command in UNNAMED else _named(COMMANDS[command], command)


def _named(schema: Schema, command: str) -> Schema:
    if "oneOf" in schema:
        return {"oneOf": [_named(each, command) for each in schema["oneOf"]]}
    properties = {"command": {"const": command}, **schema["properties"]}
    return {**schema, "properties": properties, "required": ["command", *schema["required"]]}


def whole() -> Schema:
    """The published document."""
    error = record(command=TEXT, error=record(type=TEXT, message=TEXT))
    documents = {name: document(name) for name in sorted(COMMANDS)}
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "kitaru -o json",
        "description": "What each command prints on standard output with -o json, by its name; "
        "error is what it prints on standard error where it is refused.",
        "anyOf": [ref(name) for name in (*documents, "error")],
        "$defs": {"error": error, **documents, **dict(sorted(DEFINITIONS.items()))},
    }


def text() -> str:
    """The published document as it stands in its file."""
    return json.dumps(whole(), indent=2) + "\n"


if __name__ == "__main__":
    PATH.parent.mkdir(exist_ok=True)
    PATH.write_text(text(), encoding="utf-8")
