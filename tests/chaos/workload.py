"""A program as users write it: run again after whatever happened to it, it goes on to its end.

Its flows save, log, wait, fail, are retried, cancelled and removed. Whatever was promised to it
by then it appends to a file outside the store, as facts: `check` holds a store against them.
"""

from __future__ import annotations

import ctypes
import json
import os
import re
import sqlite3
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import kitaru
from kitaru import KitaruClient, KitaruError, checkpoint, codec, config, flow
from kitaru.flow import Flow
from kitaru.store import close_all, open_store
from tests import drives, support

T = TypeVar("T")

#: Longer than what is kept in its row.
LARGE = 33 * 1024
LOG_PAGES = 80


class Fact(NamedTuple):
    """Something that was promised: what, of which execution, and the call and value, if any."""

    what: str
    exec_id: str
    call: str = ""
    digest: str = ""


class Facts:
    """Facts on disk, and as marks in the trace of what reaches the store."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def add(self, fact: Fact) -> None:
        """Append one; a killed process leaves what it has added."""
        line = json.dumps(fact)
        fd = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        os.write(fd, f"{line}\n".encode())
        os.close(fd)
        if mark := getattr(ctypes.CDLL(None), "faults_mark", None):
            mark(line.encode())

    def all(self) -> list[Fact]:
        """Those there are."""
        if not self.path.exists():
            return []
        return [Fact(*json.loads(line)) for line in self.path.read_text().splitlines()]


def _facts() -> Facts:
    return Facts(Path(os.environ["KITARU_HOME"]) / "facts")


def digest(value: Any) -> str:
    """The digest that the record of a value has."""
    return codec.digest(codec.encode(value)).hex()


def _state(what: str, exec_id: str, call: str = "", value: Any = None) -> None:
    _facts().add(Fact(what, exec_id, call, digest(value)))


def recorded(call: str, value: T) -> T:
    """A checkpoint has returned this to its flow."""
    exec_id = kitaru.current_execution_id()
    assert exec_id is not None
    _state("recorded", exec_id, call, value)
    return value


def _runs() -> None:
    """The code of a checkpoint runs."""
    call = kitaru.current_checkpoint()
    assert call is not None
    exec_id, _, call_id = call.idempotency_key.partition("/")
    _state("runs", exec_id, call_id)


@checkpoint
def note(topic: str) -> dict[str, str]:
    _runs()
    print(f"noted {topic}")
    kitaru.save("notes", {"topic": topic})
    kitaru.log(topic=topic)
    return {"topic": topic, "text": f"notes about {topic}"}


@checkpoint
def fill(size: int) -> str:
    _runs()
    return "x" * size


@checkpoint
def breaks(topic: str) -> str:
    _runs()
    if "MENDED" not in os.environ:
        raise ValueError(f"no {topic} yet")
    return f"{topic} at last"


@flow
def answered(topic: str = "dogs") -> str:
    """A small value, a large one, a question, a value that needs the answer."""
    text = recorded("note", note(topic))["text"]
    recorded("fill", fill(LARGE))
    answer = kitaru.wait(name="approve", question="So?", schema=str, timeout=0.0)
    return recorded("note#2", note(f"{text}, {answer}"))["text"]


@flow
def mended(topic: str = "cats") -> str:
    """A checkpoint that is recorded, and one that fails at first."""
    recorded("note", note(topic))
    return recorded("breaks", breaks(topic))


@flow
def deleted() -> int:
    """What is deleted once it has completed."""
    return len(recorded("fill", fill(LARGE)))


@flow
def pruned() -> str:
    """What is cancelled while it waits, and pruned."""
    recorded("note", note("mice"))
    return kitaru.wait(name="never", question="So?", schema=str, timeout=0.0)


FLOWS: tuple[Flow[..., Any], ...] = (answered, mended, deleted, pruned)


def go_on() -> None:
    """Bring every flow's one execution to its end, wherever it stands by now; close the store."""
    # So few that the log is folded into the file, and begun anew, in the midst of the work too.
    open_store(config.find_home())._writer.execute(f"PRAGMA wal_autocheckpoint={LOG_PAGES}")
    for each in FLOWS:
        while _goes_on(each):
            pass
    close_all()


def _goes_on(flow: Flow[..., Any]) -> bool:
    """One step further; whether there may be another one."""
    client = KitaruClient()
    found = client.executions.list(flow=flow.name)
    if not found:
        if any(fact.what == f"removing {flow.name}" for fact in _facts().all()):
            return False
        _drive(flow.run())
        return True
    (execution,) = found
    exec_id, status = execution.exec_id, execution.status.value
    asked = client.executions.pending_waits(exec_id)
    if status == "waiting" and asked and flow is pruned:
        client.executions.cancel(exec_id)
        _state("cancelled", exec_id)
    elif status == "waiting" and asked:
        client.executions.input(exec_id, wait=asked[0].name, value="yes")
        _state("answered", exec_id, asked[0].name, "yes")
    elif status in ("waiting", "running"):
        _drive(drives.again("resume", flow, exec_id))
    elif status == "failed":
        os.environ["MENDED"] = "1"
        _state("retrying", exec_id)
        _drive(drives.again("retry", flow, exec_id))
    else:
        return _removes(flow, exec_id)
    return True


def _drive(handle: drives.Handle) -> None:
    """Let an execution come as far as it does; what it promises is noted."""
    _state("started", handle.exec_id)
    try:
        value = handle.wait(support.DEADLINE_SECONDS)
        _state("completed", handle.exec_id, "", value)
    except kitaru.KitaruUserCodeError:
        _state("failed", handle.exec_id)
    except kitaru.KitaruStateError as exc:  # it waits
        if KitaruClient().executions.get(handle.exec_id).status != "waiting":
            raise AssertionError("it was left without a reason") from exc


def _removes(flow: Flow[..., Any], exec_id: str) -> bool:
    executions = KitaruClient().executions
    if flow not in (deleted, pruned):
        return False
    _state(f"removing {flow.name}", exec_id)
    if flow is deleted:
        executions.delete(exec_id)
    else:
        executions.prune(flow=flow.name)
    _state("removed", exec_id)
    return False


# --- what must hold of the store --------------------------------------------------------------


def outcome(home: Path) -> dict[str, Any]:
    """All that the executions came to, without what differs from one run to another."""
    client = KitaruClient(home=home)
    found: dict[str, Any] = {}
    for listed in client.executions.list():
        execution = client.executions.get(listed.exec_id)
        lines = client.executions.logs(listed.exec_id, source="step")
        found[listed.flow_name] = (
            execution.status.value,
            execution.result,
            [(a.name, a.producing_call, digest(a.load())) for a in execution.artifacts],
            # A run that could not be recorded may have left its lines all the same.
            sorted({line.message for line in lines}),
            support.journal(home, listed.exec_id),
        )
    return found


def check(path: Path, facts: Iterable[Fact]) -> list[str]:
    """What of the facts a store's file, read past Kitaru, does not hold; and what is damaged."""
    conn = sqlite3.connect(path, isolation_level=None)
    try:
        conn.execute("PRAGMA synchronous=OFF")
        found = [row[0] for row in conn.execute("PRAGMA integrity_check") if row[0] != "ok"]
        return [f"corrupt: {each}" for each in found] or list(_lost(conn, list(facts)))
    except sqlite3.DatabaseError as exc:
        return [f"corrupt: {exc}"]
    finally:
        conn.close()


_STATUS = "SELECT status FROM executions WHERE exec_id = ?"
_STATUSES = {
    "started": ("running", "waiting", "failed", "completed", "cancelled"),
    "completed": ("completed",),
    "cancelled": ("cancelled",),
    "failed": ("failed",),
    "retrying": ("failed", "running", "completed"),
}
_ANSWER = (
    "SELECT hex(answer_digest), answer, NULL FROM waits JOIN executions ON id = execution "
    "WHERE exec_id = ? AND name = ?"
)
_RESULT = (
    "SELECT hex(result_digest), result, 'result:' || id FROM executions "
    "WHERE exec_id = ? AND '' = ?"
)
_CALL = (
    "SELECT hex(calls.result_digest), calls.result, 'call:' || execution || ':' || seq "
    "FROM calls JOIN executions ON id = execution "
    "WHERE exec_id = ? AND call_id = ? AND calls.status = 'completed'"
)
_VALUES = {"recorded": _CALL, "completed": _RESULT, "answered": _ANSWER}


def _lost(conn: sqlite3.Connection, facts: list[Fact]) -> Iterable[str]:
    leaving = {fact.exec_id for fact in facts if fact.what.startswith("removing")}
    gone = {fact.exec_id for fact in facts if fact.what == "removed"}
    last: dict[str, Fact] = {}
    for fact in facts:
        if fact.what in _STATUSES and (fact.what != "started" or fact.exec_id not in last):
            last[fact.exec_id] = fact
    if not conn.execute("SELECT 1 FROM sqlite_master").fetchone():
        yield from (f"lost: {fact}" for fact in last.values() if fact.exec_id not in gone)
        return
    for exec_id in gone:
        if conn.execute(_STATUS, (exec_id,)).fetchone():
            yield f"came back: {exec_id}"
    for exec_id, fact in last.items():
        if exec_id in leaving and not conn.execute(_STATUS, (exec_id,)).fetchone():
            gone.add(exec_id)
        elif exec_id not in gone:
            (status,) = conn.execute(_STATUS, (exec_id,)).fetchone() or ("nothing",)
            if status not in _STATUSES[fact.what]:
                yield f"lost: {fact}, it is {status}"
    for fact in facts:
        if fact.what in _VALUES and fact.exec_id not in gone:
            row = conn.execute(_VALUES[fact.what], (fact.exec_id, fact.call)).fetchone()
            if row is None or not _is(conn, fact, *row):
                yield f"lost: {fact}, there is {row}"


def _is(conn: sqlite3.Connection, fact: Fact, kept: str, data: bytes, owner: str) -> bool:
    if data is None:
        sql = "SELECT data FROM chunks WHERE owner = ? ORDER BY position"
        data = b"".join(part for (part,) in conn.execute(sql, (owner,)))
    return kept.lower() == fact.digest == codec.digest(data).hex()


def repeated(facts: Iterable[Fact]) -> list[Fact]:
    """Runs of checkpoints whose results had been promised before."""
    promised: set[tuple[str, str]] = set()
    again = []
    for fact in facts:
        if fact.what == "recorded":
            promised.add((fact.exec_id, fact.call))
        elif fact.what == "runs" and (fact.exec_id, fact.call) in promised:
            again.append(fact)
    return again


_ADVICE = re.compile("Make room|Check the disk|Check that|Set KITARU_HOME")


def check_error(home: Path, error: KitaruError) -> None:
    """See that an error from a fault of the disk names the store, and says what to do."""
    text = str(error)
    is_told = str(home) in text and re.search(
        "Make room|Check the disk|Check that|Set KITARU_HOME", text
    )
    assert is_told, f"{type(error).__name__}: {text}"
