"""One crash of one case, in a home of its own, and what is wrong with what came of it.

These functions run in a worker process, which only forks stages and reads files; what they return
is a list of complaints. A call that was recorded before the kill has run as often as in the
undisturbed run; one that was in flight may have run once more; all else is as if undisturbed.
"""

from __future__ import annotations

import importlib
import json
import multiprocessing
import os
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
from tests.conformance.stage import EXEC_ID, REFUSED, Point

WORKERS = 2
MOST_COMMITS = 12
#: Tables and columns in which a resumed run is no undisturbed one.
NOT_COMPARED = {
    "leases",
    "_sqlite_migrations",
    "executions.created_at",
    "executions.started_at",
    "executions.ended_at",
    "execution_tags.created_at",
    "calls.started_at",
    "calls.ended_at",
    "calls.attempts",
    "calls.ended_order",
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
    """What a killed process has left: the rows of its calls, and how often calls had run."""

    calls: dict[str, Row]
    runs: Counter[str]

    @property
    def in_flight(self) -> set[str]:
        """The calls that had run without a record."""
        ended = ("completed", "failed")
        recorded = {call for call, row in self.calls.items() if row["status"] in ended}
        return set(self.runs) - recorded


def workers() -> ProcessPoolExecutor:
    """Clean processes that run trials; a test's own has threads and open stores."""
    context = multiprocessing.get_context("spawn")
    return ProcessPoolExecutor(WORKERS, mp_context=context, initializer=_load_what_stages_use)


def _load_what_stages_use() -> None:
    """Load in the worker what Kitaru loads when it is used, so that no stage has to."""
    for name in ("kitaru.logs", "kitaru.waits", "jsonschema", "sqlite_utils"):
        importlib.import_module(name)
    TypeAdapter(bool)


def points(commits: int) -> list[Point]:
    """Where to kill: both sides of each commit, or of an even choice of them where it is long."""
    numbers = list(range(1, commits + 1))
    if commits > MOST_COMMITS and "KITARU_TEST_ALL" not in os.environ:
        step = (commits - 1) / (MOST_COMMITS - 1)
        numbers = [round(1 + place * step) for place in range(MOST_COMMITS)]
    return [Point(number, side) for number in numbers for side in ("before", "after")]


def undisturbed(name: str, folder: Path) -> Baseline:
    """Run a case undisturbed, in a folder that may become its own."""
    case, template, home = cases.by_name(name), folder / "template", folder / "undisturbed"
    template.mkdir(mode=0o700)
    _must_end(template, partial(_prepare, case))
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


def _prepare(case: Case) -> None:
    """Make the store, and run what a replay is made from."""
    open_store(config.find_home())
    if case.replay is not None:
        stage.run_original(case)


def _run_counted(case: Case, told: Path) -> None:
    commits = stage.count_commits(case)
    stage.see_through(case)
    told.write_text(str(commits()))


def _must_end(home: Path, work: Callable[[], None]) -> None:
    if (code := stage.ended(stage.fork(home, work))) != 0:
        raise AssertionError(f"it ended with {code}:\n{(home / 'output').read_text()}")


def crash(baseline: Baseline, point: Point, broken: Broken | None = None) -> list[str]:
    """Kill a run at a point, and see it through in another process."""
    trial = _Trial(baseline, f"{point}", broken)
    left = trial.kill(point)
    code = trial.run(partial(stage.see_through, trial.case))
    return trial.complaints(left, codes=[code], expected=[0])


def race(baseline: Baseline, point: Point, broken: Broken | None = None) -> list[str]:
    """Kill a run at a point, and continue it in two processes at the same moment."""
    trial = _Trial(baseline, f"race {point}", broken)
    left = trial.kill(point)
    code = trial.run(partial(stage.answer, trial.case))
    meet = multiprocessing.get_context("fork").Barrier(2, timeout=support.DEADLINE_SECONDS).wait
    pids = [trial.start(partial(stage.take_up, trial.case, meet)) for _ in range(2)]
    codes = sorted(map(stage.ended, pids))
    return trial.complaints(left, codes=[code, *codes], expected=[0, 0, REFUSED])


class _Trial:
    """A home, the processes that worked on it, and what is wrong with it."""

    def __init__(self, baseline: Baseline, name: str, broken: Broken | None) -> None:
        self.case = cases.by_name(baseline.case)
        self._baseline = baseline
        self._name = f"{name}, {broken.__name__}" if broken else name
        self._home = baseline.folder / self._name
        self._broken = broken
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

    def kill(self, point: Point) -> Left:
        """Run the case until the point, and look at what is left without touching it."""

        def work() -> None:
            stage.kill_at(self.case, point)
            stage.see_through(self.case)

        code = self.run(work)
        # Calls beside each other may share commits, so such a run may end before its point.
        if code != -signal.SIGKILL and not (code == 0 and self.case.in_flight > 1):
            self._found.append(f"it was to be killed, and ended with {code}")
        # A copy is looked at: to open the file is to repair it, and that is the next driver's.
        aside = self._home / "left"
        aside.mkdir()
        for file in ("kitaru.db", "kitaru.db-wal"):
            if (self._home / file).exists():
                shutil.copy(self._home / file, aside)
        return Left(_calls(_tables(aside)), _runs(self._home))

    def complaints(self, left: Left, *, codes: list[int], expected: list[int]) -> list[str]:
        """All that is wrong; the home stays for a look if anything is."""
        if codes != expected:
            self._found.append(f"its processes ended with {codes}, not {expected}")
        tables = _tables(self._home)
        self._compare_outcome(_outcome(tables), left)
        self._compare_runs(left)
        calls = _calls(tables)
        completed = [call for call, row in left.calls.items() if row["status"] == "completed"]
        changed = [call for call in completed if calls.get(call) != left.calls[call]]
        if changed:
            self._found.append(f"recorded before the kill, and changed: {changed}")
        if not support.is_sound(self._home):
            self._found.append("the file is damaged")
        if not self._found:
            shutil.rmtree(self._home)
            return []
        output = (self._home / "output").read_text()[-4000:]
        return [f"{self._name}: {each}" for each in self._found] + [output]

    def _compare_outcome(self, outcome: dict[str, Any], left: Left) -> None:
        wanted = self._baseline.outcome
        for part in sorted(outcome.keys() | wanted.keys()):
            if {part, part.partition(".")[0]} & self.case.differs:
                continue
            came, was = outcome.get(part, []), wanted.get(part, [])
            if part == "logs":
                came, was = _told_once(came, left.in_flight), _told_once(was, left.in_flight)
            if came != was:
                self._found.append(f"{part} differs: undisturbed {was}, now {came}")

    def _compare_runs(self, left: Left) -> None:
        if len(left.in_flight) > self.case.in_flight:
            self._found.append(f"too many calls were in flight: {sorted(left.in_flight)}")
        runs, wanted = _runs(self._home), self._baseline.runs
        for call in sorted(runs.keys() | wanted.keys()):
            once_more = call in left.in_flight
            if runs[call] - wanted[call] not in ((0, 1) if once_more else (0,)):
                self._found.append(
                    f"{call} ran {runs[call]} times, undisturbed {wanted[call]}; at the kill it "
                    f"{'was' if once_more else 'was not'} in flight"
                )


def _runs(home: Path) -> Counter[str]:
    return Counter(support.effects(home, EXEC_ID))


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
    """The calls of the case's execution, which a killed run may not even have."""
    ours = [row["id"] for row in tables["executions"] if row["exec_id"] == EXEC_ID]
    return {row["call_id"]: row for row in tables["calls"] if row["execution"] in ours}


def _outcome(tables: dict[str, list[Row]]) -> dict[str, Any]:
    """Everything that is compared: the tables by their columns, and the lines."""
    compared: dict[str, Any] = {"logs": _lines(tables["logs"])}
    for table in tables.keys() - {"logs"} - NOT_COMPARED:
        for row in tables[table]:
            for name, value in row.items():
                if f"{table}.{name}" not in NOT_COMPARED:
                    value = _described(value) if name == "failure" else value
                    compared.setdefault(f"{table}.{name}", []).append(value)
    return compared


def _described(failure: str | None) -> dict[str, Any] | None:
    """A failure without its traceback: one from the record has no lines of the checkpoint's."""
    described = json.loads(failure or "null")
    return described and {**described, "traceback": None}


def _lines(rows: list[Row]) -> list[Line]:
    """Whose each line is, and the line; calls beside each other have no order between them."""
    lines = [row for row in rows if row["source"] == "step"]
    lines.sort(key=lambda row: (row["call_id"] or "", row["id"]))
    return [(row["call_id"] or "", row["message"]) for row in lines]


def _told_once(lines: list[Line], in_flight: set[str]) -> list[Line]:
    """The lines without repetitions by calls that may have run twice.

    What a call has printed may be stored with a commit of another, before its own is.
    """
    return [
        line
        for place, line in enumerate(lines)
        if line[0] not in in_flight or line not in lines[:place]
    ]
