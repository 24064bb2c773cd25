"""What a run is kept with: the machine, the versions, the commit; and a run that was cut short.

A page is made of committed code only, so a work tree with other changes than the page's own files
is refused. A case that has run is kept until all have, and a run that starts again at the same
commit goes on behind it.
"""

from __future__ import annotations

import datetime
import json
import os
import platform
import shutil
import sqlite3
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.scope import disk, file_system
from benchmarks.worker import ROOT, Broken
from kitaru.version import VERSION

JSON = ROOT / "docs" / "performance.json"
PAGE = ROOT / "docs" / "performance.md"
PLOTS = ROOT / "docs" / "performance"
GIB = 1 << 30
#: The peers' environment; the plots are drawn with what is in it.
PEERS = ROOT / ".peers"
PEERS_PYTHON = PEERS / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
BRING = "`python3 dev peers` brings it"


def git(*words: str, root: Path = ROOT) -> str:
    """What git says, without the last line's end."""
    done = subprocess.run(["git", *words], cwd=root, capture_output=True, text=True)
    if done.returncode:
        raise Broken(f"git {' '.join(words)} failed: {done.stderr.strip()}")
    return done.stdout.rstrip("\n")


def clean_commit(root: Path = ROOT) -> str:
    """The commit of a work tree without changes.

    Raises:
        Broken: there are changes, besides those that recording makes.
    """
    lines = git("status", "--porcelain", root=root).splitlines()
    others = [line for line in lines if not line[3:].startswith("docs/performance")]
    if others:
        raise Broken(
            "The work tree has changes, and a page is recorded of a commit only. Commit them "
            "first:\n" + "\n".join(others)
        )
    return git("rev-parse", "--short=10", "HEAD", root=root)


def machine() -> dict[str, Any]:
    """Where this runs."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") if os.name == "posix" else 0
    return {
        "system": f"{platform.system()} {platform.machine()}",
        "cores": os.cpu_count(),
        "memory_gib": round(memory / GIB),
        "file_system": file_system(disk()) or "unknown",
        "python": platform.python_version(),
        "sqlite": sqlite3.sqlite_version,
        "kitaru": VERSION,
    }


def about_peers(peers: list[Any], missing: list[str]) -> dict[str, Any]:
    """Who takes part, how durable it says it is, and who is missing."""
    told = {peer.name: {"version": peer.version, "durability": peer.durability} for peer in peers}
    return {"peers": told, "missing": missing}


class Kept:
    """The cases of a run that was cut short, if it was of the same commit and length."""

    def __init__(self, commit: str, rounds: int) -> None:
        self.folder = disk() / f"kitaru-bench-{commit}-{rounds}"

    def find(self, case: str) -> list[dict[str, Any]] | None:
        """What a case gave before."""
        try:
            tables: list[dict[str, Any]] = json.loads((self.folder / f"{case}.json").read_text())
        except FileNotFoundError:
            return None
        return tables

    def keep(self, case: str, tables: list[dict[str, Any]]) -> None:
        """Keep what a case gave."""
        self.folder.mkdir(mode=0o700, exist_ok=True)
        part = self.folder / f"{case}.part"
        part.write_text(json.dumps(tables))
        part.rename(self.folder / f"{case}.json")

    def forget(self) -> None:
        """All cases are on the page now."""
        shutil.rmtree(self.folder, ignore_errors=True)


def write(figures: dict[str, Any], *, commit: str) -> None:
    """Write the figures of all cases beside the page."""
    _write({"date": _today(), "commit": commit, **figures})


def add(figures: dict[str, Any], *, commit: str, order: Sequence[str]) -> None:
    """Put cases that were measured by themselves among the others, with their date and commit.

    Raises:
        Broken: the others were measured on another machine or with other versions.
    """
    whole = committed()
    if whole["machine"] != figures["machine"]:
        raise Broken(
            "The other cases of the page were measured elsewhere, or with other versions; "
            "`python3 dev bench --record` measures all of them."
        )
    told = {"date": _today(), "commit": commit, "rounds": figures["rounds"]}
    apart = whole.get("apart", {}) | dict.fromkeys(figures["cases"], told)
    cases = whole["cases"] | figures["cases"]
    whole["apart"] = {name: apart[name] for name in order if name in apart}
    whole["cases"] = {name: cases[name] for name in order if name in cases}
    _write(whole)


def _today() -> str:
    return datetime.datetime.now(datetime.UTC).date().isoformat()


def _write(whole: dict[str, Any]) -> None:
    JSON.write_text(json.dumps(whole, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def committed() -> dict[str, Any]:
    """The figures of the page.

    Raises:
        Broken: none have been recorded.
    """
    try:
        figures: dict[str, Any] = json.loads(JSON.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise Broken(
            f"There is no {JSON.name} yet; `python3 dev bench --record` makes it."
        ) from None
    return figures
