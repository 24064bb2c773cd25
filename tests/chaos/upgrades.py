"""A store of every earlier schema is upgraded: killed at each call, without room, by many at once.

Afterwards it holds all it held, wholly in the old schema or wholly in the current one, and the
next one that opens it finds or makes the current one.
"""

from __future__ import annotations

import errno
import os
import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from itertools import count, takewhile
from pathlib import Path
from typing import Any

from kitaru import KitaruClient, KitaruError
from kitaru.store import close_all, schema
from tests.chaos import workload
from tests.chaos.injected import FAIL, KILL, KILL_MIDWAY, WRITE, Plan, Workshop
from tests.chaos.trial import Scope, Trial
from tests.support import ROOT

OLD = range(1, schema.SCHEMA_VERSION)
CROWD = 8
FAULTS = (
    Plan(action=KILL),
    Plan(action=KILL_MIDWAY, kinds=WRITE),
    Plan(action=FAIL, kinds=WRITE, error=errno.ENOSPC, lasts=True),
)

Content = dict[str, list[tuple[Any, ...]]]


def stored(version: int) -> Path:
    """The store that was recorded at a schema."""
    return ROOT / "tests" / "data" / f"store-v{version}.db"


def content(path: Path) -> Content:
    """Every row, and what the tables are; without the moments of migrations."""
    with closing(sqlite3.connect(path, isolation_level=None)) as conn:
        assert conn.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        found = {
            "": conn.execute("SELECT type, name, sql FROM sqlite_master ORDER BY 2").fetchall()
        }
        found["version"] = conn.execute("PRAGMA user_version").fetchall()
        for (name,) in conn.execute(
            "SELECT name FROM sqlite_master WHERE type = 'table'"
        ).fetchall():
            columns = "name" if name == "_sqlite_migrations" else "*"
            found[name] = conn.execute(f'SELECT {columns} FROM "{name}"').fetchall()
    return found


# --- jobs, done in the workshop ---------------------------------------------------------------


def opens(home: Path) -> str | None:
    """Open a store as any client does; what it says when that fails."""
    try:
        KitaruClient(home=home).executions.list()
        close_all()
    except KitaruError as error:
        workload.check_error(home, error)
        return str(error)
    return None


def open_at_once(home: Path, processes: int) -> list[str]:
    """Open a store in several processes at the same moment; what any of them says."""
    start, begin = os.pipe()
    told, tell = os.pipe()
    for _ in range(processes):
        if os.fork() == 0:
            os.close(begin)
            os.read(start, 1)  # until the last end is closed
            try:
                said = opens(home) or ""
            except BaseException as exc:
                said = repr(exc)
            os.write(tell, f"{said}\n".encode())
            os._exit(0)
    os.close(tell)
    os.close(begin)
    with os.fdopen(told) as lines:
        return lines.read().splitlines()


def warm_up(home: Path) -> None:
    """Have everything loaded that an upgrade needs."""
    shutil.copyfile(stored(1), home / "kitaru.db")
    assert opens(home) is None


# --- the trials -------------------------------------------------------------------------------


class Upgrade:
    """Upgrades copies of the store of one schema."""

    def __init__(self, folder: Path, workshop: Workshop, version: int) -> None:
        self._home = folder / "home"
        self._workshop = workshop
        self._version = version
        self._before = self._copied()
        assert workshop.do(opens, self._home).reply is None
        self._after = content(self._home / "kitaru.db")
        assert self._after["version"] == [(schema.SCHEMA_VERSION,)]

    def _copied(self) -> Content:
        shutil.rmtree(self._home, ignore_errors=True)
        self._home.mkdir(mode=0o700)
        shutil.copyfile(stored(self._version), self._home / "kitaru.db")
        return content(self._home / "kitaru.db")

    def at(self, plan: Plan) -> bool:
        """Let a fault happen; whether the upgrade still came to that call."""
        self._copied()
        done = self._workshop.do(opens, self._home, plan=plan)
        assert content(self._home / "kitaru.db") in (self._before, self._after), plan
        assert self._workshop.do(opens, self._home).reply is None, plan
        assert content(self._home / "kitaru.db") == self._after, plan
        return done.killed or done.hits > 0

    def in_crowd(self) -> None:
        """Let many processes open it at once; one upgrades it."""
        self._copied()
        said = self._workshop.do(open_at_once, self._home, processes=CROWD).reply
        assert said == [""] * CROWD, said
        assert content(self._home / "kitaru.db") == self._after


def faults(scope: Scope, *, every: int = 1) -> str:
    """Let each fault happen at each call."""
    tried = dict.fromkeys(OLD, 0)

    def sweep(upgrade: Upgrade, plan: Plan) -> int:
        numbers = count(1 + scope.rng.randrange(every), every)
        return sum(1 for _ in takewhile(lambda n: upgrade.at(replace(plan, number=n)), numbers))

    def of_version(version: int, workshop: Workshop) -> None:
        upgrade = Upgrade(scope.home, workshop, version)
        tried[version] = sum(sweep(upgrade, plan) for plan in FAULTS)
        assert tried[version] or every > 1, "an upgrade makes no such call"

    _each(scope, of_version)
    told = ", ".join(f"{number} from schema {version}" for version, number in tried.items())
    which = "all calls" if every == 1 else f"1 call in {every}"
    return f"kills and full disks at {which}: {told}; each wholly old or wholly new"


def crowds(scope: Scope, *, rounds: int) -> str:
    """Let many open the store of each schema at the same moment."""

    def of_version(version: int, workshop: Workshop) -> None:
        upgrade = Upgrade(scope.home, workshop, version)
        for _ in range(rounds):
            upgrade.in_crowd()

    _each(scope, of_version)
    return f"{CROWD} processes at once, {rounds} rounds for each of {len(OLD)} schemas, 0 errors"


def _each(scope: Scope, work: Callable[[int, Workshop], None]) -> None:
    with Workshop(scope.home, warm_up) as workshop:
        for version in OLD:
            work(version, workshop)


TRIALS = (
    Trial(name="upgrades", run=lambda scope: faults(scope, every=max(1, round(1 / scope.factor)))),
    Trial(name="upgrade-crowd", run=lambda scope: crowds(scope, rounds=scope.times(15))),
)
