"""A quick run's ratios beside the committed ones, as information: nothing depends on them.

A ratio is marked where its median is worse than the worst round of the committed run, that is by
more than what the rounds differ among themselves.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

MARK = "  <- worse"
Tables = Mapping[str, list[dict[str, Any]]]


def lines(now: Tables, committed: Tables) -> Iterator[str]:
    """One line for each ratio of ours that both runs have; and one that sums up."""
    compared, marked = 0, 0
    for case, tables in now.items():
        before = {table["key"]: table for table in committed.get(case, [])}
        for table in tables:
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
    less = table["better"] == "less"
    is_worse = new["median"] > old["max"] if less else new["median"] < old["min"]
    words = (
        f"{new['median']:9.3g}{unit}   committed {old['median']:.3g} "
        f"({old['min']:.3g} to {old['max']:.3g})"
    )
    return words + (MARK if is_worse else ""), is_worse
