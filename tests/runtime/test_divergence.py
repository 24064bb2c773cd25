"""Code that changed between a record and its continuation is noticed; harmless changes are not.

Each row edits one text of the same flow. The execution stopped with everything recorded but its
last call, which failed; it goes on with the edited text, and then with the first one again.
"""

from __future__ import annotations

import os
import textwrap
from pathlib import Path
from typing import Any

import pytest

import kitaru
from kitaru.errors import FailureOrigin, KitaruDivergenceError, KitaruUserCodeError
from kitaru.models import CallStatus, ExecutionStatus
from tests import drives

SOURCE = """
@checkpoint
def research(topic, depth=1):
    ran.append("research")
    return f"notes on {topic}"

@checkpoint
def draft(notes):
    ran.append("draft")
    return {"title": notes, "words": 3}

@checkpoint
def review(text, number):
    ran.append(f"review {number}")
    return number

@checkpoint
def publish(text):
    ran.append("publish")
    if not door["open"]:
        raise ConnectionError("closed")
    return "published"

@flow
def agent(topic):
    notes = research(topic)
    text = draft(notes)
    for number in range(2):
        review(text, number)
    kitaru.wait(name="approve", question="Publish?", schema=bool)
    left, right = review.submit(text, 7), review.submit(text, 8)
    left.result(), right.result()
    return publish(text)
"""
RECORDED_AND_FAILED = [
    "draft",
    "publish",
    "research",
    "review 0",
    "review 1",
    "review 7",
    "review 8",
]

WAIT = 'kitaru.wait(name="approve", question="Publish?", schema=bool)'
FAN_OUT = "left, right = review.submit(text, 7), review.submit(text, 8)"

#: what changed: (text, its replacement, the call it shows at, what was recorded, what came)
CHANGES: dict[str, tuple[str, str, str, str, str]] = {
    "a checkpoint is renamed": ("draft(", "outline(", "draft", "draft(notes=", "outline(notes="),
    "two calls change places": (
        "notes = research(topic)\n    text = draft(notes)",
        'text = draft("notes on dogs")\n    notes = research(topic)',
        "research",
        "research(topic=",
        "draft(notes=",
    ),
    "a call is put before the first": (
        "notes = research",
        'review("", 0)\n    notes = research',
        "research",
        "research(topic=",
        "review(text=''",
    ),
    "a call is put between two": (
        "text = draft",
        "review(notes, 9)\n    text = draft",
        "draft",
        "draft(notes=",
        "review(text='notes on dogs', number=9",
    ),
    "the first call is removed": (
        "notes = research(topic)",
        'notes = "notes on dogs"',
        "research",
        "research(topic=",
        "draft(notes=",
    ),
    "a call in the middle is removed": (
        "text = draft(notes)",
        'text = {"title": notes, "words": 3}',
        "draft",
        "draft(notes=",
        "review(text=",
    ),
    "the last recorded call is removed": (
        f"{FAN_OUT}\n    left.result(), right.result()",
        "review(text, 7)",
        "review#4",
        "review#4(text=",
        "publish(text=",
    ),
    "everything after a call is removed": (
        "text = draft(notes)",
        "return notes",
        "draft",
        "draft(notes=",
        "the end of the flow",
    ),
    "an argument's value changes": (
        "research(topic)",
        'research("cats")',
        "research",
        "research(topic='dogs', depth=1)",
        "research(topic='cats', depth=1)",
    ),
    "a default argument changes": ("depth=1", "depth=2", "research", "depth=1)", "depth=2)"),
    "an int becomes a float": (
        "review(text, number)\n    k",
        "review(text, float(number))\n    k",
        "review",
        "number=0)",
        "number=0.0)",
    ),
    "an int becomes a bool": (
        "review(text, number)\n    k",
        "review(text, bool(number))\n    k",
        "review",
        "number=0)",
        "number=False)",
    ),
    "a loop runs more often": ("range(2)", "range(3)", "approve", "approve(", "review#3(text="),
    "a loop runs less often": ("range(2)", "range(1)", "review#2", "number=1)", "approve("),
    "a wait asks something else": (
        "Publish?",
        "Delete?",
        "approve",
        "approve(question='Publish?')",
        "approve(question='Delete?')",
    ),
    "a wait asks for another type": (
        "schema=bool",
        "schema=int",
        "approve",
        "approve(",
        "approve(",
    ),
    "a wait is renamed": ('name="approve"', 'name="agree"', "approve", "approve(", "agree("),
    "a wait is removed": (WAIT, "pass", "approve", "approve(", "review#3(text="),
    "a checkpoint becomes a wait of its name": (
        "text = draft(notes)",
        'kitaru.wait(name="draft", timeout=0)',
        "draft",
        "draft(notes=",
        "draft(question=",
    ),
    "a wait becomes a checkpoint": (WAIT, "review(text, 5)", "approve", "approve(", "review#3("),
    "a fan-out changes its order": (
        FAN_OUT,
        "left, right = review.submit(text, 8), review.submit(text, 7)",
        "review#3",
        "number=7)",
        "number=8)",
    ),
}

#: what changed: text and its replacement; the record still holds
NO_CHANGES: dict[str, tuple[str, str]] = {
    "the body of a checkpoint": ('return f"notes on {topic}"', 'return "other notes"'),
    "a log and a print are added": (
        "text = draft",
        'kitaru.log(stage="draft")\n    print("drafting")\n    text = draft',
    ),
    "a local variable is renamed": ("notes = research(topic)", "notes = found = research(topic)"),
    "a docstring is added": ("def agent(topic):", 'def agent(topic):\n    """Publish."""'),
    "a dict argument is filled in another order": (
        "text = draft(notes)",
        "text = dict(reversed(draft(notes).items()))",
    ),
    "an argument is given by keyword": ("research(topic)", "research(topic=topic)"),
    "a default is given explicitly": ("research(topic)", "research(topic, 1)"),
    "other options of a checkpoint": (
        "@checkpoint\ndef research",
        '@checkpoint(retries=3, type="tool_call")\ndef research',
    ),
    "a call after the recorded ones": (
        "return publish(text)",
        "review(text, 9)\n    return publish(text)",
    ),
    "a call after the failed one": (
        "return publish(text)",
        "publish(text)\n    review(text, 9)\n    return 'published'",
    ),
    "other arguments of the failed call": ("return publish(text)", 'return publish("short")'),
    "the failed call is renamed": ("publish(", "release("),
    "a wait's metadata and timeout": ("schema=bool", 'schema=bool, timeout=9, metadata={"a": 1}'),
}


class Recorded:
    """An execution of `SOURCE` in which all but the failed `publish` is recorded."""

    def __init__(self) -> None:
        self.ran: list[str] = []
        self.door = {"open": False}
        handle = self.load(SOURCE).run(topic="dogs")
        drives.answer(handle.exec_id, "approve", True)
        assert isinstance(drives.error_of(handle), KitaruUserCodeError)
        assert sorted(self.ran) == RECORDED_AND_FAILED
        self.exec_id = handle.exec_id
        self.ran.clear()

    def load(self, source: str) -> Any:
        return drives.load(source, ran=self.ran, door=self.door)

    def retry(self, source: str) -> drives.Handle:
        return drives.again("retry", self.load(source), self.exec_id)

    def now(self) -> kitaru.Execution:
        return kitaru.KitaruClient().executions.get(self.exec_id)


def edited(old: str, new: str) -> str:
    assert old in SOURCE
    return SOURCE.replace(old, new)


@pytest.mark.usefixtures("home")
@pytest.mark.parametrize("change", CHANGES)
def test_a_changed_flow_diverges_and_the_restored_one_goes_on(change: str):
    old, new, call_id, was, came = CHANGES[change]
    recorded = Recorded()
    before = recorded.now()

    error = drives.error_of(recorded.retry(edited(old, new)))

    assert isinstance(error, KitaruDivergenceError)
    message = str(error)
    assert f"({call_id})" in message
    assert was in message.partition("recorded was ")[2].partition("now came ")[0]
    assert came in message.partition("now came ")[2]
    assert f"kitaru executions retry {recorded.exec_id}" in message
    assert f"kitaru executions replay {recorded.exec_id} --from '{call_id}'" in message
    after = recorded.now()
    assert (after.status, error.exec_id) == (ExecutionStatus.FAILED, recorded.exec_id)
    assert after.failure is not None
    assert after.failure.origin is error.failure_origin is FailureOrigin.DIVERGENCE
    assert after.checkpoints[:-1] == before.checkpoints[:-1]
    assert recorded.ran == []

    recorded.door["open"] = True
    assert recorded.retry(SOURCE).wait(20) == "published"
    assert recorded.ran == ["publish"]


@pytest.mark.usefixtures("home")
@pytest.mark.parametrize("change", NO_CHANGES)
def test_a_harmless_change_does_not_diverge(change: str):
    recorded = Recorded()
    recorded.door["open"] = True

    assert recorded.retry(edited(*NO_CHANGES[change])).wait(20) == "published"

    assert set(recorded.ran) <= {"publish", "review 9"}
    assert all(call.status is CallStatus.COMPLETED for call in recorded.now().checkpoints)


@pytest.mark.usefixtures("home")
@pytest.mark.parametrize("swallow", ["except Exception", "except BaseException", "except"])
def test_a_flow_cannot_swallow_a_divergence(swallow: str):
    recorded = Recorded()
    body = f"try:\n        draft('other')\n    {swallow}:\n        pass\n    return 'went on'"

    error = drives.error_of(recorded.retry(edited("text = draft(notes)", body)))

    assert isinstance(error, KitaruDivergenceError)
    assert recorded.now().status is ExecutionStatus.FAILED


#: changes to code while a question's answer lies there, not yet taken up by the flow
OPEN_WAIT_CHANGES = {
    "another question": ("Publish?", "Delete everything?"),
    "another name": ('name="approve"', 'name="agree"'),
    "another type": ("schema=bool", "schema=int"),
    "a call before it": ("    kitaru.wait", "    review(text, 9)\n    kitaru.wait"),
    "a call in its place": (WAIT, "review(text, 9)"),
    "the flow ends before it": ("    kitaru.wait", "    return 'done'\n    kitaru.wait"),
}


@pytest.mark.usefixtures("home")
@pytest.mark.parametrize("change", OPEN_WAIT_CHANGES)
def test_an_answer_is_never_taken_for_another_question(change: str):
    ran: list[str] = []
    names = {"ran": ran, "door": {"open": True}}
    source = SOURCE.replace("schema=bool)", "schema=bool, timeout=0)")
    old, new = OPEN_WAIT_CHANGES[change]
    old, new = (text.replace("schema=bool)", "schema=bool, timeout=0)") for text in (old, new))
    handle = drives.load(source, **names).run(topic="dogs")
    drives.error_of(handle)  # it let go
    drives.answer(handle.exec_id, "approve", True)
    ran.clear()

    assert old in source
    changed = drives.load(source.replace(old, new), **names)
    error = drives.error_of(drives.again("resume", changed, handle.exec_id))

    assert isinstance(error, KitaruDivergenceError)
    assert "recorded was approve(question='Publish?')" in str(error)
    assert ran == []
    assert (
        drives.again("retry", drives.load(source, **names), handle.exec_id).wait(20) == "published"
    )


FILE = """
import os
from pathlib import Path
from kitaru import checkpoint, flow, wait

@checkpoint
def first(words: set[str]) -> set[str]:
    return words

@checkpoint
def second(words: set[str]) -> str:
    with open(Path(__file__).parent / "ran", "a") as file:
        file.write("second ")
    return os.environ.get("PYTHONHASHSEED", "")

@flow
def agent() -> str:
    words = first({"ant", "bee", "cat", "dog", "elk", "fox", "gnu"})
    seed = second(words)
    wait(name="go", schema=None, timeout=0)
    return seed
"""


class File:
    """A flow in a file of its own, driven by runner processes."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "agent_file.py"
        self.client = kitaru.KitaruClient()

    def write(self, source: str) -> None:
        self.path.write_text(textwrap.dedent(source))


@pytest.mark.usefixtures("home")
def test_a_file_that_is_edited_and_restored_between_runner_processes(tmp_path: Path):
    file = File(tmp_path)
    file.write(FILE)
    exec_id = file.client.executions.run("agent_file.py:agent", root=str(tmp_path)).exec_id
    assert drives.left(exec_id).status is ExecutionStatus.WAITING
    file.client.executions.input(exec_id, wait="go", value=None)

    file.write(FILE.replace('"gnu"', '"hen"'))
    file.client.executions.resume(exec_id)
    failed = drives.left(exec_id)
    assert failed.failure is not None
    assert failed.failure.origin is FailureOrigin.DIVERGENCE
    assert "first" in failed.failure.message

    file.write(FILE)
    file.client.executions.retry(exec_id)
    assert drives.left(exec_id).status is ExecutionStatus.COMPLETED
    assert (tmp_path / "ran").read_text() == "second "


@pytest.mark.usefixtures("home")
def test_sets_are_the_same_arguments_under_any_hash_seed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    file = File(tmp_path)
    file.write(FILE)
    monkeypatch.setitem(os.environ, "PYTHONHASHSEED", "1")
    exec_id = file.client.executions.run("agent_file.py:agent", root=str(tmp_path)).exec_id
    drives.left(exec_id)
    file.client.executions.input(exec_id, wait="go", value=None)

    monkeypatch.setitem(os.environ, "PYTHONHASHSEED", "2")
    file.client.executions.resume(exec_id)

    done = drives.left(exec_id)
    assert (done.status, done.result) == (ExecutionStatus.COMPLETED, "1")
    assert (tmp_path / "ran").read_text() == "second "
