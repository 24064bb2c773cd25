"""How soon a flow goes on after its wait was answered, and how soon a killed one continues.

Wall time in milliseconds: from the answer's commit to the flow's next line while its driver
polls (answered in the same process and from another one), and from the call of `resume` to the
flow's next line in a runner process.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import kitaru
from kitaru import KitaruClient

ROUNDS = 9

_ANSWER = """
import sys, time
from kitaru import KitaruClient
client = KitaruClient()
client.executions.pending_waits(sys.argv[1])
client.executions.input(sys.argv[1], wait="approve", value=True)
print(time.time())
"""


@kitaru.flow
def ask(file: str, timeout: float) -> float:
    """Asks, and notes when it goes on."""
    kitaru.wait(name="approve", timeout=timeout)
    now = time.time()
    Path(file).write_text(repr(now))
    return now


def _until_asked(client: KitaruClient, exec_id: str) -> None:
    while not client.executions.pending_waits(exec_id):
        pass


def same_process(client: KitaruClient, file: Path) -> float:
    """Answered by the process that drives."""
    handle = ask.run(str(file), 60.0)
    _until_asked(client, handle.exec_id)
    answered = time.time()
    client.executions.input(handle.exec_id, wait="approve", value=True)
    return 1000 * (handle.wait() - answered)


def other_process(client: KitaruClient, file: Path) -> float:
    """Answered by another process; counted from its commit."""
    handle = ask.run(str(file), 60.0)
    _until_asked(client, handle.exec_id)
    command = [sys.executable, "-c", _ANSWER, handle.exec_id]
    answered = float(subprocess.run(command, capture_output=True, check=True).stdout)
    return 1000 * (handle.wait() - answered)


def resumed(client: KitaruClient, file: Path) -> float:
    """Answered after the driver let go, then continued by `resume`."""
    handle = ask.run(str(file), 0.0)
    while client.executions.continues(handle.exec_id):
        pass
    client.executions.input(handle.exec_id, wait="approve", value=True)
    begun = time.time()
    client.executions.resume(handle.exec_id)
    while not client.executions.get(handle.exec_id).status.is_finished:
        pass
    return 1000 * (float(file.read_text()) - begun)


def main() -> dict[str, Any]:
    """Measure every case and print a table."""
    cases = {"same process": same_process, "other process": other_process, "resume": resumed}
    figures: dict[str, list[float]] = {name: [] for name in cases}
    with tempfile.TemporaryDirectory() as folder:
        os.environ["KITARU_HOME"] = folder
        client = KitaruClient()
        for round_ in range(ROUNDS):
            for name, case in cases.items():
                figures[name].append(case(client, Path(folder, f"{name}-{round_}")))
    print(
        "from the answer (or the call of resume) to the flow's next line (ms: min / median / max)"
    )
    for name, values in figures.items():
        middle = statistics.median(values)
        print(f"  {name:15}{min(values):8.1f} / {middle:.1f} / {max(values):.1f}")
    return {name: round(statistics.median(values), 1) for name, values in figures.items()}


if __name__ == "__main__":
    main()
