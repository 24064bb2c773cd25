"""Runs command lines in this process, and waits for what runners do."""

from __future__ import annotations

import json
import os
import signal
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from kitaru import FlowHandle, KitaruClient, clock, targets
from kitaru.cli import main
from kitaru.models import Execution
from kitaru.store import executions, leases, open_store

FLOWS = Path(__file__).with_name("cli_flows.py")
SECONDS = 60


@dataclass(frozen=True)
class Result:
    """What one command line did."""

    code: int
    out: str
    err: str

    @property
    def document(self) -> Any:
        """The JSON on standard output, which is all there is on it."""
        return json.loads(self.out)

    @property
    def item(self) -> Any:
        return self.document["item"]

    @property
    def items(self) -> Any:
        assert self.document["count"] == len(self.document["items"])
        return self.document["items"]

    @property
    def error(self) -> Any:
        """The JSON error on standard error."""
        assert self.out == ""
        return json.loads(self.err)["error"]


class Cli:
    """The command line on one store."""

    def __init__(self, capsys: pytest.CaptureFixture[str], home: Path) -> None:
        self.capsys = capsys
        self.home = home

    def __call__(self, *args: str) -> Result:
        self.capsys.readouterr()
        code = main(args)
        return Result(code, *self.capsys.readouterr())

    def json(self, *args: str) -> Result:
        return self(*args, "-o", "json")

    def good(self, *args: str) -> str:
        """The text of a command that succeeds and says nothing on standard error."""
        result = self(*args)
        assert (result.code, result.err) == (0, "")
        return result.out

    @property
    def client(self) -> KitaruClient:
        return KitaruClient(home=self.home)

    def run(self, flow: str, **args: Any) -> str:
        """Start a flow; return its execution's id."""
        result = self.json("executions", "run", f"{FLOWS}:{flow}", "--args", json.dumps(args))
        assert result.code == 0, result.err
        return str(result.item["exec_id"])

    def until(self, exec_id: str, reached: str | Callable[[Execution], bool]) -> Execution:
        """The execution once it has a status, or once something holds for it."""
        deadline = clock.monotonic() + SECONDS
        while clock.monotonic() < deadline:
            found = self.client.executions.get(exec_id)
            if found.status == reached if isinstance(reached, str) else reached(found):
                return found
            threading.Event().wait(0.02)
        raise AssertionError(f"{exec_id} is {found.status}; waited for {reached}")

    def waiting(self, flow: str = "agent", **args: Any) -> str:
        """An execution that waits: let go, or held by a runner where the flow is patient."""
        if flow != "agent":
            exec_id = self.run(flow, **args)
            self.until(exec_id, "waiting")
            return exec_id
        exec_id = _driven_here(flow, args).exec_id
        self.until(exec_id, lambda _: not self.client.executions.continues(exec_id))
        assert self.client.executions.get(exec_id).status == "waiting"
        return exec_id

    def completed(self, flow: str = "pipeline", **args: Any) -> str:
        """An execution that has completed."""
        handle = _driven_here(flow, args)
        handle.wait(SECONDS)
        return handle.exec_id

    def kill_runner(self, exec_id: str) -> None:
        """SIGKILL for the process that drives an execution."""
        with open_store(self.client.home).snapshot() as conn:
            row = leases.row(conn, executions.find(conn, exec_id).id)
        assert row is not None
        os.kill(row["pid"], signal.SIGKILL)


def _driven_here(flow: str, args: dict[str, Any]) -> FlowHandle[Any]:
    """A run in this process: a runner is needed only where it is what is tested."""
    found: FlowHandle[Any] = targets.load(f"{FLOWS}:{flow}", root=None).run(**args)
    return found


@pytest.fixture
def cli(capsys: pytest.CaptureFixture[str], home: Path) -> Cli:
    return Cli(capsys, home)


@pytest.fixture
def fifo(tmp_path: Path) -> Path:
    """A pipe that holds up whoever reads it until the test writes."""
    path = tmp_path / "fifo"
    os.mkfifo(path)
    return path
