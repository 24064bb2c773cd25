"""Cached checkpoints: who decides, what stands for a call and what never does, what is shown."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import kitaru
from kitaru import KitaruClient, cli
from kitaru.errors import KitaruExecutionError
from kitaru.models import CallStatus
from tests import drives, support, timed
from tests.support import query


@pytest.fixture(autouse=True)
def project(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project folder without settings, and a store of its own."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("KITARU_CACHE", raising=False)
    return tmp_path


WORK = """
@checkpoint(cache=True)
def work(n: int) -> str:
    ran.append(n)
    kitaru.log(cost=n)
    kitaru.save("draft", [n], type="context", tags=["t"])
    return f"result {n}"

@flow
def agent(numbers: list) -> list:
    return [work(n) for n in numbers]
"""


class Case:
    """A flow made from text, and what its checkpoints ran."""

    def __init__(self, source: str = WORK, **names: Any) -> None:
        self.ran: list[Any] = []
        self.flow = drives.load(source, ran=self.ran, **names)

    def run(self, *inputs: Any, **options: Any) -> tuple[Any, list[Any]]:
        """What a run gives, and what it really ran."""
        self.ran.clear()
        self.handle = self.flow.run(*inputs, **options)
        return self.handle.wait(20), [*self.ran]


def changed(old: str, new: str, source: str = WORK) -> Case:
    assert old in source
    return Case(source.replace(old, new))


# --- who decides ----------------------------------------------------------------------------------

LAYERS = ["checkpoint", "run", "flow", "configure", "environment", "project"]


@pytest.mark.parametrize("says", [True, False])
@pytest.mark.parametrize("decides", range(len(LAYERS)), ids=LAYERS)
def test_the_nearest_layer_that_says_something_decides(
    decides: int, says: bool, project: Path, monkeypatch: pytest.MonkeyPatch
):
    """Every layer below the one that decides says the opposite."""
    said = [None] * decides + [says] + [not says] * (len(LAYERS) - decides - 1)
    at = dict(zip(LAYERS, said, strict=True))
    source = WORK.replace("cache=True", f"cache={at['checkpoint']}")
    case = Case(source.replace("@flow", f"@flow(cache={at['flow']})"))
    options = {} if at["run"] is None else {"cache": at["run"]}
    if at["environment"] is not None:
        monkeypatch.setenv("KITARU_CACHE", str(at["environment"]))
    if at["project"] is not None:
        text = f"[tool.kitaru]\ncache = {str(at['project']).lower()}\n"
        (project / "pyproject.toml").write_text(text)
    kitaru.configure(cache=at["configure"])
    try:
        case.run([1], **options)
        assert case.run([1], **options)[1] == ([] if says else [1])
    finally:
        kitaru.configure(cache=None)


def test_nothing_is_cached_where_nobody_asks_for_it():
    case = changed("(cache=True)", "")
    case.run([1])
    assert case.run([1]) == (["result 1"], [1])


# --- hits -----------------------------------------------------------------------------------------


def test_a_hit_is_recorded_with_all_that_the_earlier_call_left():
    case = Case()
    assert case.run([1]) == (["result 1"], [1])
    source = case.handle.exec_id
    assert case.run([1]) == (["result 1"], [])
    (call,) = drives.get(case.handle).checkpoints
    assert (call.status, call.attempts, call.failure) == (CallStatus.COMPLETED, (), None)
    assert call.cached_from == call.original_call_id == f"{source}/work"
    assert call.metadata == {"cost": 1}
    saved, result = KitaruClient().artifacts.list(case.handle.exec_id)
    assert (saved.name, saved.kind, saved.metadata["tags"], saved.load()) == (
        *("draft", "context", ["t"]),
        [1],
    )
    assert (result.artifact_id, result.load()) == (f"{case.handle.exec_id}/work", "result 1")


def test_an_equal_call_of_the_same_execution_is_a_hit():
    case = Case()
    assert case.run([1, 2, 1]) == (["result 1", "result 2", "result 1"], [1, 2])
    calls = drives.get(case.handle).checkpoints
    assert [call.cached_from for call in calls] == [None, None, f"{case.handle.exec_id}/work"]


def test_a_call_of_another_process_is_a_hit(home: Path):
    program = "from tests import timed; print(timed.shares.run(3).exec_id)"
    (exec_id,) = support.run_python(home, program)
    handle = timed.shares.run(3)
    assert handle.wait(20) == "shared 3"
    assert drives.get(handle).checkpoints[0].cached_from == f"{exec_id}/shared"
    assert support.effects(home, exec_id) == ["shared"]
    assert support.effects(home, handle.exec_id) == []


def test_a_recorded_hit_is_what_a_retry_and_a_replay_give(home: Path):
    case = Case()
    case.run([1])
    case.run([1, 2])
    again = case.flow.replay(case.handle.exec_id, from_="work#2")
    assert again.wait(20) == ["result 1", "result 2"]
    assert case.ran == [2]
    assert drives.get(again).checkpoints[1].cached_from == f"{case.handle.exec_id}/work#2"


def test_a_large_result_in_chunks_is_a_hit(home: Path):
    case = changed('f"result {n}"', 'f"result {n}" * 500_000')
    first = case.run([1])[0]
    assert case.run([1]) == (first, [])
    chunks = "SELECT DISTINCT owner FROM chunks WHERE owner LIKE 'call:%'"
    assert len(query(home, chunks)) == 2


def test_both_the_sdk_and_the_command_line_show_a_hit(capsys: pytest.CaptureFixture[str]):
    case = Case()
    case.run([1])
    source = f"{case.handle.exec_id}/work"
    case.run([1])
    cli.main(["executions", "get", case.handle.exec_id, "-o", "json"])
    item = json.loads(capsys.readouterr().out)["item"]
    assert item["checkpoints"][0]["cached_from"] == source
    cli.main(["executions", "get", case.handle.exec_id])
    assert f"work (completed, cached from {source})" in capsys.readouterr().out


# --- misses ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('f"result {n}"', 'f"other {n}"'),
        ("(cache=True)", '(cache=True, serializer="pickle")'),
        ("(cache=True)", '(cache=True, name="labour")'),
        ("work(", "task("),
    ],
    ids=["source", "serializer", "name", "function"],
)
def test_a_checkpoint_that_is_no_longer_the_same_runs(old: str, new: str):
    Case().run([1])
    assert changed(old, new).run([1])[1] == [1]


def test_other_inputs_and_another_module_are_no_hit():
    Case().run([1])
    assert Case().run([2])[1] == [2]
    assert Case().run([True])[1] == [True]
    assert Case(__name__="another").run([1])[1] == [1]
    assert Case().run([1])[1] == []


def test_a_failed_call_is_never_a_hit():
    case = changed("return f", "if len(ran) < 2: raise ValueError(n)\n    return f")
    drives.error_of(case.flow.run([1]))
    case.ran.clear()
    drives.error_of(case.flow.run([1]))
    assert case.ran == [1]


def test_an_override_and_what_a_replay_took_over_never_stand_for_a_call():
    case = changed("cache=True", "cache=None")
    case.run([1, 2])
    overridden = case.flow.replay(
        case.handle.exec_id, from_="work#2", overrides={"checkpoint.work#2": "made up"}
    )
    assert overridden.wait(20) == ["result 1", "made up"]
    assert case.run([1, 2], cache=True) == (["result 1", "result 2"], [1, 2])


def test_a_hit_is_not_itself_a_source():
    case = Case()
    case.run([1])
    source = f"{case.handle.exec_id}/work"
    case.run([1])
    case.run([1])
    assert drives.get(case.handle).checkpoints[0].cached_from == source


TYPED = """
from dataclasses import dataclass

@dataclass
class Doc:
    title: str

@checkpoint(cache=True)
def work(n: int) -> Doc:
    ran.append(n)
    return make(Doc)

@flow
def agent(numbers: list) -> list:
    return [vars(work(n)) for n in numbers]
"""


def test_a_result_that_the_declared_type_no_longer_takes_is_no_hit():
    def make(cls: Any) -> Any:
        return cls(*["x"] * len(cls.__annotations__))

    assert Case(TYPED, make=make).run([1]) == ([{"title": "x"}], [1])
    wider = TYPED.replace("title: str", "title: str\n    body: str")
    assert Case(wider, make=make).run([1]) == ([{"title": "x", "body": "x"}], [1])


@pytest.mark.parametrize("table", ["calls", "artifacts"])
def test_a_damaged_source_is_told_and_never_a_wrong_value(home: Path, table: str):
    case = Case()
    case.run([1])
    column = "result" if table == "calls" else "data"
    query(home, f"UPDATE {table} SET {column} = CAST('\"damaged\"' AS BLOB)")
    case.ran.clear()
    error = drives.error_of(case.flow.run([1]))
    assert isinstance(error, KitaruExecutionError)
    assert error.failure_origin == "backend"
    assert "damaged" in str(error)
    assert case.ran == []
