"""Forks of a process that drives flows and whose threads write: none of them harms the store.

A child that uses what it has inherited gets an error that says so, opens a store of its own and
works in it; however it ends, its parent goes on, and nothing of either is lost.
"""

from __future__ import annotations

import atexit
import faulthandler
import gc
import multiprocessing
import os
import random
import signal
import sys
import threading
import time
import warnings
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

import kitaru
from kitaru import KitaruClient, KitaruError, checkpoint, config, flow
from kitaru.store import Store, open_store
from tests import support
from tests.chaos.trial import Scope, Skipped, Trial

#: A child that has not ended by then hangs.
DEADLINE_SECONDS = 60.0
#: Threads of the parent that write while it forks.
WRITERS = 3
#: Between two of their flows: others want to run, too.
PAUSE_SECONDS = 0.1
#: What a child tells by its exit code: all was well, a check failed, an end of its own making.
FINE, WRONG, RAISED = 0, 3, 1
ENDS = ("_exit", "exit", "exception", "return", "multiprocessing")


@checkpoint
def note(number: int) -> dict[str, int]:
    """A step that records something with a value and a line."""
    print(f"step {number}")
    kitaru.save("state", [number] * 20)
    return {"number": number}


@flow
def counting(length: int) -> int:
    """One step after the other."""
    return sum(note(number)["number"] for number in range(length))


class Parent:
    """A process that forks, with threads that run flows meanwhile."""

    def __init__(self, home: Path) -> None:
        self.client = KitaruClient(home=home)
        self.store = open_store(config.find_home(home))
        self.lengths: dict[str, int] = {}
        self.failures: list[str] = []
        self._over = threading.Event()
        self._threads = [threading.Thread(target=self._write) for _ in range(WRITERS)]
        for thread in self._threads:
            thread.start()

    def _write(self) -> None:
        length = 3
        while not self._over.wait(PAUSE_SECONDS):
            try:
                handle = counting.run(length)
                handle.wait(DEADLINE_SECONDS)
                self.lengths[handle.exec_id] = length
            except Exception as exc:  # the trial tells it at its end
                self.failures.append(repr(exc))
                return
            length = 3 + (length + 1) % 7

    def end(self) -> None:
        """Let the threads come to their end."""
        self._over.set()
        for thread in self._threads:
            thread.join(DEADLINE_SECONDS)
            assert not thread.is_alive(), "a thread of the parent hangs"
        assert not self.failures, self.failures

    def check(self) -> int:
        """All that was recorded is there; gives how many executions that are."""
        for exec_id, length in self.lengths.items():
            found = self.client.executions.get(exec_id)
            assert found.status == "completed", found
            assert found.result == sum(range(length))
            assert [ref.load() for ref in found.artifacts if ref.name == "state"] == [
                [number] * 20 for number in range(length)
            ]
            lines = [line.message for line in self.client.executions.logs(exec_id)]
            assert lines == [f"step {number}" for number in range(length)]
        return len(self.lengths)


def child(parent: Parent, *, works: bool) -> None:
    """What a child does with what it has inherited, and with a store of its own."""
    inherited: Store = parent.store
    uses: tuple[Callable[[], Any], ...] = (
        inherited.version,
        lambda: inherited.write().__enter__(),
        lambda: inherited.snapshot().__enter__(),
        lambda: inherited.apart().__enter__(),
        lambda: inherited.together(lambda conn: None),
        inherited.close,
    )
    for use in uses:
        try:
            use()
        except KitaruError as exc:
            if "fork" not in str(exc):
                raise
        else:
            raise AssertionError("the store of the parent was used")
    # A client opens the store anew by itself; one made here does so, too.
    home = inherited.home.path
    for client in (parent.client, KitaruClient(home=home)):
        known = client.executions.list(limit=1)
        assert not known or client.executions.get(known[0].exec_id).exec_id == known[0].exec_id
    if works:
        handle = counting.run(4)
        assert handle.wait(DEADLINE_SECONDS) == 6
        assert len(KitaruClient(home=home).artifacts.list(handle.exec_id)) == 8


def forked(parent: Parent, how: str, *, works: bool) -> int:
    """Fork, let the child work, and wait for its end; gives how it ended."""
    if how == "multiprocessing":
        context = multiprocessing.get_context("fork")
        process = context.Process(target=child, args=(parent,), kwargs={"works": works})
        process.start()
        process.join(DEADLINE_SECONDS)
        if process.is_alive():
            process.kill()
        return process.exitcode or 0
    pid = os.fork()
    if pid == 0:
        in_child(parent, how, works=works)
    return _waited(pid)


def in_child(parent: Parent, how: str, *, works: bool) -> NoReturn:
    """The child's life; it never comes back into the trial."""
    code = FINE
    faulthandler.dump_traceback_later(DEADLINE_SECONDS / 2, exit=True)  # says where it hangs
    try:
        child(parent, works=works)
    except BaseException as exc:  # the exit code tells it, and the trial's output what it was
        print(f"in a child: {exc!r}", file=sys.stderr, flush=True)
        os._exit(WRONG)
    try:
        gc.collect()  # an inherited handle must outlive that
        if how == "exception":
            raise RuntimeError("a child ends so")
        if how == "exit":
            sys.exit(FINE)
    except RuntimeError:
        code = RAISED
    except SystemExit as exc:
        code = int(str(exc.code))
    if how != "_exit":
        atexit._run_exitfuncs()  # what Python does at the end of any process
    os._exit(code)


def _waited(pid: int) -> int:
    deadline = time.monotonic() + DEADLINE_SECONDS
    while True:
        ended, status = os.waitpid(pid, os.WNOHANG)
        if ended:
            return os.waitstatus_to_exitcode(status)
        if time.monotonic() > deadline:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
            raise AssertionError("a child hangs")
        time.sleep(0.0005)


def run(home: Path, *, forks: int, rng: random.Random) -> str:
    """Fork so often; every tenth child also runs a flow."""
    if not hasattr(os, "fork"):
        raise Skipped("needs fork")
    warnings.filterwarnings("ignore", ".*fork.*", DeprecationWarning)
    # No power is cut here.
    os.environ |= {"KITARU_HOME": str(home), "KITARU_DURABILITY": "normal"}
    # A fork while another thread loads a module leaves that module's lock taken in the child: that
    # is Python's, not Kitaru's, so whatever is loaded when it is first used is loaded before.
    counting.run(2).wait(DEADLINE_SECONDS)
    parent, ends = Parent(home), Counter[str]()
    try:
        for number in range(forks):
            how = rng.choice(ENDS)
            code = forked(parent, how, works=number % 10 == 0)
            wanted = RAISED if how == "exception" else FINE
            assert code == wanted, f"a child that was to end by {how} ended with {code}"
            assert parent.client.executions.list(limit=1) is not None
            ends[how] += 1
    finally:
        parent.end()
    kept = parent.check()
    assert support.is_sound(home)
    told = ", ".join(f"{count} {how}" for how, count in sorted(ends.items()))
    return (
        f"{forks} forks ({told}), {forks} refused what they had inherited, "
        f"{kept} executions of the parent intact, 0 hung"
    )


def _run(scope: Scope) -> str:
    return run(scope.home, forks=scope.times(1_000), rng=scope.rng)


TRIALS = (Trial(name="forks", run=_run),)
