"""The runs: one frozen set of requirements, one scenario, and the inspector in one era.

Each run has a store and a home of its own and gives a verdict with the words to print; what failed
comes with its reason. A failure is expected only if a line in `expected-failures.<set>.yml` says
so; such a line fails the run as soon as its failure is gone.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.mcp.conformance.bridge import serving
from tests.mcp.conformance.node import Node
from tests.mcp.conformance.processes import Command
from tests.support import ROOT

SETS = ("2025-11-25", "2026-07-28")
ERAS = ("legacy", "modern")
CONFORMANCE = ("@modelcontextprotocol", "conformance", "dist", "index.js")
INSPECTOR = ("@modelcontextprotocol", "inspector", "clients", "launcher", "build", "index.js")
SERVERS = {
    "kitaru": ("-m", "kitaru_mcp.server"),
    "fixtures": ("-m", "tests.mcp.conformance.server"),
}
#: What the inspector asks, of which server.
REQUESTS = (
    ("kitaru", "initialize"),
    ("kitaru", "tools/list --strict"),
    ("kitaru", "tools/call --tool-name kitaru_status"),
    ("kitaru", "resources/list"),
    ("kitaru", "resources/templates/list"),
    ("kitaru", "resources/read --uri kitaru://executions?status=failed"),
    ("kitaru", "prompts/list"),
    ("kitaru", "prompts/get --prompt-name review_waits --prompt-args flow=agent"),
    ("fixtures", "resources/read --uri test://static-text"),
)


#: How the inspector sums up what it has found; it says nothing when that is nothing.
_FINDINGS = re.compile(r"\d+ errors?, \d+ warnings?")


@dataclass(frozen=True)
class Verdict:
    """How a run ended, with what there is to say of it."""

    passed: bool
    lines: Sequence[str]


@dataclass(frozen=True)
class Place:
    """A folder for what one run writes."""

    folder: Path

    @property
    def environment(self) -> dict[str, str]:
        """What the processes of a run find."""
        return os.environ | {
            "HOME": str(self.folder),
            "KITARU_HOME": str(self.folder / "store"),
            "MCP_INSPECTOR_SECRET_STORE": "memory",
            "PYTHONPATH": os.pathsep.join([str(ROOT / "core"), str(ROOT)]),
        }

    def server(self, name: str) -> Command:
        """One of the two servers."""
        arguments = [sys.executable, *SERVERS[name]]
        return Command(arguments, self.environment, self.folder, self.folder / "server.log")


def requirements(node: Node, place: Place, revision: str) -> Verdict:
    """Run what a revision requires."""
    expected = Path(__file__).with_name(f"expected-failures.{revision}.yml")
    results = place.folder / "results"
    options = ["--requirements", revision, "--expected-failures", str(expected)]
    done = _conformance(node, place, [*options, "--output-dir", str(results)])
    frozen = node.file(*CONFORMANCE[:2], "requirements", f"{revision}.yaml").read_text()
    unscored = set(re.findall(r"^  - scenario: (\S+)$", frozen, re.MULTILINE))
    counts, found = _summary(results, unscored)
    if done.returncode:  # why, beside checks that failed: stale lines, scenarios that crashed
        found += [done.stdout.rpartition("=== SUMMARY ===")[2], done.stderr]
    return Verdict(done.returncode == 0, [counts, *found])


def scenario(node: Node, place: Place, name: str, *, revision: str) -> Verdict:
    """Run one scenario, and show everything."""
    options = ["--scenario", name, "--spec-version", revision, "--verbose"]
    done = _conformance(node, place, options)
    log = place.server("fixtures").log.read_text()
    return Verdict(done.returncode == 0, [done.stdout, done.stderr, log])


def inspector(node: Node, place: Place, era: str) -> Verdict:
    """Ask the servers with the inspector's command line."""
    config = place.folder / "servers.json"
    servers = {name: _configuration(place.server(name)) for name in SERVERS}
    config.write_text(json.dumps({"mcpServers": servers}))
    lines, passed = [], True
    for server, request in REQUESTS:
        options = f"--cli --config {config} --server {server} --protocol-era {era} --format json"
        method = ["--method", *request.split()]
        done = _run([*node.command(*INSPECTOR), *options.split(), *method], place)
        if done.returncode:
            passed = False
            lines.append(f"{request}: exit code {done.returncode}: {done.stderr}{done.stdout}")
        elif "--strict" in request and (found := _FINDINGS.search(done.stderr)):
            passed = False
            lines.append(f"{request}: {found[0]}: {done.stderr}{done.stdout}")
    return Verdict(passed, [f"{len(REQUESTS)} requests", *lines])


def _conformance(
    node: Node, place: Place, options: Sequence[str]
) -> subprocess.CompletedProcess[str]:
    with serving(place.server("fixtures")) as url:
        command = [*node.command(*CONFORMANCE), "server", "--url", url, *options]
        return _run(command, place)


def _run(command: Sequence[str], place: Place) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command,
        env=place.environment,
        cwd=place.folder,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
    )


def _configuration(command: Command) -> dict[str, Any]:
    program, *arguments = command.arguments
    return {"command": program, "args": arguments, "env": command.environment}


def _summary(results: Path, unscored: set[str]) -> tuple[str, list[str]]:
    counts, found, scenarios = Counter[str](), [], 0
    for path in sorted(results.glob("server-*/checks.json")):
        name = re.sub(r"^server-(.*?)-\d{4}-\d\d-\d\dT.*$", r"\1", path.parent.name)
        if name in unscored:
            continue
        scenarios += 1
        for check in json.loads(path.read_text()):
            counts[check["status"]] += 1
            if check["status"] in ("FAILURE", "WARNING"):
                found.append(f"{check['status']} {name}:{check['id']}: {check.get('errorMessage')}")
    told = ", ".join(f"{number} {status}" for status, number in sorted(counts.items()))
    return f"{scenarios} scenarios; checks: {told}", found
