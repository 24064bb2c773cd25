"""Random damage to the file: a recorded value is right, or reading it is an error that says so.

Only values have digests; damage may well change a name or a time. What must never happen is a
wrong value, or an error that is not Kitaru's.
"""

from __future__ import annotations

import random
import shutil
from pathlib import Path
from typing import Any

from kitaru import KitaruClient, KitaruError
from tests import support
from tests.chaos.trial import Trial

DAMAGE_BYTES = 32
FLOWS: tuple[tuple[str, dict[str, Any]], ...] = (
    ("chain", {"length": 12}),
    ("asks", {"length": 3, "timeout": 60.0}),
    ("fragile", {}),
    ("heavy", {"count": 2, "size": 40_000}),
)


def sample(home: Path) -> dict[str, Any]:
    """Fill a store and close it; its values by their ids."""
    for flow, inputs in FLOWS:
        process, exec_id = support.start(home, flow, **inputs)
        support.see_through(home, exec_id)
        support.finish(process)
    support.query(home, "PRAGMA wal_checkpoint(TRUNCATE)")
    values = _values(home)
    support.forget(home)
    return values


def damage(home: Path, rng: random.Random) -> int:
    """Overwrite some bytes of a store's file; returns where."""
    path = home / "kitaru.db"
    place = rng.randrange(path.stat().st_size - DAMAGE_BYTES)
    with path.open("r+b") as file:
        file.seek(place)
        file.write(rng.randbytes(DAMAGE_BYTES))
    return place


def check(home: Path, expected: dict[str, Any]) -> int:
    """Read all values of a damaged store; how many could not be read."""
    refused = 0
    for id_, value in expected.items():
        try:
            read = _read(home, id_)
        except KitaruError:
            refused += 1
            continue
        assert read == value, f"{id_} came back changed"
    return refused


def run(home: Path, *, rounds: int, rng: random.Random) -> str:
    """Damage copies of a store, one place each."""
    expected = sample(home / "whole")
    noticed = refused = 0
    for number in range(rounds):
        copy = home / f"copy-{number}"
        copy.mkdir(mode=0o700)
        shutil.copyfile(home / "whole" / "kitaru.db", copy / "kitaru.db")
        place = damage(copy, rng)
        try:
            unread = check(copy, expected)
        except Exception as exc:
            raise AssertionError(f"damage at byte {place} of {copy}: {exc!r}") from exc
        finally:
            support.forget(copy)
        noticed += unread > 0
        refused += unread
        shutil.rmtree(copy)
    return f"{rounds} damages, {noticed} noticed, {refused} reads refused, 0 wrong values"


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
    client.executions.list()
    return execution.inputs, execution.result


TRIALS = (
    Trial(name="rot", run=lambda scope: run(scope.home, rounds=scope.times(1000), rng=scope.rng)),
)
