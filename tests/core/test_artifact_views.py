"""Artifacts through the client: found by id, listed in pages, shown in safe pieces."""

from __future__ import annotations

import json
from datetime import date
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import kitaru
from kitaru import KitaruClient, checkpoint, config, flow, render
from kitaru.errors import KitaruNotFoundError, KitaruUsageError
from kitaru.models import ArtifactView
from kitaru.store import artifacts, executions
from tests import drives

pytestmark = pytest.mark.usefixtures("home")

IMAGES = {
    "image/png": b"\x89PNG\r\n\x1a\n" + b"\0" * 9,
    "image/jpeg": b"\xff\xd8\xff\xe0 more",
    "image/gif": b"GIF89a more",
    "image/webp": b"RIFF\x10\0\0\0WEBPVP8 ",
}
ODD = ["a/b", "a b", "%", "_", "x'y", "notes", "notes", "é", "a/b", "{kind}"]


@checkpoint(type="llm_call")
def saving(names: list[str]) -> int:
    for number, name in enumerate(names):
        kitaru.save(name, number, type=("context", "prompt")[number % 2])
    return -1


@flow
def saves(names: list[str], calls: int = 1) -> None:
    for _ in range(calls):
        saving(names)


@checkpoint
def made(value: Any) -> Any:
    return value


@flow
def makes(value: Any) -> None:
    made(value)


@checkpoint(serializer="pickle")
def pickled() -> Any:
    return {1, 2, kitaru.KitaruError}


def ran(definition: Any, *args: Any) -> str:
    handle = definition.run(*args)
    handle.wait(20)
    return str(handle.exec_id)


def shown(value: Any, **piece: int) -> ArtifactView:
    return KitaruClient().artifacts.show(f"{ran(makes, value)}/made", **piece)


def test_every_listed_artifact_is_found_by_its_id():
    client = KitaruClient()
    exec_id = ran(saves, ODD, 2)
    listed = client.artifacts.list(exec_id)
    assert [ref.artifact_id.partition("/")[2] for ref in listed][5:10] == [
        "saving/notes",
        "saving/notes#2",
        "saving/é",
        "saving/a/b#2",
        "saving/{kind}",
    ]
    assert len({ref.artifact_id for ref in listed}) == 2 * (len(ODD) + 1)
    for number, ref in enumerate(listed):
        assert client.artifacts.get(ref.artifact_id) == ref
        expected = number % (len(ODD) + 1)
        assert ref.load() == (-1 if expected == len(ODD) else expected)
    assert client.artifacts.get("latest/saving").artifact_id == f"{exec_id}/saving"


@pytest.mark.parametrize(
    "rest",
    [
        *("", "/", "saving/", "saving#1", "saving#3", "saving/notes#1", "saving/notes#02"),
        *("saving/notes#3", "saving/note", "notes", "saving/notes#x", "saving/saving"),
    ],
)
def test_what_is_no_artifact_is_not_found_and_some_are_named(rest: str):
    exec_id = ran(saves, ODD, 2)
    with pytest.raises(KitaruNotFoundError, match=f"{exec_id} has: {exec_id}/saving/a/b, .*…") as e:
        KitaruClient().artifacts.get(f"{exec_id}/{rest}")
    assert len(str(e.value)) <= 350


@settings(max_examples=20)
@given(
    limit=st.integers(1, 9),
    kind=st.sampled_from([None, "context", "response", "nothing"]),
    name=st.sampled_from([None, "notes", "saving#2"]),
    producing_call=st.sampled_from([None, "saving", "saving#2"]),
)
def test_pages_of_artifacts_make_up_the_filtered_whole(limit: int, **filters: str | None):
    client = KitaruClient().artifacts
    # Examples share the test's store.
    runs = KitaruClient().executions.list(limit=1)
    exec_id = runs[0].exec_id if runs else ran(saves, ODD, 3)
    found, cursor = [], None
    while True:
        page = client.list(exec_id, limit=limit, cursor=cursor, **filters)
        found += page
        if (cursor := page.next_cursor) is None:
            break
        assert len(page) == limit
    assert found == [ref for ref in client.list(exec_id) if _fits(ref, **filters)]


def _fits(ref: Any, *, kind: Any, name: Any, producing_call: Any) -> bool:
    calls = (ref.producing_call, ref.producing_call.partition("#")[0])
    return (
        kind in (None, ref.kind)
        and name in (None, ref.name)
        and (producing_call is None or producing_call in calls)
    )


def test_a_page_of_artifacts_is_read_in_order_without_sorting():
    exec_id = ran(saves, ODD, 2)
    statements: list[str] = []
    with drives.store().snapshot() as conn:
        row = executions.find(conn, exec_id)
        conn.set_trace_callback(statements.append)
        artifacts.listing(conn, row.id, exec_id=exec_id, limit=5, cursor="1-3")
        artifacts.find(conn, row.id, "saving/notes", exec_id=exec_id)
        conn.set_trace_callback(None)
        for statement in statements:
            steps = [step["detail"] for step in conn.execute(f"EXPLAIN QUERY PLAN {statement}")]
            assert not [step for step in steps if "SCAN" in step or "TEMP" in step], steps


@pytest.mark.parametrize(
    "given",
    [{"limit": 0}, {"limit": True}, {"cursor": "x"}, {"kind": 1}, {"name": "\ud800"}],
)
def test_what_cannot_be_asked_of_artifacts_is_refused(given: dict[str, Any]):
    with pytest.raises(KitaruUsageError):
        KitaruClient().artifacts.list(ran(saves, ["a"]), **given)


# --- views ----------------------------------------------------------------------------------------


def test_text_is_shown_as_it_is_and_other_values_as_compact_json():
    view = shown("two\nlines \x1b[31m\u202e")
    assert (view.format, view.mime_type) == ("text", "text/plain")
    assert view.text == "two\nlines \\x1b[31m\\u202e"
    assert (view.total, view.next_offset) == (len(view.text), None)
    view = shown({"a": (1, 2.5, None), "d": date(2026, 11, 20), "ü": "\x07"})
    assert (view.format, view.mime_type) == ("json", "application/json")
    assert view.text == '{"a":[1,2.5,null],"d":"2026-11-20","ü":"\\\\x07"}'


@settings(max_examples=15)
@given(
    value=st.recursive(st.text() | st.integers() | st.none(), st.lists, max_leaves=8),
    n=st.integers(1, 9),
)
def test_pieces_of_a_value_make_up_the_whole(value: Any, n: int):
    id_ = f"{ran(makes, value)}/made"
    show = KitaruClient().artifacts.show
    whole, text, offset = show(id_), "", 0
    while True:
        piece = show(id_, offset=offset, limit=n)
        assert piece.text is not None
        assert len(piece.text) <= n
        assert (piece.total, piece.artifact) == (whole.total, whole.artifact)
        text += piece.text
        if piece.next_offset is None:
            break
        assert piece.next_offset == offset + n
        offset = piece.next_offset
    assert text == whole.text


def test_a_secret_is_masked_before_the_value_is_cut():
    whole = shown({"user": "ada", "password": "hunter2"}).text
    assert whole == '{"user":"ada","password":"[redacted]"}'
    pieces = [shown({"user": "ada", "password": "hunter2"}, offset=n, limit=9) for n in range(36)]
    assert not [piece for piece in pieces if "hunter" in str(piece)]


@pytest.mark.parametrize("mime", IMAGES)
def test_a_small_image_is_shown_by_its_bytes(mime: str):
    view = shown(IMAGES[mime])
    assert (view.format, view.mime_type, view.data) == ("image", mime, IMAGES[mime])
    assert view.text is None
    assert json.dumps(view.to_dict())
    assert "data" not in render.artifact_view(view)


def test_other_bytes_and_large_images_are_told_by_their_size():
    view = shown(b"\0\1\2")
    assert (view.format, view.data, view.text) == ("binary", None, None)
    assert view.note is not None
    assert "3 bytes" in view.note
    assert f"get({view.artifact.artifact_id!r}).load()" in view.note
    large = IMAGES["image/png"].ljust(config.MAX_IMAGE_BYTES + 1)
    view = shown(large)
    assert (view.format, view.mime_type, view.data) == ("binary", "image/png", None)
    assert shown(bytearray(large[:-1])).data == large[:-1]
    assert shown({"bytes": "AAEC"}).format == "json"


def test_a_value_too_large_to_be_shown_says_how_to_load_it(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(config, "MAX_VIEW_BYTES", 10)
    for value, kind in (("x" * 20, "text"), (["x" * 20], "json")):
        view = shown(value)
        assert (view.format, view.text, view.next_offset) == (kind, None, None)
        assert ".load()" in str(view.note)


def test_a_pickle_is_never_read_to_be_shown():
    client = KitaruClient()
    exec_id = ran(flow(name="pickling")(lambda: len(pickled())))
    view = client.artifacts.show(f"{exec_id}/pickled")
    assert (view.format, view.text, view.data) == ("pickle", None, None)
    assert ".load(allow_pickle=True)" in str(view.note)
    value = render.artifact_value(client, view.artifact)
    assert value["value_format"] == "pickle"
    assert list(value["value"]) == ["pickle"]
    assert view.artifact.load(allow_pickle=True) == {1, 2, kitaru.KitaruError}


def test_a_view_as_json_is_its_artifact_and_what_applies():
    view = shown({"token": "t", "a": 1})
    data = render.artifact_view(view)
    assert data["artifact_id"] == view.artifact.artifact_id
    assert {key: data[key] for key in ("format", "mime_type", "text", "total")} == {
        "format": "json",
        "mime_type": "application/json",
        "text": '{"token":"[redacted]","a":1}',
        "total": 28,
    }
    assert "next_offset" not in data


@pytest.mark.parametrize(
    "given", [{"limit": 0}, {"limit": 1_000_001}, {"offset": -1}, {"offset": 1.0}]
)
def test_a_piece_that_cannot_be_is_refused(given: dict[str, Any]):
    with pytest.raises(KitaruUsageError, match=next(iter(given))):
        shown("x", **given)


def test_a_piece_behind_the_end_is_empty():
    view = shown("abc", offset=10)
    assert (view.text, view.total, view.next_offset) == ("", 3, None)
