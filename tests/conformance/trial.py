"""One crash of one case, in a home of its own, and what is wrong with what came of it.

These functions run in a worker process, which only forks stages and reads files; what they return
is a list of complaints. A call that was recorded before a kill has run as often as in the
undisturbed run; one that was in flight may have run once more; all else is as if undisturbed.
Calls and executions are those of children too.
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import json
import multiprocessing
import os
import random
import shutil
import signal
import sqlite3
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter

from kitaru import config
from kitaru.store import open_store
from tests import support
from tests.conformance import cases, stage
from tests.conformance.cases import Case
from tests.conformance.stage import EXEC_ID, REFUSED, SIDES, Point

WORKERS = 2
MOST_POINTS = 2
#: What Kitaru loads when it is used.
LOADED = (
    "anyio._backends._asyncio",
    "jsonschema",
    "kitaru.artifacts",
    "kitaru.current",
    "kitaru.logs",
    "kitaru.tasks",
    "kitaru.waits",
    "sqlite_utils",
    "tomllib",
)
#: Tables and columns in which a resumed run is no undisturbed one.
NOT_COMPARED = {
    "leases",
    "_sqlite_migrations",
    "executions.created_at",
    "execution_rollup.duration",
    "execution_rollup.queue_time",
    "executions.started_at",
    "executions.ended_at",
    "execution_tags.created_at",
    "calls.started_at",
    "calls.ended_at",
    "calls.attempts",
    "calls.ended_order",
    "calls.due_at",
    "waits.created_at",
    "waits.resolved_at",
    "artifacts.created_at",
}

Broken = Callable[[], None]
Row = dict[str, Any]
Line = tuple[str, str]


@dataclass(frozen=True)
class Baseline:
    """An undisturbed run: what it left, how often its calls ran, how many commits it made.

    `template` is the home as it was before: an empty store, or the original of a replay.
    """

    case: str
    folder: Path
    ended: dict[str, Any]
    outcome: dict[str, Any]
    runs: Counter[str]
    commits: int

    @property
    def template(self) -> Path:
        """The home each run starts from."""
        return self.folder / "template"


@dataclass(frozen=True)
class Left:
    """What a killed process has left: the rows of its calls, and how often calls had run.

    `earlier` is how often they had run before that process, `reached` whether it was killed.
    """

    calls: dict[str, Row]
    runs: Counter[str]
    earlier: Counter[str]
    reached: bool

    @property
    def in_flight(self) -> set[str]:
        """The calls that had run without a record."""
        ended = ("completed", "failed", "cancelled")
        recorded = {call for call, row in self.calls.items() if row["status"] in ended}
        return set(self.runs - self.earlier) - recorded


def workers() -> ProcessPoolExecutor:
    """Clean processes that run trials; a test's own has threads and open stores."""
    context = multiprocessing.get_context("spawn")
    return ProcessPoolExecutor(WORKERS, mp_context=context, initializer=_load_what_stages_use)


def _load_what_stages_use() -> None:
    """Load it in the worker, so that no stage has to."""
    for name in LOADED:
        importlib.import_module(name)
    TypeAdapter(bool)
    gc.freeze()  # a collection in a forked stage would copy the whole heap


def points(commits: int) -> list[Point]:
    """Where to kill: both sides of each commit, or an even choice of them where it is long.

    The choice leaves out the two ends, where no case is like itself: nothing is recorded yet, or
    nothing is left to do.
    """
    found = [Point(number, side) for number in range(1, commits + 1) for side in SIDES]
    if len(found) <= MOST_POINTS or "KITARU_TEST_ALL" in os.environ:
        return found
    step = commits / (MOST_POINTS + 1)
    places = range(1, MOST_POINTS + 1)
    return [Point(max(1, round(place * step)), SIDES[place % len(SIDES)]) for place in places]


def make_home(home: Path) -> None:
    """Make an empty store."""
    _must_end(home, partial(open_store, config.find_home(home)))


def undisturbed(name: str, folder: Path, empty: Path) -> Baseline:
    """Run a case undisturbed, in a folder that may become its own, from an empty store's copy."""
    case, template, home = cases.by_name(name), folder / "template", folder / "undisturbed"
    shutil.copytree(empty, template)
    if case.replay is not None:
        _must_end(template, partial(stage.run_original, case))
    shutil.copytree(template, home)
    _must_end(home, partial(_run_counted, case, home / "commits"))
    return Baseline(
        case=name,
        folder=folder,
        ended=json.loads((home / "ended").read_text()),
        outcome=_outcome(_tables(home)),
        runs=_runs(home),
        commits=int((home / "commits").read_text()),
    )


def _run_counted(case: Case, told: Path) -> None:
    commits = stage.count_commits(case)
    stage.see_through(case)
    told.write_text(str(commits()))


def _must_end(home: Path, work: Callable[[], object]) -> None:
    if (code := stage.ended(stage.fork(home, work))) != 0:
        raise AssertionError(f"it ended with {code}:\n{(home / 'output').read_text()}")


def crash(baseline: Baseline, point: Point, broken: Broken | None = None) -> list[str]:
    """Kill a run at a point, and see it through in another process."""
    trial = _Trial(baseline, f"{point}", broken)
    trial.kill(point)
    code = trial.run(partial(stage.see_through, trial.case))
    return trial.complaints(codes=[code], expected=[0])


def crash_twice(baseline: Baseline, seed: int) -> list[str]:
    """Kill a run at some commit, the process that continues it too, and see it through then."""
    draw = random.Random(f"{baseline.case} {seed}")
    first, second = (Point(draw.randint(1, baseline.commits), draw.choice(SIDES)) for _ in range(2))
    trial = _Trial(baseline, f"seed {seed}, {first}, then {second}", None)
    trial.kill(first)
    trial.kill(second, must=False)
    code = trial.run(partial(stage.see_through, trial.case))
    return trial.complaints(codes=[code], expected=[0])


def race(baseline: Baseline, point: Point, broken: Broken | None = None) -> list[str]:
    """Kill a run at a point, and continue it in two processes at the same moment."""
    trial = _Trial(baseline, f"race {point}", broken)
    if not trial.kill(point).reached:
        return trial.complaints(codes=[], expected=[])
    code = trial.run(partial(stage.answer, trial.case)) if trial.case.answers else 0
    meet = multiprocessing.get_context("fork").Barrier(2, timeout=support.DEADLINE_SECONDS).wait
    pids = [trial.start(partial(stage.take_up, trial.case, meet)) for _ in range(2)]
    codes = sorted(map(stage.ended, pids))
    return trial.complaints(codes=[code, *codes], expected=[0, 0, REFUSED])


class _Trial:
    """A home, the processes that worked on it, and what is wrong with it."""

    def __init__(self, baseline: Baseline, name: str, broken: Broken | None) -> None:
        self.case = cases.by_name(baseline.case)
        self._baseline = baseline
        self._name = f"{name}, {broken.__name__}" if broken else name
        self._home = baseline.folder / self._name
        self._broken = broken
        self._left: list[Left] = []
        self._found: list[str] = []
        shutil.copytree(baseline.template, self._home)

    def start(self, work: Callable[[], object]) -> int:
        """Do something in a child, with a broken driver if that is on trial."""

        def act() -> None:
            if self._broken is not None:
                self._broken()
            work()

        return stage.fork(self._home, act)

    def run(self, work: Callable[[], object]) -> int:
        """The same to its end; returns the exit code."""
        return stage.ended(self.start(work))

    def kill(self, point: Point, *, must: bool = True) -> Left:
        """Run the case until the point, and look at what is left without touching it."""

        def work() -> None:
            stage.kill_at(self.case, point)
            stage.see_through(self.case)

        earlier = _runs(self._home)
        code = self.run(work)
        # Calls beside each other may share commits, so such a run may end before its point.
        if code != -signal.SIGKILL and (code != 0 or (must and self.case.in_flight == 1)):
            self._found.append(f"it was to be killed, and ended with {code}")
        # A copy is looked at: to open the file is to repair it, and that is the next driver's.
        aside = self._home / "left"
        aside.mkdir(exist_ok=True)
        for file in ("kitaru.db", "kitaru.db-wal"):
            (aside / file).unlink(missing_ok=True)
            if (self._home / file).exists():
                shutil.copy(self._home / file, aside)
        for file in aside.glob("*-shm"):
            file.unlink()
        left = Left(_calls(_tables(aside)), _runs(self._home), earlier, code != 0)
        self._left.append(left)
        return left

    def complaints(self, *, codes: list[int], expected: list[int]) -> list[str]:
        """All that is wrong; the home stays for a look if anything is."""
        if codes != expected:
            self._found.append(f"its processes ended with {codes}, not {expected}")
        tables = _tables(self._home)
        self._compare_outcome(_outcome(tables))
        self._compare_runs()
        for left in self._left:
            self._compare_recorded(left, _calls(tables))
        if not support.is_sound(self._home):
            self._found.append("the file is damaged")
        if not self._found:
            shutil.rmtree(self._home)
            return []
        output = (self._home / "output").read_text()[-4000:]
        return [f"{self._name}: {each}" for each in self._found] + [output]

    def _compare_recorded(self, left: Left, calls: dict[str, Row]) -> None:
        if len(left.in_flight) > self.case.in_flight:
            self._found.append(f"too many calls were in flight: {sorted(left.in_flight)}")
        completed = [call for call, row in left.calls.items() if row["status"] == "completed"]
        changed = [call for call in completed if calls.get(call) != left.calls[call]]
        if changed:
            self._found.append(f"recorded before the kill, and changed: {changed}")

    def _compare_outcome(self, outcome: dict[str, Any]) -> None:
        wanted = self._baseline.outcome
        in_flight = {call for left in self._left for call in left.in_flight}
        for part in sorted(outcome.keys() | wanted.keys()):
            if {part, part.partition(".")[0]} & self.case.differs:
                continue
            came, was = outcome.get(part, []), wanted.get(part, [])
            if part == "logs":
                came, was = _told_once(came, in_flight), _told_once(was, in_flight)
                if self.case.flow.definition.is_async:  # its tasks tell in any order
                    came, was = sorted(came), sorted(was)
            if came != was:
                self._found.append(f"{part} differs: undisturbed {was}, now {came}")

    def _compare_runs(self) -> None:
        runs, wanted = _runs(self._home), self._baseline.runs
        for call in sorted(runs.keys() | wanted.keys()):
            times = sum(call in left.in_flight for left in self._left)
            if not 0 <= runs[call] - wanted[call] <= times:
                self._found.append(
                    f"{call} ran {runs[call]} times, undisturbed {wanted[call]}; it was in flight "
                    f"at {times} of {len(self._left)} kills"
                )


def _runs(home: Path) -> Counter[str]:
    """How often each call has run; those of the case's execution without its id."""
    with contextlib.suppress(FileNotFoundError):
        return Counter(map(_short, (home / "effects").read_text().splitlines()))
    return Counter()


def _short(call: str) -> str:
    return call.removeprefix(f"{EXEC_ID}/")


def _tables(home: Path) -> dict[str, list[Row]]:
    """The rows of every table, each in the order of its key."""
    with closing(sqlite3.connect(home / "kitaru.db")) as conn:
        conn.row_factory = sqlite3.Row
        found = conn.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall()
        return {
            name: [dict(row) for row in conn.execute(f'SELECT * FROM "{name}"')]
            for (name,) in found
        }


def _calls(tables: dict[str, list[Row]]) -> dict[str, Row]:
    """The calls of all executions by their ids."""
    names = {row["id"]: row["exec_id"] for row in tables["executions"]}
    return {_short(f"{names[row['execution']]}/{row['call_id']}"): row for row in tables["calls"]}


def _by_place(tables: dict[str, list[Row]]) -> dict[str, list[Row]]:
    """The rows of calls, and of what belongs to calls, by the place of the call in its task.

    Which number a row gets when tasks run beside each other is decided by who comes first.
    """
    names = {row["id"]: row["exec_id"] for row in tables["executions"]}
    places = {
        (row["execution"], row["seq"]): (names[row["execution"]], row["lane"], row["position"])
        for row in tables["calls"]
    }
    ordered = dict(tables)
    for table in ("calls", "waits", "artifacts"):
        rows = [(places[row["execution"], row["seq"]], row) for row in tables[table]]
        rows.sort(key=lambda row: (*row[0], row[1].get("position", 0)))
        ordered[table] = [row if table == "calls" else {**row, "seq": place} for place, row in rows]
    return ordered


def _outcome(tables: dict[str, list[Row]]) -> dict[str, Any]:
    """Everything that is compared: the tables by their columns, and the lines."""
    compared: dict[str, Any] = {"logs": _lines(tables)}
    for table, rows in _by_place(tables).items():
        for row in rows if table not in {"logs", *NOT_COMPARED} else ():
            for name, value in row.items():
                if f"{table}.{name}" not in NOT_COMPARED:
                    value = SHOWN[name](value) if name in SHOWN else value
                    compared.setdefault(f"{table}.{name}", []).append(value)
    return compared


def _described(failure: str | None) -> dict[str, Any] | None:
    """A failure without its traceback: one from the record has no lines of the checkpoint's."""
    described = json.loads(failure or "null")
    return described and {**described, "traceback": None}


def _any_order(parents: str | None) -> list[str]:
    """The calls that a call came after: tasks beside each other end in any order."""
    return sorted(json.loads(parents or "[]"))


#: Columns that are compared as something else.
SHOWN: dict[str, Callable[[str | None], Any]] = {"failure": _described, "parents": _any_order}


def _lines(tables: dict[str, list[Row]]) -> list[Line]:
    """Whose each line is, and the line; calls beside each other have no order between them."""
    names = {row["id"]: row["exec_id"] for row in tables["executions"]}
    lines = [
        (_short(f"{names[row['execution']]}/{row['call_id'] or ''}"), row["id"], row["message"])
        for row in tables["logs"]
        if row["source"] == "step"
    ]
    return [(whose, message) for whose, _, message in sorted(lines)]


def _told_once(lines: list[Line], in_flight: set[str]) -> list[Line]:
    """The lines without repetitions by calls that may have run twice.

    What a call has printed may be stored with a commit of another, before its own is.
    """
    return [
        line
        for place, line in enumerate(lines)
        if line[0] not in in_flight or line not in lines[:place]
    ]
