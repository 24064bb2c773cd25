"""Runners that do not come up: whoever asked hears why, in time, and nothing is started."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import pytest

from kitaru import KitaruClient, config, targets
from kitaru.errors import KitaruUsageError
from tests.support import until


def put(folder: Path, name: str, source: str) -> str:
    """Write a module of flows, and return its path."""
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("from kitaru import checkpoint, flow\n" + textwrap.dedent(source))
    return str(path)


FLOW = """
@flow
def f(x=1):
    return x
"""


def run(home: Path, target: str, *, root: Path, **args: Any) -> Any:
    return KitaruClient(home=home).executions.run(target, args, root=str(root))


def count(home: Path) -> int:
    return len(KitaruClient(home=home).executions.list())


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_an_import_that_daemonises_does_not_hang_the_caller(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("kitaru.spawn._LAST_WORDS_SECONDS", 0.1)
    gate = tmp_path / "gate"
    daemonise = f"""
    import os, pathlib, time
    if os.fork() == 0:
        pathlib.Path({str(tmp_path / "pid")!r}).write_text(str(os.getpid()))
        while not os.path.exists({str(gate)!r}):
            time.sleep(0.01)
    else:
        os._exit(0)
    """
    put(tmp_path, "forks.py", textwrap.dedent(daemonise) + FLOW)
    try:
        with pytest.raises(KitaruUsageError, match=r"ended \(code 0\) before it said"):
            run(home, "forks.py:f", root=tmp_path)
    finally:
        gate.touch()
    pid = int(until(lambda: (tmp_path / "pid").exists() and (tmp_path / "pid").read_text(), "pid"))
    until(lambda: not Path(f"/proc/{pid}").exists(), "the child has ended")
    # What the import left behind is no runner: it does not take an execution nobody waits for.
    assert count(home) == 0


def test_an_import_that_blocks_is_given_up_at_the_deadline(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(config, "RUNNER_START_SECONDS", 0.2)
    put(tmp_path, "blocks.py", f"import threading\nthreading.Event().wait()\n{FLOW}")
    with pytest.raises(KitaruUsageError, match="must not exit, crash or block"):
        run(home, "blocks.py:f", root=tmp_path)


UNGUARDED = """
    import os
    @checkpoint
    def c():
        assert os.environ.get("MENDED")
    @flow
    def f():
        c()
    h = f.run()
    {wait}
"""


@pytest.mark.parametrize("wait", ["h.wait()", ""])
def test_a_script_without_a_guard_is_not_run_by_its_own_import(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, wait: str
) -> None:
    path = put(tmp_path, "script.py", UNGUARDED.format(wait=wait))
    subprocess.run([sys.executable, path], capture_output=True, check=False)
    client = KitaruClient(home=home)
    until(lambda: client.executions.latest().status == "failed", "it has failed")
    exec_id = client.executions.latest().exec_id
    monkeypatch.setenv("MENDED", "1")
    with pytest.raises(KitaruUsageError, match=r"cannot be imported.*__name__ == '__main__'"):
        client.executions.retry(exec_id)
    assert [each.exec_id for each in client.executions.list()] == [exec_id]
    assert client.executions.get(exec_id).status == "failed"


@pytest.mark.parametrize(
    "start",
    [
        "f.run()",
        "f.replay('kr-1', 'c')",
        "import kitaru; kitaru.KitaruClient().executions.run('x.py:f')",
    ],
)
def test_nothing_is_started_while_a_target_is_imported(
    home: Path, tmp_path: Path, start: str
) -> None:
    put(tmp_path, "starts_on_import.py", f"{FLOW}\n{start}\n")
    with pytest.raises(KitaruUsageError, match=r"cannot be imported.*put it under"):
        targets.load("starts_on_import.py:f", root=str(tmp_path))
    assert count(home) == 0


def test_after_an_import_flows_may_be_run(home: Path, tmp_path: Path) -> None:
    put(tmp_path, "harmless.py", FLOW)
    assert targets.load("harmless.py:f", root=str(tmp_path)).run().wait(20) == 1


def test_a_file_s_packages_are_imported_up_to_the_root_only(home: Path, tmp_path: Path) -> None:
    put(tmp_path, "top/__init__.py", "raise RuntimeError('above the root')")
    put(tmp_path, "top/below/__init__.py", "")
    put(tmp_path, "top/below/deep/__init__.py", "")
    put(tmp_path, "top/below/deep/one.py", f"from ..two import x\n{FLOW}")
    put(tmp_path, "top/below/two.py", f"x = 1\n{FLOW}")
    root = tmp_path / "top" / "below"
    assert targets.load("deep/one.py:f", root=str(root)).run().wait(20) == 1
    assert targets.load("two.py:f", root=str(root)).run().wait(20) == 1


CODE = """
from pydantic import AfterValidator
from typing import Annotated

def bad(value):
    return 1 / 0

@flow
def odd(x: "not valid!!" = 1):
    return x

@flow
def checked(x: Annotated[int, AfterValidator(bad)] = 1):
    return x
"""


def test_an_annotation_that_is_no_python_is_any(home: Path, tmp_path: Path) -> None:
    put(tmp_path, "odd_types.py", CODE)
    exec_id = run(home, "odd_types.py:odd", root=tmp_path, x=2).exec_id
    client = KitaruClient(home=home)
    until(lambda: client.executions.get(exec_id).status.is_finished, "it has ended")
    assert client.executions.get(exec_id).result == 2


def test_a_validator_that_raises_is_reported_as_such(home: Path, tmp_path: Path) -> None:
    put(tmp_path, "bad_validator.py", CODE)
    with pytest.raises(KitaruUsageError, match=r"Input 'x'.*ZeroDivisionError: division by zero"):
        run(home, "bad_validator.py:checked", root=tmp_path, x=2)
    assert count(home) == 0


def test_any_other_error_of_taking_is_answered_with_its_type(home: Path, tmp_path: Path) -> None:
    put(tmp_path, "no_signature.py", f"{FLOW}\nf.definition.fn.__signature__ = 5")
    with pytest.raises(KitaruUsageError, match="TypeError: unexpected object 5"):
        run(home, "no_signature.py:f", root=tmp_path, x=2)
    assert count(home) == 0


def test_spawning_during_an_import_is_refused(home: Path, tmp_path: Path) -> None:
    source = f"""
import os
from pathlib import Path
from kitaru import config, spawn
spawn.spawn({{"action": "run"}}, cwd=None, home=config.Home(Path({str(home)!r}), "test"))
"""
    put(tmp_path, "spawns.py", source)
    with pytest.raises(KitaruUsageError, match="put it under if __name__ == '__main__'"):
        targets.load("spawns.py:f", root=str(tmp_path))
