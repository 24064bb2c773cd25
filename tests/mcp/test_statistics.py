"""The tool that counts: the client's statistics, within a reply's size."""

from __future__ import annotations

from tests.mcp.serving import Place, Served

STATISTICS = "kitaru_executions_statistics"


def test_executions_are_counted_in_groups(modern: Served, place: Place) -> None:
    modern.call("kitaru_executions_run", target="flows.py:broken", wait_seconds=50)
    modern.call("kitaru_executions_run", target="flows.py:drawing", wait_seconds=50)
    reply = modern.reply(STATISTICS, group_by=["flow", "status"], metrics=["mean:duration:avg"])
    groups = {group["keys"]["flow_name"]: group for group in reply.data["groups"]}
    assert groups.keys() == {"broken", "drawing"}
    assert groups["broken"]["keys"]["status"] == "failed"
    assert groups["broken"]["execution_count"] == 1
    assert groups["drawing"]["metrics"]["mean"] >= 0
    assert reply.data["group_count"] == 2
    assert "truncated" not in reply.data
    one = modern.call(STATISTICS, group_by='["flow"]', max_groups=1, since="1d")
    assert (one["group_count"], one["truncated"]) == (1, True)
    assert modern.call(STATISTICS)["groups"] == [{"keys": {}, "execution_count": 2}]
    assert modern.call(STATISTICS, where={"metadata:tier": "gold"})["groups"] == [
        {"keys": {}, "execution_count": 0}
    ]


def test_what_cannot_be_counted_lists_what_there_is(modern: Served) -> None:
    refusal = modern.refusal(STATISTICS, group_by=["colour"])
    assert refusal.startswith("bad_argument: Unknown grouping 'colour'; there are: status, flow")
    refusal = modern.refusal(STATISTICS, metrics=["mean:duration:mode"])
    assert "there are: avg, sum, min, max, p50, p95, p99" in refusal
    refusal = modern.refusal(STATISTICS, metrics=["duration"])
    assert "name:source:aggregation" in refusal
    assert len(refusal) <= 400
