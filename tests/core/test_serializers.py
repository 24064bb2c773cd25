"""Serializers: what each records and reads, and that nobody unpickles unasked."""

from __future__ import annotations

import json
import os
import pickle
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

import kitaru
from kitaru import KitaruClient, checkpoint, codec, flow, serializers
from kitaru.errors import KitaruSerializationError, KitaruUsageError
from kitaru.serializers import JSON, PICKLE
from tests.drives import error_of
from tests.support import ROOT, Tripwire, plant_pickle

NONE = codec.NOTHING_DECLARED


class Shape:
    """What the codec cannot hold: a class of no kind it knows."""

    def __init__(self, *sides: float) -> None:
        self.sides = sides

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Shape) and other.sides == self.sides


class OnlyOut:
    """Pickles, and does not load."""

    def __reduce__(self) -> tuple[Any, ...]:
        return int, ("no number",)


class Raises:
    """Does not pickle."""

    def __getstate__(self) -> Any:
        raise OSError("the disk is gone")


def dumped(value: object) -> bytes:
    return PICKLE.dump(value, types=NONE, path="result")


@pytest.mark.parametrize("value", [Shape(1, 2), [Shape(3)], 7, {"$": "pickle"}, None])
def test_what_pickles_comes_back(value: object) -> None:
    assert PICKLE.load(dumped(value), types=NONE, path="result") == value


def test_references_that_are_shared_stay_shared() -> None:
    shared = Shape(1)
    one, other = PICKLE.load(dumped([shared, shared]), types=NONE, path="result")
    assert one is other


def test_json_is_the_codec() -> None:
    value = {"a": (1, {2})}
    data = JSON.dump(value, types=NONE, path="result")
    assert data == codec.encode(value)
    assert JSON.load(data, types=NONE, path="result") == value
    with pytest.raises(KitaruSerializationError, match=r"^result is a .*Shape"):
        JSON.dump(Shape(), types=NONE, path="result")


def test_a_serializer_has_one_of_two_names() -> None:
    assert (serializers.named("json", owner="x"), serializers.named("pickle", owner="x")) == (
        JSON,
        PICKLE,
    )
    for bad in ("Pickle", "", None, 1, ["json"], JSON):
        with pytest.raises(KitaruUsageError, match=r"^Checkpoint 'a': .*use json or pickle\.$"):
            serializers.named(bad, owner="Checkpoint 'a'")


def test_a_pickle_is_recorded_as_json_that_shows_its_size() -> None:
    data = dumped(Shape(1, 2))
    record = json.loads(data.decode())
    assert sorted(record) == ["$", "v"]
    assert record["$"] == "pickle"
    assert codec.plain(data) == {"pickle": len(pickle.dumps(Shape(1, 2), protocol=5))}


def test_a_pickle_is_refused_by_all_that_read_without_leave(tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    data = codec.wrap_pickle(pickle.dumps(Tripwire(mark)))
    for read in (
        codec.decode,
        lambda data: JSON.load(data, types=NONE, path="value"),
        lambda data: serializers.reader(allow_pickle="no").load(data, types=NONE, path="value"),  # type: ignore[arg-type]
    ):
        with pytest.raises(KitaruSerializationError, match=r"^value is recorded as a pickle \(\d+"):
            read(data)
    with pytest.raises(KitaruSerializationError, match=r'^value\["a"\]\[0\] is recorded as a pi'):
        codec.decode(b'{"a":[' + data + b"]}")
    codec.plain(data)
    assert not mark.exists()


def test_a_dict_that_looks_like_a_pickle_is_a_dict() -> None:
    value = {"$": "pickle", "v": "gAVLAS4="}
    data = codec.encode(value)
    assert codec.pickle_of(data) is None
    assert codec.decode(data) == PICKLE.load(data, types=NONE, path="x") == value
    assert codec.plain(data) == value


def test_a_record_of_the_codec_is_read_under_either_choice() -> None:
    data = codec.encode((1, "two"))
    assert PICKLE.load(data, types=NONE, path="result") == (1, "two")


@pytest.mark.parametrize(
    ("value", "says"),
    [
        (threading.Lock(), r"cannot be pickled: TypeError: cannot pickle '_thread.lock' object\. "),
        ([lambda: 0], r"cannot be pickled: PicklingError: .*lambda"),
        (Raises(), r"cannot be pickled: OSError: the disk is gone\. "),
        (OnlyOut(), r"was pickled, but would not load back: ValueError: .*no number"),
    ],
    ids=["lock", "lambda", "raises", "only out"],
)
def test_what_does_not_pickle_is_refused_with_the_way_out(value: object, says: str) -> None:
    with pytest.raises(
        KitaruSerializationError,
        match=f"^result {says}.*Leave that part out.*at the top of a module",
    ):
        dumped(value)


def test_a_pickle_over_the_size_limit_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(codec, "MAX_VALUE_BYTES", 1000)
    dumped("x" * 500)
    with pytest.raises(KitaruSerializationError, match=r"^result is \d+ bytes .*MAX_VALUE_BYTES"):
        dumped("x" * 900)


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b'{"$":"pickle","v":"gA"}', "is a damaged pickle"),
        (b'{"$":"pickle","v":"\xff"}', "is a damaged pickle"),
        (b'{"$":"pickle","v":""}', "no longer loads: EOFError"),
        (codec.wrap_pickle(b"cmissing_module\nThing\n."), "no longer loads: ModuleNotFoundError"),
        (b'{"$":"pickle", "v":"gAVLAS4="}', "is recorded as a pickle"),
        (b'{"$":"pickle","v":1}', "is recorded|cannot be rebuilt"),
    ],
)
def test_a_damaged_pickle_is_refused_with_the_reason(data: bytes, says: str) -> None:
    with pytest.raises(KitaruSerializationError, match=f"^result .*({says})"):
        PICKLE.load(data, types=NONE, path="result")


SCRIPT = """
from dataclasses import dataclass
from kitaru import codec
from kitaru.serializers import PICKLE

@dataclass
class Job:
    n: object

class Plain: ...

def types():
    return codec.declared_types(Job)

if __name__ == "__main__":
    print(PICKLE.dump(Job(1), types=types(), path="result").decode())
    try:
        PICKLE.dump(Job(Plain()), types=types(), path="result")
    except codec.KitaruSerializationError as exc:
        print(exc)
"""


def test_a_class_of_a_script_is_found_where_it_is_declared_and_refused_elsewhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "script_with_classes.py").write_text(SCRIPT)
    record, refusal = subprocess.run(
        [sys.executable, "script_with_classes.py"],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(ROOT / "core")},
        capture_output=True,
        text=True,
        check=True,
    ).stdout.splitlines()
    assert refusal.startswith("result was pickled, but would not load back: ")
    assert "Plain belongs to the script that runs" in refusal
    monkeypatch.syspath_prepend(str(tmp_path))
    import script_with_classes  # type: ignore[import-not-found]

    types = script_with_classes.types()
    job = PICKLE.load(record.encode(), types=types, path="result")
    assert job == script_with_classes.Job(1)


# --- digests of arguments -------------------------------------------------------------------------

DIGESTS = pytest.mark.parametrize(
    "digest", [serializers.inputs_digest, serializers.cache_digest], ids=["inputs", "cache"]
)


@DIGESTS
def test_arguments_the_codec_holds_count_the_same_under_either_choice(digest: Any) -> None:
    arguments = {"a": 1, "b": (2, {"c": 3})}
    expected = codec.fingerprint(arguments)
    assert digest(arguments, serializer=JSON, path="step") == expected
    assert digest(arguments, serializer=PICKLE, path="step") == expected


@DIGESTS
def test_json_refuses_an_argument_the_codec_cannot_hold(digest: Any) -> None:
    with pytest.raises(KitaruSerializationError, match=r'^step\["b"\] is a .*Shape'):
        digest({"a": 1, "b": Shape()}, serializer=JSON, path="step")


def test_an_argument_that_only_pickles_counts_by_its_type_in_a_call_and_by_value_in_a_cache() -> (
    None
):
    def digests(**arguments: object) -> tuple[bytes, bytes]:
        return (
            serializers.inputs_digest(arguments, serializer=PICKLE, path="step"),
            serializers.cache_digest(arguments, serializer=PICKLE, path="step"),
        )

    inputs, cached = digests(a=Shape(1), n=1)
    assert digests(a=Shape(1), n=1) == (inputs, cached)
    assert digests(n=1, a=Shape(1)) == (inputs, cached)
    other_inputs, other_cached = digests(a=Shape(2), n=1)
    assert other_inputs == inputs
    assert other_cached != cached
    for other in ({"a": Shape(1), "n": 2}, {"a": Tripwire(Path()), "n": 1}, {"a": "Shape", "n": 1}):
        assert not {inputs, cached} & set(digests(**other))


def test_an_argument_that_does_not_pickle_counts_in_a_call_and_is_refused_for_a_cache() -> None:
    arguments = {"lock": threading.Lock()}
    serializers.inputs_digest(arguments, serializer=PICKLE, path="step")
    with pytest.raises(KitaruSerializationError, match=r"^step\['lock'\] cannot be pickled"):
        serializers.cache_digest(arguments, serializer=PICKLE, path="step")


# --- reading what executions recorded -------------------------------------------------------------


@checkpoint
def made() -> int:
    kitaru.save("note", 1)
    return 2


@flow
def making() -> int:
    return made()


@pytest.fixture
def planted(home: Path, tmp_path: Path) -> tuple[str, Path]:
    """An execution whose values are pickles now, and the file they leave behind when read."""
    handle = making.run()
    handle.wait(20)
    plant_pickle(home, handle.exec_id, tmp_path / "mark")
    return handle.exec_id, tmp_path / "mark"


@pytest.mark.parametrize("name", ["made", "note"])
def test_load_reads_a_pickle_only_where_that_is_allowed(
    planted: tuple[str, Path], name: str
) -> None:
    exec_id, mark = planted

    def loading(**options: Any) -> Any:
        @checkpoint
        def step() -> Any:
            return kitaru.load(exec_id, name, **options)

        return flow(name="body")(lambda: step()).run()

    assert "allow_pickle=True" in str(error_of(loading()))
    assert not mark.exists()
    assert loading(allow_pickle=True).wait(20) == 0
    assert mark.exists()


@pytest.mark.parametrize("rest", ["made", "made/note"])
def test_a_reference_loads_a_pickle_only_where_that_is_allowed(
    planted: tuple[str, Path], rest: str
) -> None:
    exec_id, mark = planted
    ref = KitaruClient().artifacts.get(f"{exec_id}/{rest}")
    with pytest.raises(KitaruSerializationError, match=rf"^{exec_id}/{rest} .*allow_pickle=True"):
        ref.load()
    assert not mark.exists()
    assert ref.load(allow_pickle=True) == 0
    assert mark.exists()


def test_what_the_client_shows_of_an_execution_is_never_unpickled(
    planted: tuple[str, Path],
) -> None:
    exec_id, mark = planted
    shown = KitaruClient().executions.get(exec_id)
    assert list(shown.result) == list(shown.inputs) == ["pickle"]
    with pytest.raises(KitaruSerializationError):
        KitaruClient().artifacts.get(f"{exec_id}/made").load(int)
    assert not mark.exists()
