"""Results of recorded calls, as a drive that makes its calls again reads them."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from kitaru import config, launch
from kitaru.errors import KitaruCorruptionError
from kitaru.models import CallStatus
from kitaru.store import Store, journal
from kitaru.store.journal import CallRecord
from kitaru.store.results import Results
from tests import drives, flows
from tests.support import query

COUNT = 300


@pytest.fixture
def execution(home: Path) -> int:
    """An execution with as many calls, each with its number as its result; each tenth is large."""
    store = drives.store()
    lease = launch.start(store, flows.chain.definition, {"length": 0})
    with store.write() as conn:
        for seq in range(1, COUNT + 1):
            record = CallRecord(
                seq, "", seq, f"c#{seq}", "checkpoint", CallStatus.COMPLETED, b"", ""
            )
            journal.put(conn, lease.execution, record, order=seq, result=result(seq))
    return lease.execution


def result(seq: int) -> bytes:
    return b"%d" % seq * (config.INLINE_BYTES if seq % 10 == 0 else 1)


def taken(store: Store, execution: int, order: list[int]) -> int:
    """How many statements it takes to take all results in this order."""
    seen: list[str] = []
    store._reader.set_trace_callback(lambda sql: seen.append(sql) if "SELECT" in sql else None)
    results = Results(store, execution)
    for seq in order:
        assert results.take(seq, what=f"Result {seq}") == result(seq)
    store._reader.set_trace_callback(None)
    return len([sql for sql in seen if "FROM calls" in sql])


def test_results_in_their_order_are_read_many_at_a_time(execution: int) -> None:
    assert taken(drives.store(), execution, [*range(1, COUNT + 1)]) <= 10


@pytest.mark.parametrize("seed", range(3))
def test_results_come_in_any_order(execution: int, seed: int) -> None:
    order = [*range(1, COUNT + 1)]
    random.Random(seed).shuffle(order)
    assert taken(drives.store(), execution, order) <= COUNT


def test_damage_is_told_for_the_result_that_has_it(execution: int, home: Path) -> None:
    query(home, "UPDATE calls SET result = CAST('8' AS BLOB) WHERE seq = 7")
    results = Results(drives.store(), execution)

    assert [results.take(seq, what="") for seq in range(1, 7)] == [result(n) for n in range(1, 7)]
    with pytest.raises(KitaruCorruptionError, match="Result of c#7 is damaged"):
        results.take(7, what="Result of c#7")
    assert results.take(8, what="") == b"8"
