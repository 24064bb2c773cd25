"""`kitaru executions statistics`: the table, the JSON, and what is refused."""

from __future__ import annotations

import json
import sys
from datetime import UTC, datetime
from typing import Any

import pytest

import kitaru
from kitaru import clock, config
from kitaru.cli import views
from kitaru.statistics import ExecutionStatisticsMetric
from kitaru.store import Store
from tests.store.test_rollup import insert
from tests.terminals import Terminal

STATISTICS = ("executions", "statistics")
DAY_SECONDS = 86_400


@pytest.fixture(autouse=True)
def eighty(monkeypatch: pytest.MonkeyPatch) -> None:
    """A line is as wide as where nobody knows, wherever the tests run."""
    monkeypatch.setenv("COLUMNS", "80")


@kitaru.checkpoint
def look(topic: str) -> str:
    return topic


@kitaru.flow(tags=["nightly"])
def report(metadata: dict[str, Any]) -> None:
    look("dogs")
    kitaru.log(**metadata)


@kitaru.flow(tags=["nightly", "customer"])
def breaks() -> None:
    raise ValueError("no")


def run(**metadata: Any) -> str:
    handle = report.run(metadata=metadata)
    handle.wait()
    return handle.exec_id


def run_failing() -> None:
    with pytest.raises(kitaru.KitaruError):
        breaks.run().wait()


def table(cli, *args: str) -> list[list[str]]:
    """The cells of the headings and the rows."""
    title, headings, rule, *rows = cli.good(*STATISTICS, *args).splitlines()
    assert title == "Kitaru execution statistics"
    assert set(rule) == {" ", "-"}
    return [[cell.strip() for cell in line.split("   ") if cell] for line in (headings, *rows)]


def groups(cli, *args: str) -> list[dict[str, Any]]:
    result = cli.json(*STATISTICS, *args)
    assert (result.code, result.err) == (0, "")
    found: list[dict[str, Any]] = result.item["groups"]
    return found


def test_groups_are_a_small_table(cli):
    run()
    run()
    run_failing()
    assert cli.good(*STATISTICS, "--group-by", "status", "--metric", "steps:step_count:sum") == (
        "Kitaru execution statistics\n"
        "  Status      Executions   Steps\n"
        "  ---------   ----------   -----\n"
        "  completed   2            2\n"
        "  failed      1            0\n"
    )


def test_without_groupings_there_is_one_count(cli):
    assert table(cli) == [["Executions"], ["0"]]
    run()
    assert table(cli) == [["Executions"], ["1"]]


def test_flows_and_stacks_are_shown_by_name_and_have_ids_too_in_json(cli):
    exec_id = run()
    grouped = ("--group-by", "flow", "--group-by", "stack")
    assert table(cli, *grouped) == [["Flow", "Stack", "Executions"], ["report", "local", "1"]]
    assert groups(cli, *grouped) == [
        {
            "keys": {
                "flow_id": cli.client.executions.get(exec_id).flow_id,
                "flow_name": "report",
                "stack_id": "local",
                "stack_name": "local",
            },
            "execution_count": 1,
            "metrics": {},
        }
    ]


def test_the_json_says_whether_anything_is_missing(cli):
    run(cost=1.5, tier="gold")
    run(cost=0.125, tier="gold")
    run(cost="free")
    metrics = ("--metric", "cost_usd:metadata:cost:sum", "--metric", "slow:duration:p95")
    document = cli.json(*STATISTICS, "--group-by", "metadata:tier", *metrics).document
    gold, other = document["item"].pop("groups")
    assert document == {
        "command": "executions.statistics",
        "item": {"truncated": False, "group_count": 2, "skipped": {"cost_usd": 1}},
    }
    assert gold["keys"] == {"tier": "gold"}
    assert gold["metrics"]["cost_usd"] == 1.625
    assert gold["metrics"]["slow"] > 0
    assert other["keys"] == {"tier": None}
    assert other["metrics"]["cost_usd"] is None


def test_missing_keys_and_numbers_are_dashes_and_what_was_left_out_is_told(cli):
    run(cost=1.5, tier="gold")
    run(cost="free")
    args = ("--group-by", "metadata:tier", "--metric", "cost_usd:metadata:cost:max")
    assert cli.good(*STATISTICS, *args).splitlines()[1:] == [
        "  Tier   Executions   Cost Usd",
        "  ----   ----------   --------",
        "  gold   1            1.5",
        "  -      1            -",
        "Left out of cost_usd because its value is no number: 1.",
    ]


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (12.0, "12"),
        (100.0, "100"),
        (-3.0, "-3"),
        (0.0, "0"),
        (43.2, "43.2"),
        (6.779836490750313, "6.78"),
        (0.000006, "6e-06"),
        (0.00123456, "0.00123"),
        (1e300, "1e+300"),
        (None, "-"),
    ],
)
def test_numbers_are_rounded_but_never_to_a_zero_that_is_none(value, shown):
    group = {"keys": {}, "execution_count": 1, "metrics": {"n": value}}
    text = views.statistics(
        {"groups": [group], "truncated": False, "group_count": 1, "skipped": {}},
        group_by=(),
        metrics=[ExecutionStatisticsMetric("n", "duration", "avg")],
        max_groups=1,
    )
    assert text.splitlines()[-1].split() == ["1", shown]


def test_the_newest_days_or_the_largest_groups_are_kept_and_the_rest_is_told(cli, turned):
    run()
    run()
    turned.turn(DAY_SECONDS)
    run_failing()
    by_day = cli.good(*STATISTICS, "--group-by", "time:day", "--max-groups", "1").splitlines()
    assert by_day[3].split()[1] == "1"
    assert by_day[4:] == [
        "There are more groups; these are the newest. Narrow the filters, or raise "
        "--max-groups (it is 1)."
    ]
    by_status = cli.good(*STATISTICS, "--group-by", "status", "--max-groups", "1").splitlines()
    assert by_status[3].split() == ["completed", "2"]
    assert "these are the largest" in by_status[4]
    assert cli.json(*STATISTICS, "--group-by", "status", "--max-groups", "1").item["truncated"]
    assert table(cli, "--since", "12h") == [["Executions"], ["1"]]
    assert table(cli, "--until", "12h") == [["Executions"], ["2"]]


def test_filters_choose_what_is_counted(cli):
    run(tier="gold", paid=True, level=3)
    run(tier="3", paid=False)
    run_failing()

    def count(*args: str) -> int:
        (group,) = groups(cli, *args)
        return int(group["execution_count"])

    assert count() == 3
    assert count("--flow", "report") == 2
    assert count("--status", "FAILED") == 1
    assert count("--stack", "other") == 0
    assert count("--tag", "nightly") == 3
    assert count("--tag", "nightly", "--tag", "customer") == 1
    assert count("--where", "metadata:tier=gold") == 1
    assert count("--where", 'metadata:tier="gold"') == 1
    assert count("--where", "metadata:tier=3") == 0
    assert count("--where", 'metadata:tier="3"') == 1
    assert count("--where", "metadata:level=3") == 1
    assert count("--where", "metadata:paid=true", "--where", "metadata:tier=gold") == 1
    assert count("--where", "metadata:paid=false", "--where", "metadata:tier=gold") == 0
    assert count("--where", "metadata:tier=null") == 1


def test_no_groups_are_a_sentence(cli):
    text = cli.good(*STATISTICS, "--group-by", "status")
    assert text == "Kitaru execution statistics\n  No executions found.\n"
    assert cli.json(*STATISTICS, "--group-by", "status").item == {
        "groups": [],
        "truncated": False,
        "group_count": 0,
        "skipped": {},
    }


def test_text_of_user_code_stays_in_its_cell(cli):
    run(**{"who\x1b[2J": "a\n  failed   99"})
    args = ("--group-by", "metadata:who\x1b[2J", "--metric", "n\x1b:step_count:sum")
    lines = cli.good(*STATISTICS, *args).splitlines()
    assert lines[1].split() == ["Who\\x1b[2J", "Executions", "N\\x1b"]
    assert lines[3:] == ["  a\\n  failed   99   1            1"]
    assert groups(cli, *args)[0]["keys"] == {"who\\x1b[2J": "a\n  failed   99"}


@pytest.mark.parametrize(
    "args",
    [
        ["--group-by", "metadata:api_key"],
        ["--group-by", '{"dimension": "metadata", "metadata_key": "api_key", "name": "n"}'],
        ["--metric", "n:metadata:api_key:max"],
    ],
)
def test_values_of_secret_keys_are_masked_whatever_they_are_named(cli, args):
    run(api_key=90125)
    shown = cli.good(*STATISTICS, *args) + cli.good(*STATISTICS, *args, "-o", "json")
    assert shown.count("[redacted]") == 2
    assert "90125" not in shown


def test_a_name_that_looks_secret_masks_nothing(cli):
    run()
    (group,) = groups(cli, "--metric", "secret:step_count:sum")
    assert group["metrics"] == {"secret": 1.0}


def test_a_spec_can_be_a_json_object(cli):
    run(**{"status": "fine", "a:b": 2})
    grouping = json.dumps({"dimension": "metadata", "metadata_key": "status", "name": "result"})
    metric = json.dumps(
        {"name": "n", "source": "metadata", "metadata_key": "a:b", "aggregation": "sum"}
    )
    assert table(cli, "--group-by", "status", "--group-by", grouping, "--metric", metric) == [
        ["Status", "Result", "Executions", "N"],
        ["completed", "fine", "1", "2"],
    ]


@pytest.mark.parametrize(
    ("args", "complaint"),
    [
        ("--group-by colour", "Unknown grouping 'colour'; there are: status, flow"),
        ("--group-by time:year", "Unknown time grouping 'year'; there are: hour, day"),
        ("--group-by {", "this is not JSON"),
        ("--group-by status --group-by status", "Two groupings are named 'status'"),
        ("--group-by time:day --group-by time:hour", "Only one grouping can be by time"),
        ("--metric duration", "is not of the form 'name:source:aggregation'"),
        ("--metric a:b:avg", "Unknown metric source 'b'"),
        ("--metric a:duration:median", "Unknown aggregation 'median'"),
        ("--where metadata:tier", "'metadata:tier' has no value; write metadata:KEY=VALUE"),
        ("--where tier=gold", "of the form 'metadata:<key>'"),
        ("--where metadata:tier=[1]", "give a text, a number, true, false or null"),
        ("--where metadata:a=1 --where metadata:a=2", "'metadata:a' is given twice"),
        ("--max-groups 0", "0 is not in the range"),
        ("--max-groups 10001", "10001 is not in the range"),
        ("--since 2026-11-20", "without a time zone"),
        ("--until yesterday", "which is no time"),
        ("--status lost", "'lost' is not one of"),
    ],
)
def test_what_cannot_be_read_exits_with_2(cli, args, complaint):
    result = cli(*STATISTICS, *args.split())
    assert (result.code, result.out) == (2, "")
    assert complaint in result.err
    refused = cli.json(*STATISTICS, *args.split())
    assert refused.code == 2
    assert refused.error["type"] == "KitaruUsageError"
    assert not (cli.home / "kitaru.db").exists()


def test_what_the_client_refuses_exits_with_1(cli):
    refused = cli.json(*STATISTICS, "--tag", "")
    assert refused.code == 1
    assert refused.error["type"] == "KitaruUsageError"


def fill(cli, days: dict[int, int]) -> None:
    """So many executions on days of November, each of three seconds."""
    store = Store(config.find_home(cli.home), durability="normal")
    with store.write() as conn:
        for day, count in days.items():
            at = clock.to_us(datetime(2026, 11, day, 12, tzinfo=UTC))
            for number in range(count):
                status = "failed" if number == 1 else "completed"
                insert(conn, number % 2, status, at, at + 3_000_000)
    store.close()


CHART = (*STATISTICS, "--chart", "--group-by", "time:day")


def test_a_chart_has_a_bar_for_each_day_and_lines_for_those_without(cli):
    fill(cli, {1: 4, 2: 2, 5: 1})
    assert cli.good(*CHART).splitlines() == [
        "Executions by day",
        f"  2026-11-01  {'█' * 63} 4",
        f"  2026-11-02  {'█' * 32} 2",
        "  2026-11-03",
        "  2026-11-04",
        f"  2026-11-05  {'█' * 16} 1",
    ]


def test_what_adds_up_is_stacked_and_what_does_not_has_bars_of_its_own(cli):
    fill(cli, {1: 4})
    assert cli.good(*CHART, "--group-by", "status").splitlines() == [
        "Executions by day",
        f"  2026-11-01  {'█' * 47}{'▓' * 16} 4",
        "",
        "  █ completed",
        "  ▓ failed",
    ]
    assert cli.good(
        *CHART, "--group-by", "status", "--metric", "mean:duration:avg"
    ).splitlines() == [
        "Mean by day",
        f"  2026-11-01  completed  {'█' * 52} 3",
        f"  2026-11-01  failed     {'█' * 52} 3",
    ]


def test_a_chart_of_a_metric_without_numbers_has_empty_lines(cli):
    fill(cli, {1: 2})
    for aggregation in ("avg", "sum"):
        assert cli.good(*CHART, "--metric", f"c:metadata:cost:{aggregation}").splitlines() == [
            "C by day",
            "  2026-11-01",
        ]


def test_a_chart_of_masked_numbers_draws_none_of_them_and_says_so(cli):
    fill(cli, {1: 1})
    run(password=3)
    for aggregation in ("avg", "sum"):
        metric = f"c:metadata:password:{aggregation}"
        *_, told = cli.good(*CHART, "--metric", metric).splitlines()
        assert told == "C is masked: what it is made from looks like a secret."


def test_parts_of_a_bar_that_read_the_same_are_added_up(cli):
    run(tier=1)
    run(tier=1)
    run(tier="1")
    title, bar, *_ = cli.good(*CHART, "--group-by", "metadata:tier").splitlines()
    assert title == "Executions by day"
    assert bar.endswith("█ 3")


def test_the_numbers_of_a_chart_are_those_of_the_table(cli):
    run(cost=12345.678)
    metric = ("--metric", "c:metadata:cost:sum")
    assert cli.good(*CHART, *metric).endswith("█ 12345.68\n")
    assert table(cli, *metric)[1] == ["1", "12345.68"]


def test_a_long_pause_is_one_line_of_a_chart(cli):
    fill(cli, {1: 1, 20: 1})
    lines = cli.good(*STATISTICS, "--chart", "--group-by", "time:hour").splitlines()
    assert [line.strip() for line in lines[2:-1]] == ["…"]


def test_a_chart_without_time_is_refused_and_one_of_nothing_says_so(cli):
    refused = cli(*STATISTICS, "--chart", "--group-by", "status")
    assert (refused.code, refused.out) == (2, "")
    assert "add --group-by time:day" in refused.err
    assert cli.good(*CHART).splitlines() == ["Executions by day", "  No executions found."]


def test_a_terminal_that_has_no_blocks_gets_other_characters(cli):
    fill(cli, {1: 2, 20: 1})
    by_hour = (*STATISTICS, "--chart", "--group-by", "time:hour")
    terminal = Terminal(
        [sys.executable, "-m", "kitaru.cli", *by_hour], env={"PYTHONIOENCODING": "ascii"}
    )
    try:
        shown = terminal.all()
        assert "2026-11-01 12:00:00  ####" in shown
        assert "\r\n  ...\r\n" in shown
    finally:
        terminal.close()


def test_rows_have_bars_on_a_terminal(cli):
    fill(cli, {1: 4, 2: 2})
    command = [sys.executable, "-m", "kitaru.cli", *STATISTICS, "--group-by", "time:day"]
    terminal = Terminal(command, env={"NO_COLOR": "1"})
    try:
        shown = terminal.all().splitlines()
    finally:
        terminal.close()
    assert [line.count("█") for line in shown if "2026" in line] == [40, 20]
    assert "█" not in cli.good(*STATISTICS, "--group-by", "time:day")
