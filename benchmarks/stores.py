"""Makes a store of many executions, as months of use would: `python -m benchmarks.stores PATH`.

The store's own functions write some hundred executions, each a little other than the rest. SQL
then copies their rows, moved in time and under new ids, so that every digest and every encoding
is right whatever the tables hold, and a million executions take a minute or two. The same seed
always makes the same store.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import random
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from benchmarks import patterns
from benchmarks.patterns import DAYS, SECOND, STACKS, Pattern
from kitaru import config, ids
from kitaru.models import ExecutionStatus
from kitaru.store import Store, Transaction, executions, stacks

PATTERNS = 600
#: So long before the end does the latest of them begin; each is over by then.
_LONGEST_US = 3600 * SECOND


def generate(home: config.Home, *, count: int, seed: int = 0) -> None:
    """Make a store with this many executions.

    Args:
        home: a folder without a store.
        count: how many executions.
        seed: what everything that looks random comes from.
    """
    if home.database.exists():
        raise SystemExit(f"{home.database} exists already; name another folder.")
    rng = random.Random(seed)
    store = Store(home, durability="normal")
    # A store that is cut off here is of no use, so nothing of it has to be safe before its end.
    for pragma in ("synchronous=OFF", "cache_size=-262144", "wal_autocheckpoint=50000"):
        store._writer.execute(f"PRAGMA {pragma}")
    with ids.use(lambda: f"{rng.getrandbits(64):016x}"):
        with store.write() as conn:
            _make_stacks(conn)
            made = _write_patterns(conn, min(count, PATTERNS), rng=rng)
            statements = list(_prepare_copying(conn))
        rounds = -(-(count - made) // made) + 1
        for number in range(1, rounds):
            with store.write() as conn:
                wanted = min(made, count - number * made)
                _choose(conn, wanted, slice_=(number, rounds), rng=rng)
                for statement in statements:
                    conn.execute(statement)
    store.close()


def kept(count: int, *, seed: int = 0) -> Path:
    """The folder of a generated store; made when there is none of this schema, size and seed."""
    with tempfile.TemporaryDirectory() as empty:
        made = Store(config.find_home(empty), durability="normal")
        rows = made.read("SELECT sql FROM sqlite_master ORDER BY name")
        made.close()
    text = repr([row["sql"] for row in rows])
    for module in (patterns, sys.modules[__name__]):
        text += Path(str(module.__file__)).read_text()
    digest = hashlib.blake2b(text.encode(), digest_size=6).hexdigest()
    place = Path(tempfile.gettempdir(), f"kitaru-store-{count}-{seed}-{digest}")
    if not place.exists():
        part = Path(f"{place}.{os.getpid()}")
        try:
            generate(config.find_home(part), count=count, seed=seed)
            part.rename(place)
        finally:
            shutil.rmtree(part, ignore_errors=True)
    return place


def _make_stacks(conn: Transaction) -> None:
    for name in sorted({*STACKS} - {config.DEFAULT_STACK}):
        stacks.create(conn, name, type=config.LOCAL_STACK_TYPE)


def _write_patterns(conn: Transaction, count: int, *, rng: random.Random) -> int:
    parent = None
    for number in range(count):
        # A child follows its parent, which has ended well.
        is_child = number % 20 == 9 and parent is not None
        pattern = Pattern(conn, number, rng=rng)
        row = pattern.write(parent=parent if is_child else None)
        parent = executions.at(conn, row.id)
        if parent.status is not ExecutionStatus.COMPLETED:
            parent = None
    return count


def _choose(conn: Transaction, count: int, *, slice_: tuple[int, int], rng: random.Random) -> None:
    """New ids for the first patterns, and times spread over one slice of all the days."""
    span = (DAYS * 86_400 * SECOND - _LONGEST_US) // slice_[1]
    first = conn.execute("SELECT max(id) FROM main.executions").fetchone()[0] + 1
    patterns = conn.execute(
        "SELECT id, exec_id, parent_exec_id FROM main.executions ORDER BY id LIMIT ?", (count,)
    ).fetchall()
    chosen: list[tuple[int, int, str]] = []
    moved: dict[str | None, int] = {}
    for row in patterns:
        # A child moves with its parent.
        anew = span * slice_[0] + rng.randrange(span)
        moved[row["exec_id"]] = moved.get(row["parent_exec_id"], anew)
        chosen.append((moved[row["exec_id"]], row["id"], row["exec_id"]))
    chosen.sort()  # rows are numbered in the order of their times
    conn.execute("DELETE FROM copies")
    conn.executemany(
        "INSERT INTO copies VALUES (?, ?, ?, ?, ?)",
        [(first + n, ids.new_execution_id(), *one) for n, one in enumerate(chosen)],
    )


def _prepare_copying(conn: Transaction) -> Iterator[str]:
    """Set the patterns aside; one statement copies those in `copies`, for each of their tables."""
    conn.create_function("moved_attempts", 2, _moved_attempts, deterministic=True)
    conn.execute(
        "CREATE TEMP TABLE copies (id INTEGER PRIMARY KEY, exec_id TEXT, "
        "moved INTEGER, source INTEGER, source_id TEXT UNIQUE)"
    )
    tables = conn.execute("SELECT name FROM main.sqlite_master WHERE type = 'table'").fetchall()
    for (table,) in sorted(map(tuple, tables), key=lambda row: row[0] != "executions"):
        columns = [row["name"] for row in conn.execute(f"PRAGMA main.table_info({table})")]
        owner = "id" if table == "executions" else "execution"
        if owner not in columns:
            continue
        conn.execute(f"CREATE TEMP TABLE old_{table} AS SELECT * FROM main.{table}")
        conn.execute(f"CREATE INDEX temp.of_{table} ON old_{table} ({owner})")
        # A log line's number is given by its table.
        taken = [name for name in columns if name != "id" or table == "executions"]
        values = ", ".join(_value(name) if name != owner else "copies.id" for name in taken)
        yield (
            f"INSERT INTO main.{table} ({', '.join(taken)}) SELECT {values} "
            f"FROM copies CROSS JOIN old_{table} AS old ON old.{owner} = copies.source "
            "ORDER BY copies.id"
        )


def _value(column: str) -> str:
    """What stands in a copied row: times are moved, ids are those of the copies."""
    if column == "exec_id":
        return "copies.exec_id"
    if column == "at" or column.endswith("_at"):
        return f"old.{column} + copies.moved"
    if column == "attempts":
        return "iif(old.attempts IS NULL, NULL, moved_attempts(old.attempts, copies.moved))"
    if column.endswith("_exec_id"):
        return f"(SELECT c.exec_id FROM copies AS c WHERE c.source_id = old.{column})"
    return f"old.{column}"


def _moved_attempts(text: str, moved: int) -> str:
    attempts = json.loads(text)
    for attempt in attempts:
        for key in ("started_at", "ended_at"):
            attempt[key] += moved
    return json.dumps(attempts, separators=(",", ":"))


@contextmanager
def _told(count: int) -> Iterator[None]:
    begun = time.perf_counter()
    yield
    took = time.perf_counter() - begun
    print(f"{count} executions in {took:.1f} s ({count / took:,.0f} per second)", file=sys.stderr)


def main() -> None:
    """Make the store that the command line asks for."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.stores", description=__doc__)
    parser.add_argument("path", type=Path, metavar="PATH", help="the folder to make it in")
    parser.add_argument("--executions", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=0)
    chosen = parser.parse_args()
    with _told(chosen.executions):
        home = config.find_home(os.fspath(chosen.path))
        generate(home, count=chosen.executions, seed=chosen.seed)


if __name__ == "__main__":
    main()
