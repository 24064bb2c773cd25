"""Which machine and process this is, and whether another process is still alive.

A dead runner on the same host is recognised at once by its pid; `host_id` keeps that honest: pids
mean something only within one boot and one pid namespace. `is_dead` answers True only when it is
sure; where it cannot know, it says False and the lease's expiry decides.
"""

from __future__ import annotations

import functools
import os
import sys
from pathlib import Path


@functools.cache
def host_id() -> str:
    """The identity of this boot of this machine (and pid namespace)."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{boot}/{os.readlink('/proc/self/ns/pid')}"
    except OSError:
        return name()


def name() -> str:
    """The name of this machine."""
    if hasattr(os, "uname"):
        return os.uname().nodename
    import socket  # slow to load, and needed on Windows only

    return socket.gethostname()


def start_mark(pid: int) -> str:
    """When a process was started, as the kernel counts it; empty where that cannot be read."""
    fields = _stat_fields(pid)
    return fields[19] if fields else ""


#: That of this process, asked for by its pid: a fork's is another one.
_own_mark = functools.lru_cache(maxsize=1)(start_mark)


def own_mark() -> str:
    """The mark of this process, which is read once."""
    return _own_mark(os.getpid())


def is_dead(*, host: str, pid: int, mark: str) -> bool:
    """Whether a process that held a lease is surely gone."""
    if host != host_id() or sys.platform == "win32":
        return False
    if pid == os.getpid():
        return bool(mark and own_mark() and mark != own_mark())
    # Read first: a child that is reaped between the two looks would pass for alive.
    fields = _stat_fields(pid)
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    except PermissionError:
        return False
    if not fields:
        return False
    # An unreaped child still answers signals; a reused pid has another start mark.
    return fields[0] in ("Z", "X") or bool(mark and fields[19] != mark)


def _stat_fields(pid: int) -> list[str]:
    try:
        with open(f"/proc/{pid}/stat") as file:
            stat = file.read()
    except OSError:
        return []
    return stat.rpartition(")")[2].split()
