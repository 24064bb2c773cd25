"""The peers: other durable execution for Python, doing the same work on the same machine.

`find()` gives those that `python3 dev peers` has installed into `.peers`, an environment of their
own; `Peer.open` starts a worker (`workers/`), whose `run` is one round of a case:

- `sequential(steps)`: one execution of so many steps, from the call to its result (`seconds`), and
  from the first step's begin to the last one's end (`inside`)
- `at_once(executions, steps)`: so many executions together, in one process
- `fan_out(count, seconds)`: so many steps at once that sleep so long
- `startup()`: `import_cpu` and `import_clock` of the import; `first_step` is a whole new process
  that does one durable step, `resident_bytes` what it holds at its end; servers are up before
- `resume(recorded)`: from the call that resumes, to the first step that is not recorded
- `size(steps)`: what one small step more adds to the store, in bytes

A step takes an int and gives back `f"result {n}"`. Each peer is used as its documents show it for
work on one machine, and at its default durability; where it syncs less often than we do, its
`durability` says so. Telemetry is off by the settings in `QUIET`. Nothing here imports Kitaru.
"""

from __future__ import annotations

import importlib.metadata
import json
import os
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from .session import PeerError, Session, TooSlow

__all__ = ["Peer", "PeerError", "Session", "TooSlow", "find"]

ENVIRONMENT = Path(__file__).resolve().parents[2] / ".peers"
WORKERS = Path(__file__).resolve().parent / "workers"
COMMAND = "python3 dev peers"

#: What the peers' own documents name to keep them from reporting to their makers.
QUIET = {
    "DO_NOT_TRACK": "1",
    "LANGCHAIN_TRACING_V2": "false",
    "LANGSMITH_TRACING": "false",
    "PREFECT_CLOUD_ENABLE_ORCHESTRATION_TELEMETRY": "false",
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "RESTATE_DISABLE_TELEMETRY": "true",
}
_ALL = frozenset({"sequential", "at_once", "fan_out", "startup", "resume", "size"})


@dataclass(frozen=True)
class Peer:
    """One of the others, installed and ready to be measured."""

    name: str
    version: str
    #: Who syncs what, when: counted, not believed (`python -m benchmarks.peers`).
    durability: str
    cases: frozenset[str]
    worker: Path
    arguments: tuple[str, ...] = ()

    @contextmanager
    def open(self, folder: Path | None = None, *, under: Sequence[str] = ()) -> Iterator[Session]:
        """A worker for rounds, killed at the end with all it started.

        Args:
            folder: where its state lies; without it a temporary one.
            under: a command that runs the worker, such as a tracer.
        """
        with tempfile.TemporaryDirectory(prefix="peer-", dir=folder) as state:
            environment = {**os.environ, **QUIET}
            environment.pop("PYTHONPATH", None)
            command = [*under, str(_python()), str(self.worker), state, *self.arguments]
            log = Path(state, "log")
            with Session(self.name, command, environment=environment, log=log) as session:
                session.ask("sequential", {"steps": 1})  # what is only slow once is not measured
                yield session


@dataclass(frozen=True)
class _Candidate:
    """What is known of a peer before it is looked for; its first package is its version."""

    name: str
    packages: tuple[str, ...]
    worker: str
    durability: str
    cases: frozenset[str] = _ALL


_CANDIDATES = (
    _Candidate(
        "DBOS (SQLite)",
        ("dbos",),
        "dbos_worker.py",
        "Each step is committed before the next one begins, in SQLite's rollback journal with "
        "synchronous=FULL, which are SQLite's own defaults: 4 syncs a step.",
    ),
    _Candidate(
        "LangGraph (SqliteSaver)",
        ("langgraph", "langgraph-checkpoint-sqlite"),
        "langgraph_worker.py",
        'With durability="sync" a node\'s writes and its checkpoint are committed before the next '
        'node runs, in WAL with synchronous=FULL: 2 syncs a step. Its default, "async", does not '
        "wait for them.",
    ),
    _Candidate(
        "Restate",
        ("restate-sdk", "hypercorn"),
        "restate_worker.py",
        "The server syncs its log before the handler goes on, which is its default: 2 syncs a "
        "step. The server is a process beside the one that runs the steps.",
        _ALL - {"size"},
    ),
    _Candidate(
        "Prefect",
        ("prefect",),
        "prefect_worker.py",
        "A task's result is in a file before the next one begins, but nobody syncs it: no sync "
        "belongs to a step, and a power failure can lose finished ones. The server writes their "
        "states later (SQLite in WAL with synchronous=NORMAL, about 0.4 syncs a step).",
        _ALL - {"resume", "size"},
    ),
)


def find() -> tuple[list[Peer], list[str]]:
    """The peers that are installed, and a line for each that is not."""
    versions = _versions()
    found, missing = [], []
    for candidate in _CANDIDATES:
        version = versions.get(candidate.packages[0], "")
        arguments: tuple[str, ...] = ()
        if not all(package in versions for package in candidate.packages):
            missing.append(f"{candidate.name}: not installed; `{COMMAND}` brings it.")
            continue
        if candidate.name == "Restate":
            server = _restate_server()
            if server is None:
                missing.append(
                    f"{candidate.name}: its server is not installed; "
                    f"`{COMMAND}` brings it where npm is on the path."
                )
                continue
            binary, server_version = server
            arguments, version = (str(binary),), f"{version}, server {server_version}"
        found.append(
            Peer(
                candidate.name,
                version,
                candidate.durability,
                candidate.cases,
                WORKERS / candidate.worker,
                arguments,
            )
        )
    return found, missing


def _python() -> Path:
    return ENVIRONMENT / "bin" / "python"


def _versions() -> dict[str, str]:
    """The packages of the peers' environment; of no other, and without running its Python."""
    places = [str(path) for path in ENVIRONMENT.glob("lib/python*/site-packages")]
    return {
        distribution.name.lower(): distribution.version
        for distribution in importlib.metadata.distributions(path=places)
    }


def _restate_server() -> tuple[Path, str] | None:
    """The server's program, which npm chose for this machine, and its version."""
    packages = ENVIRONMENT / "node" / "node_modules" / "@restatedev"
    for binary in packages.glob("restate-server-*/bin/restate-server"):
        package = json.loads((binary.parents[1] / "package.json").read_text())
        return binary, package["version"]
    return None
