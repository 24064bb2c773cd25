"""Runs the benchmarks named on the command line, or all; `--json FILE` keeps the figures."""

from __future__ import annotations

import argparse
import importlib
import json
import platform
import sqlite3
from pathlib import Path
from typing import Any

NAMES = ("commit", "startup", "answers", "scale", "following", "mcp", "counts")


def main() -> None:
    """Run, print, and keep what was asked for."""
    parser = argparse.ArgumentParser(prog="bench", description=__doc__)
    parser.add_argument("names", nargs="*", choices=[*NAMES, []], help=", ".join(NAMES))
    parser.add_argument("--json", type=Path, metavar="FILE")
    chosen = parser.parse_args()
    machine = {
        "python": platform.python_version(),
        "sqlite": sqlite3.sqlite_version,
        "system": f"{platform.system()} {platform.machine()}",
    }
    print(", ".join(f"{key} {value}" for key, value in machine.items()))
    figures: dict[str, Any] = {"machine": machine}
    for name in chosen.names or NAMES:
        print()
        # Each is imported only when it runs, so that none pays for another's imports.
        figures[name] = importlib.import_module(f"benchmarks.{name}").main()
    if chosen.json:
        chosen.json.write_text(json.dumps(figures, indent=2) + "\n")


if __name__ == "__main__":
    main()
