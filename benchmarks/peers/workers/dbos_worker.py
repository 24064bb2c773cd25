"""DBOS as its guide shows it: `@DBOS.workflow` and `@DBOS.step` on a SQLite system database.

Executions at once are `DBOS.start_workflow`, as the guide has it for background work; steps at once
are coroutines that are gathered in an async workflow. A resume is `DBOS.resume_workflow` of a
workflow that was cancelled between two steps; DBOS puts it on a queue, which it polls.
"""

from __future__ import annotations

import asyncio
import sys
import threading
import time
import uuid
from pathlib import Path

import serving
from dbos import DBOS, DBOSConfig, SetWorkflowID
from dbos._dbos import _get_dbos_instance  # nothing public shows the pragmas of its connections

IMPORTS = "from dbos import DBOS, SetWorkflowID"


class Turn:
    """Where the workflow that is resumed stands; only its first run stops there."""

    reached = threading.Event()
    cancelled = threading.Event()
    resumed_at = 0.0


@DBOS.step()
def step(number: int) -> str:
    return f"result {number}"


@DBOS.step()
async def nap(seconds: float) -> str:
    await asyncio.sleep(seconds)
    return "done"


@DBOS.step()
def first_new_step() -> str:
    Turn.resumed_at = time.perf_counter()
    return "resumed"


@DBOS.workflow()
def work(steps: int) -> float:
    began = time.perf_counter()
    for number in range(steps):
        step(number)
    return time.perf_counter() - began


@DBOS.workflow()
async def fan(count: int, seconds: float) -> int:
    return len(await asyncio.gather(*(nap(seconds) for _ in range(count))))


@DBOS.workflow()
def interrupted(steps: int) -> None:
    for number in range(steps):
        step(number)
    Turn.reached.set()
    Turn.cancelled.wait()
    first_new_step()


def sequential(*, steps: int) -> serving.Figures:
    began = time.perf_counter()
    inside = work(steps)
    return {"seconds": time.perf_counter() - began, "inside": inside}


def at_once(*, executions: int, steps: int) -> serving.Figures:
    began = time.perf_counter()
    handles = [DBOS.start_workflow(work, steps) for _ in range(executions)]
    for handle in handles:
        handle.get_result()
    return {"seconds": time.perf_counter() - began}


def fan_out(*, count: int, seconds: float) -> serving.Figures:
    began = time.perf_counter()
    asyncio.run(fan(count, seconds))
    return {"seconds": time.perf_counter() - began}


def resume(*, recorded: int) -> serving.Figures:
    Turn.reached.clear()
    Turn.cancelled.clear()
    workflow_id = str(uuid.uuid4())
    with SetWorkflowID(workflow_id):
        stopped = DBOS.start_workflow(interrupted, recorded)
    Turn.reached.wait()
    DBOS.cancel_workflow(workflow_id)
    Turn.cancelled.set()
    try:
        stopped.get_result()
    except Exception:  # which class says "cancelled" is the peer's own business
        began = time.perf_counter()
        DBOS.resume_workflow(workflow_id).get_result()
        return {"seconds": Turn.resumed_at - began}
    raise RuntimeError("the workflow was cancelled and ended all the same")


def settings() -> serving.Figures:
    engine = _get_dbos_instance()._sys_db.engine
    names = ("journal_mode", "synchronous")
    with engine.connect() as connection:
        return {name: connection.exec_driver_sql(f"PRAGMA {name}").scalar() for name in names}


def launch(database: Path) -> None:
    config: DBOSConfig = {
        "name": "peer",
        "system_database_url": f"sqlite:///{database}",
        "log_level": "ERROR",
    }
    DBOS(config=config)
    DBOS.launch()


def main() -> None:
    """Serve, or do a first step."""
    if sys.argv[1] == serving.FIRST_STEP:
        launch(Path(sys.argv[2]))
        work(1)
        serving.print_memory()  # without `DBOS.destroy()`, which waits for its pollers
        return
    folder = Path(sys.argv[1])
    database, beside = folder / "dbos.sqlite", folder / "startup.sqlite"
    launch(database)
    serving.serve(
        {
            "sequential": sequential,
            "at_once": at_once,
            "fan_out": fan_out,
            "resume": resume,
            "startup": lambda: serving.startup(IMPORTS, str(beside)),
            "size": lambda steps: serving.bytes_per_step(work, database, steps=steps),
            "settings": settings,
        }
    )


if __name__ == "__main__":
    main()
