"""Many processes write one store at the same time, and none is ever told that it is locked."""

from __future__ import annotations

import json
from pathlib import Path

from tests import support
from tests.chaos.trial import Trial

PROCESSES = 4


def run(home: Path, *, executions: int, length: int = 5) -> str:
    """Run this many executions in each of several processes."""
    (reference, _) = support.start(home, "chain", length=length)
    result = json.loads(support.finish(reference))
    started = [
        support.start(home, "chain", copies=executions, length=length) for _ in range(PROCESSES)
    ]
    for process, _ in started:
        outcomes = [json.loads(line) for line in support.rest(process)[-executions:]]
        assert outcomes == [result] * executions
    statuses = support.query(home, "SELECT status, count(*) FROM executions GROUP BY status")
    assert statuses == [("completed", PROCESSES * executions + 1)]
    calls = support.query(home, "SELECT count(*) FROM calls WHERE status = 'completed'")
    assert calls == [((PROCESSES * executions + 1) * length,)]
    assert support.query(home, "PRAGMA integrity_check") == [("ok",)]
    return f"{PROCESSES} processes, {executions} executions each"


TRIALS = (Trial(name="writers", run=lambda scope: run(scope.home, executions=scope.times(200))),)
