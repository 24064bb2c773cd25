"""Flows that print without end, crash, fork, or give orders: the server answers, and says what was.

After each, a call is answered; every line of the server's is a message of the protocol.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from kitaru.redaction import safe_text
from tests.mcp import hostile
from tests.mcp.judging import judge
from tests.mcp.serving import Bare, Place, bare
from tests.support import until

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
SOURCE = Path(hostile.__file__)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Place:
    place = Place.under(tmp_path_factory.mktemp("hostile"))
    shutil.copy(SOURCE, place.project / "hostile.py")
    return place


@pytest.fixture(scope="module")
def server(place: Place) -> Iterator[Bare]:
    with bare(place) as running:
        yield running
        assert running.end_input() == b"", "lines nobody asked for"
        assert running.process.wait(5) == 0


def asked(server: Bare, tool: str, /, **arguments: Any) -> Any:
    """What a tool answers: its data, or its text."""
    server.tool(tool, **arguments)
    message = server.answer()
    judge(message, method="tools/call", tool=tool, is_modern=False)
    (content,) = message["result"]["content"]
    return message["result"].get("structuredContent", content["text"])


def seen(server: Bare, name: str, **args: Any) -> tuple[dict[str, Any], str]:
    """A flow after its end: the execution and its logs; the server answers everything about it."""
    found = asked(
        server, "kitaru_executions_run", target=f"hostile.py:{name}", args=args, wait_seconds=50
    )["execution"]
    exec_id = found["exec_id"]
    assert asked(server, "kitaru_status")["exists"]
    assert asked(server, "kitaru_executions_get", exec_id=exec_id, detail="full")
    assert asked(server, "kitaru_executions_list", detail="full")["items"]
    return found, asked(server, "get_execution_logs", exec_id=exec_id, limit=5000)


@pytest.mark.parametrize(
    ("name", "result"),
    [
        ("raw", "written"),
        ("forks", "parent"),
        ("forks_and_leaves", "768"),
        ("moves", "moved"),
        ("logs", "logged"),
    ],
)
def test_a_flow_that_plays_with_its_process_still_ends(
    server: Bare, name: str, result: str
) -> None:
    found, logs = seen(server, name)
    assert (found["status"], found["result"]) == ("completed", result)
    assert "jsonrpc" not in logs or name == "logs"


@pytest.mark.parametrize(("name", "shown"), [("one_line", "x" * 1000), ("many_lines", "line 70")])
def test_ten_megabytes_of_output_are_logs_like_any(server: Bare, name: str, shown: str) -> None:
    found, logs = seen(server, name)
    assert (found["status"], found["result"]) == ("completed", "printed")
    assert shown in logs
    assert "more characters]" in logs or "more follow" in logs


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("exits", "SystemExit: enough"),
        ("raises_base", "Base: of nobody's"),
        ("interrupts", "KeyboardInterrupt"),
        ("swallows", "MemoryError: after 20000000 bytes"),
        ("mute", "its text cannot be read: ValueError"),
        ("shouts", "ValueError: loud loud"),
        ("shy", "Shy"),
        ("closes", "OSError: [Errno 9] Bad file descriptor"),
        ("closes_standard_output", "RuntimeError: closed"),
        ("deletes", "ValueError: without its file"),
    ],
)
def test_a_flow_that_fails_oddly_says_how(server: Bare, place: Place, name: str, said: str) -> None:
    found, _ = seen(server, name)
    shutil.copy(SOURCE, place.project / "hostile.py")
    assert found["status"] == "failed"
    assert said in found["failure"]["message"]


@pytest.mark.parametrize(
    ("name", "words"), [("leaves", ""), ("crashes", "Fatal Python error: Segmentation fault")]
)
def test_a_flow_whose_process_is_gone_says_so_and_can_be_resumed(
    server: Bare, name: str, words: str
) -> None:
    found, _ = seen(server, name)
    assert (found["status"], found["stalled"]) == ("running", True)
    assert found["status_reason"].startswith("Its process is gone")
    assert found.get("last_words", "").startswith(words)
    assert "hostile.py" in found.get("last_words", "hostile.py")
    (line,) = found["next"]
    assert line.endswith(f"kitaru executions resume {found['exec_id']}")
    asked(server, "kitaru_executions_cancel", exec_id=found["exec_id"], confirm=True)


def test_text_that_gives_orders_is_shown_as_what_it_is(server: Bare) -> None:
    found, logs = seen(server, "orders")
    shown = safe_text(hostile.ORDERS)
    assert "\\x1b[2J" in shown
    assert shown in logs
    assert shown in found["failure"]["message"]


def test_a_flow_that_never_returns_is_waited_for_and_cancelled(
    server: Bare, tmp_path: Path
) -> None:
    gate = tmp_path / "gate"
    found = asked(
        server,
        "kitaru_executions_run",
        target="hostile.py:stays",
        args={"gate": str(gate)},
        wait_seconds=0,
    )["execution"]
    until(gate.exists, "the flow has begun")
    waited = asked(server, "kitaru_executions_wait", exec_id=found["exec_id"], timeout_seconds=0)
    assert (waited["settled"], waited["status"]) == (False, "running")
    asked(server, "kitaru_executions_cancel", exec_id=found["exec_id"], confirm=True)


@pytest.mark.parametrize(
    ("harm", "said"),
    [
        ("exits", "bad_argument"),
        ("leaves", "The runner ended (code 7)"),
        ("crashes", "The runner ended (code -11)"),
    ],
)
def test_an_import_that_ends_the_process_is_a_bad_argument(
    server: Bare, place: Place, harm: str, said: str
) -> None:
    path = place.project / f"hostile_import_{harm}.py"
    shutil.copy(SOURCE, path)
    text = asked(server, "kitaru_executions_run", target=f"{path.name}:moves", wait_seconds=50)
    assert text.startswith("bad_argument: ")
    assert said in text
    assert asked(server, "kitaru_status")["exists"]


@pytest.mark.parametrize("harm", ["prints", "forks", "closes"])
def test_an_import_that_plays_with_its_process_forges_no_answer(
    server: Bare, place: Place, harm: str
) -> None:
    path = place.project / f"hostile_import_{harm}.py"
    shutil.copy(SOURCE, path)
    found = asked(server, "kitaru_executions_run", target=f"{path.name}:moves", wait_seconds=50)
    assert "kr-forged" not in str(found)
