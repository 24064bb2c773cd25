"""A batch in which one item is bad: the good ones are done, the bad one is mended and retried.

    python examples/batch.py

The first run fails on the bad item, with all others recorded. After the item was mended, `retry`
runs that one call again, and nothing else.
"""

from __future__ import annotations

import tempfile
import time
from pathlib import Path

import kitaru


@kitaru.checkpoint(type="tool_call")
def load(path: str) -> int:
    print(f"reading {Path(path).name}")
    return int(Path(path).read_text())


@kitaru.checkpoint
def total(numbers: list[int]) -> int:
    return sum(numbers)


@kitaru.flow
def batch(paths: list[str]) -> int:
    # `results(return_exceptions=True)` would go on without the bad ones instead.
    return total(load.map(paths, max_workers=2).result())


def main() -> None:
    folder = Path(tempfile.mkdtemp(prefix="kitaru-batch-"))
    for number, text in enumerate(["10", "20", "thirty", "40"], start=1):
        (folder / f"{number}.txt").write_text(text)
    handle = batch.run([str(path) for path in sorted(folder.glob("*.txt"))])
    try:
        handle.wait()
    except kitaru.KitaruUserCodeError as error:
        print(f"failed: {error}")

    (folder / "3.txt").write_text("30")  # mended
    client = kitaru.KitaruClient()
    client.executions.retry(handle.exec_id)
    while not (now := client.executions.get(handle.exec_id)).status.is_finished:
        time.sleep(0.02)
    print(f"total: {now.result}")
    for call in now.checkpoints:
        print(f"{call.call_id}: {len(call.attempts)} attempt(s)")


if __name__ == "__main__":
    main()
