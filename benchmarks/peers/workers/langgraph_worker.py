"""LangGraph with its SqliteSaver and `durability="sync"`: a checkpoint before the next node runs.

A step is one run of a node, which goes round until all are done; that node by node is what
LangGraph keeps. Steps at once are `Send`s, executions at once are `graph.batch`. The last
checkpoint is made after the last node, so "inside" ends when `invoke` returns.
"""

from __future__ import annotations

import operator
import sqlite3
import sys
import time
import uuid
from pathlib import Path
from typing import Annotated, Any, TypedDict

import serving
from langgraph.checkpoint.sqlite import SqliteSaver
from langgraph.graph import END, START, StateGraph
from langgraph.types import Send

IMPORTS = (
    "from langgraph.checkpoint.sqlite import SqliteSaver\n"
    "from langgraph.graph import END, START, StateGraph"
)


class Interrupted(Exception):
    """A node that fails on purpose, so that its graph can be resumed."""


class Turn:
    """When the first step began, or the one that is resumed; that one fails the first time."""

    began_at = 0.0
    resumed: int | None = None
    fails = False


class Work(TypedDict):
    """The state of a graph that does one step after the other."""

    number: int
    steps: int
    result: str


class Fan(TypedDict):
    """The state of a graph that does all steps at once."""

    count: int
    seconds: float
    results: Annotated[list[str], operator.add]


def step(state: Work) -> dict[str, Any]:
    number = state["number"]
    if number == Turn.resumed and Turn.fails:
        raise Interrupted
    if number in (0, Turn.resumed):
        Turn.began_at = time.perf_counter()
    return {"number": number + 1, "result": f"result {number}"}


def more(state: Work) -> str:
    return "step" if state["number"] < state["steps"] else END


def nap(state: Fan) -> dict[str, Any]:
    time.sleep(state["seconds"])
    return {"results": ["done"]}


def scatter(state: Fan) -> list[Send]:
    return [Send("nap", {"seconds": state["seconds"]}) for _ in range(state["count"])]


class Graphs:
    """Both graphs on one database, through one connection, as the saver's own example has it."""

    def __init__(self, database: Path) -> None:
        self.connection = sqlite3.connect(database, check_same_thread=False)
        saver = SqliteSaver(self.connection)
        work = StateGraph(Work)
        work.add_node("step", step)
        work.add_edge(START, "step")
        work.add_conditional_edges("step", more)
        self.work = work.compile(checkpointer=saver)
        fan = StateGraph(Fan)
        fan.add_node("nap", nap)
        fan.add_conditional_edges(START, scatter, ["nap"])
        fan.add_edge("nap", END)
        self.fan = fan.compile(checkpointer=saver)

    def run(self, steps: int) -> None:
        self.work.invoke(_start(steps), _thread(steps), durability="sync")

    def sequential(self, *, steps: int) -> serving.Figures:
        began = time.perf_counter()
        self.run(steps)
        ended = time.perf_counter()
        return {"seconds": ended - began, "inside": ended - Turn.began_at}

    def at_once(self, *, executions: int, steps: int) -> serving.Figures:
        began = time.perf_counter()
        threads = [_thread(steps) for _ in range(executions)]
        self.work.batch([_start(steps)] * executions, threads, durability="sync")
        return {"seconds": time.perf_counter() - began}

    def fan_out(self, *, count: int, seconds: float) -> serving.Figures:
        began = time.perf_counter()
        state = {"count": count, "seconds": seconds, "results": []}
        thread = {**_thread(1), "max_concurrency": count}
        self.fan.invoke(state, thread, durability="sync")
        return {"seconds": time.perf_counter() - began}

    def resume(self, *, recorded: int) -> serving.Figures:
        thread = _thread(recorded + 1)
        Turn.resumed, Turn.fails = recorded, True
        try:
            self.work.invoke(_start(recorded + 1), thread, durability="sync")
        except Interrupted:
            pass
        else:
            raise RuntimeError("the node failed and the graph ended all the same")
        Turn.fails = False
        began = time.perf_counter()
        self.work.invoke(None, thread, durability="sync")
        Turn.resumed = None
        return {"seconds": Turn.began_at - began}

    def settings(self) -> serving.Figures:
        names = ("journal_mode", "synchronous")
        return {name: self.connection.execute(f"PRAGMA {name}").fetchone()[0] for name in names}


def _start(steps: int) -> dict[str, Any]:
    return {"number": 0, "steps": steps, "result": ""}


def _thread(steps: int) -> dict[str, Any]:
    """A new thread, as LangGraph names an execution, whose graph may go round so often."""
    return {"configurable": {"thread_id": str(uuid.uuid4())}, "recursion_limit": steps + 5}


def main() -> None:
    """Serve, or do a first step."""
    if sys.argv[1] == serving.FIRST_STEP:
        Graphs(Path(sys.argv[2])).run(1)
        serving.print_memory()
        return
    folder = Path(sys.argv[1])
    database, beside = folder / "langgraph.sqlite", folder / "startup.sqlite"
    graphs = Graphs(database)
    serving.serve(
        {
            "sequential": graphs.sequential,
            "at_once": graphs.at_once,
            "fan_out": graphs.fan_out,
            "resume": graphs.resume,
            "startup": lambda: serving.startup(IMPORTS, str(beside)),
            "size": lambda steps: serving.bytes_per_step(graphs.run, database, steps=steps),
            "settings": graphs.settings,
        }
    )


if __name__ == "__main__":
    main()
