"""Warm processes are processes like any other to whoever starts them, and to what they run."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from pathlib import Path

import pytest

from tests import warm
from tests.support import is_running, until

TELLS = """
import atexit, json, os, sys
atexit.register(print, "at its exit")
told = [sys.argv, os.getcwd(), os.environ["TOLD"], __name__, __file__, sys.path[0]]
print(json.dumps([*told, sys.stdin.read()]))
print("an error", file=sys.stderr)
sys.exit(7)
"""
WAITS = "import os, sys\nprint(os.getpid(), flush=True)\nsys.stdin.read()"


def written(folder: Path, text: str) -> str:
    script = folder / "script.py"
    script.write_text(text)
    return str(script)


def test_a_script_has_its_callers_streams_folder_and_environment(tmp_path: Path) -> None:
    script = written(tmp_path, TELLS)
    done = subprocess.run(
        [*warm.command(), script, "one"],
        cwd=tmp_path,
        env=os.environ | {"TOLD": "so"},
        input="given",
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stderr) == (7, "an error\n")
    told, end = done.stdout.splitlines()
    folder = str(tmp_path)
    assert json.loads(told) == [[script, "one"], folder, "so", "__main__", script, folder, "given"]
    assert end == "at its exit"


def test_a_module_is_found_in_the_folder(tmp_path: Path) -> None:
    written(tmp_path, "print(__name__, __spec__.name)")
    command = [*warm.command(), "-m", "script"]
    assert subprocess.check_output(command, cwd=tmp_path) == b"__main__ script\n"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_a_signal_ends_it(number: signal.Signals, tmp_path: Path) -> None:
    command = [*warm.command(), written(tmp_path, WAITS)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        pid = int(process.stdout.readline())
        process.send_signal(number)
        assert process.wait() == -number
        until(lambda: not is_running(pid), "it has ended too")


def test_what_kills_it_is_told(tmp_path: Path) -> None:
    script = written(tmp_path, f"import os\nos.kill(os.getpid(), {signal.SIGKILL:d})")
    assert subprocess.run([*warm.command(), script]).returncode == -signal.SIGKILL
