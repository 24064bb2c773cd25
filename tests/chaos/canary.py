"""A registered secret is let out in every way known to us, and looked for wherever it could be.

What is only shown (output, logs, failures, questions, metadata) has it nowhere: not in the
database, its log of writes, a runner's file, an export, what the command line prints, a reply to an
assistant, or a copy of log lines. What is recorded exactly has it in its own columns alone,
and a warning says so.
"""

from __future__ import annotations

import base64
import contextlib
import gzip
import io
import json
import shutil
import subprocess
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from unittest import mock

import kitaru
from kitaru import KitaruClient, cli
from tests import support
from tests.chaos.trial import Scope, Trial
from tests.core.test_log_store import Collector
from tests.mcp.serving import Bare, Place, bare
from tests.security import leaky_ways

SOURCE = Path(leaky_ways.__file__)
EXACT = {
    *(("executions", name) for name in ("inputs", "result", "plan")),
    *(("calls", "result"), ("artifacts", "data"), ("waits", "answer"), ("chunks", "data")),
    *(("artifacts", "name"), ("artifacts", "tags")),
}
#: Ways that also go through a runner process, which keeps a file of what is written past Python.
BY_RUNNER = (
    *("writes_past_python", "prints_to_stderr", "a_thread_fails", "logs_an_exception"),
    *("hears_a_program", "apart_leaves", "body_prints_and_raises", "exits"),
)
_RUN_ALL = """
import sys, leaky_ways
for way in sys.argv[1].split(","):
    handle = leaky_ways.leak.run(way)
    try: handle.wait()
    except BaseException: pass
"""


@dataclass
class Canary:
    """A secret that is told by either of its halves, in any form that could be read back."""

    secret: str
    #: What was said of it, and by whom.
    heard: list[tuple[str, str]] = field(default_factory=list)

    @classmethod
    def drawn(cls, scope: Scope) -> Canary:
        """Two halves of chance, and between them what is written in many ways."""
        halves = ("".join(scope.rng.choices("0123456789abcdef", k=20)) for _ in range(2))
        return cls("/\"'+é".join(halves))

    @property
    def forms(self) -> list[bytes]:
        """What no text may have."""
        found = []
        for half in (self.secret[:20], self.secret[-20:]):
            found.append(half.encode())
            for before in range(3):
                inner = base64.b64encode(bytes(before) + half.encode())[4:-4]
                found += [inner]
        return found

    def is_in(self, data: bytes) -> bool:
        """Whether half of it can be read there."""
        return any(form in data for form in self.forms)

    def hear(self, who: str, text: str) -> None:
        """Keep what was said."""
        self.heard.append((who, text))

    def check_heard(self) -> int:
        """That nobody said it; how much was said."""
        for who, text in self.heard:
            assert not self.is_in(text.encode("utf-8", "replace")), f"{who}: {text:.3000}"
        return len(self.heard)

    def check_files(self, folders: Iterable[Path]) -> int:
        """That no file has it but those that are there for it; how many there are."""
        count = 0
        for path in (path for folder in folders for path in folder.rglob("*") if path.is_file()):
            if path.name not in ("secrets.json", "literal.py"):
                data = path.read_bytes()
                data = gzip.decompress(data) if data[:2] == b"\x1f\x8b" else data  # an export
                assert not self.is_in(data), f"it is in {path}"
                count += 1
        return count


def place_for(home: Path, canary: Canary) -> Place:
    """A store that knows the secret, and flows that let it out."""
    home.mkdir()
    place = Place.under(home)
    shutil.copy(SOURCE, place.project / SOURCE.name)
    kitaru.create_secret("canary", {"VALUE": canary.secret}, home=place.home)
    return place


def let_out(place: Place, ways: Sequence[str]) -> None:
    """Let it out in these ways, all in one process of its own."""
    support.run_python(
        place.home,
        f"import os, sys; sys.argv.append({','.join(ways)!r})\n"
        f"sys.path.insert(0, {str(place.project)!r})\n{_RUN_ALL}",
        stderr=subprocess.DEVNULL,
    )


def command(canary: Canary, place: Place, *arguments: str) -> str:
    """What a command line prints, on either stream."""
    streams = [io.TextIOWrapper(io.BytesIO(), "utf-8", write_through=True) for _ in range(2)]
    with (
        mock.patch.dict("os.environ", KITARU_HOME=str(place.home)),
        contextlib.redirect_stdout(streams[0]),
        contextlib.redirect_stderr(streams[1]),
    ):
        cli.main(arguments)
    said = "".join(stream.buffer.getvalue().decode() for stream in streams)  # type: ignore[attr-defined]
    canary.hear(f"kitaru {' '.join(arguments):.60}", said)
    return said


def look_by_command(canary: Canary, place: Place, exec_ids: Sequence[str]) -> None:
    """Whatever the command line tells of executions, of the store, and of what it refuses."""
    client = KitaruClient(home=place.home)
    for exec_id in exec_ids:
        # Watching one that waits would last for ever.
        has_ended = client.executions.get(exec_id).status.is_finished
        for verb in ("get", "timeline", *(["watch"] if has_ended else [])):
            command(canary, place, "executions", verb, exec_id)
        command(canary, place, "executions", "get", exec_id, "-o", "json")
        for options in ((), ("-o", "json"), ("-vv",), ("--source", "runner"), ("--grouped",)):
            command(canary, place, "executions", "logs", exec_id, *options)
        for ref in client.artifacts.list(exec_id):
            command(canary, place, "artifacts", "get", ref.artifact_id)
        command(canary, place, "artifacts", "list", exec_id)
    for line in ("executions list", "executions list -o json", "status", "info", "doctor --full"):
        command(canary, place, *line.split())
    for line in ("secrets list", "secrets show canary", "log-store show", "worker --once"):
        command(canary, place, *line.split())
    command(canary, place, "secrets", "set", "canary", f"--VALUE={canary.secret}")
    command(canary, place, "secrets", "set", "bad name", f"--VALUE={canary.secret}")
    statistics = ("executions", "statistics", "--group-by")
    command(canary, place, *statistics, "metadata.note")
    command(canary, place, *statistics, "status", "--where", f"note={canary.secret}")
    for verb in ("get", "logs", "retry", "cancel", "watch"):
        command(canary, place, "executions", verb, canary.secret)
    for exec_id in exec_ids[:3]:
        answer = ("executions", "input", exec_id, "--value")
        command(canary, place, *answer, json.dumps(canary.secret))
        command(canary, place, *answer, json.dumps({"text": canary.secret}))
    run = ("executions", "run", f"{SOURCE.name}:leak", "--args")
    command(canary, place, *run, json.dumps({canary.secret: canary.secret}))
    command(canary, place, "executions", "export", *exec_ids, "--to", f"{place.home}/all.kitaru")


class Assistant:
    """A client of the server that keeps all it is told."""

    def __init__(self, canary: Canary, server: Bare) -> None:
        self._canary, self._server = canary, server

    def ask(self, method: str, /, **params: Any) -> Any:
        """A request's result or error."""
        sent = self._server.request(method, **params)
        while (answer := self._server.answer()).get("id") != sent:
            self._canary.hear("a notification", str(answer))
        self._canary.hear(f"{method} {params!r:.60}", json.dumps(answer, ensure_ascii=False))
        return answer.get("result") or answer["error"]

    def call(self, tool: str, /, **arguments: Any) -> Any:
        """A tool's data, or its text."""
        result = self.ask("tools/call", name=tool, arguments=arguments)
        return result.get("structuredContent") or result["content"][0]["text"]


def look_as_assistant(canary: Canary, place: Place, exec_ids: Sequence[str]) -> None:
    """Whatever the server tells, runs and refuses."""
    secret = canary.secret
    with bare(place) as server:
        told = Assistant(canary, server)
        for exec_id in exec_ids:
            told.call("kitaru_executions_get", exec_id=exec_id, detail="full")
            for source in ("step", "runner"):
                told.call("get_execution_logs", exec_id=exec_id, source=source)
            for ref in told.call("kitaru_artifacts_list", exec_id=exec_id).get("items", ()):
                told.call("kitaru_artifacts_get", artifact_id=ref["artifact_id"])
            uri = f"kitaru://executions/{exec_id}"
            for part in ("", "/logs"):
                told.ask("resources/read", uri=uri + part)
            told.ask("prompts/get", name="triage", arguments={"exec_id": exec_id})
        told.ask("prompts/get", name="review_waits")
        told.ask("resources/list")
        told.call("kitaru_status")
        told.call("kitaru_executions_list", detail="full", limit=200)
        told.call("kitaru_executions_statistics", group_by=["metadata.note"])
        for tool in ("kitaru_executions_get", "kitaru_executions_retry", "get_execution_logs"):
            told.call(tool, exec_id=secret)
        told.call("kitaru_artifacts_get", artifact_id=f"latest/{secret}")
        told.call("kitaru_executions_run", target=f"{secret}.py:x")
        told.call("kitaru_executions_run", target=f"{SOURCE.name}:leak", args={secret: 1})
        told.call("kitaru_executions_input", exec_id=exec_ids[0], wait=secret, value=secret)
        told.ask("resources/read", uri=f"kitaru://executions/{secret}")
        assert server.end_input() == b""


def run_as_assistant(canary: Canary, place: Place, ways: Sequence[str]) -> None:
    """The same ways in runner processes."""
    with bare(place) as server:
        told = Assistant(canary, server)
        for way in ways:
            args = {"target": f"{SOURCE.name}:leak", "args": {"way": way}}
            found = told.call("kitaru_executions_run", **args, wait_seconds=50)
            assert found["execution"]["status"] in ("completed", "failed"), found
        assert server.end_input() == b""


def resume_diverging(place: Place) -> None:
    """Answer the execution that will not make the same call again, and drive it on."""
    executions = KitaruClient(home=place.home).executions
    for wait in executions.open_waits():
        exec_id = wait.wait_id.partition("/")[0]
        if wait.name == "diverging":
            executions.input(exec_id, wait=wait.name, value=True)
            executions.resume(exec_id)
            support.until(lambda id_=exec_id: executions.get(id_).status.is_finished, "it ends")
            failure = executions.get(exec_id).failure
            assert failure is not None
            assert failure.origin == "divergence", failure


def copy_lines(canary: Canary, place: Place) -> None:
    """Send copies of all lines to a file, then to a collector."""
    lines = place.home / "lines.jsonl"
    push: Callable[..., str] = lambda *words: command(canary, place, "log-store", *words)  # noqa: E731
    push("set", "jsonl", "--endpoint", str(lines), "--from-start")
    push("push")
    assert lines.stat().st_size
    collector = Collector()
    try:
        push("set", "otlp", "--endpoint", collector.endpoint, "--from-start")
        push("push")
    finally:
        collector.close()
    assert collector.requests
    canary.hear("copies of lines", json.dumps(collector.requests, ensure_ascii=False))


def shown_only(scope: Scope, canary: Canary, ways: Sequence[str]) -> str:
    """Let it out as text that is shown, and find it nowhere."""
    place = place_for(scope.home / "shown", canary)
    by_runner = [way for way in ways if way in BY_RUNNER]
    let_out(place, [way for way in ways if way != "writes_past_python"])
    run_as_assistant(canary, place, by_runner)
    resume_diverging(place)
    executions = KitaruClient(home=place.home).executions
    exec_ids = [each.exec_id for each in executions.list(limit=200)]
    assert len(exec_ids) >= len(ways)
    look_by_command(canary, place, exec_ids)
    look_as_assistant(canary, place, exec_ids)
    copy_lines(canary, place)
    files = canary.check_files([place.home, place.project])
    return f"{len(ways) + len(by_runner)} ways to show, {files} files"


def recorded(scope: Scope, canary: Canary, ways: Sequence[str]) -> str:
    """Record it, find it in its own columns alone, and the warning wherever lines are shown."""
    place = place_for(scope.home / "recorded", canary)
    client = KitaruClient(home=place.home)
    target, ids = f"{place.project / SOURCE.name}:keeps", {}
    for way in ways:
        text = canary.secret if way == "input" else ""
        ids[way] = client.executions.run(target, args={"way": way, "text": text}).exec_id
    refusing = client.executions.run(target.replace(":keeps", ":refuses")).exec_id
    for exec_id in (*([ids["answer"]] if "answer" in ids else []), refusing):
        support.until(lambda each=exec_id: client.executions.pending_waits(each), "it asks")
        client.executions.input(exec_id, wait="ask", value=canary.secret)
    refused = "SELECT rejected FROM waits WHERE rejected NOT NULL"
    support.until(lambda: support.query(place.home, refused), "the flow refuses the answer")
    client.executions.cancel(refusing)
    for way, exec_id in ids.items():
        support.until(lambda each=exec_id: client.executions.get(each).status.is_finished, way)
        whose = leaky_ways.KEPT[way][1]
        expected = f"{whose} holds the registered secret VALUE of 'canary'" if whose else ""
        assert expected in command(canary, place, "executions", "logs", exec_id), way
    look_by_command(canary, place, [*ids.values(), refusing])
    look_as_assistant(canary, place, [*ids.values(), refusing])
    found = {(t, c) for t, c, value in cells(place.home) if canary.is_in(value)}
    assert found <= EXACT, f"it is in {found - EXACT}"
    return f"{len(ids) + 1} ways to record"


def cells(home: Path) -> Iterable[tuple[str, str, bytes]]:
    """Everything in the database: table, column, value."""
    for table, rows in support.dump(home).items():
        columns = [row[1] for row in support.query(home, f'PRAGMA table_info("{table}")')]
        for row in rows:
            for column, value in zip(columns, row, strict=True):
                yield table, column, value if isinstance(value, bytes) else str(value).encode()


def run(scope: Scope) -> str:
    """Let a secret out in every way there is."""
    canary = Canary.drawn(scope)
    shown = shown_only(scope, canary, [*leaky_ways.IN_CALL, *leaky_ways.IN_BODY])
    kept = recorded(scope, canary, [*leaky_ways.KEPT])
    return f"{shown}, {kept}, {canary.check_heard()} answers: 0 hits"


TRIALS = (Trial(name="canary", run=run),)
