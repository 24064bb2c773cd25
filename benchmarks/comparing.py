"""A quick run's ratios beside the committed ones, as information: nothing depends on them.

A ratio is marked where its median is worse than the committed one by more than the rounds of that
run differ among themselves, and by more than a tenth.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

MARK = "  <- worse"
#: A ratio that is worse by less than this part of it is not marked, however steady it is.
LEAST = 0.1
#: These columns tell in another unit what others tell, or depend more on the clock.
NOT_COMPARED = {"each/1000", "whole/1000", "import clock", "first step CPU", "import memory"}
Tables = Mapping[str, list[dict[str, Any]]]


def lines(now: Tables, committed: Tables) -> Iterator[str]:
    """One line for each ratio of ours that both runs have; and one that sums up."""
    compared, marked = 0, 0
    for case, tables in now.items():
        before = {table["key"]: table for table in committed.get(case, [])}
        for table in [table for table in tables if table["key"] not in NOT_COMPARED]:
            for side, told in _ours(table):
                was = before.get(table["key"], {}).get("sides", {}).get(side)
                if was is None or (found := _pair(told, was, table)) is None:
                    continue
                line, is_worse = found
                compared, marked = compared + 1, marked + is_worse
                yield f"  {case + ' ' + table['key']:30}{side:25}{line}"
    yield f"{compared} ratios compared with the committed ones, {marked} marked as worse"


def _ours(table: Mapping[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    for side, told in table["sides"].items():
        if side.startswith("Kitaru"):
            yield side, told


def _pair(
    told: Mapping[str, Any], was: Mapping[str, Any], table: Mapping[str, Any]
) -> tuple[str, bool] | None:
    """Both ratios in words, and whether the first is worse; a bare count is one, too."""
    if "ratio" in told and "ratio" in was:
        new, old, unit = told["ratio"], was["ratio"], " x"
    elif not table["unit"]:
        new, old, unit = told, was, ""
    else:
        return None
    by = new["median"] - old["median"]
    is_worse = (by if table["better"] == "less" else -by) > max(
        old["max"] - old["min"], LEAST * old["median"]
    )
    words = (
        f"{new['median']:9.3g}{unit}   committed {old['median']:.3g} "
        f"({old['min']:.3g} to {old['max']:.3g})"
    )
    return words + (MARK if is_worse else ""), is_worse
