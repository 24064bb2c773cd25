"""Values no ordinary program has: keys that clash, text no file takes, ids that are no text."""

from __future__ import annotations

import random
import threading
from enum import Enum
from pathlib import Path
from typing import Any

import pytest

import kitaru
from kitaru import KitaruClient, codec, redaction, render
from kitaru.errors import KitaruUsageError
from kitaru.futures import CheckpointFuture, Recorded
from tests.chaos import values
from tests.drives import error_of
from tests.support import query


class Kind(Enum):
    token = "t"


def test_any_value_comes_back_as_it_was_or_is_refused_with_its_path():
    drawing = values.Drawing(random.Random(7))
    assert sum(values.judge(drawing.value()) for _ in range(150)) > 140
    assert sum(values.judge(*drawing.planted()) for _ in range(50)) < 10


def test_secrets_beside_clashing_keys_are_masked():
    value = {"password": "hunter2", 1: "a", "1": "b"}
    seen = redaction.shown_value(codec.plain(codec.encode_any(value, path="value")))
    assert seen == {"password": redaction.MASK, "1": "a", "(2) 1": "b"}


def test_a_secrets_key_that_clashes_is_masked_each_time():
    value = {Kind.token: "hunter1", "Kind.token": "hunter2", "token": "hunter3"}
    assert "hunter" not in str(
        redaction.shown_value(codec.plain(codec.encode_any(value, path="value")))
    )


@pytest.mark.parametrize(
    "value",
    [
        {1: "a", "1": "b", "(2) 1": "c"},
        {"(2) 1": "c", 1: "a", "1": "b"},
        {1: "a", "1": "b", False: "c", "False": "d", None: "e", "None": "f"},
        {float("nan"): 1, "NaN": 2, float("inf"): 3, "Infinity": 4},
        {(1,): "a", "[1]": "b"},
    ],
)
def test_no_value_is_lost_where_keys_clash(value: dict[Any, Any]):
    seen = codec.plain(codec.encode_any(value, path="value"))
    assert isinstance(seen, dict)
    assert list(seen.values()) == list(value.values())


def test_an_artifact_with_clashing_keys_hides_its_secrets(home: Path):
    @kitaru.checkpoint
    def keeps() -> dict[Any, Any]:
        return {"password": "hunter2", 1: "a", "1": "b"}

    handle = kitaru.flow(name="keeping")(lambda: len(keeps())).run()
    handle.wait(20)
    client = KitaruClient()
    (ref,) = client.executions.get(handle.exec_id).artifacts
    assert "hunter2" not in str(render.artifact_value(client, ref))


@pytest.mark.parametrize("tags", [["\ud800"], ["fine", "not \udfff"]])
def test_a_tag_that_cannot_be_stored_is_refused_where_it_is_given(tags: list[str]):
    with pytest.raises(KitaruUsageError, match="tags"):
        kitaru.flow(tags=tags)


def test_a_checkpoints_type_that_cannot_be_stored_is_refused_where_it_is_given():
    with pytest.raises(KitaruUsageError, match="type"):
        kitaru.checkpoint(type="\ud800")


def test_a_question_that_cannot_be_stored_is_refused_where_it_is_asked(home: Path):
    @kitaru.flow
    def asking() -> str:
        try:
            kitaru.wait(question="What is \ud800?", timeout=0)
        except KitaruUsageError as error:
            return str(error)
        return "asked"

    assert "question" in asking.run().wait(20)


def test_text_of_every_language_can_be_a_tag_a_type_and_a_question(home: Path):
    @kitaru.checkpoint(type="Prüfung 🔬")
    def checks() -> int:
        return 1

    @kitaru.flow(tags=["ไทย", "👩‍🔬"])
    def asking() -> None:
        checks()
        kitaru.wait(question="ไทย 👩‍🔬?", timeout=0)

    handle = asking.run()
    error_of(handle)
    found = KitaruClient().executions.get(handle.exec_id)
    assert found.tags == ("ไทย", "👩‍🔬")
    assert query(home, "SELECT type FROM calls ORDER BY seq")[0] == ("Prüfung 🔬",)
    (asked,) = KitaruClient().executions.pending_waits(handle.exec_id)
    assert asked.question == "ไทย 👩‍🔬?"


@pytest.mark.parametrize("exec_id", [123, None, b"x", ["kr-1"], "\ud800"])
def test_an_execution_id_that_is_no_text_is_refused(home: Path, exec_id: Any):
    executions = KitaruClient().executions
    for ask in (
        executions.get,
        executions.logs,
        executions.pending_waits,
        executions.continues,
        executions.cancel,
        executions.resume,
        executions.retry,
        lambda exec_id: executions.input(exec_id, wait="w", value=1),
        lambda exec_id: executions.abort_wait(exec_id, wait="w"),
        lambda exec_id: executions.replay(exec_id, "step"),
    ):
        with pytest.raises(KitaruUsageError, match="execution's id"):
            ask(exec_id)


def test_a_future_that_ends_as_the_time_runs_out_does_not_give_its_own_timeout():
    future: CheckpointFuture[int] = CheckpointFuture(
        "step", deliver=lambda recorded: 1, call_off=Recorded
    )

    class EndsTooLate(threading.Event):
        """Ends right after the wait for it was given up: the instant between wait and check."""

        def wait(self, timeout: float | None = None) -> bool:
            ended = super().wait(timeout)
            future._ended = threading.Event()
            future.settle(Recorded(result=b"1"))
            return ended

    future._ended = EndsTooLate()
    with pytest.raises(TimeoutError, match="has not ended"):
        future.exception(0)


def test_a_checkpoints_own_timeout_error_is_what_it_raised():
    def deliver(recorded: Recorded) -> Any:
        raise TimeoutError("of the checkpoint")

    future: CheckpointFuture[int] = CheckpointFuture("step", deliver=deliver, call_off=Recorded)
    future.settle(Recorded(failure={}))
    assert str(future.exception(0)) == "of the checkpoint"
