"""What the same work costs with nothing but SQLite, files and threads: the floor of each case.

Every function does what a case needs at the least, and nothing of Kitaru is imported here. A step
is one row with the same payload that a checkpoint records; a commit is one transaction in WAL mode.
"""

from __future__ import annotations

import json
import os
import sqlite3
import threading
import time
from functools import cache
from pathlib import Path

_TABLE = "CREATE TABLE IF NOT EXISTS steps (id INTEGER PRIMARY KEY, name TEXT, value TEXT)"
_INSERT = "INSERT INTO steps (name, value) VALUES (?, ?)"


@cache
def _connected(path: str, durability: str) -> sqlite3.Connection:
    conn = sqlite3.connect(path, isolation_level=None, timeout=60)
    conn.execute("PRAGMA journal_mode=WAL")
    conn.execute(f"PRAGMA synchronous={durability}")
    conn.execute(_TABLE)
    return conn


def sequential(
    path: str, *, steps: int, durability: str = "full", rows_a_commit: int = 1
) -> dict[str, float]:
    """So many rows, some in each commit."""
    conn = _connected(path, durability)
    begun = time.perf_counter()
    for number in range(steps):
        if number % rows_a_commit == 0:
            conn.execute("BEGIN IMMEDIATE")
        conn.execute(_INSERT, ("step", json.dumps(f"result {number}")))
        if number % rows_a_commit == rows_a_commit - 1 or number == steps - 1:
            conn.execute("COMMIT")
    spent = time.perf_counter() - begun
    return {"seconds": spent, "inside": spent}


def fan_out(path: str, *, count: int, seconds: float) -> dict[str, float]:
    """Threads that sleep beside each other, and one commit of all their rows."""
    conn = _connected(path, "full")
    begun = time.perf_counter()
    threads = [threading.Thread(target=time.sleep, args=(seconds,)) for _ in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    conn.execute("BEGIN IMMEDIATE")
    conn.executemany(_INSERT, [("step", str(number)) for number in range(count)])
    conn.execute("COMMIT")
    spent = time.perf_counter() - begun
    return {"seconds": spent, "inside": spent}


def read_rows(path: str, *, recorded: int) -> dict[str, float]:
    """Read and decode so many rows of steps, which are written once."""
    conn = _connected(path, "normal")
    (there,) = conn.execute("SELECT count(*) FROM steps").fetchone()
    if there < recorded:
        sequential(path, steps=recorded - there, durability="normal", rows_a_commit=1000)
    begun = time.perf_counter()
    rows = conn.execute("SELECT name, value FROM steps ORDER BY id LIMIT ?", (recorded,))
    values = [json.loads(value) for _, value in rows]
    spent = time.perf_counter() - begun
    assert len(values) == recorded
    return {"seconds": spent}


def speak(path: str, *, lines: int) -> dict[str, float]:
    """Print lines to a file."""
    with open(path, "w") as file:
        begun = time.perf_counter()
        for number in range(lines):
            print(f"line {number} of a long story", file=file)
        file.flush()
        return {"seconds": time.perf_counter() - begun}


def artifact(path: str, *, size: int) -> dict[str, float]:
    """Write bytes into a new file and sync it, then read them."""
    value = os.urandom(size)
    begun = time.perf_counter()
    with open(path, "wb") as file:
        file.write(value)
        file.flush()
        os.fsync(file.fileno())
    saved = time.perf_counter()
    read = Path(path).read_bytes()
    loaded = time.perf_counter()
    assert len(read) == size
    os.unlink(path)
    return {"save": saved - begun, "load": loaded - saved}
