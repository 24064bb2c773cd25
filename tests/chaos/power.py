"""The power fails at any moment: what was not pushed to the disk is lost, in part or torn.

A program that is killed and run again leaves a trace of all that reached its store; it is played
up to a moment. Each file then holds what was pushed, and any of the later writes: in any order,
some torn at their sectors, some of these filled with noise; names that were made or removed since
their folder was pushed may be as before. What the program had been promised by then has to be on
every such disk, and it goes on from there.
"""

from __future__ import annotations

import json
import os
import random
import shutil
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

from tests.chaos import sweeps, workload
from tests.chaos.injected import KILL, Plan, Workshop
from tests.chaos.trial import Scope, Trial
from tests.chaos.workload import Fact

SECTOR = 512
#: One disk in so many is given back to the program, which has to go on from it.
RESUMED = 50
#: So many disks without a loss would show that this attack finds none.
TELLING = 200
#: The program is killed so many times on its way, within its first calls of each start.
KILLED, KILLED_WITHIN = 3, 300
#: What SQLite and the locks make anew.
_FLEETING = ("-shm", ".lock")


@dataclass(frozen=True)
class Event:
    """Something that happened to a file of the store, or a promise."""

    what: str
    offset: int
    data: bytes
    name: str


@dataclass
class File:
    """What of a file is on the disk for certain, and what has happened to it since."""

    safe: bytearray = field(default_factory=bytearray)
    since: list[Event] = field(default_factory=list)

    def push(self) -> None:
        """All of it is on the disk from now on."""
        for event in self.since:
            _apply(self.safe, event)
        self.since.clear()

    def survivor(self, rng: random.Random) -> bytes:
        """What may be left of it."""
        data = bytearray(self.safe)
        for event in _some(self.since, rng):
            if event.what == "write" and rng.random() < 0.2:
                _tear(data, event, rng)
            else:
                _apply(data, event)
        return bytes(data)


class Disk:
    """A folder as the trace leaves it."""

    def __init__(self) -> None:
        self._now: dict[str, File] = {}
        self._safe: dict[str, File] = {}
        self._since: list[tuple[Event, File | None]] = []

    def play(self, event: Event) -> None:
        """Let something happen."""
        if event.what == "folder":
            self._safe = dict(self._now)
            self._since.clear()
        elif event.what == "create":
            self._now[event.name] = File()
            self._since.append((event, self._now[event.name]))
        elif event.what == "unlink":
            del self._now[event.name]
            self._since.append((event, None))
        elif event.what == "sync":
            self._now[event.name].push()
        else:
            assert event.what in ("write", "truncate"), event.what
            self._now[event.name].since.append(event)

    def survivors(self, rng: random.Random) -> dict[str, bytes]:
        """The files that may be there once the power is back."""
        names = dict(self._safe)
        share = rng.choice((0.0, 0.5, 1.0, 1.0))
        for event, file in self._since:
            if rng.random() >= share:
                continue
            if file is None:
                names.pop(event.name, None)
            else:
                names[event.name] = file
        return {name: file.survivor(rng) for name, file in sorted(names.items())}


def _some(events: list[Event], rng: random.Random) -> list[Event]:
    share = rng.choice((0.0, 0.1, 0.5, 0.9, 1.0))
    kept = [event for event in events if rng.random() < share]
    if rng.random() < 0.5:
        rng.shuffle(kept)
    return kept


def _apply(data: bytearray, event: Event) -> None:
    if event.what == "truncate":
        del data[event.offset :]
    data.extend(bytes(max(0, event.offset + len(event.data) - len(data))))
    data[event.offset : event.offset + len(event.data)] = event.data


def _tear(data: bytearray, event: Event, rng: random.Random) -> None:
    """Write only some sectors of it, and noise instead of a few of them."""
    end = event.offset + len(event.data)
    data.extend(bytes(max(0, end - len(data))))
    start = event.offset
    while start < end:
        stop = min(end, (start // SECTOR + 1) * SECTOR)
        fate = rng.random()
        if fate < 0.5:
            data[start:stop] = event.data[start - event.offset : stop - event.offset]
        elif fate < 0.6:
            data[start:stop] = rng.randbytes(stop - start)
        start = stop


def events(trace: Path) -> Iterator[Event]:
    """A trace, event by event."""
    data = trace.read_bytes()
    place = 0
    while place < len(data):
        end = data.index(b"\n", place)
        what, offset, size, name = data[place:end].decode().split(" ", 3)
        place = end + 1 + int(size)
        yield Event(what, int(offset), data[end + 1 : place], name)


# --- the attack -------------------------------------------------------------------------------


def work(home: Path, durability: str) -> None:
    """The program, at a level of durability."""
    os.environ["KITARU_DURABILITY"] = durability
    workload.go_on()


class Attack:
    """Cuts the power of a program at a level of durability."""

    def __init__(self, scope: Scope, workshop: Workshop, durability: str) -> None:
        self._home = scope.home / f"home-{durability}"
        self._home.mkdir(mode=0o700)
        trace = scope.home / f"trace-{durability}"
        kills = scope.rng.sample(range(1, KILLED_WITHIN), KILLED)
        for plan in [*(Plan(action=KILL, number=number) for number in kills), Plan()]:
            given = replace(plan, trace=str(trace))
            workshop.do(work, self._home, plan=given, durability=durability)
        self._events = list(events(trace))
        self._workshop = workshop
        self._expected = workshop.do(sweeps.after, self._home).reply
        self._rng = scope.rng

    def run(self, images: int) -> Counter[str]:
        """Make so many disks; how many were damaged, or lost something."""
        found: Counter[str] = Counter()
        moments = Counter(self._rng.randrange(len(self._events)) for _ in range(images))
        disk, facts, number = Disk(), list[Fact](), 0
        for moment, event in enumerate(self._events):
            if event.what == "mark":
                facts.append(Fact(*json.loads(event.data)))
            else:
                disk.play(event)
            for _ in range(moments[moment]):
                number += 1
                self._lay(disk.survivors(self._rng), facts)
                wrong = self._look(facts, resumes=number % RESUMED == 0)
                found.update({each.partition(":")[0] for each in wrong})
        return found

    def _lay(self, files: dict[str, bytes], facts: list[Fact]) -> None:
        shutil.rmtree(self._home)
        self._home.mkdir(mode=0o700)
        for name, data in files.items():
            if not name.endswith(_FLEETING):
                fd = os.open(self._home / name, os.O_WRONLY | os.O_CREAT, 0o600)
                with os.fdopen(fd, "wb") as file:
                    file.write(data)
        lines = [json.dumps(fact) + "\n" for fact in facts]
        (self._home / "facts").write_text("".join(lines))

    def _look(self, facts: list[Fact], *, resumes: bool) -> list[str]:
        if not resumes:
            return workload.check(self._home / "kitaru.db", facts)
        found = self._workshop.do(sweeps.after, self._home).reply
        if not found["wrong"]:
            assert found["outcome"] == self._expected["outcome"], found
        wrong: list[str] = found["wrong"]
        return wrong


def run(scope: Scope, *, full: int, normal: int) -> str:
    """Cut the power at both levels: one loses nothing, and the other shows that this can."""
    with Workshop(scope.home, sweeps.warm_up) as workshop:
        found = Attack(scope, workshop, "full").run(full)
        assert not found, f"of {full} disks: {dict(found)}"
        less = Attack(scope, workshop, "normal").run(normal)
    assert set(less) <= {"lost", "came back", "ran again"}, (
        f"of {normal} disks at normal: {dict(less)}"
    )
    assert less["lost"] or normal < TELLING, "what loses by design has lost nothing"
    return (
        f"full: {full} disks, 0 lost, 0 corrupt; "
        f"normal: {normal} disks, {less['lost']} lost something, 0 corrupt"
    )


def _trial(scope: Scope) -> str:
    return run(scope, full=scope.times(5000), normal=scope.times(1000))


TRIALS = (Trial(name="power", run=_trial),)
