"""Payloads are planted in every place of a store's file, and everything is read: nothing runs.

The reading process listens to what the interpreter itself reports (`sys.addaudithook`): no
class is looked up for a pickle, no process is started, no module of the payloads' is imported.
Each answer is right or an error of Kitaru's.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import random
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from unittest import mock

from kitaru import KitaruClient, KitaruError, cli
from tests import support
from tests.chaos.trial import Scope, Trial
from tests.mcp.judging import CODES, parse
from tests.mcp.serving import Bare, bare
from tests.mcp.serving import Place as Served
from tests.security import planted_flows
from tests.security.planting import Place, payloads, places, plant, set_trap

SOURCE = Path(planted_flows.__file__)
#: What the interpreter reports when something runs that was not asked for.
FORBIDDEN = (
    *("pickle.find_class", "os.system", "os.exec", "os.posix_spawn", "os.spawn", "os.fork"),
    *("os.startfile", "subprocess.Popen", "ctypes.dlopen"),
)
_LISTENER = """
import os, sys
path = os.environ.get("KITARU_TEST_EVENTS")
def listen(event, args):
    if event == "pickle.find_class" or (event == "import" and args[0] == "trap"):
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.write(fd, f"{event} {args!r:.200}\\n".encode())
        os.close(fd)
if path: sys.addaudithook(listen)
"""
_FILL = """
import sys; sys.path.insert(0, {project!r})
import planted_flows as flows, kitaru
from kitaru import KitaruClient, log_store
client = KitaruClient()
for how in ("", "child", "sleeps", "asks", "asks", "fails"):
    handle = flows.agent.run("dogs", how=how)
    try: handle.wait()
    except Exception: pass
(asks, answered) = [each.exec_id for each in client.executions.list(status="waiting")][:2]
client.executions.input(answered, wait="approve", value="yes")
done = client.executions.list(status="completed")[0].exec_id
flows.agent.replay(done, from_="draft", overrides={{"checkpoint.draft": flows.Note("cats")}}).wait()
failed = client.executions.list(status="failed")[0].exec_id
kitaru.create_stack("nightly")
client.executions.run({target!r}, args={{"topic": "birds"}}, idempotency_key="once")
"""


class Reader:
    """Reads all it can of a store, by SDK and command line in this process, and by a server."""

    def __init__(self, served: Served, server: Bare) -> None:
        self._served, self._server = served, server
        self._client = KitaruClient(home=served.home)
        self._ids = [each.exec_id for each in self._client.executions.list(limit=200)]
        self.answers = self.refusals = 0
        self.wrong: list[str] = []

    def by_sdk(self) -> None:
        """What a program can ask."""
        client = self._client
        executions, artifacts = client.executions, client.artifacts
        self._ask(lambda: executions.list(limit=200))
        self._ask(lambda: executions.list(status="failed", flow="agent"))
        self._ask(lambda: executions.statistics(["status", "metadata.tier"]))
        self._ask(executions.open_waits)
        self._ask(executions.flow_names)
        for each in self._ids:
            self._ask(lambda id_=each: executions.get(id_).result)  # type: ignore[misc]
            self._ask(lambda id_=each: executions.get(id_).inputs)  # type: ignore[misc]
            self._ask(lambda id_=each: executions.logs(id_))  # type: ignore[misc]
            self._ask(lambda id_=each: executions.obstacle(id_))  # type: ignore[misc]
            self._ask(lambda id_=each: executions.replay_preview(id_, from_="draft"))  # type: ignore[misc]
            for ref in self._ask(lambda id_=each: artifacts.list(id_)) or ():  # type: ignore[misc]
                self._ask(ref.load)
                self._ask(lambda id_=ref.artifact_id: artifacts.show(id_))

    def by_command(self, folder: Path) -> None:
        """What the command line shows."""
        for line in ("executions list", "executions list -o json", "doctor", "info", "stack list"):
            self._command(*line.split())
        for line in ("executions statistics --group-by metadata.tier", "model list", "status"):
            self._command(*line.split())
        for each in self._ids:
            for verb in ("get", "timeline", "logs"):
                self._command("executions", verb, each)
            self._command("artifacts", "list", each)
        everything = ("executions", "export", *self._ids, "--to", str(folder / "all"), "--force")
        self._command(*everything)
        self._command(*everything, "--raw")
        self._command("executions", "import", str(folder / "all"))

    def by_server(self) -> None:
        """What an assistant may call."""
        for tool in ("kitaru_executions_list", "kitaru_status", "kitaru_stacks_list"):
            self._call(tool)
        self._call("kitaru_executions_list", status="waiting", detail="full")
        self._call("kitaru_executions_statistics", group_by=["metadata.tier"])
        for each in self._ids:
            self._call("kitaru_executions_get", exec_id=each, detail="full")
            self._call("get_execution_logs", exec_id=each)
            self._call("kitaru_executions_wait", exec_id=each, timeout_seconds=0)
            self._call("kitaru_artifacts_list", exec_id=each)
            for name in ("draft", "draft/outline", "draft/long"):
                self._call("kitaru_artifacts_get", artifact_id=f"{each}/{name}")

    def driving(self) -> None:
        """What an assistant may start: flows under the root, and no planted code."""
        for each in self._ids:
            self._call("kitaru_executions_retry", exec_id=each)
            self._call("kitaru_executions_replay", exec_id=each, from_="draft", confirm=True)

    def _ask(self, work: Callable[[], Any]) -> Any:
        self.answers += 1
        try:
            return work()
        except KitaruError:
            self.refusals += 1
        except Exception as exc:  # whatever else leaves the SDK is what is looked for
            self.wrong.append(f"{type(exc).__name__}: {exc!s:.300}")
        return None

    def _command(self, *arguments: str) -> None:
        streams = [io.TextIOWrapper(io.BytesIO(), "utf-8", write_through=True) for _ in range(2)]
        with (
            mock.patch.dict("os.environ", KITARU_HOME=str(self._served.home)),
            contextlib.redirect_stdout(streams[0]),
            contextlib.redirect_stderr(streams[1]),
        ):
            try:
                code = cli.main(arguments)
            except Exception as exc:  # it has left the command line with a traceback
                code = 3
                sys.stderr.write(f"{type(exc).__name__}: {exc!s:.200}")
        self.answers += 1
        self.refusals += code != 0
        said = streams[1].buffer.getvalue().decode()  # type: ignore[attr-defined]
        if code not in (0, 1, 2) or "Traceback" in said or "fault of Kitaru's" in said:
            self.wrong.append(f"kitaru {' '.join(arguments):.80}: {code}, {said:.300}")

    def _call(self, tool: str, /, **arguments: Any) -> None:
        sent = self._server.request("tools/call", name=tool, arguments=arguments)
        while (message := self._server.answer()).get("id") != sent:
            pass
        self.answers += 1
        result = message.get("result", {})
        if result.get("isError") is True:
            self.refusals += 1
            text = result["content"][0]["text"]
            known = {*CODES, "store_damaged", "store_unavailable"}
            if text.partition(":")[0] not in known:
                self.wrong.append(f"{tool} {arguments!r:.100}: {text:.300}")
        elif "result" not in message:
            self.wrong.append(f"{tool} {arguments!r:.100}: {parse(json.dumps(message).encode())}")


class Listening:
    """What the interpreter reports while somebody listens."""

    def __init__(self) -> None:
        self.events: list[str] = []
        self._is_on = False
        sys.addaudithook(self._hear)

    def _hear(self, event: str, args: tuple[Any, ...]) -> None:
        if self._is_on and (
            event.startswith(FORBIDDEN) or (event == "import" and args[0] == "trap")
        ):
            self.events.append(f"{event} {args!r:.200}")

    @contextlib.contextmanager
    def on(self) -> Iterator[None]:
        """While nothing may run."""
        self._is_on = True
        try:
            yield
        finally:
            self._is_on = False


def filled(scope: Scope) -> Served:
    """A store with something in every table, and the trap beside its flows' folder."""
    served = Served.under(scope.home)
    shutil.copy(SOURCE, served.project / SOURCE.name)
    target = f"{served.project / SOURCE.name}:agent"
    support.run_python(served.home, _FILL.format(project=str(served.project), target=target))
    executions = KitaruClient(home=served.home).executions
    started = executions.list()[0].exec_id
    support.until(lambda: executions.get(started).status.is_finished, "the last one has ended")
    for name in ("model_aliases", "note"):
        support.query(served.home, 'INSERT INTO settings VALUES (?, \'{"a": "b"}\')', name)
    support.query(served.home, "PRAGMA wal_checkpoint(TRUNCATE)")
    support.forget(served.home)
    return served


def put_back(template: Path, served: Served) -> None:
    """The store as it was, as another file: whoever has the last one open notices."""
    support.forget(served.home)
    for name in ("kitaru.db-wal", "kitaru.db-shm"):
        (served.home / name).unlink(missing_ok=True)
    shutil.copy(template, served.home / "new")
    os.replace(served.home / "new", served.home / "kitaru.db")


def cases(served: Served, names: list[str], rng: random.Random) -> list[tuple[Place, str]]:
    """Each place with each payload, in an order of chance; a short run has been everywhere."""
    left = {place: rng.sample(names, len(names)) for place in places(served.home)}
    return [(place, order[turn]) for turn in range(len(names)) for place, order in left.items()]


def run(scope: Scope, *, reads: int, drives: int) -> str:
    """Plant, and read by three ways; in some cases drive what was planted, as an assistant."""
    (scope.home / "traps").mkdir()
    marker, events = scope.home / "marker", scope.home / "events"
    set_trap(scope.home / "traps", marker)
    (scope.home / "traps" / "sitecustomize.py").write_text(_LISTENER)
    served = filled(scope)
    template = scope.home / "template.db"
    shutil.copy(served.home / "kitaru.db", template)
    bad = payloads(scope.home / "traps", marker)
    all_cases = cases(served, [*bad], scope.rng)
    chosen = all_cases[: scope.times(reads)]
    sys.path.insert(0, str(scope.home / "traps"))
    listening, wrong = Listening(), []
    environment = {**served.environment, "KITARU_TEST_EVENTS": str(events)}
    environment["PYTHONPATH"] += os.pathsep + str(scope.home / "traps")
    answers = refusals = 0
    with (
        mock.patch.object(Served, "environment", environment),
        bare(served) as server,
    ):
        for number, (place, name) in enumerate(chosen):
            put_back(template, served)
            reader = Reader(served, server)
            plant(served.home, place, bad[name])
            with listening.on():
                reader.by_sdk()
                reader.by_command(scope.home)
            reader.by_server()
            if number < drives:
                reader.driving()
            what = f"{name} in {place}"
            assert not marker.exists(), f"{what}: it ran"
            assert not events.exists(), f"{what}: {events.read_text()}"
            assert not listening.events, f"{what}: {listening.events[:5]}"
            wrong += [f"{what}: {each}" for each in reader.wrong]
            answers, refusals = answers + reader.answers, refusals + reader.refusals
    assert not wrong, "\n".join([f"{len(wrong)} wrong answers", *wrong[:40]])
    return (
        f"{len(chosen)} of {len(all_cases)} plantings, {answers} answers, {refusals} refused, "
        "0 ran, 0 wrong"
    )


TRIALS = (Trial(name="planted", run=lambda scope: run(scope, reads=125, drives=scope.times(2))),)
