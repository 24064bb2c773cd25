"""Bad input of every kind: a typed error that says what to do, and a store that is intact after.

Each test takes the whole store before the mistake and compares it afterwards, row by row.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

import kitaru
from kitaru import KitaruClient, config, ids
from kitaru.errors import (
    KitaruContextError,
    KitaruError,
    KitaruNotFoundError,
    KitaruSerializationError,
    KitaruStateError,
    KitaruUsageError,
    KitaruWaitValidationError,
)
from kitaru.models import Execution, ExecutionStatus
from tests import drives
from tests.support import dump


@kitaru.checkpoint
def double(n: int) -> int:
    return 2 * n


@kitaru.checkpoint
def nested(n: int) -> int:
    return double(n)


@kitaru.checkpoint
def unrecordable() -> object:
    return {"deep": [object()]}


@kitaru.flow
def doubling(n: int) -> int:
    return double(n)


@kitaru.flow
def nesting() -> int:
    return nested(1)


@kitaru.flow
def returning() -> object:
    return unrecordable()


@kitaru.flow
def asking() -> Any:
    return kitaru.wait(name="approve", question="Publish?", schema=int, timeout=0)


def waiting() -> Execution:
    """An execution that waits for an integer."""
    handle = asking.run()
    assert isinstance(drives.error_of(handle), KitaruStateError)
    return drives.left(handle.exec_id)


@contextlib.contextmanager
def refused(
    home: Path, error: type[KitaruError], *says: str, changes: bool = False
) -> Iterator[None]:
    """The block raises this error with these texts, and the store is as it was."""
    before = dump(home)
    with pytest.raises(error) as caught:
        yield
    assert type(caught.value) is error
    for text in says:
        assert text in str(caught.value)
    assert drives.is_intact(home)
    if not changes:
        assert dump(home) == before


def close_to(exec_id: str) -> str:
    """An id with one character wrong."""
    return exec_id[:-1] + ("x" if exec_id[-1] != "x" else "y")


ACTIONS = {
    "get": lambda client, ref: client.executions.get(ref),
    "logs": lambda client, ref: client.executions.logs(ref),
    "pending_waits": lambda client, ref: client.executions.pending_waits(ref),
    "input": lambda client, ref: client.executions.input(ref, wait="approve", value=1),
    "abort_wait": lambda client, ref: client.executions.abort_wait(ref, wait="approve"),
    "cancel": lambda client, ref: client.executions.cancel(ref),
    "resume": lambda client, ref: client.executions.resume(ref),
    "retry": lambda client, ref: client.executions.retry(ref),
    "replay": lambda client, ref: client.executions.replay(ref, "double"),
    "artifacts": lambda client, ref: client.artifacts.list(ref),
    "artifact": lambda client, ref: client.artifacts.get(f"{ref}/double"),
}


@pytest.mark.parametrize("action", ACTIONS)
def test_an_unknown_id_names_the_nearest(home: Path, action: str):
    execution = waiting()
    wrong = close_to(execution.exec_id)

    with refused(home, KitaruNotFoundError, wrong, f"Nearest: {execution.exec_id}"):
        ACTIONS[action](KitaruClient(), wrong)


@pytest.mark.parametrize(
    "wrong", ["", " ", "kr-", "nothing-like-it", "kr-%", "kr-~", "' OR 1=1", "\0"]
)
def test_an_id_that_is_none_is_not_found_or_ambiguous(home: Path, wrong: str):
    waiting(), waiting()
    before = dump(home)

    with pytest.raises((KitaruNotFoundError, KitaruStateError), match="kr-"):
        KitaruClient().executions.get(wrong)

    assert dump(home) == before


@pytest.mark.parametrize("action", ACTIONS)
def test_an_ambiguous_prefix_names_those_it_fits(home: Path, action: str):
    numbers = iter(["abc1", "r1", "abc2", "r2", "abd3", "r3"])
    with ids.use(lambda: next(numbers)):
        for _ in range(3):
            waiting()

    with refused(home, KitaruStateError, "'kr-abc'", "kr-abc1 (", "kr-abc2 (", "more characters"):
        ACTIONS[action](KitaruClient(), "kr-abc")
    assert KitaruClient().executions.get("abd").exec_id == "kr-abd3"


def test_an_unknown_artifact_names_those_there_are(home: Path):
    handle = doubling.run(2)
    handle.wait(20)

    with refused(home, KitaruNotFoundError, f"{handle.exec_id}/dubble", f"{handle.exec_id}/double"):
        KitaruClient().artifacts.get(f"{handle.exec_id}/dubble")


def test_a_checkpoint_outside_a_flow(home: Path):
    waiting()

    for call in (lambda: double(1), lambda: double.submit(1), lambda: double.map([1])):
        with refused(home, KitaruContextError, "'double'", ".run("):
            call()


def test_a_checkpoint_in_a_checkpoint(home: Path):
    handle = nesting.run()
    error = drives.error_of(handle)

    assert "KitaruContextError" in str(error)
    assert "'double'" in str(error)
    assert f"'nested' of {handle.exec_id}" in str(error)
    assert "Move it to the flow" in str(error)
    assert drives.is_intact(home)
    assert KitaruClient().executions.get(handle.exec_id).status is ExecutionStatus.FAILED


def test_a_flow_that_is_called_and_not_run(home: Path):
    waiting()

    with refused(home, KitaruUsageError, "'doubling'", "doubling.run("):
        doubling(1)


@pytest.mark.parametrize("retries", [-1, 1.5, "2", True, None])
def test_retries_that_are_no_count(retries: Any):
    def work() -> None: ...

    for decorator in (kitaru.checkpoint, kitaru.flow):
        if retries is None and decorator is kitaru.flow:
            continue
        with pytest.raises(KitaruUsageError, match=r"retries is .*whole number >= 0"):
            decorator(retries=retries)(work)


@pytest.mark.parametrize("arguments", [(), (1, 2), ("x" * 3, 4)])
def test_inputs_that_do_not_fit_the_flow(home: Path, arguments: tuple[Any, ...]):
    waiting()

    with refused(home, KitaruUsageError, "Flow 'doubling' cannot be run", "parameters are (n"):
        doubling.run(*arguments)


def test_an_input_that_cannot_be_recorded(home: Path):
    waiting()

    with refused(home, KitaruSerializationError, "inputs"):
        doubling.run(object())  # type: ignore[arg-type]


def test_a_result_that_cannot_be_recorded_names_the_path_to_it(home: Path):
    handle = returning.run()
    error = drives.error_of(handle)

    assert "KitaruSerializationError" in str(error)
    assert "deep" in str(error)
    assert f"kitaru executions retry {handle.exec_id}" in str(error)
    assert drives.is_intact(home)


@pytest.mark.parametrize("value", ["3", 3.5, None, [3], True, {"n": 3}, float("nan"), object()])
def test_an_answer_that_does_not_fit_leaves_the_question_open(home: Path, value: Any):
    execution = waiting()

    with refused(home, KitaruWaitValidationError, "approve", "still open"):
        KitaruClient().executions.input(execution.exec_id, wait="approve", value=value)

    assert execution.refresh().status is ExecutionStatus.WAITING
    assert execution.refresh().pending_wait == execution.pending_wait


def test_a_second_answer(home: Path):
    execution = waiting()
    client = KitaruClient()
    client.executions.input(execution.exec_id, wait="approve", value=3)

    with refused(home, KitaruStateError, f"kitaru executions resume {execution.exec_id}"):
        client.executions.input(execution.exec_id, wait="approve", value=4)
    with refused(home, KitaruStateError, f"kitaru executions resume {execution.exec_id}"):
        client.executions.abort_wait(execution.exec_id, wait="approve")


def test_a_wait_of_no_name(home: Path):
    execution = waiting()

    for wait in ("", " "):
        with refused(home, KitaruUsageError, "`wait`"):
            KitaruClient().executions.input(execution.exec_id, wait=wait, value=3)


@pytest.mark.parametrize("action", ["input", "abort_wait", "cancel", "resume", "retry"])
def test_an_action_in_the_wrong_status(home: Path, action: str):
    handle = doubling.run(2)
    handle.wait(20)

    with refused(home, KitaruStateError, handle.exec_id, "it is completed", "legal now: replay"):
        ACTIONS[action](KitaruClient(), handle.exec_id)


def test_a_replay_from_no_call_or_over_no_call(home: Path):
    handle = doubling.run(2)
    handle.wait(20)
    replay = KitaruClient().executions.replay

    with refused(home, KitaruStateError, handle.exec_id, "'dubble'", "Nearest: double"):
        replay(handle.exec_id, "dubble")
    with refused(home, KitaruStateError, handle.exec_id, "'dubble'", "Nearest: double"):
        replay(handle.exec_id, "double", {"checkpoint.dubble": 1})


@pytest.mark.parametrize(
    "arguments",
    [
        {"limit": 0},
        {"limit": config.MAX_PAGE + 1},
        {"limit": True},
        {"cursor": "nonsense"},
        {"cursor": "1-"},
        {"cursor": f"{10**30}-1"},
        {"status": "finished"},
        {"tags": "nightly"},
        {"since": datetime(2026, 1, 1)},
    ],
    ids=str,
)
def test_filters_that_cannot_be_right(home: Path, arguments: dict[str, Any]):
    waiting()

    with refused(home, KitaruUsageError, *(str(v) for v in arguments.values() if v == "nonsense")):
        KitaruClient().executions.list(**arguments)
