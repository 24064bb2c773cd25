"""Whether another process is still alive: sure answers only."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

import pytest

from kitaru import host

_SLEEPER = [sys.executable, "-c", "import sys; sys.stdin.read()"]

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="pids are compared on POSIX only")


@pytest.fixture
def child():
    with subprocess.Popen(_SLEEPER, stdin=subprocess.PIPE) as process:
        yield process
        process.kill()


def is_dead(pid: int, mark: str) -> bool:
    return host.is_dead(host=host.host_id(), pid=pid, mark=mark)


def test_a_living_process_is_not_dead(child):
    assert not is_dead(child.pid, host.start_mark(child.pid))
    assert not is_dead(os.getpid(), host.start_mark(os.getpid()))


def test_a_killed_process_is_dead_before_and_after_it_is_reaped(child):
    mark = host.start_mark(child.pid)
    child.send_signal(signal.SIGKILL)
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)  # ended, and still a zombie
    assert is_dead(child.pid, mark)
    child.wait()
    assert is_dead(child.pid, mark)


def test_a_process_that_is_reaped_between_the_two_looks_is_dead(child, monkeypatch):
    mark = host.start_mark(child.pid)
    look = host._stat_fields

    def reaped_just_before(pid: int) -> list[str]:
        child.kill()
        child.wait()
        return look(pid)

    monkeypatch.setattr(host, "_stat_fields", reaped_just_before)
    assert is_dead(child.pid, mark)


@pytest.mark.skipif(not os.path.exists("/proc/self/stat"), reason="start marks need /proc")
def test_a_reused_pid_is_told_by_its_start_mark(child):
    assert is_dead(child.pid, "1")


def test_nothing_is_sure_about_another_host(child):
    child.kill()
    child.wait()
    assert not host.is_dead(host="another", pid=child.pid, mark="")
