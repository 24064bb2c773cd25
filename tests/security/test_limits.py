"""Everything that a caller could ask too much of has a limit, and the server goes on beside it."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import pytest

import kitaru
from kitaru import KitaruBackendError, KitaruClient, KitaruUsageError, config
from kitaru.store import statistics as stored
from kitaru_mcp.parameters import accept
from kitaru_mcp.registry import Tool
from kitaru_mcp.tools import TOOLS
from tests import support


@kitaru.flow
def quick() -> int:
    return 1


def many(home: Path, count: int) -> None:
    """So many executions, made of one."""
    quick.run().wait()
    support.query(
        home,
        "INSERT INTO executions (exec_id, flow_id, flow_name, status, created_at, started_at, "
        "ended_at, stack_name, tags, metadata, spec, inputs_size, inputs_digest) "
        "WITH RECURSIVE n(i) AS (VALUES (1) UNION ALL SELECT i + 1 FROM n WHERE i < ?) "
        "SELECT 'kr-' || i, flow_id, flow_name, status, created_at, started_at, ended_at, "
        "stack_name, tags, metadata, spec, 0, x'' FROM executions, n",
        count,
    )


def test_a_question_that_takes_too_long_is_broken_off(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    many(home, 5_000)
    client = KitaruClient()
    ask = ["p:duration:p99", "s:step_count:avg"]
    assert client.executions.statistics(["status"], metrics=ask).groups
    monkeypatch.setattr(config, "STATISTICS_SECONDS", -1.0)
    with pytest.raises(KitaruBackendError, match=r"took too long to answer\. Ask for less"):
        client.executions.statistics(["status"], metrics=ask)
    assert client.executions.list(limit=1)


def test_others_read_while_statistics_are_computed(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    quick.run().wait()
    client, seen = KitaruClient(), []

    def slow(*args: Any, **named: Any) -> None:
        thread = threading.Thread(target=lambda: seen.append(client.executions.latest().status))
        thread.start()
        thread.join(support.DEADLINE_SECONDS)

    monkeypatch.setattr(stored, "compute", slow)
    client.executions.statistics()
    assert seen == ["completed"]


@pytest.mark.parametrize("tool", TOOLS, ids=lambda tool: tool.name)
def test_every_number_that_a_tool_takes_has_a_most(tool: Tool) -> None:
    schema = tool.schema
    given = dict.fromkeys(schema.get("required", ()), "latest")
    for name, each in schema["properties"].items():
        if each.get("type") != "integer" or name in ("offset", "max_groups"):
            continue
        for number in (-1, 20_000, 10**30):
            with pytest.raises(KitaruUsageError, match=name):
                accept(tool.parameters, {**given, name: number}, tool=tool.name)


def test_groups_have_a_most(home: Path) -> None:
    for number in (0, -1, 10**6):
        with pytest.raises(KitaruUsageError, match="max_groups"):
            KitaruClient().executions.statistics(max_groups=number)


def test_a_page_over_the_limit_is_refused(home: Path) -> None:
    client = KitaruClient()
    for limit in (201, 10**9, 0, -1):
        with pytest.raises(KitaruUsageError, match="200"):
            client.executions.list(limit=limit)
