"""The tables of docs/guarantees.md, made of the promises and of what a run found."""

from __future__ import annotations

import datetime
import os
import platform
import re
import sqlite3
import subprocess
from collections.abc import Mapping

from tests.chaos.promises import PROMISES, Promise
from tests.support import ROOT

PAGE = ROOT / "docs" / "guarantees.md"
BEGIN, END = "<!-- made by `python3 dev chaos --record` -->\n", "<!-- made until here -->\n"
HEAD = "| promise | how we try to break it | what came of it | command |\n|---|---|---|---|\n"
PLACES = re.compile(f"(?<={re.escape(BEGIN)}).*?(?={re.escape(END)})", re.DOTALL)


def trials_of_promises() -> set[str]:
    """The names of all trials that stand behind a promise."""
    return {name for group in PROMISES.values() for each in group for name in each.trials}


def made(figures: Mapping[str, str], measured: str) -> str:
    """The made part of the page: where it was measured, and a table for each kind of promise."""
    tables = [
        f"\n### {title}\n\n{HEAD}" + "".join(_row(promise, figures) for promise in promises)
        for title, promises in PROMISES.items()
    ]
    return f"{measured}\n" + "".join(tables)


def _row(promise: Promise, figures: Mapping[str, str]) -> str:
    found = "<br>".join(f"{name}: {figures[name]}" for name in promise.trials)
    command = f"`python3 dev chaos {' '.join(promise.trials)}`"
    return f"| {promise.text} | {promise.attack} | {found.replace('|', '/')} | {command} |\n"


def record(figures: Mapping[str, str], *, seed: int, factor: float, seconds: float) -> None:
    """Write a run's figures into the page."""
    text = PAGE.read_text(encoding="utf-8")
    tables = made(figures, _measured(seed, factor, seconds))
    PAGE.write_text(PLACES.sub(lambda _: tables, text, count=1), encoding="utf-8")


def _measured(seed: int, factor: float, seconds: float) -> str:
    commit = subprocess.run(
        ["git", "rev-parse", "--short=10", "HEAD"], cwd=ROOT, capture_output=True, text=True
    ).stdout.strip()
    today = datetime.datetime.now(datetime.UTC).date().isoformat()
    length = "" if factor == 1 else f", {factor:g} times the usual length"
    return (
        f"Measured on {today} at commit `{commit or 'unknown'}`: {platform.system()} "
        f"{platform.machine()}, {os.cpu_count()} cores shared with other work, Python "
        f"{platform.python_version()}, SQLite {sqlite3.sqlite_version}; {seconds / 60:.0f} minutes "
        f"in all{length}; `python3 dev chaos --seed {seed}`.\n"
    )
