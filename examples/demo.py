"""The main job end to end: an MCP client steers a durable flow that is killed on the way.

    python3 dev demo

A real client talks to a real `kitaru-mcp` over stdio. It finds out why a run of
`examples/release_notes.py` failed, runs it again on this repository, kills the process that drives
it, answers its question all the same, and hears of each change while the command line resumes it.
Then it replays it with one recorded value changed, for which a person is asked. The notes and the
store are kept in a folder of their own (`KITARU_HOME`, or a temporary one). Whatever goes otherwise
ends it with exit code 1.
"""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import anyio
from mcp import Client, MCPError, StdioServerParameters
from mcp.types import ElicitRequestParams, ElicitResult, PromptReference, TextResourceContents

from kitaru.config import LEASE_SECONDS

ROOT = Path(__file__).resolve().parent.parent
TARGET = "examples/release_notes.py:release_notes"
SECONDS = 60
WINDOWS = os.name == "nt"
STARTED = time.monotonic()
SMALL_HISTORY = (
    "feat(store): keep every note",
    "fix: close the file after reading",
    "docs: say where notes are kept",
    "Add a command to search notes",
    "perf(store): read ahead",
    "Prevent a crash on an empty note",
)


class Deviation(Exception):
    """Something went otherwise than it must."""


def say(what: str, outcome: object) -> None:
    """One line of the transcript; text from the store is shown without its control characters."""
    shown = "".join(char for char in str(outcome) if char.isprintable())
    print(f"[{time.monotonic() - STARTED:5.2f} s] {what:24} {shown}", flush=True)


def expect(true: object, what: str) -> None:
    """End the demonstration unless this is so."""
    if not true:
        raise Deviation(what)


class Demo:
    """A connected client, and where things are.

    Args:
        client: the MCP client.
        home: the store's folder; the notes are written there, too.
    """

    def __init__(self, client: Client, home: Path) -> None:
        self.client = client
        self.home = home
        self.heard: list[str] = []

    async def call(self, tool: str, **arguments: Any) -> Any:
        """The answer of a tool: its structured content, or its text."""
        result = await self.client.call_tool(tool, arguments, progress_callback=self.hear)
        text = "\n".join(block.text for block in result.content if block.type == "text")
        expect(not result.is_error, f"{tool} answered with an error: {text}")
        return text if result.structured_content is None else result.structured_content

    async def hear(self, progress: float, total: float | None, message: str | None) -> None:
        """Keep what the server tells while a call is under way: the checkpoints that end."""
        self.heard.append((message or "").partition(":")[0])

    async def until(self, exec_id: str, status: str) -> dict[str, Any]:
        """The execution, once it has a status; the server tells when something happens."""
        with anyio.move_on_after(SECONDS):
            while True:
                seen = await self.call("kitaru_executions_wait", exec_id=exec_id)
                if seen["status"] == status:
                    full = {"exec_id": exec_id, "detail": "full"}
                    found: dict[str, Any] = await self.call("kitaru_executions_get", **full)
                    return found
                failure = seen.get("failure")
                expect(failure is None, f"{exec_id} failed: {failure and failure['message']}")
                # An answer that nobody has taken up yet, or a runner that is about to start.
                await anyio.sleep(0.05)
        raise Deviation(f"{exec_id} is not {status} after {SECONDS} seconds.")

    async def story(self) -> None:
        """All of it."""
        status = await self.call("kitaru_status")
        say("kitaru_status", f"{status['sdk_version']}, store {status['database']}")
        expect(Path(status["home"]) == self.home, "The server uses another store.")
        repository, revisions = choose_history(self.home)
        await self.fail_and_triage(repository)
        first = await self.run_and_kill(repository, revisions)
        notes = await self.answer_and_resume(first)
        section = await self.look_around(first["exec_id"])
        await self.replay(first["exec_id"], section)
        expect(notes.read_text(encoding="utf-8").startswith("## "), f"{notes} was changed.")

    async def fail_and_triage(self, repository: Path) -> None:
        """Run the flow on commits that are not there; a prompt brings what is needed to say why."""
        args = {"repository": str(repository), "revisions": "no-such-tag..HEAD"}
        run = await self.call("kitaru_executions_run", target=TARGET, args=args, wait_seconds=50)
        failed = run["execution"]
        expect(failed["status"] == "failed", f"It did not fail: {failed}")
        say("kitaru_executions_run", f"{failed['exec_id']} failed: {failed['failure']['message']}")
        typed = {"name": "exec_id", "value": "latest:f"}
        completed = await self.client.complete(PromptReference(name="triage"), typed)
        (which,) = completed.completion.values
        prompt = await self.client.get_prompt("triage", {"exec_id": which})
        (text,) = (each.content.text for each in prompt.messages if each.content.type == "text")
        expect(failed["exec_id"] in text, f"The prompt is about another execution: {text}")
        say("prompts/get triage", f"of {which}: {text.splitlines()[0]}")
        expect(any("retry" in call for call in failed["next"]), f"No way on: {failed['next']}")

    async def run_and_kill(self, repository: Path, revisions: str) -> dict[str, Any]:
        """Run the flow until it asks its question; then kill the process that drives it."""
        args = {
            "repository": str(repository),
            "revisions": revisions,
            "output": str(self.home / "RELEASE_NOTES.md"),
        }
        run = await self.call("kitaru_executions_run", target=TARGET, args=args)
        exec_id = run["execution"]["exec_id"]
        say("kitaru_executions_run", f"{exec_id}: {TARGET} on {repository}, {revisions}")
        self.heard.clear()
        asked = await self.until(exec_id, "waiting")
        say("kitaru_executions_wait", f"told of {', '.join(self.heard)}")
        say("kitaru_executions_get", f"waiting: {asked['pending_wait']['question']}")
        lines = await self.call("get_execution_logs", exec_id=exec_id, source="runner")
        runner = re.search(r"Started by process \S+:(\d+), epoch", lines)
        expect(runner, f"The runner's log does not tell its process: {lines}")
        pid = int(runner[1]) if runner else 0
        os.kill(pid, signal.SIGTERM if WINDOWS else signal.SIGKILL)
        await gone(pid)
        say(f"kill -9 {pid}", "its runner is dead; nobody drives the execution")
        return asked

    async def answer_and_resume(self, asked: dict[str, Any]) -> Path:
        """Answer the dead execution's question, and have the CLI continue it."""
        exec_id = asked["exec_id"]
        answer = await self.call(
            "kitaru_executions_input", exec_id=exec_id, wait="approve", value={"approve": True}
        )
        expect(answer["continues_by_itself"] is False, "A dead runner was said to continue.")
        say("kitaru_executions_input", "approved; the server says it does not continue by itself")
        await self.resume(exec_id)
        ended = await self.until(exec_id, "completed")
        path = Path(ended["result"]["path"])
        say("kitaru_executions_get", f"completed: wrote {path}")
        before = {call["call_id"]: call["ended_at"] for call in asked["checkpoints"]}
        after = {call["call_id"]: call["ended_at"] for call in ended["checkpoints"]}
        again = [name for name, at in before.items() if at is not None and after[name] != at]
        expect(not again, f"Recorded checkpoints ran again: {again}")
        say(
            "",
            f"{sum(at is not None for at in before.values())} recorded checkpoints, none ran again",
        )
        return path

    async def resume(self, exec_id: str) -> None:
        """Have the command line continue it; the server tells of each change that makes."""
        resource = f"kitaru://executions/{exec_id}"
        line = command("executions", "resume", exec_id)
        say("$ kitaru", f"executions resume {exec_id}")
        with anyio.move_on_after(SECONDS):
            async with (
                self.client.listen(resource_subscriptions=[resource]) as changes,
                anyio.create_task_group() as tasks,
            ):
                tasks.start_soon(anyio.to_thread.run_sync, run, line, ROOT, self.home)
                async for _ in changes:
                    (found,) = (await self.client.read_resource(resource)).contents
                    text = found.text if isinstance(found, TextResourceContents) else "{}"
                    if json.loads(text)["status"] == "completed":
                        say("resource updated", f"{resource}: completed")
                        return
        raise Deviation(f"Nobody told within {SECONDS} seconds that {resource} is completed.")

    async def look_around(self, exec_id: str) -> dict[str, Any]:
        """Logs and artifacts; returns the first ranked section."""
        logs = await self.call("get_execution_logs", exec_id=exec_id)
        lines = logs.splitlines()
        say("get_execution_logs", f"{len(lines)} lines; the first: {lines[0].split(' ', 2)[-1]}")
        of = {"exec_id": exec_id, "checkpoint": "draft_notes", "text": "Draft of"}
        found = await self.call("get_execution_logs", **of)
        say("", f"those with 'Draft of': {found.split(' ', 2)[-1]}")
        listed = await self.call("kitaru_artifacts_list", exec_id=exec_id)
        ids = [item["artifact_id"] for item in listed["items"]]
        names = Counter(re.sub(r"#\d+$", "", each).rpartition("/")[2] for each in ids)
        say("kitaru_artifacts_list", ", ".join(f"{n} {name}" for name, n in names.items()))
        (saved,) = (each for each in ids if each.endswith("/release_notes_draft"))
        draft = await self.call("kitaru_artifacts_get", artifact_id=saved, limit=18000)
        say("kitaru_artifacts_get", f"the draft: {draft['value'].splitlines()[0]}")
        ranked = await self.call(
            "kitaru_artifacts_get", artifact_id=f"{exec_id}/rank_changes", limit=18000
        )
        section: dict[str, Any] = ranked["value"]
        return section

    async def replay(self, exec_id: str, section: dict[str, Any]) -> None:
        """Replay from the draft with the first ranked section replaced."""
        change = section["changes"][0] | {"text": "A change put into better words"}
        other = self.home / "RELEASE_NOTES_REPLAYED.md"
        replayed = await self.call(
            "kitaru_executions_replay",
            exec_id=exec_id,
            from_="draft_notes",
            overrides={"checkpoint.rank_changes#1": section | {"changes": [change]}},
            flow_inputs={"output": str(other)},
        )
        new_id = replayed["execution"]["exec_id"]
        expect(replayed["available"] and new_id != exec_id, f"No new execution: {replayed}")
        say("kitaru_executions_replay", f"{new_id}: from draft_notes, one ranking replaced")
        asked = await self.until(new_id, "waiting")
        say("kitaru_executions_get", f"waiting: {asked['pending_wait']['question']}")
        answer = await self.call(
            "kitaru_executions_input", exec_id=new_id, wait="approve", value={"approve": True}
        )
        expect(answer["continues_by_itself"], "A living runner was said not to continue.")
        say("kitaru_executions_input", "approved; its runner is alive and continues by itself")
        ended = await self.until(new_id, "completed")
        expect(ended["original_exec_id"] == exec_id, "The replay does not name its original.")
        expect(change["text"] in other.read_text(encoding="utf-8"), f"{other} lacks the new words.")
        say("kitaru_executions_get", f"completed: wrote {other}")
        calls = ended["checkpoints"]
        replaced = sum(call["metadata"].get("overridden", False) for call in calls)
        reused = sum(call["original_call_id"] is not None for call in calls) - replaced
        expect(replaced == 1 and reused > 0, f"{replaced} calls were replaced, {reused} reused.")
        made = len(calls) - reused - replaced
        say("", f"{reused} calls reused, {replaced} replaced, {made} made again")


async def agree(context: object, params: ElicitRequestParams) -> ElicitResult:
    """The person at the client, who is asked before what cannot be undone."""
    say("elicitation", f"{params.message} The person agrees.")
    return ElicitResult(action="accept", content={"confirm": True})


async def gone(pid: int) -> None:
    """Wait until a killed process has disappeared."""
    if WINDOWS:  # where only the end of its lease shows that it is dead
        await anyio.sleep(LEASE_SECONDS + 1)
        return
    with anyio.move_on_after(SECONDS):
        while True:
            try:
                os.kill(pid, 0)
            except ProcessLookupError:
                return
            await anyio.sleep(0.01)
    raise Deviation(f"Process {pid} is still there {SECONDS} seconds after it was killed.")


def choose_history(home: Path) -> tuple[Path, str]:
    """This repository's newest commits, or a small history made for this."""
    try:
        top = run(["git", "rev-parse", "--show-toplevel"], ROOT, home).strip()
        run(["git", "rev-parse", "--verify", "--quiet", "HEAD"], ROOT, home)
        count = int(run(["git", "rev-list", "--first-parent", "--count", "HEAD"], ROOT, home))
    except Deviation:
        top, count = "", 0
    if count and Path(top).resolve() == ROOT:
        return ROOT, "HEAD~20..HEAD" if count > 20 else "HEAD"
    folder = Path(tempfile.mkdtemp(prefix="repository-", dir=home))
    make_history(folder, home)
    say("git", f"{ROOT} has no readable history; made a small one in {folder}")
    return folder, "HEAD"


def make_history(folder: Path, home: Path) -> None:
    """A small repository, made with git itself."""
    identity = ["-c", "user.name=Kitaru demo", "-c", "user.email=demo@example.org"]
    settings = [*identity, "-c", "commit.gpgSign=false", "-c", f"core.hooksPath={folder / 'none'}"]
    run(["git", "init", "--quiet"], folder, home)
    for number, subject in enumerate(SMALL_HISTORY, start=1):
        (folder / "notes.txt").write_text("a note\n" * number * number, encoding="utf-8")
        run(["git", "add", "notes.txt"], folder, home)
        run(["git", *settings, "commit", "--quiet", "--message", subject], folder, home)


def run(arguments: Sequence[str], cwd: Path, home: Path) -> str:
    """Run a program that must succeed, and return what it prints."""
    # Inside a git hook these would point at another repository than `cwd`.
    hidden = ("GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_PREFIX")
    environment = {key: value for key, value in os.environ.items() if key not in hidden}
    try:
        done = subprocess.run(
            arguments,
            cwd=cwd,
            env=environment | {"KITARU_HOME": str(home)},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=SECONDS,
        )
    except FileNotFoundError:
        raise Deviation(f"{arguments[0]} is not installed.") from None
    shown = " ".join(arguments)
    expect(done.returncode == 0, f"`{shown}` ended with {done.returncode}: {done.stderr.strip()}")
    return done.stdout


def command(*arguments: str) -> list[str]:
    """A command line of `kitaru`, with this Python."""
    return [sys.executable, "-m", "kitaru.cli", *arguments]


async def connect(home: Path) -> None:
    """Start `kitaru-mcp`, and go through the story with it."""
    server = StdioServerParameters(
        command=sys.executable,
        args=["-m", "kitaru_mcp.server"],
        env={**os.environ, "KITARU_HOME": str(home)},
        cwd=ROOT,
    )
    async with Client(server, read_timeout_seconds=SECONDS, elicitation_callback=agree) as client:
        await Demo(client, home).story()


def main() -> int:
    """Run the demonstration; 1 when anything went otherwise."""
    named = os.environ.get("KITARU_HOME")
    home = Path(named or tempfile.mkdtemp(prefix="kitaru-demo-")).resolve()
    home.mkdir(mode=0o700, parents=True, exist_ok=True)
    print("An MCP client, kitaru-mcp on stdio, and a flow that is killed while it waits:\n")
    problems: list[str] = []
    try:
        run(["git", "--version"], ROOT, home)
        anyio.run(connect, home)
    except* Deviation as group:
        problems += [str(error) for error in leaves(group)]
    except* (MCPError, OSError, LookupError, ValueError) as group:  # an answer of another form
        problems += [f"{type(error).__name__}: {error}" for error in leaves(group)]
    script = Path(sys.executable).with_name("kitaru")
    kitaru = str(script) if script.exists() else f"{sys.executable} -m kitaru.cli"
    print(f"\nThe store and the notes are in {home}. To look around:")
    print(f"  export KITARU_HOME={home}")
    print(f"  {kitaru} executions list")
    print(f"  {kitaru} executions get ID")
    for problem in problems:
        print(f"demo: FAILED: {problem}", file=sys.stderr)
    return 1 if problems else 0


def leaves(group: BaseExceptionGroup[Any]) -> list[BaseException]:
    """The errors in nested groups."""
    found: list[BaseException] = []
    for error in group.exceptions:
        found += leaves(error) if isinstance(error, BaseExceptionGroup) else [error]
    return found


if __name__ == "__main__":
    sys.exit(main())
