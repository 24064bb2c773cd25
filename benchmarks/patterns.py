"""The executions that a generated store is made of, written by the store's own functions.

Each is written as its driver would have written it: calls with their results and attempts, saved
values, lines of logs, questions, failures, leases. What looks random comes from the generator that
is given, and time is a clock that is moved by hand.
"""

from __future__ import annotations

import random
from datetime import UTC, datetime
from typing import Any

from kitaru import clock, codec, config, failures, ids
from kitaru.models import CallStatus, ExecutionStatus
from kitaru.store import Transaction, artifacts, executions, journal, leases, logs, waits
from kitaru.store.journal import AttemptRecord, CallRecord

#: Ninety days with two ends of months, and the ends of summer time in Europe and America.
END = datetime(2026, 11, 15, 12, tzinfo=UTC)
DAYS = 90
SECOND = 1_000_000
START_US = clock.to_us(END) - DAYS * 86_400 * SECOND

FLOWS = tuple(
    f"{what}_{task}"
    for what in ("research", "support", "billing", "release", "data")
    for task in ("triage", "report", "review", "import")
)
STACKS = (config.DEFAULT_STACK, config.DEFAULT_STACK, config.DEFAULT_STACK, "staging", "gpu")
_TAGS = ("nightly", "customer:acme", "customer:umbrella", "prod", "experiment", "v2")
_STEPS = ("fetch", "outline", "draft", "critique", "summarise", "publish")
_TYPES = (None, "llm_call", "tool_call")
_MODELS = ("opus-5", "gpt-6", "local-7b")
_WORDS = (
    "the quick agent reads every page and writes one short answer because its budget is small "
    "while another looks for the cause in the logs of last night and finds a missing key"
).split()
_S = ExecutionStatus
#: How many of a hundred end, or stand, like this.
_STATUSES = {
    _S.COMPLETED: 76,
    _S.FAILED: 12,
    _S.CANCELLED: 4,
    _S.WAITING: 5,
    _S.RUNNING: 2,
    _S.PENDING: 1,
}
_SCHEMA = {"enum": ["approve", "reject"], "type": "string"}


class _Moment(clock.Clock):
    """A clock that stands where it was put."""

    at = START_US

    def now_us(self) -> int:
        return self.at

    def pass_(self, seconds: float) -> int:
        self.at += int(seconds * SECOND)
        return self.at


class Pattern:
    """One execution, written as its driver would have."""

    def __init__(self, conn: Transaction, number: int, *, rng: random.Random) -> None:
        self._conn = conn
        self._rng = rng
        self._moment = _Moment()
        # Each status has its share of every run of a hundred.
        shares = [status for status, share in _STATUSES.items() for _ in range(share)]
        self._status = shares[number * 37 % 100]
        self._flow = rng.choice(FLOWS)
        self._calls = 0

    def write(self, *, parent: executions.Row | None = None) -> executions.Row:
        """Write it; a child is written beside the call of its parent that started it."""
        with clock.use(self._moment):
            new = self._new(parent)
            row = executions.at(self._conn, executions.create(self._conn, new))
            if self._status is not _S.PENDING:
                self._drive(row)
            if parent is not None:
                self._start(parent, row.exec_id)
        return row

    def _new(self, parent: executions.Row | None) -> executions.NewExecution:
        rng = self._rng
        tags = tuple(sorted(rng.sample(_TAGS, k=rng.choice((0, 0, 1, 1, 2, 3)))))
        stack = rng.choice(STACKS)
        inputs = {
            "topic": self._text(5),
            "depth": rng.randrange(9),
            "sources": [f"https://example.com/{rng.randrange(999)}" for _ in range(3)],
        }
        spec = {
            "target": f"flows/{self._flow}.py:{self._flow}",
            "root": "/srv/agents",
            "problem": None,
            "cwd": "/srv/agents",
            "source_digest": f"{rng.getrandbits(128):032x}",
            "retries": 0,
            "cache": False,
            "stack": stack,
            "sources": {"retries": "default", "cache": "default", "stack": "active stack"},
            "timeout": None,
            "tags": list(tags),
            "python_version": "3.11.7",
            "kitaru_version": "0.1.0",
        }
        return executions.NewExecution(
            exec_id=ids.new_execution_id(),
            flow_id=ids.flow_id("flows", self._flow),
            flow_name=self._flow,
            inputs=codec.encode(inputs),
            spec=spec,
            stack_name=stack,
            tags=tags,
            parent_exec_id=parent.exec_id if parent else None,
        )

    def _drive(self, row: executions.Row) -> None:
        conn, rng = self._conn, self._rng
        self._moment.pass_(rng.random())
        executions.advance(conn, row, "start")
        leases.take(conn, execution=row.id, exec_id=row.exec_id, runner=ids.new_runner_id())
        self._log(row, "Started by process build-3:4711, epoch 1.", source="runner")
        row = executions.at(conn, row.id)
        for number in range(rng.randint(1 if self._status is _S.FAILED else 0, 8)):
            self._call(row, number)
        if rng.random() < 0.7:
            executions.set_metadata(conn, row.id, self._metadata())
        self._end(row)

    def _end(self, row: executions.Row) -> None:
        conn = self._conn
        self._moment.pass_(self._rng.random())
        if self._status is _S.COMPLETED:
            result = codec.encode({"answer": self._text(12), "score": self._rng.random()})
            executions.set_outcome(conn, row.id, result=result)
            executions.advance(conn, row, "complete")
        elif self._status is _S.FAILED:
            failure = self._fail(row)
            executions.set_outcome(conn, row.id, failure=failure)
            executions.advance(conn, row, "fail", reason=failure["message"])
        elif self._status is _S.CANCELLED:
            executions.advance(conn, row, "cancel", reason="Cancelled by a client.")
        elif self._status is _S.WAITING:
            self._ask(row)
        if self._status is not _S.RUNNING:  # one that is still running has lost its driver
            leases.release(conn, row.id)

    def _call(self, row: executions.Row, number: int) -> None:
        rng = self._rng
        name = _STEPS[number % len(_STEPS)]
        begun = self._moment.pass_(rng.random())
        record = self._record(name, number // len(_STEPS) + 1, type=rng.choice(_TYPES))
        for _ in range(rng.choice((0, 1, 1, 2))):
            self._log(row, self._text(8), call_id=record["call_id"])
        ended = self._moment.pass_(rng.expovariate(0.2))
        metadata = self._metadata() if rng.random() < 0.5 else {}
        attempts = []
        if rng.random() < 0.1:
            between = (begun + ended) // 2
            attempts = [
                AttemptRecord(CallStatus.FAILED, begun, between, failure=self._failure()),
                AttemptRecord(CallStatus.COMPLETED, between, ended, metadata=metadata),
            ]
        self._put(
            row,
            CallRecord(
                **record,
                status=CallStatus.COMPLETED,
                started_at=begun,
                ended_at=ended,
                metadata=metadata,
                attempts=tuple(attempts),
            ),
            result=codec.encode({"text": self._text(rng.randint(3, 40)), "ok": True}),
        )
        if rng.random() < 0.2:
            saved = codec.encode([self._text(4) for _ in range(3)])
            new = artifacts.NewArtifact("notes", "context", ("kept",), ended, saved)
            artifacts.replace(self._conn, row.id, record["seq"], new=[new])

    def _fail(self, row: executions.Row) -> dict[str, Any]:
        begun = self._moment.at
        record = self._record("deliver", 1, type="tool_call")
        self._log(row, "giving up", call_id=record["call_id"], level="ERROR")
        failure = self._failure()
        ended = self._moment.pass_(self._rng.random())
        call = CallRecord(
            **record,
            status=CallStatus.FAILED,
            started_at=begun,
            ended_at=ended,
            failure=failure,
        )
        self._put(row, call)
        return failure

    def _ask(self, row: executions.Row) -> None:
        record = self._record("approve", 1, kind="wait")
        begun = self._moment.at
        self._put(row, CallRecord(**record, status=CallStatus.RUNNING, started_at=begun))
        question = f"May I publish {self._text(4)}?"
        waits.ask(
            self._conn,
            row.id,
            waits.Question(record["seq"], "approve", "approve", question, _SCHEMA, {"by": "ops"}),
        )
        executions.advance(self._conn, row, "wait")

    def _start(self, parent: executions.Row, child: str) -> None:
        """The call of the parent's that ran this execution; before all of its others."""
        record = self._record(self._flow, 1, kind="flow") | {"seq": 0, "position": 0}
        self._put(
            parent,
            CallRecord(
                **record,
                status=CallStatus.COMPLETED,
                started_at=START_US,
                ended_at=self._moment.at,
                child_exec_id=child,
            ),
            result=codec.encode({"answer": self._text(6)}),
        )

    def _record(self, name: str, count: int, **rest: Any) -> dict[str, Any]:
        self._calls += 1
        shown = f"topic={self._text(3)!r}"
        return {
            "seq": self._calls,
            "lane": "",
            "position": self._calls,
            "call_id": ids.call_id(name, count),
            "kind": "checkpoint",
            "inputs_digest": codec.fingerprint(shown),
            "inputs_shown": shown,
            **rest,
        }

    def _put(self, row: executions.Row, record: CallRecord, *, result: bytes | None = None) -> None:
        order = record.seq if record.is_recorded else None
        journal.put(self._conn, row.id, record, order=order, result=result)

    def _log(
        self, row: executions.Row, message: str, *, level: str | None = None, **rest: Any
    ) -> None:
        level = level or self._rng.choice(("INFO", "INFO", "DEBUG", "WARNING"))
        logs.add(self._conn, row.id, [logs.LogRecord(self._moment.at, level, message, **rest)])

    def _metadata(self) -> dict[str, Any]:
        rng = self._rng
        return {
            "model": rng.choice(_MODELS),
            "tokens": rng.randrange(20_000),
            "cost_usd": round(rng.random(), 4),
        }

    def _failure(self) -> dict[str, Any]:
        kind = self._rng.choice((ValueError, TimeoutError, KeyError))
        try:
            raise kind(self._text(5))
        except kind as exc:
            return failures.describe(exc)

    def _text(self, words: int) -> str:
        return " ".join(self._rng.choices(_WORDS, k=words))
