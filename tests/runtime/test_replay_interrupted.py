"""Replays that fail, stop or are killed go on as they would have; others do not start at all."""

from __future__ import annotations

import os
import signal
import threading
from pathlib import Path

import pytest

from kitaru import KitaruClient
from kitaru.errors import KitaruUsageError
from kitaru.models import ExecutionStatus
from tests import drives
from tests.drives import PIPELINE, Original, get
from tests.support import dump, runner_pid, until

pytestmark = pytest.mark.usefixtures("home")


def test_a_failed_call_that_was_copied_runs_again_on_retry():
    source = """
    @checkpoint
    def part(n: int) -> int:
        ran.append(n)
        if n == 1 and not door:
            raise ConnectionError("closed")
        return n

    @flow
    def agent(topic: str) -> list[int]:
        return part.map([1, 2, 3]).result()
    """
    original = Original(source, names={"door": (door := [])})
    drives.error_of(original.handle)
    handle = original.replay("part#3")
    assert "closed" in str(drives.error_of(handle))
    original.ran.clear()
    door.append("open")

    assert drives.again("retry", original.flow, handle.exec_id).wait(20) == [1, 2, 3]
    assert original.ran == [1]


@pytest.mark.parametrize("stop_in", ["draft", "publish"])
@pytest.mark.parametrize("overrides", [{}, {"checkpoint.research": "new"}])
def test_a_replay_that_was_stopped_goes_on_as_it_would_have(
    stop_in: str, overrides: dict[str, str]
):
    original = Original().finished()
    inside, go = threading.Event(), threading.Event()
    names = {"inside": inside, "go": go}
    stopping = PIPELINE.replace(
        f'ran.append("{stop_in}")', f'ran.append("{stop_in}"); inside.set(); go.wait(20)'
    ).replace(
        "return publish(", "kitaru.wait(name='never', schema=None) if 0 else 0\n    return publish("
    )
    original.names |= names
    original.flow = original.load(stopping)

    handle = original.replay("draft" if not overrides else "publish", overrides)
    assert inside.wait(20)
    handle._driver.stop()
    go.set()
    handle._driver.ended.wait(20)

    notes = "new" if overrides else "notes about dogs"
    resumed = get(handle)
    if resumed.status is ExecutionStatus.RUNNING:
        assert resumed.stalled
        drives.again("resume", original.load(PIPELINE), handle.exec_id).wait(20)
    assert get(handle).result == f"published draft from [{notes}]"
    assert original.ran == ["draft", "publish"]


FILE = f"""
import os
from pathlib import Path
from kitaru import checkpoint, flow

HERE = Path(__file__).parent

class Ran:
    def append(self, name):
        with open(HERE / "ran", "a") as file:
            file.write(name + " ")
        while name == "publish" and (HERE / "closed").exists():
            pass

ran = Ran()
{PIPELINE}
"""


def test_a_replay_whose_runner_is_killed_goes_on_behind_its_override(home: Path, tmp_path: Path):
    (tmp_path / "replayed_file.py").write_text(FILE)
    client = KitaruClient()
    first = client.executions.run("replayed_file.py:agent", {"topic": "dogs"}, root=str(tmp_path))
    drives.left(first.exec_id)
    (tmp_path / "ran").write_text("")
    (tmp_path / "closed").touch()

    replay = client.executions.replay(first.exec_id, "publish", {"checkpoint.research": "new"})
    until(lambda: (tmp_path / "ran").read_text() == "draft publish ", "publish runs")
    os.kill(runner_pid(home, replay.exec_id), signal.SIGKILL)
    assert drives.left(replay.exec_id).stalled
    (tmp_path / "closed").unlink()
    client.executions.resume(replay.exec_id)

    assert drives.left(replay.exec_id).result == "published draft from [new]"
    assert (tmp_path / "ran").read_text() == "draft publish publish "


def test_a_replay_whose_code_cannot_be_imported_starts_nothing(home: Path, tmp_path: Path):
    (tmp_path / "broken_file.py").write_text(FILE)
    client = KitaruClient()
    first = client.executions.run("broken_file.py:agent", {"topic": "dogs"}, root=str(tmp_path))
    drives.left(first.exec_id)
    before = dump(home)
    (tmp_path / "broken_file.py").write_text("import nothing_of_that_name")

    with pytest.raises(KitaruUsageError, match="nothing_of_that_name"):
        client.executions.replay(first.exec_id, "publish")

    assert dump(home) == before
