"""Processes and threads in odd moments: signals, forks, closed stores, chatty interpreters."""

from __future__ import annotations

import os
import signal
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

from kitaru import KitaruClient, checkpoint, config, context, exits, flow, heart, launch, worker
from kitaru import store as stores
from kitaru.errors import KitaruBackendError, KitaruStateError
from kitaru.store import Store, open_store, schema
from tests import flows, isolated
from tests.support import query, until

posix_only = pytest.mark.skipif(os.name == "nt", reason="signals and forks of POSIX")
forks = pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")


@pytest.fixture
def store(home: Path) -> Store:
    return open_store(config.find_home())


# --- Ctrl-C and handlers -------------------------------------------------------------------------


class CutOff:
    """A connection after whose first statement of a kind Ctrl-C comes."""

    def __init__(self, conn: Any, statement: str) -> None:
        self._conn = conn
        self._statement = statement

    def execute(self, sql: str, *parameters: Any) -> Any:
        done = self._conn.execute(sql, *parameters)
        if sql == self._statement:
            self._statement = ""
            raise KeyboardInterrupt
        return done

    def __getattr__(self, name: str) -> Any:
        return getattr(self._conn, name)


@pytest.mark.parametrize(
    ("side", "statement"), [("_reader", "BEGIN"), ("_writer", "BEGIN IMMEDIATE")]
)
def test_ctrl_c_as_a_transaction_begins_leaves_the_store_usable(
    store: Store, side: str, statement: str
) -> None:
    conn = getattr(store, side)
    setattr(store, side, CutOff(conn, statement))
    with pytest.raises(KeyboardInterrupt), store.write(), store.snapshot():
        pass
    setattr(store, side, conn)
    with store.write(), store.snapshot():
        assert store.read("SELECT 1")[0][0] == 1


@posix_only
def test_a_handler_of_a_signal_may_read_while_its_thread_reads(store: Store) -> None:
    found: list[Any] = []

    def handler(number: int, frame: object) -> None:
        found.append(KitaruClient().executions.list())

    earlier = signal.signal(signal.SIGUSR1, handler)
    try:
        with store.snapshot() as conn:
            signal.raise_signal(signal.SIGUSR1)
            assert conn.in_transaction
    finally:
        signal.signal(signal.SIGUSR1, earlier)
    assert found == [[]]


@pytest.mark.parametrize("place", [(launch, "driver"), (exits, "install"), (threading, "Thread")])
def test_ctrl_c_between_the_lease_and_the_drive_leaves_no_execution_that_looks_driven(
    home: Path, monkeypatch: pytest.MonkeyPatch, place: tuple[Any, str]
) -> None:
    def interrupted(*args: Any, **options: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(*place, interrupted)
        with pytest.raises(KeyboardInterrupt):
            flows.chain.run(1)
    (found,) = KitaruClient().executions.list()
    assert found.stalled
    assert not [drive for drive in heart.heart.drives() if drive.exec_id == found.exec_id]


# --- stores that are closed, upgraded ------------------------------------------------------------


def test_a_store_that_is_closed_under_its_users_is_a_typed_error_and_locks_no_other_file(
    home: Path, store: Store
) -> None:
    begun, errors, stop = threading.Barrier(4), [], threading.Event()

    def use(work: Any) -> None:
        begun.wait()
        while not stop.is_set():
            try:
                work()
            except KitaruBackendError as exc:
                errors.append(str(exc))
                return

    def write() -> None:
        with store.write() as conn:
            conn.execute("UPDATE stacks SET active = 0")

    works = [write, store.version, lambda: store.together(lambda conn: None)]
    threads = [threading.Thread(target=use, args=(work,)) for work in works]
    for thread in threads:
        thread.start()
    begun.wait()
    store.close()
    store.close()  # once is enough
    for thread in threads:
        thread.join(20)
    stop.set()
    assert len(errors) == 3
    assert all("closed here while it was in use" in text for text in errors), errors


def test_a_store_that_a_newer_program_upgrades_meanwhile_is_not_written_any_more(
    home: Path, store: Store
) -> None:
    query(home, "PRAGMA user_version=99")
    with pytest.raises(KitaruBackendError, match="changed to schema 99"):
        flows.chain.run(1)
    query(home, f"PRAGMA user_version={schema.SCHEMA_VERSION}")
    assert KitaruClient().executions.list() == []


# --- forks ---------------------------------------------------------------------------------------


def in_fork(work: Any) -> int:
    """The exit code of a forked child that does this; it is killed when it hangs."""
    child = os.fork()
    if child == 0:
        signal.alarm(10)
        try:
            work()
        finally:
            os._exit(0 if sys.exc_info()[0] is None else 1)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def held(lock: Any) -> threading.Event:
    """Another thread has the lock, until the event is set."""
    has_it, release = threading.Event(), threading.Event()

    def hold() -> None:
        with lock:
            has_it.set()
            release.wait(20)

    threading.Thread(target=hold).start()
    assert has_it.wait(20)
    return release


@posix_only
@forks
def test_a_fork_of_a_checkpoint_prints_whatever_lock_its_parent_holds(home: Path) -> None:
    @checkpoint
    def forking() -> int:
        driver: Any = context.current_driver.get()
        release = held(driver.ledger._lock)
        try:
            return in_fork(lambda: print("in the child"))
        finally:
            release.set()

    assert flow(name="forks")(lambda: forking()).run().wait(20) == 0


@posix_only
@forks
def test_a_fork_opens_a_store_though_its_parent_was_opening_one(home: Path) -> None:
    release = held(stores._opening)
    try:
        assert in_fork(lambda: KitaruClient().executions.list()) == 0
    finally:
        release.set()


# --- interpreters that print when they start -----------------------------------------------------


def test_start_up_code_that_prints_disturbs_neither_runners_nor_isolated_checkpoints(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "sitecustomize.py").write_text("print('hello from the environment', flush=True)")
    path = os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")])
    monkeypatch.setenv("PYTHONPATH", path)
    tried = isolated.Attempt().make(isolated.make_task(isolated.greets, "Ada"))
    assert (tried.failure, tried.result) == (None, isolated.greets.dump(isolated.greets.fn("Ada")))
    found = KitaruClient().executions.run("tests.flows:chain", {"length": 1})
    until(lambda: found.refresh().status == "completed", "the runner's execution has ended")


# --- a worker ------------------------------------------------------------------------------------


def test_a_worker_tells_of_whatever_keeps_it_from_taking_an_execution_up(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(self: Any, exec_id: str) -> None:
        raise RuntimeError("can't start new thread")

    handle = flows.asks.run(length=0)
    with pytest.raises(KitaruStateError):
        handle.wait(20)
    KitaruClient().executions.input(handle.exec_id, wait="first", value="yes")
    monkeypatch.setattr(type(KitaruClient().executions), "resume", refuse)
    (told,) = worker.serve(KitaruClient(), once=True)
    assert (told.event, told.exec_id) == ("refused", handle.exec_id)
    assert "RuntimeError: can't start new thread" in told.reason
