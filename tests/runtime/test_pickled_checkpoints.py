"""Checkpoints whose values are pickled: in one process, in the next, and where they are refused."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import pytest

from kitaru import KitaruClient, checkpoint, flow
from kitaru.errors import KitaruDivergenceError, KitaruSerializationError
from tests import drives, timed
from tests.support import effects, kill, query, start_runner, until

pytestmark = pytest.mark.usefixtures("home")


class Model:
    """What only pickle can hold."""

    def __init__(self, weights: dict[str, float]) -> None:
        self.weights = weights


@checkpoint(serializer="pickle")
def train(rate: float) -> Any:
    return Model({"w": rate})


@checkpoint(serializer="pickle")
def improve(model: Any, by: float) -> Any:
    model.weights["w"] += by
    return model


@checkpoint
def publish(model: Any) -> str:
    return "published"


def test_pickled_values_go_from_checkpoint_to_checkpoint_as_copies():
    @flow
    def learns() -> list[float]:
        first = train(1.0)
        better = [
            future.result() for future in (improve.submit(first, 1), improve.submit(first, 2))
        ]
        return [each.weights["w"] for each in (first, *better)]

    handle = learns.run()
    assert handle.wait(20) == [1.0, 2.0, 3.0]
    shown = drives.get(handle)
    assert [call.status for call in shown.checkpoints] == ["completed"] * 3
    ref = KitaruClient().artifacts.list(handle.exec_id)[0]
    with pytest.raises(KitaruSerializationError, match="allow_pickle"):
        ref.load()
    assert ref.load(allow_pickle=True).weights == {"w": 1.0}


def test_a_recorded_pickle_is_loaded_by_the_process_that_resumes(home: Path):
    handle = timed.learns.run()
    drives.left(handle.exec_id)
    drives.answer(handle.exec_id, "go", True)
    runner = start_runner(home, "resume", handle.exec_id)
    until(lambda: handle.status.is_finished, "it is resumed to its end")
    kill(runner)
    assert handle.get() == ["Ratio", "3"]
    assert effects(home, handle.exec_id) == ["third"]


def test_a_json_checkpoint_refuses_what_only_pickle_holds_and_says_so():
    @flow
    def hasty() -> str:
        return publish(train(1.0))

    error = drives.error_of(hasty.run())
    assert isinstance(error.__cause__, KitaruSerializationError)
    assert "publish" in str(error)
    assert "Model" in str(error)


def test_a_flow_refuses_to_return_what_only_pickle_holds():
    @flow
    def hasty() -> Any:
        return train(1.0)

    assert isinstance(drives.error_of(hasty.run()).__cause__, KitaruSerializationError)


def test_other_arguments_are_a_divergence():
    rate = [1.0]
    mended = threading.Event()

    @checkpoint
    def last() -> None:
        if not mended.is_set():
            raise ValueError("last")

    @flow
    def learns() -> None:
        improve(train(rate[0]), 1)
        last()

    handle = learns.run()
    drives.error_of(handle)
    rate[0] = 2.0
    mended.set()
    error = drives.error_of(drives.again("retry", learns, handle.exec_id))
    assert isinstance(error, KitaruDivergenceError)
    assert "train(rate=1.0)" in str(error)
    assert "train(rate=2.0)" in str(error)


def test_an_argument_that_cannot_be_copied_is_refused_by_name(home: Path):
    @flow
    def hasty() -> Any:
        return improve(threading.Lock(), 1)

    error = drives.error_of(hasty.run())
    assert isinstance(error.__cause__, KitaruSerializationError)
    assert "The arguments of checkpoint 'improve' cannot be copied" in str(error)
    assert query(home, "SELECT * FROM calls") == []
