"""Texts that are to make the server run what it must not, as targets and as recorded ones.

Every process under the server tells of each file outside of the flow root that Python opens, so an
import shows even where it does no harm. Each call is refused, in words of the server's.
"""

from __future__ import annotations

import itertools
import os
import threading
from pathlib import Path
from typing import Any
from unittest import mock

from kitaru import KitaruClient
from tests import support
from tests.chaos.trial import Scope, Trial
from tests.mcp.judging import CODES
from tests.mcp.serving import Bare, Place, bare

_EVIL = """
from pathlib import Path
Path({marker!r}).touch()
import kitaru
@kitaru.flow
def agent(topic: str = "") -> str: return "evil"
"""
#: Loaded by each Python process under the server before anything else.
LISTENER = """
import os, sys
def listen(event, args, events=os.environ["KITARU_TEST_EVENTS"], outside=os.environ["OUTSIDE"]):
    if event in ("open", "compile", "exec", "import") and outside in f"{args!r:.500}":
        fd = os.open(events, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.write(fd, f"{event} {args!r:.300}\\n".encode())
        os.close(fd)
sys.addaudithook(listen)
"""
_NO_MODULES = (
    *("os:system", "subprocess:run", "json:loads", "builtins:exec", "builtins:eval"),
    *("shutil:rmtree", "pickle:loads", "importlib:import_module", "kitaru.cli:main"),
    *("kitaru:KitaruClient", "pty:spawn", "sys:exit", "__main__:agent", "evil:agent"),
    *("outside.evil:agent", "..outside.evil:agent", "antigravity:x", "this:x", "site:main"),
    *(
        "code:interact",
        "webbrowser:open",
        "http.server:test",
    ),
)
_ATTRIBUTES = (
    *("agent", "agent()", "agent;import os", "__import__('os')", "agent\n", "agent:agent"),
    *("a b", "\xe9\u202e", "", "1x", "agent.", ".agent", "-c", "${HOME}", "`id`", "$(id)"),
    *("agent\x00",),
)
_PLACES = (
    *("{out}/evil.py", "../outside/evil.py", "./../outside/evil.py"),
    *("deep/../../outside/evil.py", "flows.py/../../outside/evil.py", "..//outside//evil.py"),
    *("..\\outside\\evil.py", "link.py", "linked/evil.py", "chain.py", "loop.py"),
    *("deep/link.py", "/proc/self/cwd/../outside/evil.py", "/proc/self/root{out}/evil.py"),
    *("/dev/stdin", "/dev/fd/0", "/dev/null.py", "/etc/passwd.py", "~/evil.py", "~root/x.py"),
    *("$HOME/x.py", "file://{out}/evil.py", "https://example.org/x.py"),
    *("\uff0e\uff0e/outside/evil.py", "%2e%2e/outside/evil.py", "..%2foutside%2fevil.py"),
    *("-.py", "--help.py", "-c import os.py", "flows.py\x00.py", " {out}/evil.py"),
    *("{out}/evil.py ", "{out}/../outside/evil.py", "flows.pyc", "{out}/evil.PY"),
    *(
        "package/mod.py",
        "x" * 2000 + ".py",
        "",
        ".",
        "..",
        "/",
        "\\\\host\\x.py",
    ),
)


def hostile_targets(outside: Path) -> list[str]:
    """All of them."""
    named = [place.replace("{out}", str(outside)) for place in _PLACES]
    good = [f"{place}:agent" for place in named]
    odd = [
        f"{place}:{attribute}"
        for place, attribute in itertools.product(
            ("flows.py", "flows", *named[:14]), _ATTRIBUTES[1:]
        )
    ]
    return [*_NO_MODULES, *good, *odd]


def prepare(home: Path, marker: Path) -> tuple[Place, Path]:
    """A flow root with links out of it, and what lies outside."""
    place, outside = Place.under(home), home / "outside"
    outside.mkdir()
    (outside / "evil.py").write_text(_EVIL.format(marker=str(marker)))
    (outside / "sitecustomize.txt").touch()
    (place.project / "deep").mkdir()
    (place.project / "package").mkdir()
    (place.project / "package" / "__init__.py").symlink_to(outside / "evil.py")
    (place.project / "package" / "mod.py").write_text("")
    for link, to in (
        ("link.py", outside / "evil.py"),
        ("deep/link.py", outside / "evil.py"),
        ("linked", outside),
        ("chain.py", place.project / "link.py"),
    ):
        (place.project / link).symlink_to(to)
    (place.project / "loop.py").symlink_to(place.project / "loop.py")
    return place, outside


def refused(server: Bare, tool: str, /, **arguments: Any) -> str:
    """The words in which a call is refused."""
    result = server.reply_to(server.tool(tool, **arguments))
    text: str = result["content"][0]["text"]
    assert result.get("isError") is True, f"{arguments!r:.300} was not refused: {text:.300}"
    assert text.partition(":")[0] in CODES, f"{arguments!r:.300}: {text}"
    return text


def recorded(place: Place, server: Bare, targets: list[str]) -> None:
    """Put each into an execution that has failed, and let it be retried and replayed."""
    exec_id = KitaruClient(home=place.home).executions.list(status="failed")[0].exec_id
    for number, target in enumerate(targets):
        root = ("$.root", str(place.home.parent / "outside")) if number % 2 else ("$.x", "")
        support.query(
            place.home,
            "UPDATE executions SET spec = json_set(spec, '$.target', ?, ?, ?)",
            target.encode("utf-8", "replace").decode(),
            *root,
        )
        refused(server, "kitaru_executions_retry", exec_id=exec_id)
        replay = {"exec_id": exec_id, "from_": "draft", "confirm": True}
        refused(server, "kitaru_executions_replay", **replay)


def swapped(place: Place, server: Bare, outside: Path, *, rounds: int) -> None:
    """Run a flow by a link that is turned to and fro meanwhile: it is the one inside, or none."""
    over = threading.Event()

    def turn() -> None:
        for number in itertools.count():
            to = outside / "evil.py" if number % 2 else place.project / "flows.py"
            (place.project / "new").symlink_to(to)
            os.replace(place.project / "new", place.project / "flips.py")
            if over.is_set():
                return

    thread = threading.Thread(target=turn)
    thread.start()
    try:
        for _ in range(rounds):
            server.reply_to(server.tool("kitaru_executions_run", target="flips.py:nothing"))
    finally:
        over.set()
        thread.join()


def run(scope: Scope, *, texts: int, plantings: int, rounds: int) -> str:
    """Try all, in an order of chance."""
    marker, events = scope.home / "marker", scope.home / "events"
    place, outside = prepare(scope.home, marker)
    program = f"import os; os.chdir({str(place.project)!r})\nimport flows\nflows.broken.run()"
    support.run_python(place.home, program)
    hooks = scope.home / "hooks"
    hooks.mkdir()
    (hooks / "sitecustomize.py").write_text(LISTENER)
    environment = {**place.environment, "KITARU_TEST_EVENTS": str(events), "OUTSIDE": f"{outside}/"}
    environment["PYTHONPATH"] += f"{os.pathsep}{hooks}"
    every = hostile_targets(outside)
    chosen = scope.rng.sample(every, min(len(every), texts))
    with mock.patch.object(Place, "environment", environment), bare(place) as server:
        for target in chosen:
            refused(server, "kitaru_executions_run", target=target)
        recorded(place, server, scope.rng.sample([t for t in every if ":" in t], plantings))
        swapped(place, server, outside, rounds=rounds)
        assert server.end_input() == b""
    assert not marker.exists(), "it ran"
    assert not events.exists(), events.read_text()[:3000]
    return (
        f"{len(chosen)} texts, {2 * plantings} of recorded ones, {rounds} swaps: 0 imports outside"
    )


def _run(scope: Scope) -> str:
    return run(
        scope, texts=scope.times(300), plantings=min(100, scope.times(40)), rounds=scope.times(15)
    )


TRIALS = (Trial(name="targets", run=_run),)
