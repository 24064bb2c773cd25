"""`kitaru cost` and `client.executions.costs`: what executions have spent, in groups."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

import kitaru
from examples.model_server import ModelServer, Reply, Request
from kitaru import KitaruClient, KitaruUsageError
from kitaru.client.costs import ExecutionCost, ExecutionCosts
from tests import support
from tests.cli.conftest import Cli

#: One request to a model: its name, its tokens, and what its provider said that it cost.
Spent = tuple[str, int, float | None]


@pytest.fixture
def cli(capsys: pytest.CaptureFixture[str], home: Path) -> Cli:
    return Cli(capsys, home)


@kitaru.checkpoint
def ask(spent: list[Any]) -> None:
    for model, tokens, cost in spent:
        kitaru.record_llm_usage(
            provider="mine", model=model, input_tokens=tokens, actual_cost_usd=cost
        )


@kitaru.checkpoint
def stop(fails: bool) -> None:
    if fails:
        raise ValueError("no")


@kitaru.flow
def research(spent: list[Any], fails: bool = False) -> None:
    ask(spent)
    stop(fails)


@kitaru.flow(tags=["nightly"])
def report(spent: list[Any]) -> None:
    ask(spent)


@kitaru.flow
def asking(spent: list[Any]) -> bool:
    ask(spent)
    return kitaru.wait(name="approve", timeout=0)


@kitaru.flow
def idle() -> None: ...


def ran(flow: Any, *spent: Spent, **inputs: Any) -> str:
    handle = flow.run(spent=[*spent], **inputs)
    if inputs.get("fails"):
        with pytest.raises(kitaru.KitaruError):
            handle.wait()
    else:
        handle.wait()
    return str(handle.exec_id)


def costs(by: str = "flow", **filters: Any) -> ExecutionCosts:
    return KitaruClient().executions.costs(by, **filters)


def shortly(found: ExecutionCosts) -> list[tuple[Any, ...]]:
    return [(next(reversed(each.keys.values())), *numbers(each)) for each in found.groups]


def numbers(cost: ExecutionCost) -> tuple[Any, ...]:
    tokens = cost.incurred_total_tokens, cost.reused_total_tokens
    return cost.execution_count, *tokens, cost.display_cost_usd


def replayed(exec_id: str) -> None:
    """A replay that takes over what was asked."""
    again = research.replay(exec_id, from_="stop")
    again.wait()


# --- groups ---------------------------------------------------------------------------------------


@pytest.mark.usefixtures("home")
def test_what_was_spent_is_told_by_flow_and_by_model_the_dearest_first():
    first = ran(research, ("small", 10, 0.5), ("large", 100, 2.0))
    ran(research, ("small", 10, 0.25), fails=True)
    replayed(first)
    ran(report, ("small", 30, 0.125), ("free", 7, None))
    idle.run().wait()

    flows, models = costs(), costs("model")
    assert shortly(flows) == [("research", 3, 120, 110, 2.75), ("report", 1, 37, 0, 0.125)]
    assert shortly(models) == [
        ("mine/large", 2, 100, 100, 2.0),
        ("mine/small", 4, 50, 10, 0.875),
        ("mine/free", 1, 7, 0, None),
    ]
    assert numbers(flows.total) == numbers(models.total) == (4, 157, 110, 2.875)
    assert [each.records_without_cost_count for each in models.groups] == [0, 0, 1]
    assert flows.groups[0].keys["flow_id"].startswith("fl-")  # type: ignore[union-attr]
    assert not flows.truncated


@pytest.mark.usefixtures("home")
def test_what_was_only_reused_has_a_known_cost_whatever_it_cost_before():
    replayed(ran(research, ("free", 7, None)))
    now = KitaruClient().executions.latest().created_at
    for by in ("flow", "model", "day"):
        (group,) = costs(by, since=now).groups
        assert (numbers(group), group.records_without_cost_count) == ((1, 0, 7, 0), 1)
    assert costs().total.display_cost_usd is None


def test_days_are_those_of_the_start_and_come_in_their_order(home: Path):
    late = [ran(report, ("small", tokens, 1.0)) for tokens in (1, 2, 4)]
    for days, exec_id in zip((3, 0, 3), late, strict=True):
        at = datetime(2026, 11, 20, 23, 59, tzinfo=UTC) - timedelta(days=days)
        us = round(at.timestamp() * 1_000_000)
        support.query(home, "UPDATE executions SET started_at = ? WHERE exec_id = ?", us, exec_id)
    assert shortly(costs("day")) == [("2026-11-17", 2, 5, 0, 2.0), ("2026-11-20", 1, 2, 0, 1.0)]
    assert shortly(costs("day", max_groups=1)) == [("2026-11-20", 1, 2, 0, 1.0)]


@pytest.mark.usefixtures("home")
def test_the_sums_are_those_of_statistics_over_the_flat_numbers():
    exec_id = ran(research, ("small", 10, 0.1), ("large", 100, 0.2))
    ran(report, ("small", 30, 0.7))
    replayed(exec_id)
    key = "metadata:kitaru_llm_{}_v1:sum"
    found = KitaruClient().executions.statistics(
        group_by=["flow"],
        metrics=[
            f"incurred:{key.format('incurred_total_tokens')}",
            f"reused:{key.format('reused_total_tokens')}",
            f"cost:{key.format('display_cost_usd')}",
        ],
    )
    counted = {each.keys["flow_name"]: [*each.metrics.values()] for each in found.groups}
    assert {name: [*rest] for name, _, *rest in shortly(costs())} == counted


@pytest.mark.usefixtures("home")
def test_only_what_is_asked_for_is_counted():
    ran(research, ("small", 10, 0.5))
    ran(report, ("small", 30, 1.5))
    ran(research, ("small", 1, 0.1), fails=True)
    now = datetime.now(UTC)
    assert costs(flow="report").total.display_cost_usd == 1.5
    assert costs("model", tags=["nightly"]).total.incurred_total_tokens == 30
    assert costs(status="failed").total.incurred_total_tokens == 1
    assert costs(since=now).groups == ()
    assert costs(until=now, stack="local").total.execution_count == 3
    one = costs(max_groups=1)
    assert shortly(one) == [("report", 1, 30, 0, 1.5)]
    assert (one.truncated, one.total.execution_count) == (True, 3)


@pytest.mark.usefixtures("home")
def test_what_has_not_ended_is_said_and_counts_once_it_has():
    handle = asking.run(spent=[("small", 10, 0.5)])
    support.until(lambda: handle.status == "waiting", "it asks")
    found = costs()
    assert (found.groups, found.unfinished_execution_count) == ((), 1)
    client = KitaruClient()
    support.until(lambda: not client.executions.continues(handle.exec_id), "it has let go")
    client.executions.abort_wait(handle.exec_id, wait="approve")
    found = costs()
    assert (numbers(found.total), found.unfinished_execution_count) == ((1, 10, 0, 0.5), 0)


def test_what_goes_on_after_a_retry_is_not_counted_by_what_it_had_used_before(home: Path):
    exec_id = ran(research, ("small", 1, 0.1), fails=True)
    support.query(home, "UPDATE executions SET status = 'running' WHERE exec_id = ?", exec_id)
    for by in ("flow", "model", "day"):
        found = costs(by)
        assert (found.groups, found.unfinished_execution_count) == ((), 1)
        assert numbers(found.total) == (0, 0, 0, 0)


DAMAGES: list[tuple[str, Any]] = [
    ("$.llm_usage_summary_v1", "text"),
    ("$.llm_usage_summary_v1.by_model", [1, 2]),
    ("$.llm_usage_summary_v1.by_model", "not json"),
    ("$.llm_usage_summary_v1.by_model", {"mine/small": "not json"}),
    ("$.llm_usage_summary_v1.by_model", {"mine/small": {"total_tokens": 1}}),
    ("$.llm_usage_summary_v1.by_model.mine/small.total_tokens", None),
    ("$.llm_usage_summary_v1.by_model.mine/small.display_cost_usd", 1e300),
]


@pytest.mark.parametrize(("path", "value"), DAMAGES)
def test_a_damaged_summary_is_passed_over_and_counted(unchecked_home: Path, path: str, value: Any):
    damaged, _ = ran(research, ("small", 10, 0.5)), ran(research, ("large", 1, 1.0))
    path = path.replace("mine/small", '"mine/small"')
    support.query(
        unchecked_home,
        "UPDATE executions SET metadata = json_set(metadata, ?, json(?)) WHERE exec_id = ?",
        *(path, json.dumps(value), damaged),
    )
    found = costs("model")
    assert shortly(found) == [("mine/large", 1, 1, 0, 1.0)]
    assert found.unreadable_usage_record_count == 1
    assert numbers(costs("flow").total) == (2, 11, 0, 1.5)


def test_metadata_that_is_no_json_hinders_nobody(unchecked_home: Path):
    ran(research, ("small", 10, 0.5))
    support.query(unchecked_home, "UPDATE executions SET metadata = '{'")
    found = costs("model")
    assert (found.groups, found.unreadable_usage_record_count) == ((), 1)


@pytest.mark.usefixtures("home")
def test_what_cannot_be_asked_is_refused():
    with pytest.raises(KitaruUsageError, match="'colour'; there are: flow, model, day"):
        costs("colour")
    with pytest.raises(KitaruUsageError, match="max_groups"):
        costs(max_groups=0)


# --- on the command line --------------------------------------------------------------------------


def test_the_table_ends_with_a_total_and_says_what_is_not_in_it(cli: Cli):
    ran(research, ("small", 1000, 0.5), ("large", 100, 2.0))
    ran(report, ("free", 7, None))
    ran(report, ("free", 7, None), ("small", 1, 0.000002))
    handle = asking.run(spent=[])
    support.until(lambda: handle.status == "waiting", "it asks")
    assert cli.good("cost", "--by", "model") == (
        "Kitaru cost by model\n"
        "  Model        Executions   Tokens incurred   Tokens reused   Cost\n"
        "  ----------   ----------   ---------------   -------------   -------\n"
        "  mine/large   1            100               0               $2.00\n"
        "  mine/small   2            1,001             0               $0.5000\n"
        "  mine/free    2            14                0               unknown\n"
        "  Total        3            1,115             0               $2.50+\n"
        "Without a known cost, and not in these amounts: 2 of 5 usage records.\n"
        "Not counted because they have not ended: 1 execution.\n"
    )
    assert "  report     2            15                0               $0.000002+\n" in (
        cli.good("cost")
    )


def test_a_store_where_no_model_was_asked_says_so(cli: Cli):
    empty = "  No execution that has ended has used a model.\n"
    for by in ("flow", "model", "day"):
        assert cli.good("cost", "--by", by) == f"Kitaru cost by {by}\n{empty}"
    assert cli.json("cost").item["total"]["display_cost_usd"] == 0


def test_the_json_has_rows_totals_and_what_is_missing(cli: Cli):
    ran(report, ("small", 30, 1.5), ("free", 7, None))
    item = cli.json("cost", "--by", "model", "--since", "7d", "--tag", "nightly").item
    assert item["groups"] == [
        {
            "keys": {"model": "mine/small"},
            "execution_count": 1,
            "usage_record_count": 1,
            "reused_usage_record_count": 0,
            "incurred_total_tokens": 30,
            "reused_total_tokens": 0,
            "display_cost_usd": 1.5,
            "records_without_cost_count": 0,
        },
        {
            "keys": {"model": "mine/free"},
            "execution_count": 1,
            "usage_record_count": 1,
            "reused_usage_record_count": 0,
            "incurred_total_tokens": 7,
            "reused_total_tokens": 0,
            "display_cost_usd": None,
            "records_without_cost_count": 1,
        },
    ]
    assert item["total"]["incurred_total_tokens"] == 37
    assert (item["by"], item["group_count"], item["truncated"]) == ("model", 2, False)


def test_names_of_models_cannot_steer_a_terminal(cli: Cli):
    ran(report, ("small", 1, 1.0))
    evil = "UPDATE executions SET metadata = replace(metadata, 'mine/small', ?)"
    support.query(cli.home, evil, "mine/x\\u001b[2J")
    assert "mine/x\\x1b[2J" in cli.good("cost", "--by", "model")


def test_more_groups_than_wanted_are_said(cli: Cli):
    ran(report, ("small", 1, 1.0))
    ran(research, ("small", 1, 3.0))
    shown = cli.good("cost", "--max-groups", "1").splitlines()
    assert [line.split()[0] for line in shown[3:5]] == ["research", "Total"]
    assert "these are the largest, the total is of all" in shown[5]


def test_an_unknown_group_exits_with_2(cli: Cli):
    result = cli("cost", "--by", "colour")
    assert (result.code, result.out) == (2, "")
    assert "'flow', 'model', 'day'" in result.err


# --- the statistics of usage ----------------------------------------------------------------------


@kitaru.flow
def talk() -> str:
    return kitaru.llm("One", model="openai/gpt-5-nano") + kitaru.llm(
        "Two", model="openrouter/any/model"
    )


def test_statistics_read_cost_tokens_and_reuse(cli: Cli, monkeypatch: pytest.MonkeyPatch):
    def answer(request: Request) -> Reply:
        cost = 0.25 if request.prompt == "Two" else None
        return Reply("yes", input_tokens=11, output_tokens=7, cost=cost)

    with ModelServer(answer) as server:
        for name, value in server.settings().items():
            monkeypatch.setenv(name, value)
        handle = talk.run()
        handle.wait()
        talk.replay(handle.exec_id, from_="llm#2").wait()
        assert server.tokens() == (33, 21)

    def value(group_by: str, name: str, key: str) -> Any:
        metric = f"{name}:metadata:{key}:sum"
        line = ("executions", "statistics", "--group-by", group_by, "--metric", metric)
        (group,) = cli.json(*line).item["groups"]
        assert group["execution_count"] == 2
        return group["metrics"][name]

    estimated = KitaruClient().executions.get(handle.exec_id).llm_usage_summary
    assert estimated is not None
    cost = value("flow", "llm_display_cost_sum", "kitaru_llm_display_cost_usd_v1")
    assert cost == pytest.approx(0.5 + estimated["estimated_cost_usd"])
    assert value("time:day", "llm_tokens_sum", "kitaru_llm_incurred_total_tokens_v1") == 54
    reused = "kitaru_llm_reused_usage_record_count_v1"
    assert value("flow", "llm_reused_usage_records", reused) == 1
