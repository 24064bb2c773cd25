"""What Kitaru leaves open to strangers: nothing on the network, and no file on the machine.

Python itself reports each socket, in every process of the trial; asyncio wakes its loop through a
pair of connected ones (AF_UNIX), which nobody else can reach. Without a umask all that is made is
private, and a store of another user is used only where it is named.
"""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
import sys
import tempfile
from pathlib import Path
from unittest import mock

from tests import support
from tests.chaos.trial import Scope, Skipped, Trial
from tests.mcp.serving import FLOWS, Place, bare
from tests.store.test_faults import AS_NOBODY, NOBODY

LISTENER = """
import os, socket, sys
def listen(event, args, events=os.environ["KITARU_TEST_EVENTS"]):
    of_loop = event == "socket.__new__" and args[1] == socket.AF_UNIX
    if event.startswith(("socket.", "urllib.", "http.client.")) and not of_loop:
        fd = os.open(events, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.write(fd, f"{event} {args!r:.200}\\n".encode())
        os.close(fd)
sys.addaudithook(listen)
"""
PROGRAM = f"""
import sys; sys.path.insert(0, {str(FLOWS.parent)!r})
import flows, kitaru
from kitaru.cli import main
flows.noisy.run().wait()
client = kitaru.KitaruClient()
client.executions.run({str(FLOWS)!r} + ":noisy")
kitaru.create_secret("a", {{"K": "0123456789"}})
for line in ("info", "executions list", "executions get latest", "doctor", "worker --once"):
    main(line.split())
@kitaru.checkpoint
async def awaited() -> int: return 1
@kitaru.flow
async def waits() -> int: return await awaited()
waits.run().wait()
"""


_WITHOUT_UMASK = """
import os; os.umask(0)
import kitaru
from tests import flows
kitaru.create_secret('a', {'K': '0123456789'})
flows.chain.run(length=1).wait()
client = kitaru.KitaruClient()
client.store.backup(os.environ['KITARU_HOME'] + '/../copy')
id_ = client.executions.run('tests/flows.py:chain', args={'length': 1}).exec_id
while not client.executions.get(id_).status.is_finished: pass
client.executions.export(id_, os.environ['KITARU_HOME'] + '/../export')
"""
_WHERE = f"{AS_NOBODY}\ntry: print(KitaruClient().home.path)\nexcept KitaruError as exc: print(exc)"


def sockets(scope: Scope) -> str:
    """Use the SDK, the command line and the server, and hear of no socket."""
    place, hooks, events = Place.under(scope.home), scope.home / "hooks", scope.home / "events"
    hooks.mkdir()
    (hooks / "sitecustomize.py").write_text(LISTENER)
    paths = os.pathsep.join([place.environment["PYTHONPATH"], str(hooks)])
    watched = {"PYTHONPATH": paths, "KITARU_TEST_EVENTS": str(events)}
    environment = os.environ | place.environment | watched

    def run(program: str) -> None:
        command = [sys.executable, "-c", program]
        quiet = subprocess.DEVNULL
        subprocess.run(command, env=environment, cwd=support.ROOT, check=True, stdout=quiet)

    run("import socket; socket.socketpair()")
    assert not events.exists()
    run("import socket; socket.socket().close()")
    assert "socket.__new__" in events.read_text(), "the listener hears nothing"
    events.unlink()
    run(PROGRAM)
    with mock.patch.object(Place, "environment", environment), bare(place) as server:
        server.data("kitaru_status")
        server.data("kitaru_executions_run", target="flows.py:noisy", wait_seconds=50)
        server.data("kitaru_executions_list")
        assert server.end_input() == b""
    assert not events.exists(), events.read_text()
    return "SDK, command line, server, runners: 0 sockets"


def private(scope: Scope) -> str:
    """See the permissions of all that is made, and whose folder is used."""
    if not hasattr(os, "geteuid") or os.geteuid() != 0:
        raise Skipped("needs root, to make a folder of another user")
    home = scope.home / "a" / "b" / "home"
    support.run_python(home, _WITHOUT_UMASK)
    made = [home, *home.rglob("*"), home.parent / "copy", home.parent / "export"]
    for path in made:
        mode = stat.S_IMODE(path.stat().st_mode)
        assert mode == (0o700 if path.is_dir() else 0o600), f"{path}: {mode:o}"
    for path in (home.parent, home.parent.parent):
        assert not path.stat().st_mode & 0o022, path
    folder = Path(tempfile.mkdtemp(prefix="kitaru-test-"))
    try:
        folder.chmod(0o755)
        _check_foreign(folder / ".kitaru")
    finally:
        shutil.rmtree(folder)
    return f"{len(made)} files and folders private without a umask; 3 folders of others"


def _check_foreign(path: Path) -> None:
    path.mkdir(mode=0o755)
    environment = {**os.environ, "PYTHONPATH": f"{support.ROOT}/core:{support.ROOT}"}
    environment.pop("KITARU_HOME", None)

    def said(**more: str) -> str:
        """Where a user who is not root finds the store."""
        command = [sys.executable, "-c", _WHERE]
        done = subprocess.run(
            command, cwd=path.parent, env=environment | more, capture_output=True, text=True
        )
        return done.stdout.strip() + done.stderr

    assert "a store of another user" in said()
    assert said(KITARU_HOME=str(path)) == str(path)
    os.chown(path, NOBODY, NOBODY)
    assert said() == str(path)


TRIALS = (Trial(name="sockets", run=sockets), Trial(name="private", run=private))
