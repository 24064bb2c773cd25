"""Executions as files: what comes out is what is there, and what comes in is history."""

from __future__ import annotations

import contextlib
import gzip
import json
import os
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import kitaru
from kitaru import KitaruClient, codec, config, log_store, render
from kitaru.errors import (
    KitaruBackendError,
    KitaruCorruptionError,
    KitaruError,
    KitaruNotFoundError,
    KitaruStateError,
    KitaruUsageError,
)
from kitaru.models import Execution
from kitaru.store import schema, transfer
from tests import drives
from tests.support import dump, forget, plant_pickle, query

LARGE = config.EXPORT_VALUE_BYTES + 1
#: What an imported execution has instead of its own.
MARKED = ("frozen_execution_spec",)


@kitaru.checkpoint(retries=1, retry_delay=0.001, cache=True)
def look(key: str) -> dict[str, Any]:
    call = kitaru.current_checkpoint()
    assert call is not None
    print(f"looking\x1b[31m with {key}")
    kitaru.log(api_key="sk-logged", looked=1)
    kitaru.save("token", "sk-saved")
    kitaru.save("long", "y" * LARGE)
    return {"password": "sk-result", "found": (1, b"two")}


@kitaru.checkpoint
def fails() -> None:
    raise ValueError("no \x1b[0m way")


@kitaru.flow(tags=["one", "two"])
def whole(api_key: str) -> dict[str, Any]:
    found = look("open")
    with contextlib.suppress(ValueError):
        fails()
    kitaru.wait(name="go", question="Go?\x1b[2J", schema=str, timeout=0, metadata={"secret": "m"})
    return found


@kitaru.checkpoint
def loads(exec_id: str) -> Any:
    return kitaru.load(exec_id, "look")


@kitaru.flow
def loading(exec_id: str) -> Any:
    return loads(exec_id)


@pytest.fixture
def waiting(home: Path) -> str:
    handle = whole.run(api_key="sk-input")
    drives.error_of(handle)
    return handle.exec_id


@pytest.fixture
def done(waiting: str) -> str:
    drives.answer(waiting, "go", "now")
    drives.again("resume", whole, waiting).wait()
    return waiting


@pytest.fixture
def other(tmp_path: Path) -> Any:
    """Another store."""
    path = tmp_path / "other"
    yield KitaruClient(home=path)
    forget(path)


def seen(client: KitaruClient, exec_id: str) -> dict[str, Any]:
    """Everything a person can see of an execution, but where it was imported from."""
    found = client.executions.get(exec_id)
    assert isinstance(found, Execution)
    shown = render.full(found)
    return {
        "execution": {key: value for key, value in shown.items() if key not in MARKED},
        "logs": [render.log_entry(line) for line in client.executions.logs(exec_id)],
        "artifacts": [render.artifact_value(client, ref) for ref in found.artifacts],
        "runner": [render.log_entry(e) for e in client.executions.logs(exec_id, source="runner")],
    }


def exported(exec_id: str, path: Path, **options: bool) -> Path:
    KitaruClient().executions.export(exec_id, path, **options)
    return path


def text_of(path: Path) -> str:
    return gzip.decompress(path.read_bytes()).decode()


def test_raw_values_come_back_as_they_were(done: str, other: KitaruClient, tmp_path: Path):
    file = exported(done, tmp_path / "file", raw=True)
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    imported = other.executions.import_file(file)
    assert (imported.exec_ids, imported.already, imported.redacted) == ((done,), (), False)
    here = KitaruClient()
    assert seen(other, done) == seen(here, done)
    for ref in here.executions.get(done).artifacts:
        assert other.artifacts.read(ref.artifact_id) == here.artifacts.read(ref.artifact_id)
    assert other.store.examine(full=True) == []
    tags = "SELECT tag FROM execution_tags ORDER BY tag"
    assert query(other.home.path, tags) == [("one",), ("two",)]


def test_what_is_exported_for_others_is_what_may_be_shown(
    done: str, other: KitaruClient, tmp_path: Path
):
    file = exported(done, tmp_path / "file")
    text = text_of(file)
    assert "sk-" not in text
    assert "\x1b" not in text
    assert "\\u001b" not in text
    assert "yyyy" not in text
    other.executions.import_file(file)
    here, there = seen(KitaruClient(), done), seen(other, done)
    # Masked and left out, values are of other sizes; each is what may be shown of it.
    for one, two in zip(here.pop("artifacts"), there.pop("artifacts"), strict=True):
        if one["name"] == "long":
            assert two["value"]["omitted"]["bytes"] == LARGE + 2
        else:
            assert (two["name"], two["value"]) == (one["name"], one["value"])
    for each in (here["execution"], there["execution"]):
        assert len(each.pop("artifacts")) == 3
        assert all(call.pop("artifacts") is not None for call in each["checkpoints"])
    assert there == here
    assert other.store.examine(full=True) == []


def test_registered_secrets_are_masked_in_tags_too(home: Path, other: KitaruClient, tmp_path: Path):
    kitaru.create_secret("ours", {"A": "sk-first-one", "B": "sk-second-one"})
    kitaru.flow(
        lambda: tagging(), name="tagged", tags=["sk-first-one", "sk-second-one"]
    ).run().wait()
    file = exported("latest", tmp_path / "file")
    assert "sk-" not in text_of(file)
    other.executions.import_file(file)
    (found,) = other.executions.list(tags=["[redacted]"])
    assert found.tags == ("[redacted]", "[redacted]")


def test_every_column_is_exported_or_left_out_on_purpose(home: Path):
    """A new column has to be decided on: what other rows give again is left out."""
    KitaruClient().executions.list()
    exported_columns = {
        table: {
            row[1]
            for row in query(home, f"PRAGMA table_info({table})")
            if row[1] not in transfer._LEFT_OUT
        }
        for table in transfer.TABLES
    }
    words = {
        "executions": "exec_id flow_id flow_name status status_reason created_at started_at "
        "ended_at stack_name original_exec_id parent_exec_id tags metadata failure spec "
        "inputs inputs_size inputs_digest result result_size result_digest",
        "calls": "seq call_id kind type status settled started_at ended_at inputs_digest "
        "inputs_shown parents metadata attempts failure original_call_id cached_from result_size "
        "result_digest result lane position ended_order child_exec_id",
        "waits": "seq call_id name question schema metadata status created_at resolved_at rejected "
        "answer answer_digest",
        "artifacts": "seq position name kind tags created_at size digest data",
        "logs": "call_id attempt at level source message module filename lineno",
    }
    assert exported_columns == {table: {*names.split()} for table, names in words.items()}


def test_no_export_unpickles(done: str, other: KitaruClient, tmp_path: Path, home: Path):
    plant_pickle(home, done, tmp_path / "mark")
    for raw in (False, True):
        exported(done, tmp_path / "file", raw=raw, force=True)
    other.executions.import_file(tmp_path / "file")
    other.executions.get(done)
    assert not (tmp_path / "mark").exists()


def test_an_imported_execution_is_history(done: str, other: KitaruClient, tmp_path: Path):
    other.executions.import_file(exported(done, tmp_path / "file"))
    query(other.home.path, "UPDATE executions SET status = 'failed', failure = '{}'")
    actions: list[Callable[[], object]] = [
        lambda: other.executions.retry(done),
        lambda: other.executions.replay(done, "look"),
    ]
    for act in actions:
        with pytest.raises(KitaruStateError, match=f"{done} was imported from a file"):
            act()
    with pytest.raises(KitaruStateError, match="it is failed"):
        other.executions.resume(done)
    assert query(other.home.path, "SELECT count(*) FROM calls WHERE cache_key NOT NULL") == [(0,)]


def test_nothing_in_this_process_goes_on_from_an_import_either(
    done: str, tmp_path: Path, home: Path
):
    file = exported(done, tmp_path / "file")
    KitaruClient().executions.delete(done)
    KitaruClient().executions.import_file(file)
    with pytest.raises(KitaruStateError, match="was imported from a file"):
        whole.replay(done, from_="look")
    error = drives.error_of(loading.run(exec_id=done))
    assert "secrets masked" in str(error)
    query(home, "UPDATE executions SET status = 'failed' WHERE exec_id = ?", done)
    with pytest.raises(KitaruStateError, match="was imported from a file"):
        drives.again("retry", whole, done)


def test_an_execution_that_had_not_ended_is_there_as_cancelled(
    waiting: str, other: KitaruClient, tmp_path: Path
):
    other.executions.import_file(exported(waiting, tmp_path / "file"))
    found = other.executions.get(waiting)
    assert (found.status, found.status_reason) == (
        "cancelled",
        "It was waiting when it was exported.",
    )
    assert other.executions.pending_waits(waiting) == []
    assert other.store.examine(full=True) == []


def test_the_same_again_changes_nothing_and_another_is_refused(
    done: str, other: KitaruClient, tmp_path: Path, home: Path
):
    for raw in (False, True):
        file = exported(done, tmp_path / f"file{raw}", raw=raw)
        before = dump(home)
        again = KitaruClient().executions.import_file(file)
        assert (again.exec_ids, again.already) == ((), (done,))
        assert dump(home) == before
    other.executions.import_file(tmp_path / "fileFalse")
    before = dump(other.home.path)
    assert other.executions.import_file(tmp_path / "fileFalse").already == (done,)
    with pytest.raises(KitaruStateError, match=f"Cannot import execution {done}"):
        other.executions.import_file(tmp_path / "fileTrue")
    assert dump(other.home.path) == before


def test_several_come_together_or_not_at_all(
    done: str, other: KitaruClient, tmp_path: Path, home: Path
):
    new = loading.run(exec_id=done)
    new.wait()
    file = exported(new.exec_id, tmp_path / "one", raw=True)
    other.executions.import_file(file)
    query(other.home.path, "UPDATE executions SET spec = json_set(spec, '$.imported.digest', '')")
    made = KitaruClient().executions.export([done, new.exec_id, done], tmp_path / "both")
    assert made.exec_ids == (done, new.exec_id)
    with pytest.raises(KitaruStateError, match=new.exec_id):
        other.executions.import_file(tmp_path / "both")
    assert [each.exec_id for each in other.executions.list()] == [new.exec_id]


def rewritten(change: Callable[[list[Any]], Any]) -> Callable[[Path], None]:
    """A change of the documents of a file; its end is made to fit."""

    def harm(path: Path) -> None:
        documents = [json.loads(line) for line in text_of(path).splitlines()]
        change(documents)
        body = [json.dumps(each, separators=(",", ":")).encode() + b"\n" for each in documents[:-1]]
        digest = b""
        for line in body[1:]:
            digest = codec.digest(digest + line)
        end = {"end": len(body) - 1, "digest": digest.hex()}
        path.write_bytes(gzip.compress(b"".join([*body, json.dumps(end).encode() + b"\n"])))

    return harm


def changed(table: str, **columns: Any) -> Callable[[Path], None]:
    def change(documents: list[Any]) -> None:
        row = next(each["row"] for each in documents[1:-1] if each["table"] == table)
        row |= columns

    return rewritten(change)


@pytest.mark.parametrize(
    ("harm", "error", "message"),
    [
        (lambda path: path.unlink(), KitaruUsageError, "There is no file"),
        (lambda path: path.write_text("hello"), KitaruUsageError, "is no file of"),
        (lambda path: path.write_bytes(b""), KitaruUsageError, "is no file of"),
        (
            lambda path: path.write_bytes(gzip.compress(b"hello\n")),
            KitaruUsageError,
            "is no file of",
        ),
        (
            lambda path: path.write_bytes(path.read_bytes()[:-20]),
            KitaruCorruptionError,
            "cut off or damaged",
        ),
        (
            lambda path: path.write_bytes(
                gzip.compress(b"".join(gzip.decompress(path.read_bytes()).splitlines(True)[:-1]))
            ),
            KitaruCorruptionError,
            "cut off or damaged",
        ),
        (
            lambda path: path.write_bytes(
                gzip.compress(gzip.decompress(path.read_bytes()).replace(b'"look"', b'"lo_k"'))
            ),
            KitaruCorruptionError,
            "cut off or damaged",
        ),
        (rewritten(lambda all_: all_[0].update(version=2)), KitaruBackendError, "newer Kitaru"),
        (
            rewritten(lambda all_: all_[0].update(schema=schema.SCHEMA_VERSION + 1)),
            KitaruBackendError,
            "newer Kitaru",
        ),
        (
            rewritten(lambda all_: all_[1].update(table="sqlite_master")),
            KitaruCorruptionError,
            "cut off or damaged",
        ),
        (changed("executions", exec_id="../../x"), KitaruCorruptionError, "which is no id"),
        (changed("executions", status="odd"), KitaruCorruptionError, "rows of"),
        (changed("executions", inputs="{"), KitaruCorruptionError, "rows of"),
        (changed("executions", spec=None), KitaruCorruptionError, "rows of"),
        (changed("executions", flow_name=None), KitaruCorruptionError, "rows of"),
        (changed("executions", created_at=10**30), KitaruCorruptionError, "rows of"),
        (changed("executions", tags={"a": 1}), KitaruCorruptionError, "rows of"),
        (changed("calls", what="odd"), KitaruCorruptionError, "no column 'what'"),
        (changed("calls", status="odd"), KitaruCorruptionError, "rows of"),
        (changed("calls", result=3), KitaruCorruptionError, "rows of"),
        (changed("artifacts", created_at="x"), KitaruCorruptionError, "rows of"),
        (changed("calls", result="x"), KitaruCorruptionError, "rows of"),
        (changed("calls", metadata="x"), KitaruCorruptionError, "rows of"),
        (changed("waits", schema="x"), KitaruCorruptionError, "rows of"),
        (changed("waits", metadata="x"), KitaruCorruptionError, "rows of"),
        (changed("waits", answer="x"), KitaruCorruptionError, "rows of"),
        (changed("artifacts", tags="x"), KitaruCorruptionError, "rows of"),
        (changed("logs", at=[1]), KitaruCorruptionError, "rows of"),
        (changed("executions", metadata="[" * 100_000), KitaruCorruptionError, "rows of"),
        (
            rewritten(lambda all_: all_[0].pop("redacted")),
            KitaruCorruptionError,
            "cut off or damaged",
        ),
    ],
)
def test_a_file_that_is_not_whole_and_ours_is_refused(
    done: str,
    other: KitaruClient,
    tmp_path: Path,
    harm: Callable[[Path], None],
    error: type[KitaruError],
    message: str,
):
    other.executions.list()
    before = dump(other.home.path)
    file = exported(done, tmp_path / "file")
    harm(file)
    with pytest.raises(error, match=message):
        other.executions.import_file(file)
    assert dump(other.home.path) == before


def test_a_file_that_is_too_large_is_told_as_that(
    done: str, other: KitaruClient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    file = exported(done, tmp_path / "file")
    monkeypatch.setattr("kitaru.client.transfer._MAX_BYTES", 100)
    with pytest.raises(KitaruUsageError, match="too much to import"):
        other.executions.import_file(file)
    assert other.executions.list() == []


def test_a_damaged_table_is_told_and_not_exported(done: str, home: Path, tmp_path: Path):
    query(home, "ALTER TABLE calls RENAME COLUMN result_size TO result_sixe")
    with pytest.raises(KitaruCorruptionError, match="damaged in the store"):
        KitaruClient().executions.export(done, tmp_path / "file")
    assert not (tmp_path / "file").exists()


def test_an_export_that_fails_leaves_no_file(done: str, tmp_path: Path):
    export = KitaruClient().executions.export
    with pytest.raises(KitaruNotFoundError):
        export([done, "kr-nothing"], tmp_path / "file")
    assert not (tmp_path / "file").exists()
    export(done, tmp_path / "file")
    with pytest.raises(KitaruUsageError, match="exists already"):
        export(done, tmp_path / "file")
    assert export(done, tmp_path / "file", force=True).redacted
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "home"]


@pytest.mark.parametrize("name", ["home/kitaru.db", "home/kitaru.db-wal", "copy.db", "pipe"])
def test_nothing_is_written_over_a_store_or_a_device(done: str, tmp_path: Path, name: str):
    client = KitaruClient()
    client.store.backup(tmp_path / "copy.db")
    os.mkfifo(tmp_path / "pipe")
    before = dump(tmp_path / "home")
    for write in (
        lambda: client.executions.export(done, tmp_path / name, force=True),
        lambda: client.artifacts.export(f"{done}/look", tmp_path / name, force=True),
        lambda: log_store.set_log_store("jsonl", endpoint=str(tmp_path / name)),
    ):
        with pytest.raises(KitaruUsageError, match=r"belongs to a store|no ordinary file"):
            write()
    assert dump(tmp_path / "home") == before


# --- artifacts ------------------------------------------------------------------------------------


@kitaru.checkpoint
def saves() -> None:
    kitaru.save("text", "é\n")
    kitaru.save("data", b"\x00\xff")
    kitaru.save("json", {"password": ("é", 1)})


@kitaru.checkpoint
def tagging() -> None:
    kitaru.save("one", 1, tags=["sk-first-one"])


@kitaru.flow
def saving() -> None:
    saves()


def test_an_artifact_is_written_as_it_is(home: Path, tmp_path: Path):
    saving.run().wait()
    client = KitaruClient()
    for name, form, data in (
        ("text", "text", "é\n".encode()),
        ("data", "bytes", b"\x00\xff"),
        ("json", "json", '{\n  "password": [\n    "é",\n    1\n  ]\n}\n'.encode()),
    ):
        made = client.artifacts.export(f"latest/saves/{name}", tmp_path / name)
        assert (made.format, made.bytes) == (form, len(data))
        assert (tmp_path / name).read_bytes() == data
        assert stat.S_IMODE((tmp_path / name).stat().st_mode) == 0o600
    with pytest.raises(KitaruUsageError, match="exists already"):
        client.artifacts.export("latest/saves/text", tmp_path / "data")
    client.artifacts.export("latest/saves/text", tmp_path / "data", force=True)
    plant_pickle(home, client.executions.latest().exec_id, tmp_path / "mark")
    with pytest.raises(KitaruUsageError, match="is a pickle"):
        client.artifacts.export("latest/saves/text", tmp_path / "pickle")
    assert not (tmp_path / "mark").exists()
