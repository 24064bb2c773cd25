"""What tests of real processes share: start, watch and read them.

`python -m tests.support TARGET INPUTS COPIES` runs a flow in this process, prints the ids of its
executions, then their outcomes; `start` starts that, `start_runner` a bare runner. Nothing here
knows what a test means to prove.
"""

from __future__ import annotations

import concurrent.futures
import io
import json
import os
import pickle
import shlex
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from contextlib import closing, suppress
from pathlib import Path
from typing import Any, TypeVar

from kitaru import KitaruClient, KitaruError, clock, codec, config, store, targets
from kitaru.store.rollup import is_true

T = TypeVar("T")

ROOT = Path(__file__).resolve().parent.parent
DEADLINE_SECONDS = 60.0


def until(condition: Callable[[], T], what: str, *, seconds: float = DEADLINE_SECONDS) -> T:
    """What the condition gives as soon as it is true; fails the test at the deadline."""
    deadline = time.monotonic() + seconds
    while not (value := condition()):
        if time.monotonic() > deadline:
            raise AssertionError(f"In {seconds:.0f} seconds this never held: {what}")
        time.sleep(0.001)
    return value


class QuickClock(clock.Clock):
    """The system's clock, but pauses between attempts pass at once and are kept in `pauses`."""

    def __init__(self) -> None:
        self.pauses: list[float] = []

    def wait(self, event: threading.Event, seconds: float) -> bool:
        if seconds <= config.TICK_SECONDS:
            return super().wait(event, seconds)
        self.pauses.append(seconds)
        return event.is_set()


class TurnedClock(clock.Clock):
    """The system's clock, turned on by hand; whoever waits sees it within milliseconds.

    `waits` are the seconds of all waits that have begun.
    """

    def __init__(self) -> None:
        self.ahead = 0.0
        self.waits: list[float] = []

    def turn(self, seconds: float) -> None:
        """Let time pass."""
        self.ahead += seconds

    def now_us(self) -> int:
        return super().now_us() + round(self.ahead * 1_000_000)

    def monotonic(self) -> float:
        return super().monotonic() + self.ahead

    def wait(self, event: threading.Event, seconds: float) -> bool:
        until = self.monotonic() + seconds
        self.waits.append(seconds)
        while not (is_set := event.wait(0.002)) and self.monotonic() < until:
            pass
        return is_set


def spawn(home: Path, *arguments: str, **options: Any) -> subprocess.Popen[str]:
    """Start Python on a store's home, with pipes for what it reads and prints."""
    return subprocess.Popen(
        [sys.executable, *arguments],
        cwd=ROOT,
        env=os.environ | {"KITARU_HOME": str(home)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        **options,
    )


def start(
    home: Path, flow: str, *, copies: int = 1, **inputs: Any
) -> tuple[subprocess.Popen[str], str]:
    """Start a flow of `tests.flows` in a process of its own; returns it and the execution's id.

    Of several copies the other ids are on the process's next lines.
    """
    arguments = [f"tests.flows:{flow}", json.dumps(inputs), str(copies)]
    process = spawn(home, "-m", "tests.support", *arguments)
    assert process.stdout is not None
    return process, process.stdout.readline().strip()


def start_runner(home: Path, action: str, exec_id: str) -> subprocess.Popen[str]:
    """Start a bare runner for an execution, as a client would, without hearing its answer."""
    spec = json.loads(query(home, "SELECT spec FROM executions WHERE exec_id = ?", exec_id)[0][0])
    request = {"action": action, "exec_id": exec_id, "target": spec["target"], "root": spec["root"]}
    process = spawn(home, "-m", "kitaru.runner", start_new_session=True)
    assert process.stdin is not None
    process.stdin.write(json.dumps(request))
    process.stdin.close()
    return process


def forget(home: Path) -> None:
    """Close this process's handle of a store, so that only others have the file open."""
    opened = store._stores.pop(str((home / "kitaru.db").resolve()), None)
    if opened is not None:
        opened.close()


def see_through(home: Path, exec_id: str) -> None:
    """Answer what an execution asks, and resume it where its driver has let go, to its end."""
    executions = KitaruClient(home=home).executions

    def has_ended() -> bool:
        return executions.get(exec_id).status.is_finished

    def is_taken_up() -> bool:
        found = executions.get(exec_id)
        asks_more = bool(found.pending_waits)
        return found.status != "waiting" or asks_more or not executions.continues(exec_id)

    while until(lambda: has_ended() or executions.pending_waits(exec_id), "it goes on"):
        if has_ended():
            return
        (asked,) = executions.pending_waits(exec_id)
        executions.input(exec_id, wait=asked.name, value=f"answer to {asked.name}")
        until(is_taken_up, "a polling driver takes the answer, or has let go")
        found = executions.get(exec_id)
        if found.status == "waiting" and not found.pending_waits:
            executions.resume(exec_id)


def kill(process: subprocess.Popen[str]) -> None:
    """Kill a process of ours and forget it."""
    process.kill()
    process.wait()
    for stream in (process.stdin, process.stdout):
        if stream is not None:
            stream.close()


def kill_pid(pid: int) -> None:
    """Kill a process, and wait until none of its threads can do any more."""
    os.kill(pid, signal.SIGKILL)
    until(lambda: not is_running(pid), "the killed process is gone")


def outputs(process: subprocess.Popen[str]) -> tuple[str, str]:
    """Let a process end, and return what it printed and complained that nobody has read yet."""
    late = threading.Timer(2 * DEADLINE_SECONDS, process.kill)
    late.start()
    # Not `communicate`, which passes over what a `readline` has left in the buffer.
    with process, concurrent.futures.ThreadPoolExecutor() as pool:
        if process.stdin is not None:
            process.stdin.close()
        streams = (process.stdout, process.stderr)
        out, err = pool.map(lambda stream: stream.read() if stream else "", streams)
    late.cancel()
    return out, err


def rest(process: subprocess.Popen[str]) -> list[str]:
    """Let a process of ours end, and return the lines it printed that nobody has read yet."""
    lines = outputs(process)[0].splitlines()
    assert process.returncode == 0, f"it ended with {process.returncode} after {lines}"
    return lines


def finish(process: subprocess.Popen[str]) -> str:
    """Let a process of ours end, and return the last line it printed."""
    return (rest(process) or [""])[-1]


def query(home: Path, sql: str, *parameters: object) -> list[tuple[Any, ...]]:
    """Rows of the real file, read past the store."""
    with closing(sqlite3.connect(home / "kitaru.db", timeout=30)) as conn:
        # Nobody may checkpoint outside the store's write lock.
        conn.execute("PRAGMA wal_autocheckpoint=0")
        rows = conn.execute(sql, parameters).fetchall()
        conn.commit()
    return rows


class Tripwire:
    """What leaves a file behind when somebody unpickles it."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, (shlex.join(["touch", str(self.path)]),)


def plant_pickle(home: Path, exec_id: str, path: Path) -> None:
    """Put a pickle that leaves a file behind in the place of every value of an execution."""
    data = codec.wrap_pickle(pickle.dumps(Tripwire(path)))
    for table, value, prefix, key in [
        ("executions", "inputs", "inputs_", "id"),
        ("executions", "result", "result_", "id"),
        ("calls", "result", "result_", "execution"),
        ("artifacts", "data", "", "execution"),
    ]:
        query(
            home,
            f"UPDATE {table} SET {value} = ?, {prefix}size = ?, {prefix}digest = ? "
            f"WHERE {key} = (SELECT id FROM executions WHERE exec_id = ?) AND {value} NOT NULL",
            *(data, len(data), codec.digest(data), exec_id),
        )


def dump(home: Path) -> dict[str, list[tuple[Any, ...]]]:
    """Every row of every table."""
    tables = query(home, "SELECT name FROM sqlite_master WHERE type = 'table' ORDER BY name")
    return {name: query(home, f'SELECT * FROM "{name}"') for (name,) in tables}


def is_sound(home: Path) -> bool:
    """Whether SQLite finds nothing wrong with the file."""
    return query(home, "PRAGMA integrity_check") == [("ok",)]


def run_python(home: Path, program: str, **options: Any) -> list[str]:
    """The lines a Python program prints that works on the store."""
    return rest(spawn(home, "-c", program, **options))


def runner_pid(home: Path, exec_id: str) -> int:
    """The process that holds an execution's lease, or held it last."""
    sql = "SELECT pid FROM leases JOIN executions ON id = execution WHERE exec_id = ?"
    return int(query(home, sql, exec_id)[0][0])


def expire_leases(home: Path) -> None:
    """Let every lease have run out, as if its time had passed."""
    query(home, "UPDATE leases SET expires_at = 0")


def is_running(pid: int) -> bool:
    """Whether any thread of a process has not ended; the first may well end before others."""
    return bool(thread_states(pid))


def thread_states(pid: int) -> set[str]:
    """The states of a process's threads, as the kernel names them, without those that ended."""
    states = set()
    with suppress(OSError):
        for thread in os.listdir(f"/proc/{pid}/task"):
            with suppress(OSError):
                stat = Path(f"/proc/{pid}/task/{thread}/stat").read_text()
                states.add(stat.rpartition(")")[2].split()[0])
    return states - {"Z", "X"}


def write_lock_is_free(home: Path) -> bool:
    """Whether nobody is inside a write of this store now."""
    import fcntl  # not on Windows

    with (home / "kitaru.db.lock").open() as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
    return True


def effects(home: Path, exec_id: str) -> list[str]:
    """The calls of an execution that left their mark, one entry per run."""
    try:
        lines = (home / "effects").read_text().splitlines()
    except FileNotFoundError:
        return []
    return [line.removeprefix(f"{exec_id}/") for line in lines if line.startswith(f"{exec_id}/")]


def journal(home: Path, exec_id: str) -> list[tuple[Any, ...]]:
    """The journal of an execution without what differs from run to run: times and attempts."""
    return query(
        home,
        "SELECT seq, call_id, kind, type, calls.status, settled, hex(calls.inputs_digest), "
        "inputs_shown, parents, calls.metadata, calls.failure, original_call_id, "
        "calls.result_size, hex(calls.result_digest), hex(calls.result) "
        "FROM calls JOIN executions ON id = execution "
        "WHERE exec_id = ? ORDER BY seq",
        exec_id,
    )


def main() -> None:
    """Run a flow here: print the executions' ids, then for each its result or `wait`'s error."""
    target, inputs, copies = sys.argv[1:]
    flow = targets.load(target, root=str(ROOT))
    output, sys.stdout = sys.stdout, io.StringIO()  # what flows print goes nowhere
    handles = [flow.run(**json.loads(inputs)) for _ in range(int(copies))]
    print(*(handle.exec_id for handle in handles), sep="\n", file=output, flush=True)
    for handle in handles:
        try:
            outcome = handle.wait()
        except KitaruError as exc:
            outcome = {"error": type(exc).__name__, "message": str(exc)}
        print(json.dumps(outcome), file=output, flush=True)


if __name__ == "__main__":
    main()


def rollup(home: Path) -> list[tuple[Any, ...]]:
    """How many executions there are of each kind and day, as the store keeps it."""
    return sorted(query(home, "SELECT * FROM execution_rollup"))


def recount(home: Path) -> list[tuple[Any, ...]]:
    """The same, counted anew."""
    return sorted(
        query(
            home,
            "SELECT flow_id, flow_name, stack_name, status, "
            "iif(started_at IS NULL, -1000000, started_at / 86400000000), count(*), "
            "total(ended_at IS NOT NULL AND started_at IS NOT NULL), "
            "total(ended_at - started_at), total(started_at - created_at) "
            "FROM executions GROUP BY 1, 2, 3, 4, 5",
        )
    )


def check_rollup(home: Path) -> None:
    """See that whatever a test did has left the roll-up true; where it left a sound store."""
    path = home / "kitaru.db"
    if path.exists():
        # Read-only: the last one to close a store otherwise folds its WAL in.
        with (
            suppress(sqlite3.Error),  # a test has damaged it
            closing(sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True)) as conn,
        ):
            conn.row_factory = sqlite3.Row
            assert is_true(conn), "the roll-up is not what a count gives"
