"""Executions, their statistics, and artifacts as text for people."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from kitaru.cli import charts, output, style
from kitaru.models import ArtifactRef, CheckpointCall, Execution, Page
from kitaru.render import safe_text
from kitaru.statistics import ExecutionStatisticsGrouping, ExecutionStatisticsMetric
from kitaru.usage_summary import told

#: So many checkpoints or children of an execution are named; ten thousand would fill the terminal.
_MOST_NAMES = 100


def execution(found: Execution, *, continues: bool) -> str:
    """One execution, and how to continue it where it does not go on by itself."""
    waits = found.pending_waits
    calls = [call for call in found.checkpoints if call.checkpoint_type != "wait"]
    pairs = [
        ("Execution ID", found.exec_id),
        ("Flow", found.flow_name),
        ("Status", status(found)),
        ("Started", output.moment(found.started_at)),
        ("Ended", output.moment(found.ended_at)),
        ("Stack", found.stack_name),
        ("Pending wait", ", ".join(wait.name for wait in waits) or "none"),
        ("Wait question", "; ".join(wait.question or "not set" for wait in waits) or "none"),
        ("Failure", found.failure.message if found.failure else "none"),
        ("Checkpoints", _last([*map(_call, calls)])),
        ("LLM usage", told(found.llm_usage_summary) if found.llm_usage_summary else "none"),
    ]
    if found.status_reason and not waits and not found.failure:
        pairs.append(("Reason", found.status_reason))
    if found.parent_exec_id is not None:
        pairs.append(("Parent", found.parent_exec_id))
    if found.children:
        pairs.append(("Children", _last(found.children)))
    if found.original_exec_id is not None:
        pairs.append(("Replay of", found.original_exec_id))
    return output.fields("Kitaru execution", pairs) + _hint(found, continues)


def _last(names: Sequence[str]) -> str:
    """Names in a row; of very many the last ones."""
    told = ", ".join(names[-_MOST_NAMES:]) or "none"
    before = len(names) - _MOST_NAMES
    return told if before <= 0 else f"{before:,} before these (-o json has all), {told}"


def _call(call: CheckpointCall) -> str:
    cached = f", cached from {call.cached_from}" if call.cached_from else ""
    return f"{call.call_id} ({call.status}{cached})"


def outcome(did: str, found: Execution, *, continues: bool = True) -> str:
    """What an action did to an execution, such as `Resumed execution`."""
    head = output.fields(f"{did}: {found.exec_id}", [("Status", status(found))])
    return head + _hint(found, continues)


def status(found: Execution) -> str:
    """An execution's status, and whether nobody drives it although it runs."""
    return f"{found.status} (stalled)" if found.stalled else str(found.status)


def _hint(found: Execution, continues: bool) -> str:
    if continues and not found.stalled:
        return ""
    return f"\nContinue it with: kitaru executions resume {found.exec_id}"


def execution_table(page: Page[Execution]) -> str:
    """A page of executions, and how to get the next one."""
    text = output.table(
        "Kitaru executions",
        ("ID", "Flow", "Status", "Started", "Ended", "Stack"),
        [
            (
                each.exec_id,
                each.flow_name,
                status(each),
                output.moment(each.started_at, separator=" ", missing="-"),
                output.moment(each.ended_at, separator=" ", missing="-"),
                each.stack_name,
            )
            for each in page
        ],
        none="executions",
    )
    if page.next_cursor is not None:
        text += f"\nThere are more: repeat the command with --cursor {page.next_cursor}"
    return text


def statistics(
    item: dict[str, Any],
    *,
    group_by: Sequence[ExecutionStatisticsGrouping],
    metrics: Sequence[ExecutionStatisticsMetric],
    max_groups: int,
) -> str:
    """Groups of executions, from the JSON that may be shown of them, and what they leave out."""
    title = "Kitaru execution statistics"
    if not item["groups"]:
        return f"{title}\n  No executions found."
    keys = [_key_and_heading(each) for each in group_by]
    names = [safe_text(each.name) for each in metrics]
    lines = [
        output.table(
            title,
            [*(heading for _, heading in keys), "Executions", *map(_heading, names)],
            [
                [
                    *(_group_key(group["keys"][key]) for key, _ in keys),
                    str(group["execution_count"]),
                    *(_number(group["metrics"][name]) for name in names),
                ]
                for group in item["groups"]
            ],
            none="statistics",
            bars=[group["execution_count"] for group in item["groups"]] if keys else None,
        )
    ]
    lines += _left_out(item, group_by=group_by, max_groups=max_groups)
    return "\n".join(lines)


def statistics_chart(
    item: dict[str, Any],
    *,
    group_by: Sequence[ExecutionStatisticsGrouping],
    metrics: Sequence[ExecutionStatisticsMetric],
    max_groups: int,
) -> str:
    """Groups of executions as bars over time: their counts, or the first metric."""
    time = next(each for each in group_by if each.time_granularity is not None)
    others = [_key_and_heading(each)[0] for each in group_by if each is not time]
    metric = metrics[0] if metrics else None
    name = safe_text(metric.name) if metric else ""

    def drawn(group: dict[str, Any]) -> float | None:
        found = group["metrics"][name] if metric else group["execution_count"]
        return None if isinstance(found, str) else found  # a text takes the place of a secret

    numbers = [
        (
            group["keys"][safe_text(str(time.name))],
            ", ".join(output.line(_group_key(group["keys"][key])) for key in others),
            drawn(group),
        )
        for group in item["groups"]
    ]
    unit = str(time.time_granularity)
    what = _heading(name) if metric else "Executions"
    adds_up = metric is None or metric.aggregation == "sum"
    rows = charts.over_time(numbers, unit=unit, adds_up=adds_up)
    lines = [f"{what} by {unit}"]
    lines += charts.stacked(rows, width=style.width()) if rows else ["  No executions found."]
    if metric and any(isinstance(each["metrics"][name], str) for each in item["groups"]):
        lines.append(f"{what} is masked: what it is made from looks like a secret.")
    return "\n".join([*lines, *_left_out(item, group_by=group_by, max_groups=max_groups)])


def _left_out(
    item: dict[str, Any], *, group_by: Sequence[ExecutionStatisticsGrouping], max_groups: int
) -> list[str]:
    """What statistics do not show, a line each."""
    lines = []
    if item["truncated"]:
        kept = "newest" if any(each.dimension == "time" for each in group_by) else "largest"
        lines.append(
            f"There are more groups; these are the {kept}. Narrow the filters, or raise "
            f"--max-groups (it is {max_groups})."
        )
    for name, count in item["skipped"].items():
        if count:
            lines.append(
                f"Left out of {output.line(name)} because its value is no number: {count}."
            )
    return lines


def _key_and_heading(grouping: ExecutionStatisticsGrouping) -> tuple[str, str]:
    """Where a group has what people read of a key, and what that is headed by."""
    if grouping.dimension in ("flow", "stack"):
        return f"{grouping.dimension}_name", _heading(grouping.dimension)
    name = safe_text(str(grouping.name))
    return name, _heading(name)


def _group_key(value: Any) -> str:
    if value is None:
        return "-"
    return value if isinstance(value, str) else json.dumps(value)


def _heading(name: str) -> str:
    return output.line(" ".join(word[:1].upper() + word[1:] for word in name.split("_")))


def _number(value: float | str | None) -> str:
    return value or "-" if value is None or isinstance(value, str) else charts.number(value)


def artifact_table(refs: Sequence[ArtifactRef]) -> str:
    """The artifacts of an execution."""
    return output.table(
        "Kitaru artifacts",
        ("ID", "Name", "Kind", "Type", "Call", "Bytes"),
        [
            (
                ref.artifact_id,
                ref.name,
                ref.kind or "-",
                ref.save_type,
                ref.producing_call,
                str(ref.size),
            )
            for ref in refs
        ],
        none="artifacts",
    )


def artifact(shown: dict[str, Any]) -> str:
    """One artifact with its value, from the JSON that may be shown of it."""
    head = output.fields(
        "Kitaru artifact",
        [
            ("Artifact ID", shown["artifact_id"]),
            ("Name", shown["name"]),
            ("Kind", shown["kind"] or "not set"),
            ("Type", shown["save_type"]),
            ("Produced by", shown["producing_call"]),
            ("Created", shown["created_at"]),
            ("Bytes", shown["size"]),
        ],
    )
    value = shown["value"]
    text = value if isinstance(value, str) else json.dumps(value, indent=2, ensure_ascii=False)
    return f"{head}\n  Value:\n{output.block(text, indent='    ')}"
