"""Idempotency keys: what is asked for twice with one key is started once, whatever happens."""

from __future__ import annotations

import threading
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest

import kitaru
from kitaru import Execution, KitaruClient, KitaruError, KitaruStateError, targets
from kitaru.errors import KitaruUsageError
from tests import drives, support

#: A runner that imports this dies after the function that `die-after` names.
SOURCE = """
import os, signal
from pathlib import Path
from kitaru import checkpoint, flow, launch
from kitaru.store import keys

HERE = Path(os.environ["KITARU_HOME"])

def deadly(module, name):
    def call(*args, **kwargs):
        real(*args, **kwargs)
        os.kill(os.getpid(), signal.SIGKILL)
    real = getattr(module, name)
    setattr(module, name, call)

if (HERE / "die-after").exists():
    die_after = (HERE / "die-after").read_text()
    deadly(*{"key": (keys, "record"), "commit": (launch, "driver")}[die_after])

@checkpoint
def work(text, number):
    if text == "bad" and not (HERE / "mended").exists():
        raise ValueError("not mended yet")
    return text * number

@flow
def agent(text="a", number=2):
    return work(text, number)
"""
Act = Callable[..., Execution]


@pytest.fixture
def code(home: Path, tmp_path: Path) -> Path:
    """The file of a flow that works, fails until it is mended, or takes its runner with it."""
    path = tmp_path / "counted.py"
    path.write_text(SOURCE)
    drives.store()  # made now: what a refused action leaves is compared with it
    return path


def ended(code: Path, text: str) -> str:
    """An execution of the flow that has ended, made in this process."""
    exec_id = targets.load("counted.py:agent", root=str(code.parent)).run(text).exec_id
    return drives.left(exec_id).exec_id


@pytest.fixture(params=["run", "retry", "replay"])
def act(request: pytest.FixtureRequest, code: Path) -> Act:
    """One of the actions that take a key, ready for it."""
    executions = KitaruClient().executions
    if request.param == "run":
        return partial(executions.run, "counted.py:agent", {"text": "b"}, root=str(code.parent))
    if request.param == "replay":
        original = ended(code, "a")
        return partial(executions.replay_with, original, from_="work", flow_inputs={"text": "b"})
    failed = ended(code, "bad")
    return partial(executions.retry, failed)


def all_ids() -> list[str]:
    return [each.exec_id for each in KitaruClient().executions.list()]


def drives_of(exec_id: str) -> list[str]:
    """How each drive of an execution came about."""
    lines = KitaruClient().executions.logs(exec_id, source="runner")
    return [line.message.split()[0] for line in lines]


def test_a_repetition_starts_nothing_and_returns_what_the_first_one_did(
    act: Act, code: Path, home: Path
) -> None:
    (home / "mended").touch()
    first = act(idempotency_key="once")
    assert not first.repeated
    done = drives.left(first.exec_id)
    code.unlink()  # a runner could not even be started
    before = support.dump(home)

    again = act(idempotency_key="once")

    assert again == done
    assert again.repeated
    assert not again.refresh().repeated
    assert support.dump(home) == before


def test_other_keys_and_none_stand_for_nothing_done_yet(code: Path) -> None:
    run = partial(KitaruClient().executions.run, "counted.py:agent", root=str(code.parent))
    found = [run(), run(idempotency_key="a"), run(idempotency_key=" A/é ")]
    assert len({each.exec_id for each in found}) == 3
    assert not any(each.repeated for each in found)


def test_a_key_is_refused_for_any_other_request(code: Path, home: Path) -> None:
    original, failed = ended(code, "a"), ended(code, "bad")
    executions = KitaruClient().executions
    run = partial(executions.run, "counted.py:agent", root=str(code.parent))
    replay = partial(executions.replay_with, original, from_="work")
    ran = run({"text": "b", "number": 1}, idempotency_key="ran").exec_id
    replayed = replay(flow_inputs={"text": "b"}, idempotency_key="replayed").exec_id
    retried = executions.retry(failed, idempotency_key="retried").exec_id
    assert retried == failed
    for each in (ran, replayed, failed):
        drives.left(each)
    before = support.dump(home)

    same = run({"number": 1, "text": "b"}, idempotency_key="ran")  # in another order
    assert (same.exec_id, same.repeated) == (ran, True)
    uses = {
        "ran": f"a run, which gave execution {ran} of flow 'agent'",
        "replayed": f"a replay, which gave execution {replayed} of flow 'agent'",
        "retried": f"a retry, which gave execution {failed} of flow 'agent'",
    }
    others: list[tuple[str, Act]] = [
        ("ran", partial(run, {"text": "b"})),
        ("ran", partial(run, {"text": "b", "number": 1.0})),
        ("ran", partial(run, {"text": "b", "number": 1}, stack="local")),
        ("ran", partial(executions.run, "counted.py:agent", {"text": "b", "number": 1}, root="/")),
        ("ran", partial(executions.retry, failed)),
        ("replayed", partial(replay, flow_inputs={"text": "c"})),
        ("replayed", partial(replay, flow_inputs={"text": "b"}, overrides={"checkpoint.work": 1})),
        ("retried", partial(executions.retry, ran)),
    ]
    for key, other in others:
        with pytest.raises(KitaruUsageError, match="was used for another request") as caught:
            other(idempotency_key=key)
        assert uses[key] in str(caught.value)
    assert support.dump(home) == before


@pytest.mark.parametrize("key", ["", 201 * "x", "a\nb", "\x1b[0m", "\ud800", 5])
def test_what_cannot_be_a_key_is_refused_and_starts_nothing(act: Act, key: Any) -> None:
    before = all_ids()
    with pytest.raises(KitaruUsageError, match="give 1 to 200 printable characters"):
        act(idempotency_key=key)
    assert all_ids() == before


def test_a_runner_that_dies_has_used_the_key_only_if_it_has_acted(
    act: Act, code: Path, home: Path
) -> None:
    die_after, before = home / "die-after", support.dump(home)
    die_after.write_text("key")  # with everything written and nothing committed
    with pytest.raises(KitaruUsageError, match=r"ended \(code -9\)"):
        act(idempotency_key="once")
    assert support.dump(home) == before

    die_after.write_text("commit")
    with pytest.raises(KitaruUsageError, match=r"ended \(code -9\)"):
        act(idempotency_key="once")
    after = all_ids()
    die_after.unlink()
    (home / "mended").touch()
    found = act(idempotency_key="once")

    assert (found.repeated, found.stalled) == (True, True)
    assert all_ids() == after
    KitaruClient().executions.resume(found.exec_id)
    assert drives.left(found.exec_id).status == "completed"


# --- races ---------------------------------------------------------------------------------------


def race(home: Path, monkeypatch: pytest.MonkeyPatch, *acts: Act) -> list[Any]:
    """Act from several runners that meet right before they act; what each client got."""
    found: list[Any] = [None for _ in acts]

    def one(number: int, act: Act) -> None:
        try:
            found[number] = act(idempotency_key="once")
        except KitaruError as exc:
            found[number] = exc

    clients = [threading.Thread(target=one, args=each) for each in enumerate(acts)]
    monkeypatch.setenv("KITARU_TESTS_START_GATE", "race")
    for client in clients:
        client.start()
    support.until(lambda: len([*home.glob("at-race-*")]) == len(acts), "all are at the start")
    (home / "gate-race").touch()
    for client in clients:
        client.join()
    return found


def test_of_two_processes_that_race_with_one_key_one_starts_it_and_both_name_it(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    executions = KitaruClient().executions
    run = partial(executions.run, "tests.flows:chain", {"length": 1}, root=str(support.ROOT))
    found = race(home, monkeypatch, run, run)
    (exec_id,) = all_ids()
    assert [each.exec_id for each in found] == [exec_id, exec_id]
    assert sorted(each.repeated for each in found) == [False, True]
    assert drives.left(exec_id).status == "completed"
    assert drives_of(exec_id) == ["Started"]


def test_of_two_processes_that_race_to_retry_one_does_and_neither_is_refused(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    process, exec_id = support.start(home, "fragile")
    support.finish(process)
    (home / "mended").touch()
    retry = partial(KitaruClient().executions.retry, exec_id)
    found = race(home, monkeypatch, retry, retry)
    assert sorted(each.repeated for each in found) == [False, True]
    assert drives.left(exec_id).status == "completed"
    assert drives_of(exec_id) == ["Started", "Retried"]


def test_of_two_requests_that_race_with_one_key_one_is_told_of_the_other(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = partial(KitaruClient().executions.run, "tests.flows:chain", root=str(support.ROOT))
    found = race(home, monkeypatch, *(partial(run, {"length": each}) for each in (1, 2)))
    (exec_id,) = all_ids()
    (refused,) = [each for each in found if isinstance(each, KitaruError)]
    assert type(refused) is KitaruUsageError
    assert f"a run, which gave execution {exec_id} of flow 'chain'" in str(refused)
    drives.left(exec_id)


# --- where it is started -------------------------------------------------------------------------


def test_a_run_starts_on_the_stack_it_names(code: Path) -> None:
    kitaru.create_stack("gpu")
    run = partial(KitaruClient().executions.run, "counted.py:agent", root=str(code.parent))
    found = run(stack="gpu")
    assert found.stack_name == "gpu"
    assert found.frozen_execution_spec["sources"]["stack"] == "run"
    drives.left(found.exec_id)


@pytest.mark.parametrize(
    ("stack", "error", "told"),
    [
        ("nope", KitaruStateError, r"Stack 'nope' not found\. The name comes from: run\. Stacks: "),
        ("", KitaruUsageError, "stack is ''; it must be the name of a stack"),
    ],
)
def test_a_stack_that_does_not_exist_is_refused_and_its_key_is_free(
    code: Path, stack: str, error: type[KitaruError], told: str
) -> None:
    run = partial(KitaruClient().executions.run, "counted.py:agent", root=str(code.parent))
    with pytest.raises(error, match=told) as caught:
        run(stack=stack, idempotency_key="once")
    assert type(caught.value) is error
    assert all_ids() == []
    drives.left(run(idempotency_key="once").exec_id)


def test_what_a_start_reads_from_files_is_read_before_the_write_lock_is_taken(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "pyproject.toml").write_text("[tool.kitaru]\nretries = 1\n")
    monkeypatch.chdir(tmp_path)
    drives.store()
    was_free: list[bool] = []

    def look(real: Callable[..., Any], *args: Any) -> Any:
        was_free.append(support.write_lock_is_free(home))
        return real(*args)

    for name in ("kitaru.settings._read_toml", "kitaru.definition._source_digest"):
        module, _, function = name.rpartition(".")
        real = getattr(__import__(module, fromlist=[function]), function)
        monkeypatch.setattr(name, partial(look, real))
    flow = drives.load(drives.PIPELINE, ran=[])
    handle = flow.run("dogs")

    assert handle.wait(20).startswith("published")
    assert was_free == [True, True]
