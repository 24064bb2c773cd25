"""A store in a folder that may only be read, looked at by a user who owns nothing of it.

The command line and the server tell all there is, and say why when they are to write. One process
imports all it needs as its own user and then becomes `nobody`, who could not read the sources.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from tests import support
from tests.chaos.trial import Scope, Skipped, Trial
from tests.mcp.serving import Place, bare
from tests.store.test_faults import NOBODY, copy_read_only, leave_log

LOOKS = (
    *(
        ("executions", "list"),
        ("executions", "list", "-o", "json"),
        ("executions", "get", "latest:completed"),
    ),
    *(
        ("executions", "logs", "latest:completed"),
        ("executions", "timeline", "latest:completed"),
        ("info",),
        ("status",),
    ),
    *(
        ("artifacts", "list", "latest:completed"),
        ("artifacts", "get", "latest:completed/large"),
        ("doctor", "--full"),
    ),
    *(("executions", "statistics"), ("stack", "list"), ("secrets", "list"), ("model", "list")),
    ("executions", "export", "latest:completed", "--to", "{out}", "--force"),
)
WRITES = (
    ("executions", "input", "latest:waiting", "--value", '"yes"'),
    *(("executions", "cancel", "latest:waiting"), ("executions", "delete", "latest:completed")),
    *(("executions", "prune", "--flow", "heavy"), ("stack", "create", "nightly")),
    *(("secrets", "set", "a", "--KEY=0123456789"), ("executions", "import", "{out}")),
)
_COMMANDS = """
import contextlib, io, json, os, sys
from kitaru import KitaruClient
from kitaru.cli import main
from tests import flows
looks, writes, homes, out, as_nobody = json.loads(sys.argv[1])
def run(arguments):
    said = io.TextIOWrapper(io.BytesIO(), "utf-8", write_through=True)
    with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
        code = main([each.format(out=out) for each in arguments])
    return code, said.buffer.getvalue().decode()
def all_of(home):
    os.environ["KITARU_HOME"] = home
    return [run(each) for each in (*looks, *writes)]
all_of(homes[0])
os.unlink(out)
if as_nobody:
    os.setgid(65534)
    os.setuid(65534)
print(json.dumps([all_of(home) for home in homes[1:]]))
"""
_SERVER = """
import os, signal, sys
def leave(*_):
    os.setgid(65534)
    os.setuid(65534)
signal.signal(signal.SIGUSR1, leave)
from kitaru_mcp import server
sys.exit(server.main())
"""
_READS = (
    ("kitaru_status", {}),
    ("kitaru_executions_list", {"detail": "full"}),
    ("kitaru_executions_get", {"exec_id": "latest:completed", "detail": "full"}),
    ("get_execution_logs", {"exec_id": "latest:completed"}),
    ("kitaru_artifacts_list", {"exec_id": "latest:completed"}),
    ("kitaru_artifacts_get", {"artifact_id": "latest:completed/large"}),
    ("kitaru_executions_statistics", {}),
    ("kitaru_executions_wait", {"exec_id": "latest:completed", "timeout_seconds": 0}),
    ("kitaru_stacks_list", {}),
)


def filled(home: Path) -> None:
    """A store with an execution that has ended."""
    home.mkdir(parents=True)
    support.finish(support.start(home, "heavy", count=2, size=10)[0])
    support.rest(support.start(home, "asks", length=1)[0])


def copies(scope: Scope, home: Path) -> list[Path]:
    """The store in folders nobody may write: whole, and with its newest writes in the log."""
    found = []
    for name in ("whole", "with-log"):
        if name == "with-log":
            leave_log(home)
        else:
            support.query(home, "PRAGMA wal_checkpoint(TRUNCATE)")
        folder = scope.home / name
        folder.mkdir()
        copy_read_only(home, folder)
        found.append(folder)
    return found


def by_command(scope: Scope, home: Path, folders: Sequence[Path]) -> int:
    """Every command that looks works, and every other says why it does not; how many."""
    warm, out = scope.home / "warm", scope.home / "out"
    shutil.copytree(home, warm)
    out.mkdir(mode=0o777)
    out.chmod(0o777)
    scope.home.chmod(0o755)
    homes = [str(each) for each in (warm, *folders)]
    request = json.dumps([LOOKS, WRITES, homes, str(out / "all"), os.geteuid() == 0])
    program = f"import sys; sys.argv.append({request!r})\n{_COMMANDS}"
    outcomes = json.loads(support.run_python(warm, program)[-1])
    for folder, answers in zip(folders, outcomes, strict=True):
        for line, (code, said) in zip((*LOOKS, *WRITES), answers, strict=True):
            told = f"{' '.join(line)} in {folder.name}: {code}, {said}"
            assert "Traceback" not in said, told
            if line[0] == "doctor":  # it finds this very thing
                assert "The store can be read, but not written" in said, told
            elif line in LOOKS:
                assert code == 0, told
            else:
                assert code == 1, told
                assert "read-only" in said or "cannot be written" in said, told
    return sum(map(len, outcomes))


def by_server(scope: Scope, home: Path, folder: Path) -> int:
    """Every tool that reads works, and every other says why it does not; how many calls."""
    (scope.home / "served").mkdir()
    place = Place.under(scope.home / "served")
    shutil.copytree(home, place.home, dirs_exist_ok=True)
    with (place.project / "stderr.txt").open("ab") as errors:
        process = subprocess.Popen(
            [sys.executable, "-c", _SERVER],
            cwd=place.project,
            env=os.environ | place.environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
        )
    with bare(place) as server:
        server.process.kill()
        server.process = process
        server.greet()
        for tool, arguments in _READS:  # as the owner: what is needed is imported then
            server.reply_to(server.tool(tool, **arguments))
        for path in place.home.glob("kitaru.db*"):
            path.unlink()
        copy_read_only(folder, place.home)
        if os.geteuid() == 0:
            process.send_signal(signal.SIGUSR1)
            support.until(lambda: _uid(process.pid) == NOBODY, "it is another user")
        for tool, arguments in _READS:
            result = server.reply_to(server.tool(tool, **arguments))
            assert result.get("isError") is not True, (tool, result)
        cancel = server.tool("kitaru_executions_cancel", exec_id="latest:waiting", confirm=True)
        said = server.reply_to(cancel)["content"][0]["text"]
        assert said.startswith("store_unavailable: "), said
        assert "read-only" in said, said
        assert server.end_input() == b""
        assert process.wait(10) == 0
    return len(_READS) + 1


def _uid(pid: int) -> int:
    return int(Path(f"/proc/{pid}/status").read_text().partition("\nUid:")[2].split()[0])


def run(scope: Scope) -> str:
    """Look at both copies, each way."""
    if not hasattr(os, "geteuid"):
        raise Skipped("needs users")
    home = scope.home / "home"
    filled(home)
    folders = copies(scope, home)
    try:
        commands = by_command(scope, home, folders)
        calls = sum(by_server(scope, home, folder) for folder in folders[:1])
    finally:
        for folder in folders:
            folder.chmod(0o755)
    who = "as nobody" if os.geteuid() == 0 else "as the user without rights to write"
    return f"{commands} commands, {calls} calls {who}: all told, no write without its reason"


TRIALS = (Trial(name="read-only", run=run),)
