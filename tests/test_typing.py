"""What type checkers make of the public names: the files in tests/typing, checked by two of them.

A checker must report exactly the lines there that end in `# E` (or in `# E: NAME`, if only it can
know). The files are never run.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parent.parent
FILES = sorted((ROOT / "tests" / "typing").glob("*.py"))
MARK = re.compile(r"# E(?:: (?P<only>\w+))?$")
SECONDS = 120


def run(*command: str) -> str:
    """What a checker prints about the files; it must not fail but by finding errors."""
    files = [str(path) for path in FILES]
    done = subprocess.run(
        [sys.executable, "-m", *command, *files],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=SECONDS,
    )
    found_errors = done.returncode == 1 and done.stdout
    assert done.returncode == 0 or found_errors, done.stdout + done.stderr
    return done.stdout


def mypy() -> Iterable[tuple[str, int, str]]:
    """Where mypy complains, and why."""
    for line in run("mypy", "--output", "json").splitlines():
        found = json.loads(line)
        if found["severity"] == "error":
            yield Path(found["file"]).name, found["line"], found["message"]


def pyright() -> Iterable[tuple[str, int, str]]:
    """Where pyright complains, and why."""
    output = run("basedpyright", "--pythonpath", sys.executable, "--outputjson")
    for found in json.loads(output)["generalDiagnostics"]:
        first: dict[str, Any] = found["range"]["start"]
        yield Path(found["file"]).name, first["line"] + 1, found["message"]


def marked(checker: str) -> set[tuple[str, int]]:
    """The lines that this checker must report."""
    return {
        (path.name, number)
        for path in FILES
        for number, line in enumerate(path.read_text().splitlines(), start=1)
        if (mark := MARK.search(line)) and mark["only"] in (None, checker)
    }


@pytest.mark.parametrize("checker", [mypy, pyright], ids=lambda checker: checker.__name__)
def test_a_checker_infers_every_type_and_reports_every_mistake(
    checker: Callable[[], Iterable[tuple[str, int, str]]],
):
    expected = marked(checker.__name__)
    assert expected, "found no mistakes to report"
    reported = [*checker()]
    unexpected = [each for each in reported if each[:2] not in expected]
    missed = expected - {each[:2] for each in reported}
    assert not unexpected
    assert not missed
