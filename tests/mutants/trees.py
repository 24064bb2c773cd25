"""A copy of the project with one promise switched off, and tests that run on that copy.

The copy's code is what its tests import, and whatever processes they start: it stands before the
installed project on Python's path, and a run in which it does not is an error.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.mutants.mutant import Mutant
from tests.support import ROOT

#: What tests need of the project.
_PARTS = ("core", "kitaru_mcp", "tests", "examples", "docs", "pyproject.toml", "README.md")
_RUN = """
import sys, pytest, kitaru, kitaru_mcp
for module in (kitaru, kitaru_mcp):
    assert module.__file__.startswith(sys.argv[1]), f"{module.__file__} is not the copy's"
sys.exit(pytest.main(sys.argv[2:]))
"""
HANGS_SECONDS = 90.0


@dataclass(frozen=True)
class Run:
    """How tests ended: which failed first, if one did; or why nothing can be said."""

    failed: str | None = None
    problem: str | None = None


def applied(mutant: Mutant) -> str:
    """The file it changes, changed.

    Raises:
        ValueError: it does not fit the code.
    """
    return mutant.applied((ROOT / mutant.path).read_text())


@contextlib.contextmanager
def copy(mutant: Mutant | None = None) -> Iterator[Path]:
    """A copy of the project's files, in which the mutant's promise does not hold."""
    with tempfile.TemporaryDirectory(prefix="kitaru-mutant-") as folder:
        root = Path(folder).resolve()
        for part in _PARTS:
            if (ROOT / part).is_dir():
                shutil.copytree(ROOT / part, root / part)
            else:
                shutil.copy2(ROOT / part, root / part)
        if mutant is not None:
            (root / mutant.path).write_text(applied(mutant))
        yield root


def run(root: Path, nodes: Sequence[str], *options: str, seconds: float = HANGS_SECONDS) -> Run:
    """Run tests of a copy, until one fails; after so many seconds they are said to hang."""
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(root / "core"), str(root)])}
    # A test that is told to fail leaves a long text: only its name is of use.
    quiet = ["-x", "-q", "--tb=no", "-rfE", "-p", "no:cacheprovider", *options]
    process = subprocess.Popen(
        [sys.executable, "-c", _RUN, str(root), *quiet, *nodes],
        cwd=root,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        start_new_session=True,
    )
    try:
        printed, _ = process.communicate(timeout=seconds)
    except subprocess.TimeoutExpired:
        return Run(failed="it hung")
    finally:
        with contextlib.suppress(ProcessLookupError):  # and whatever the tests have left
            os.killpg(process.pid, signal.SIGKILL)
    if process.returncode == 0:
        return Run()
    found = re.search(r"^(?:FAILED|ERROR) (\S+::\S+)", printed, re.MULTILINE)
    if process.returncode != 1 or found is None:
        return Run(problem=f"its tests ended with {process.returncode}:\n{printed[-3000:]}")
    return Run(failed=found[1])
