"""The peers of the benchmarks: how they are found, and how their workers are spoken to.

The workers here are small ones of the tests' own, in real processes; what the peers themselves do
is only looked at where `python3 dev peers` has installed them.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from benchmarks import peers
from benchmarks.peers import session
from tests.support import until

pytestmark = pytest.mark.skipif(os.name == "nt", reason="the peers are measured on POSIX systems")

WORKER = f"""
import os, subprocess, sys, threading
sys.path.insert(0, {str(peers.WORKERS)!r})
import serving

sizes = []

def steps(steps):
    sizes.append(steps)
    print("something a library prints")
    return {{"seconds": 0.5, "steps": steps}}

def die():
    print("no room on the disk", file=sys.stderr, flush=True)
    os._exit(3)

def child():
    return {{"pid": subprocess.Popen(["sleep", "1000"]).pid}}

def fail():
    raise LookupError("the peer cannot do this")

serving.serve({{
    "steps": steps, "die": die, "child": child, "fail": fail,
    "hang": threading.Event().wait, "sizes": lambda: {{"sizes": sizes}},
}})
"""
Start = Callable[[str], session.Session]


@pytest.fixture
def start(tmp_path: Path) -> Start:
    def start(source: str) -> session.Session:
        command = [sys.executable, "-c", source]
        return session.Session("Tiny", command, environment=os.environ, log=tmp_path / "log")

    return start


def installed(folder: Path, *packages: str) -> None:
    """Make a folder look like the peers' environment with these packages, all of version 9.8."""
    for name in packages:
        info = folder / "lib" / "python3.11" / "site-packages" / f"{name}-9.8.dist-info"
        info.mkdir(parents=True)
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 9.8\n")


# --- finding them ---------------------------------------------------------------------------------


def test_without_their_environment_each_peer_is_one_line_that_says_what_brings_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(peers, "ENVIRONMENT", tmp_path)
    found, missing = peers.find()
    assert found == []
    assert [line.partition(" ")[0].rstrip(":") for line in missing] == [
        "DBOS",
        "LangGraph",
        "Restate",
        "Prefect",
    ]
    assert all("`python3 dev peers` brings it" in line and "\n" not in line for line in missing)


def test_what_is_installed_is_found_with_its_version(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(peers, "ENVIRONMENT", tmp_path)
    installed(tmp_path, "dbos", "langgraph")
    found, missing = peers.find()
    assert [(peer.name, peer.version) for peer in found] == [("DBOS (SQLite)", "9.8")]
    assert len(missing) == 3, "LangGraph lacks its saver"


def test_restate_needs_its_server_and_names_both_versions(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(peers, "ENVIRONMENT", tmp_path)
    installed(tmp_path, "restate-sdk", "hypercorn")
    assert any("its server is not installed" in line for line in peers.find()[1])
    package = tmp_path / "node/node_modules/@restatedev/restate-server-linux-x64"
    (package / "bin").mkdir(parents=True)
    (package / "bin" / "restate-server").touch()
    (package / "package.json").write_text(json.dumps({"version": "1.7"}))
    (peer,) = peers.find()[0]
    assert peer.version == "9.8, server 1.7"
    assert "size" not in peer.cases


def test_the_peers_environment_is_known_to_the_developer_script_alone():
    root = Path(peers.__file__).resolve().parents[2]
    assert root / ".peers" == peers.ENVIRONMENT
    assert "\n/.peers/\n" in (root / ".gitignore").read_text()


# --- a worker -------------------------------------------------------------------------------------


def test_a_worker_answers_round_after_round_whatever_the_peer_prints(start: Start):
    with start(WORKER) as worker:
        assert worker.run("steps", steps=1) == {"seconds": 0.5, "steps": 1}
        assert worker.run("steps", steps=2) == {"seconds": 0.5, "steps": 2}


def test_an_error_names_the_peer_and_the_worker_goes_on(start: Start):
    with start(WORKER) as worker:
        with pytest.raises(peers.PeerError, match=r"Tiny: fail failed(.|\n)*LookupError: the peer"):
            worker.run("fail")
        with pytest.raises(peers.PeerError, match="Tiny: unheard failed"):
            worker.run("unheard")
        assert worker.run("steps", steps=1)["steps"] == 1


def test_a_worker_that_dies_is_an_error_with_its_last_lines(start: Start):
    with (
        start(WORKER) as worker,
        pytest.raises(peers.PeerError, match=r"exit code 3 in die\.\n  \| no room on the disk"),
    ):
        worker.run("die")


def test_a_worker_that_cannot_start_is_an_error_with_its_last_lines(start: Start):
    with pytest.raises(peers.PeerError, match=r"exit code 1 in ready(.|\n)*No module named 'peer'"):
        start("import peer").__enter__()


def test_a_worker_that_answers_garbage_is_an_error_that_shows_it(start: Start):
    with pytest.raises(peers.PeerError, match="this is no answer: Welcome!"):
        start("print('Welcome!', flush=True); input()").__enter__()
    with pytest.raises(peers.PeerError, match="this is no answer: 12"):
        start("print(12, flush=True); input()").__enter__()


def test_a_worker_that_hangs_is_killed(start: Start, monkeypatch: pytest.MonkeyPatch):
    with start(WORKER) as worker:
        monkeypatch.setattr(session, "PATIENCE_SECONDS", 0.01)
        with pytest.raises(peers.PeerError, match="hang gave no answer in 0 s and was killed"):
            worker.run("hang")


def test_closing_kills_what_the_worker_started(start: Start):
    with start(WORKER) as worker:
        pid = int(worker.run("child")["pid"])
        os.kill(pid, 0)
    until(lambda: has_ended(pid), "the worker's child is gone")


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="it is told by /proc")
def test_what_the_worker_started_stands_still_between_rounds(start: Start):
    with start(WORKER) as worker:
        stat = Path(f"/proc/{int(worker.run('child')['pid'])}/stat")
        until(lambda: stat.read_text().rpartition(")")[2].split()[0] == "T", "it stands still")


def test_what_the_worker_started_ends_when_nobody_can_ask_any_more(start: Start):
    worker = start(WORKER)
    pid = int(worker.run("child")["pid"])
    assert worker._process.stdin is not None
    worker._process.stdin.close()
    until(lambda: has_ended(pid), "the worker's child is gone")
    worker.close()


def has_ended(pid: int) -> bool:
    """Whether a process that is nobody's child here has ended; one not yet buried has, too."""
    try:
        os.kill(pid, 0)
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return True


# --- rounds that would take too long --------------------------------------------------------------


def test_a_round_that_would_take_too_long_is_not_run(start: Start, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(session, "LIMIT_SECONDS", 0.0)
    with start(WORKER) as worker:
        with pytest.raises(peers.TooSlow, match="Tiny: steps of 1,000 steps would take") as raised:
            worker.run("steps", steps=1000)
        assert raised.value.seconds > 0
        assert worker.ask("sizes", {}) == {"sizes": [10, 100, 100]}


def test_a_large_round_is_tried_small_only_once(start: Start):
    with start(WORKER) as worker:
        for _ in range(2):
            worker.run("steps", steps=1000)
        assert worker.ask("sizes", {}) == {"sizes": [10, 100, 1000, 1000]}


def test_what_a_small_round_takes_is_not_taken_to_grow():
    assert session._estimate({1: 1.0, 10: 1.9}, 100) == pytest.approx(10.9)
    assert session._estimate({10: 2.0}, 100) == 2.0
    assert session._estimate({1: 3.0, 10: 2.0}, 100) == 2.0, "noise does not make it negative"


# --- the peers themselves -------------------------------------------------------------------------


@pytest.mark.parametrize("name", [candidate.name for candidate in peers._CANDIDATES])
def test_a_peer_does_two_steps(name: str, tmp_path: Path):
    peer = next((peer for peer in peers.find()[0] if peer.name == name), None)
    if peer is None:
        pytest.skip("not installed; `python3 dev peers` brings it")
    with peer.open(tmp_path) as worker:
        figures = worker.run("sequential", steps=2)
    assert 0 < figures["inside"] < figures["seconds"]
    assert [*tmp_path.iterdir()] == []
