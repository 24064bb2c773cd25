"""Prefect with its own server on SQLite (`prefect server start`) and results kept in files.

Flows and tasks are async: a sync flow ends by waiting up to a second for its heartbeat thread. A
task's result is in its file before the task is done; its state goes to the server as an event,
which writes it later and is waited for before the next round. There is no resume to measure: to
go on, a flow is run again, and each task finds its result.
"""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import serving

IMPORTS = "from prefect import flow, task"
_SETTLING_SECONDS = 120.0


def start_server(folder: Path) -> None:
    """Start the server, and let this process and its children know it."""
    port = serving.free_port()
    os.environ["PREFECT_HOME"] = str(folder)
    os.environ["PREFECT_LOGGING_LEVEL"] = "ERROR"
    options = ["--host", "127.0.0.1", "--port", str(port), "--no-ui", "--log-level", "ERROR"]
    command = [sys.executable, "-m", "prefect", "server", "start", *options]
    subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=sys.stderr)
    os.environ["PREFECT_API_URL"] = f"http://127.0.0.1:{port}/api"
    serving.request(f"http://127.0.0.1:{port}/api/health")


class Server:
    """How many tasks the server will have recorded, once it has caught up with all rounds."""

    expected = 0


def settled(case: Callable[..., serving.Figures]) -> Callable[..., serving.Figures]:
    """The case, before which the server is waited for, or it would pay for an earlier one."""

    def run(**arguments: Any) -> serving.Figures:
        deadline = time.monotonic() + _SETTLING_SECONDS
        while (recorded := _recorded()) < Server.expected:
            if time.monotonic() > deadline:
                raise RuntimeError(f"{recorded} tasks are recorded, not {Server.expected}")
            time.sleep(0.2)
        tasks = int(arguments.get("count", arguments.get("steps", 1)))
        Server.expected = recorded + tasks * int(arguments.get("executions", 1))
        return case(**arguments)

    return run


def _recorded() -> int:
    """How many tasks have ended, as far as the server knows."""
    ended = {"task_runs": {"state": {"type": {"any_": ["COMPLETED"]}}}}
    count: int = serving.request(f"{os.environ['PREFECT_API_URL']}/task_runs/count", ended)
    return count


async def rounds() -> None:
    """Answer requests; the flows run in this loop."""
    import prefect_flows as flows

    loop = asyncio.get_running_loop()
    cases = {
        name: settled(serving.in_loop(loop, getattr(flows, name)))
        for name in ("sequential", "at_once", "fan_out")
    }
    await asyncio.to_thread(
        serving.serve, {**cases, "startup": settled(lambda: serving.startup(IMPORTS))}
    )


def main() -> None:
    """Serve, or do a first step."""
    if sys.argv[1] == serving.FIRST_STEP:
        import prefect_flows as flows

        asyncio.run(flows.work(1))
        serving.print_memory()
    else:
        start_server(Path(sys.argv[1]) / "prefect")
        asyncio.run(rounds())


if __name__ == "__main__":
    main()
