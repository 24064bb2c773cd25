"""The benchmarks run, what they record is what the page shows, and nothing depends on a time."""

from __future__ import annotations

import importlib
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from benchmarks import __main__ as bench
from benchmarks import comparing, page, prose, recording, scope, worker
from benchmarks.aims import AIMS
from benchmarks.scope import Scope
from benchmarks.worker import Broken, Worker

RECORDED = json.loads(recording.JSON.read_text(encoding="utf-8"))


# --- cases ----------------------------------------------------------------------------------------

#: Where a quick run takes these, the smallest takes those.
SMALLEST: dict[str, dict[str, Any]] = {
    "sequential": {"QUICK": (1,)},
    "models": {"QUICK": 2, "TOGETHER": 2},
    "fan_out": {"COUNT": 3, "SECONDS": 0.001},
    "at_once": {"EXECUTIONS": 2, "STEPS": 2},
    "resume": {"QUICK": (3,)},
    "crash": {},
    "startup": {},
    "answers": {},
    "logs": {"PRINTED": 20},
    "artifacts": {"QUICK": ("1 kB",)},
    "queries": {"QUICK": (30,)},
    "size": {"SHORT": 10, "LONG": 410},
    "mcp": {"EXECUTIONS": 30, "CALLS": 3, "LOADED": 12},
}
#: What such a run gives: the keys of its columns.
KEYS = {
    "sequential": "step/1 whole/1 commits/1",
    "models": "call/OpenAI extra/OpenAI processor/OpenAI",
    "fan_out": "whole inside",
    "at_once": "steps/FULL",
    "resume": "resume/3 each/3",
    "crash": "resumed",
    "startup": "import; import clock; first step; first step CPU; import memory; memory",
    "answers": "answer",
    "logs": "captured",
    "artifacts": "save/1000 load/1000",
    "queries": "list/30 filtered/30 get/30 statistics/30",
    "size": "bytes",
    "mcp": "p50 p99 rate",
}
#: Stands for the smallest server of the SDK, which takes half a second to start.
SMALL_SERVER = """
import json, sys
for line in sys.stdin:
    message = json.loads(line)
    if "id" in message:
        print(json.dumps({"jsonrpc": "2.0", "id": message["id"], "result": {}}), flush=True)
"""
#: These need processes of their own: they start, or die, or are asked over pipes.
APART = {"startup", "crash", "mcp"}


class Here:
    """A worker that works in this process."""

    pid = os.getpid()

    def __init__(self, module: str, *, home: Path | None = None, durability: str = "full") -> None:
        self._module = importlib.import_module(f"benchmarks.{module}")
        self._variables = {"KITARU_HOME": str(home), "KITARU_DURABILITY": durability}

    def run(self, name: str, **arguments: Any) -> Any:
        with pytest.MonkeyPatch.context() as patch:
            for variable, value in self._variables.items():
                patch.setenv(variable, value)
            return getattr(self._module, name)(**arguments)

    def __enter__(self) -> Here:
        return self

    def __exit__(self, *_: object) -> None:
        pass


@pytest.mark.parametrize("name", bench.CASES)
def test_a_case_gives_its_figures(name: str, tmp_path: Path, monkeypatch) -> None:
    if name == "startup" and not Path("/proc/self/statm").exists():
        pytest.skip("nothing but Linux tells how much memory a process has")
    case = importlib.import_module(f"benchmarks.{name}")
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))  # generated stores are kept there
    for constant, value in SMALLEST[name].items():
        monkeypatch.setattr(case, constant, value)
    monkeypatch.setattr("benchmarks.servers._HELLO", [sys.executable, "-c", SMALL_SERVER])
    if name not in APART:
        monkeypatch.setattr(case, "Worker", Here)
    work = tmp_path / "work"
    work.mkdir()
    tables = case.run(Scope(work, 1, quick=True))
    keys = KEYS[name].split("; " if ";" in KEYS[name] else None)
    assert [table["key"] for table in tables] == keys
    for table in json.loads(json.dumps(tables)):
        assert table["sides"], table
        for told in table["sides"].values():
            assert told["min"] <= told["median"] <= told["max"]
            # A difference of two times may be any number.
            assert table["key"].startswith("extra") or told["min"] > 0


def test_a_worker_that_fails_says_why_and_one_that_ends_says_so() -> None:
    with Worker("floor") as broken:
        with pytest.raises(Broken, match="unable to open database file"):
            broken.run("sequential", path="/no/such/folder/file.db", steps=1)
        broken.post("__getattr__")
    with Worker("nothing_of_that_name") as missing, pytest.raises(Broken, match="ended with 1"):
        missing.run("anything")


# --- the page -------------------------------------------------------------------------------------


def test_the_page_is_what_its_figures_make() -> None:
    assert recording.PAGE.read_text(encoding="utf-8") == page.made(RECORDED), (
        "renew it: python -m benchmarks.page"
    )


def figures_of(value: Any) -> Iterator[dict[str, Any]]:
    """Every least-median-most in the file."""
    if isinstance(value, dict):
        if "median" in value:
            yield value
        for each in value.values():
            yield from figures_of(each)
    elif isinstance(value, list):
        for each in value:
            yield from figures_of(each)


def cells(text: str) -> list[str]:
    """The figures in the tables; a row begins with words, and who is durable is all words."""
    measured, _, _ = text.partition("## Who makes what durable")
    rows = [line for line in measured.splitlines() if re.match(r"\| [^|]", line)]
    return [cell.strip() for row in rows for cell in row.split("|")[2:-1]]


def test_every_figure_on_the_page_comes_from_the_file() -> None:
    other = json.loads(json.dumps(RECORDED))
    for told in figures_of(other["cases"]):
        for name in ("min", "median", "max"):
            told[name] = 7.77
    shown = [cell for cell in cells(page.made(other)) if cell[:1] not in {*"≤≥"}]
    found = {word for cell in shown for word in re.findall(r"\d[\d.,]*", cell)}
    assert found == {"7.77"}
    words = " ".join([prose.SHORT, prose.AIMS, prose.AGAIN, prose.NOT, *prose.CASES.values()])
    assert not re.search(r"\d\s?(ms|µs|s|MB|x|times)\b", words)


def test_the_page_has_every_case_every_aim_and_every_plot() -> None:
    assert [*bench.CASES] == [*prose.TITLES] == [*prose.CASES]
    assert [*RECORDED["cases"]] == [name for name in bench.CASES if name in RECORDED["cases"]]
    text = recording.PAGE.read_text(encoding="utf-8")
    for aim in AIMS:
        (row,) = [line for line in text.splitlines() if line.startswith(f"| {aim.what} |")]
        if aim.case not in RECORDED["cases"]:
            assert row.endswith("| not measured yet | |")
            continue
        reached = aim.is_reached(RECORDED["cases"])
        assert row.endswith("| yes |" if reached else "| **no** |")
    for name, _ in page.PLOTS.values():
        assert f"(performance/{name}.svg)" in text
        assert "<svg" in (recording.PLOTS / f"{name}.svg").read_text(encoding="utf-8")


def test_the_page_says_where_and_when_it_was_measured() -> None:
    assert re.search(
        r"^Measured on \d{4}-\d\d-\d\d at commit `[0-9a-f]{10}`: .* SQLite [\d.]+",
        recording.PAGE.read_text(encoding="utf-8"),
        re.MULTILINE,
    )


# --- recording ------------------------------------------------------------------------------------


def git(folder: Path, *words: str) -> None:
    who = ["-c", "user.name=somebody", "-c", "user.email=somebody@example.com"]
    subprocess.run(["git", *who, *words], cwd=folder, check=True, capture_output=True)


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A work tree without changes."""
    folder = tmp_path / "tree"
    (folder / "docs").mkdir(parents=True)
    (folder / "code.py").write_text("pass\n")
    (folder / "docs" / "performance.md").write_text("old\n")
    git(folder, "init", "--quiet")
    git(folder, "add", ".")
    git(folder, "commit", "--quiet", "--message", "first")
    return folder


def test_a_page_is_recorded_of_a_commit_and_not_of_changes(tree: Path) -> None:
    commit = recording.clean_commit(tree)
    assert re.fullmatch("[0-9a-f]{10}", commit)
    (tree / "docs" / "performance.md").write_text("made again\n")
    assert recording.clean_commit(tree) == commit
    (tree / "code.py").write_text("print()\n")
    with pytest.raises(Broken, match=r"(?s)has changes.*code\.py"):
        recording.clean_commit(tree)


def test_a_record_that_was_cut_short_goes_on_behind_what_it_has(
    tmp_path: Path, monkeypatch
) -> None:
    monkeypatch.setattr(recording, "disk", lambda: tmp_path)
    kept = recording.Kept("0123456789", 7)
    assert kept.find("size") is None
    kept.keep("size", [{"key": "bytes"}])
    assert recording.Kept("0123456789", 7).find("size") == [{"key": "bytes"}]
    assert recording.Kept("0123456789", 3).find("size") is None
    kept.forget()
    assert kept.find("size") is None


def test_a_record_without_the_peers_environment_is_refused(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(recording, "PEERS_PYTHON", tmp_path / "python")
    monkeypatch.setattr(recording, "clean_commit", lambda: "0123456789")
    monkeypatch.setattr(sys, "argv", ["bench", "--record"])
    with pytest.raises(Broken, match="python3 dev peers"):
        bench.main()


def test_a_case_is_recorded_by_itself_with_its_own_date_and_commit(
    tmp_path: Path, monkeypatch
) -> None:
    monkeypatch.setattr(recording, "JSON", tmp_path / "performance.json")
    older = {**RECORDED, "cases": {**RECORDED["cases"]}}
    tables = older["cases"].pop("size")
    recording.JSON.write_text(json.dumps(older))
    figures = {"machine": RECORDED["machine"], "rounds": 9, "cases": {"size": tables}}
    recording.add(figures, commit="0123456789", order=bench.CASES)
    now = recording.committed()
    assert now["cases"] == RECORDED["cases"]
    assert [*now["cases"]] == [*RECORDED["cases"]]
    assert now["commit"] == RECORDED["commit"]
    (line,) = [line for line in page.made(now).splitlines() if line.startswith("Measured by its")]
    assert re.search(r"on \d{4}-\d\d-\d\d at commit `0123456789`, in 9 rounds", line)
    assert "Measured by itself" not in page.made(older)
    elsewhere = {**figures, "machine": {**RECORDED["machine"], "cores": 1000}}
    with pytest.raises(Broken, match="measured elsewhere"):
        recording.add(elsewhere, commit="0123456789", order=bench.CASES)


def test_a_page_says_what_was_not_measured_yet() -> None:
    cases = {name: tables for name, tables in RECORDED["cases"].items() if name != "size"}
    text = page.made({**RECORDED, "cases": cases})
    assert re.search(r"\| bytes of the store .* \| ≤ 400 \| not measured yet \| \|", text)
    assert prose.TITLES["size"] not in text


def test_who_is_missing_is_said(monkeypatch, capsys, tmp_path: Path) -> None:
    monkeypatch.setattr(bench, "find", lambda: ([], ["DBOS: `python3 dev peers` brings it"]))
    monkeypatch.setattr(bench, "measure", lambda *_, **__: {})
    monkeypatch.setattr(sys, "argv", ["bench", "size", "--json", str(tmp_path / "figures.json")])
    bench.main()
    assert "left out: DBOS: `python3 dev peers` brings it\n" in capsys.readouterr().out
    figures = json.loads((tmp_path / "figures.json").read_text())
    assert figures["missing"] == ["DBOS: `python3 dev peers` brings it"]
    made = page.made({**RECORDED, **{"missing": figures["missing"]}})
    assert "Left out: DBOS: `python3 dev peers` brings it" in made


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (["speed"], "there is no case 'speed'"),
        (["--rounds", "0"], "--rounds must be 1 or more"),
        (["--record", "--quick"], "--record measures in full"),
    ],
)
def test_options_that_cannot_be_right_are_refused(words, complaint, capsys) -> None:
    with pytest.raises(SystemExit):
        bench.options(words)
    assert complaint in capsys.readouterr().err


def test_files_in_memory_are_not_taken_for_a_disk(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    monkeypatch.setattr(scope, "file_system", lambda _: "ext4")
    assert scope.disk() == tmp_path
    monkeypatch.setattr(scope, "file_system", lambda _: "tmpfs")
    with pytest.raises(Broken, match="TMPDIR"):
        scope.disk()


def test_a_side_has_a_users_environment(monkeypatch) -> None:
    monkeypatch.setenv("KITARU_DURABILITY", "normal")
    monkeypatch.setenv("PYTHONDONTWRITEBYTECODE", "1")
    found = worker.environment(KITARU_HOME="here")
    assert "PYTHONDONTWRITEBYTECODE" not in found
    assert {key: value for key, value in found.items() if key.startswith("KITARU_")} == {
        "KITARU_HOME": "here"
    }


# --- the comparison -------------------------------------------------------------------------------


def compared(now: float, *, better: str = "less", spread: float = 1.0) -> list[str]:
    """The lines for a ratio that was committed as 2, in rounds that differ by so much."""

    def tables(low: float, middle: float, high: float) -> dict[str, Any]:
        ratio = {"min": low, "median": middle, "max": high}
        sides = {"bare": {"median": 1}, "Kitaru": {"median": 1, "ratio": ratio}}
        return {"size": [{"key": "bytes", "better": better, "unit": "B", "sides": sides}]}

    committed = tables(2 - spread / 2, 2, 2 + spread / 2)
    return [*comparing.lines(tables(now, now, now), committed)]


@pytest.mark.parametrize(
    ("now", "options", "marked"),
    [
        (1, {}, False),
        (3, {}, False),
        (3.1, {}, True),
        (1.1, {"better": "more"}, False),
        (0.9, {"better": "more"}, True),
        (9, {"better": "more"}, False),
        (2.1, {"spread": 0.0}, False),
        (2.3, {"spread": 0.0}, True),
    ],
)
def test_a_ratio_is_marked_when_it_is_worse_by_more_than_rounds_differ(now, options, marked):
    assert (comparing.MARK in compared(now, **options)[0]) is marked


def test_the_comparison_shows_both_and_sums_up() -> None:
    line, summary = compared(4)
    assert re.search(r"size bytes +Kitaru +4 x +committed 2 \(1\.5 to 2\.5\)", line)
    assert summary == "1 ratios compared with the committed ones, 1 marked as worse"


def test_what_was_not_recorded_is_not_compared() -> None:
    now = {"size": [{"key": "other", "better": "less", "unit": "B", "sides": {"Kitaru": {}}}]}
    (summary,) = comparing.lines(now, {})
    assert summary.startswith("0 ratios")
