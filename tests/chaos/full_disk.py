"""A disk gets full under a flow, and has room again: nobody has to be started anew for it.

While it is full, a server that was there before answers for all that was recorded, a client that
comes new reads it too, and whoever would write is told why not. Afterwards the process of the
flow goes on with it, and the server starts another one.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import random
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from unittest import mock

from mcp.types import TextResourceContents

from kitaru import KitaruClient, KitaruError, checkpoint, flow, ids
from tests import drives, support
from tests.chaos import injected, workload
from tests.chaos.trial import Scope, Skipped, Trial
from tests.mcp.serving import Place, Served, served

CHECKPOINTS = 40
SIZE = 20_000
#: Holds less than half of what the flow records.
DISK_BYTES = 1_500_000
ANOTHER = """
import kitaru

@kitaru.flow
def brief() -> str:
    return "done"
"""


@checkpoint
def grow(number: int) -> str:
    print(f"line {number}")
    return f"{number}: {SIZE * 'x'}"


@flow
def grows() -> int:
    """Recorded values until there is no room for them."""
    for number in range(CHECKPOINTS):
        workload.recorded(ids.call_id("grow", number + 1), grow(number))
    return CHECKPOINTS


def main() -> None:
    """Start the flow, and go on with it for each further line of input; tell how that went."""
    output, sys.stdout = sys.stdout, io.StringIO()
    handle = None
    for _ in sys.stdin:
        try:
            handle = grows.run() if handle is None else again(handle)
            told = {"result": handle.wait()}
        except KitaruError as exc:
            told = {"error": str(exc)}
        print(json.dumps(told), file=output, flush=True)


def again(handle: drives.Handle) -> drives.Handle:
    """Resume it here."""
    return drives.again("resume", grows, handle.exec_id)


# --- the disk ---------------------------------------------------------------------------------


@dataclass(frozen=True)
class Disk:
    """Where a store is, and how its disk gets full and has room again."""

    place: Place
    fill: Callable[[], None]
    empty: Callable[[], None]
    environment: dict[str, str] = field(default_factory=dict)

    @property
    def home(self) -> Path:
        """The store's folder."""
        return self.place.home


@dataclass(frozen=True)
class Watched(Place):
    """A place whose server finds a full disk where a file says so."""

    library: Path
    control: Path

    @property
    def environment(self) -> dict[str, str]:
        """What the server finds."""
        return super().environment | self.faults

    @property
    def faults(self) -> dict[str, str]:
        """What any process finds."""
        return {
            "LD_PRELOAD": str(self.library),
            "FAULTS_WATCH": str(self.home / "kitaru.db"),
            "FAULTS_FULL": str(self.control),
        }


def played(folder: Path, library: Path) -> Disk:
    """A disk that the system says is full while there is a file."""
    under = Place.under(folder)
    place = Watched(under.home, under.project, library=library, control=folder / "full")
    return Disk(place, place.control.touch, place.control.unlink, place.faults)


@contextlib.contextmanager
def mounted(folder: Path) -> Iterator[Disk]:
    """A small disk in memory."""
    if sys.platform != "linux" or os.geteuid() != 0:
        raise Skipped("needs root on Linux, to mount a small disk")
    place, other = Place.under(folder), folder / "home" / "other"
    size = f"size={DISK_BYTES},mode=700"
    mount = ["mount", "-t", "tmpfs", "-o", size, "tmpfs", str(place.home)]
    if (failed := subprocess.run(mount, capture_output=True, text=True)).returncode:
        raise Skipped(f"needs a disk in memory: {failed.stderr.strip()}")

    def fill() -> None:
        with contextlib.suppress(OSError), other.open("wb", buffering=0) as file:
            while file.write(bytes(4096)):
                pass

    def empty() -> None:
        other.unlink()
        options = f"remount,size={10 * DISK_BYTES}"
        subprocess.run(["mount", "-o", options, str(place.home)], check=True)

    try:
        yield Disk(place, fill, empty)
    finally:
        support.forget(place.home)
        subprocess.run(["umount", "--lazy", str(place.home)], check=True)


# --- the trial --------------------------------------------------------------------------------


def attack(disk: Disk, *, before: int) -> int:
    """Fill a disk once a flow has recorded so many; how many it had then, all of them readable."""
    home, facts = disk.home, workload.Facts(disk.place.project / "facts")
    (home / "facts").symlink_to(facts.path)
    (disk.place.project / "another.py").write_text(ANOTHER)
    with served(disk.place) as server, _process(disk) as process:
        assert process.stdin is not None
        print("start", file=process.stdin, flush=True)
        support.until(lambda: len(facts.all()) >= before, "the flow makes progress")
        disk.fill()
        error = _told(process)["error"]
        assert "Make room" in error, error
        assert str(home / "kitaru.db") in error, error
        promised = facts.all()
        _check_readable(server, promised)
        _check_refusals(server)
        _check_new_client(disk, promised[0].exec_id)
        disk.empty()
        started = server.call("kitaru_executions_run", target="another.py:brief", wait_seconds=50)
        assert started["execution"]["status"] == "completed", started
        executions = KitaruClient(home=home).executions
        support.until(lambda: executions.get(promised[0].exec_id).stalled, "it is given back")
        print("go on", file=process.stdin, flush=True)
        assert _told(process) == {"result": CHECKPOINTS}
    assert workload.repeated(facts.all()) == []
    assert workload.check(home / "kitaru.db", facts.all()) == []
    assert KitaruClient(home=home).store.examine(full=True) == []
    return len(promised)


@contextlib.contextmanager
def _process(disk: Disk) -> Iterator[subprocess.Popen[str]]:
    with mock.patch.dict(os.environ, disk.environment):
        process = support.spawn(disk.home, "-m", "tests.chaos.full_disk")
    try:
        yield process
    finally:
        support.kill(process)


def _told(process: subprocess.Popen[str]) -> dict[str, str]:
    assert process.stdout is not None
    told: dict[str, str] = json.loads(process.stdout.readline())
    return told


def _check_readable(server: Served, promised: list[workload.Fact]) -> None:
    """Whether the server tells all that was recorded."""
    exec_id = promised[0].exec_id
    listed = server.call("kitaru_executions_list")
    assert exec_id in json.dumps(listed), listed
    got = server.call("kitaru_executions_get", exec_id=exec_id, detail="full")
    calls = {each["call_id"]: each["status"] for each in got["checkpoints"]}
    uri = f"kitaru://executions/{exec_id}/logs"
    (read,) = server.ask("read_resource", uri).contents
    assert isinstance(read, TextResourceContents)
    for number, fact in enumerate(promised):
        assert calls[fact.call] == "completed", calls
        assert f"line {number}\n" in f"{read.text}\n", read.text
        shown = server.reply("kitaru_artifacts_get", artifact_id=f"{exec_id}/{fact.call}")
        assert f"{number}: xxx" in shown.text, shown.text[:500]


def _check_refusals(server: Served) -> None:
    refusal = server.refusal("kitaru_executions_run", target="another.py:brief")
    assert "room" in refusal, refusal


def _check_new_client(disk: Disk, exec_id: str) -> None:
    listed = subprocess.run(
        [sys.executable, "-m", "kitaru", "executions", "list"],
        env=os.environ | disk.environment | {"KITARU_HOME": str(disk.home)},
        cwd=disk.place.project,
        capture_output=True,
        text=True,
    )
    assert listed.returncode == 0, listed.stderr
    assert exec_id in listed.stdout, listed.stdout


def run(scope: Scope) -> str:
    """Fill disks that are played."""
    library = injected.library(scope.home)
    rounds = scope.times(3)
    found = [
        attack(_made(scope, f"disk-{number}", library), before=_moment(scope.rng))
        for number in range(rounds)
    ]
    return f"{rounds} disks, {sum(found)} recorded values, all readable; 0 lost, 0 twice"


def _made(scope: Scope, name: str, library: Path) -> Disk:
    (scope.home / name).mkdir()
    return played(scope.home / name, library)


def _moment(rng: random.Random) -> int:
    return rng.randint(1, CHECKPOINTS // 2)


def run_mounted(scope: Scope) -> str:
    """Fill a real one."""
    with mounted(scope.home) as disk:
        found = attack(disk, before=_moment(scope.rng))
    return f"1 disk in memory, {found} recorded values, all readable; 0 lost, 0 twice"


TRIALS = (
    Trial(name="full-disk", run=run),
    Trial(name="full-tmpfs", run=run_mounted),
)

if __name__ == "__main__":
    main()
