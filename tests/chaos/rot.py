"""Damage to the files of a store: a recorded value is right, or reading it is an error.

Only values have digests; damage may well change a name or a time. What must never happen is a
wrong value, under whatever name, or an error that is not Kitaru's. A damaged WAL may lose what was
committed last, so that a value is not there any more: that is told, or seen, as missing.
"""

from __future__ import annotations

import random
import shutil
import sqlite3
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kitaru import KitaruClient, KitaruError
from tests import support
from tests.chaos.trial import Trial
from tests.core.test_codec import same

DAMAGE_BYTES = 32
PAGE = 4096
FLOWS: tuple[tuple[str, dict[str, Any]], ...] = (
    ("chain", {"length": 12}),
    ("asks", {"length": 3, "timeout": 60.0}),
    ("fragile", {}),
    ("heavy", {"count": 2, "size": 40_000}),
)
#: The files of a store that has been closed in order, and of one whose processes were killed.
CLOSED, KILLED = ("",), ("", "-wal", "-shm")


@dataclass(frozen=True)
class Sample:
    """A store to damage, and its values by their ids."""

    home: Path
    values: dict[str, Any]
    files: tuple[str, ...]


def sample(home: Path) -> Sample:
    """Fill a store and close it."""
    _fill(home)
    support.query(home, "PRAGMA wal_checkpoint(TRUNCATE)")
    values = _values(home)
    support.forget(home)
    return Sample(home, values, CLOSED)


def killed_sample(home: Path) -> Sample:
    """The files of a store as they are while processes write: much of it in the WAL."""
    whole = home.with_name(f"{home.name}-open")
    whole.mkdir(mode=0o700)
    KitaruClient(home=whole).executions.list()
    with closing(sqlite3.connect(whole / "kitaru.db")) as conn:
        # Some of it has come into the file, so that a page is now here, now there, or in both.
        _fill(whole, FLOWS[2:])
        conn.execute("PRAGMA wal_checkpoint").fetchall()
        _fill(whole, FLOWS[:2])
        home.mkdir(mode=0o700)
        for suffix in KILLED:
            shutil.copyfile(whole / f"kitaru.db{suffix}", home / f"kitaru.db{suffix}")
        values = _values(whole)
        support.forget(whole)
    assert (home / "kitaru.db-wal").stat().st_size > 50 * PAGE
    return Sample(home, values, KILLED)


def _fill(home: Path, flows: Sequence[tuple[str, dict[str, Any]]] = FLOWS) -> None:
    for flow, inputs in flows:
        process, exec_id = support.start(home, flow, **inputs)
        support.see_through(home, exec_id)
        support.finish(process)


def damage(path: Path, rng: random.Random) -> str:
    """Damage one place of a file as disks, memory and people do; returns what was done."""
    size = path.stat().st_size
    place = rng.randrange(size - DAMAGE_BYTES)
    page, other = (rng.randrange(max(1, size // PAGE)) * PAGE for _ in range(2))
    data = bytearray(path.read_bytes())
    kind = rng.choice(["bytes"] * 6 + ["bit", "bit", "zeros", "moved", "cut"])
    if kind == "bytes":
        data[place : place + DAMAGE_BYTES] = rng.randbytes(DAMAGE_BYTES)
    elif kind == "bit":
        data[place] ^= 1 << rng.randrange(8)
    elif kind == "zeros":
        data[page : page + PAGE] = bytes(len(data[page : page + PAGE]))
    elif kind == "moved":
        data[page : page + PAGE] = data[other : other + PAGE].ljust(PAGE, b"\0")
    else:
        del data[place:]
    path.write_bytes(data)
    return f"{kind} at byte {page if kind in ('zeros', 'moved') else place} of {path}"


def check(home: Path, made: Sample) -> int:
    """Read all values of a damaged store; how many could not be read."""
    refused = 0
    for id_, value in made.values.items():
        try:
            read = _read(home, id_)
        except KitaruError:
            refused += 1
            continue
        if made.files is KILLED and "/" not in id_ and read[1] is None:
            value = (value[0], None)  # its end is lost with the tail of the WAL
        assert same(read, value), f"{id_} came back changed"
    return refused + _check_whatever_is_there(home, made)


def _check_whatever_is_there(home: Path, made: Sample) -> int:
    """A name may be wrong, but what is found under it is some value that was recorded."""
    client = KitaruClient(home=home)
    known = {repr(value) for value in made.values.values()}
    refused = 0
    try:
        found = [each.exec_id for each in client.executions.list()]
    except KitaruError:
        return 1
    for exec_id in found:
        try:
            for ref in client.executions.get(exec_id).artifacts:
                try:
                    value = repr(ref.load())
                except KitaruError:
                    refused += 1
                    continue
                assert value in known, f"{ref.artifact_id} is no value that was recorded"
        except KitaruError:
            refused += 1
    return refused


def run(home: Path, *, rounds: int, rng: random.Random) -> str:
    """Damage copies of a store, one place each."""
    made = sample(home / "whole")
    counted = _rounds(home, made, [(rng.getrandbits(64), "") for _ in range(rounds)])
    return f"{rounds} damages, {counted}, 0 wrong values"


def run_killed(home: Path, *, rounds: int, rng: random.Random) -> str:
    """The same to what a killed process leaves: the file, its WAL, and the WAL's index."""
    made = killed_sample(home / "whole")
    files = rng.choices(["", "-wal", "-shm"], weights=[2, 5, 1], k=rounds)
    counted = _rounds(home, made, [(rng.getrandbits(64), file) for file in files])
    told = ", ".join(f"{files.count(each)} to the {_NAMES[each]}" for each in KILLED)
    return f"{rounds} damages ({told}), {counted}, 0 wrong values"


_NAMES = {"": "file", "-wal": "WAL", "-shm": "WAL's index"}


def _rounds(home: Path, made: Sample, damages: list[tuple[int, str]]) -> str:
    counted: Counter[str] = Counter()
    for number, (seed, suffix) in enumerate(damages):
        copy = home / f"copy-{number}"
        copy.mkdir(mode=0o700)
        for each in made.files:
            shutil.copyfile(made.home / f"kitaru.db{each}", copy / f"kitaru.db{each}")
        done = damage(copy / f"kitaru.db{suffix}", random.Random(seed))
        try:
            unread = check(copy, made)
        except Exception as exc:
            raise AssertionError(f"{done}: {exc!r}") from exc
        finally:
            support.forget(copy)
        counted["noticed"] += unread > 0
        counted["refused"] += unread
        shutil.rmtree(copy)
    return f"{counted['noticed']} noticed, {counted['refused']} reads refused"


def _values(home: Path) -> dict[str, Any]:
    client = KitaruClient(home=home)
    found: dict[str, Any] = {}
    for execution in client.executions.list():
        found[execution.exec_id] = _read(home, execution.exec_id)
        for artifact in client.executions.get(execution.exec_id).artifacts:
            found[artifact.artifact_id] = artifact.load()
    return found


def _read(home: Path, id_: str) -> Any:
    client = KitaruClient(home=home)
    if "/" in id_:
        return client.artifacts.get(id_).load()
    execution = client.executions.get(id_)
    client.executions.logs(id_)
    client.executions.status_counts()
    return execution.inputs, execution.result


def _trial(name: str, attack: Callable[..., str], rounds: int) -> Trial:
    return Trial(
        name=name,
        run=lambda scope: attack(scope.home, rounds=scope.times(rounds), rng=scope.rng),
    )


TRIALS = (_trial("rot", run, 1000), _trial("rot-wal", run_killed, 500))
