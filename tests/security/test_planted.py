"""What is planted in a store runs for nobody who reads it, and is told by an error of Kitaru's.

`python3 dev chaos planted` plants in every place there is; command line and server read, too.
"""

from __future__ import annotations

import random
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from kitaru import KitaruClient, KitaruError
from kitaru_mcp import views
from tests.security import planted_flows
from tests.security.planting import Place, payloads, places, plant, set_trap


@pytest.fixture
def home(unchecked_home: Path) -> Path:
    """A store that nobody looks over afterwards: it is no longer sound."""
    return unchecked_home


@pytest.fixture
def marker(home: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The file that tells that something ran; there are executions to plant in."""
    planted_flows.agent.run("dogs").wait()
    with pytest.raises(KitaruError):
        planted_flows.agent.run("dogs", how="fails").wait()
    (home / "traps").mkdir()
    set_trap(home / "traps", home / "marker")
    monkeypatch.syspath_prepend(home / "traps")
    return home / "marker"


@pytest.mark.parametrize("name", ["pickle", "bare pickle", "class", "tag", "target", "deep"])
def test_what_is_planted_does_not_run(home: Path, marker: Path, name: str) -> None:
    payload = payloads(home / "traps", marker)[name]
    found = random.Random(name).sample(places(home), 4)
    results = [Place("calls", "result"), Place("executions", "failure"), Place("artifacts", "data")]
    ids = [each.exec_id for each in KitaruClient().executions.list()]
    changed = 0
    for place in (*results, *found):
        changed += plant(home, place, payload)
        for exec_id in ids:
            read(exec_id)
        assert not marker.exists(), place
        assert "trap" not in sys.modules
    assert changed >= len(results)


def read(exec_id: str) -> None:
    """Read all there is of an execution; errors of Kitaru's are answers too."""
    client = KitaruClient()
    for ask in (
        lambda: client.executions.get(exec_id).result,
        lambda: client.executions.logs(exec_id),
        lambda: client.executions.list(),
        lambda: client.executions.statistics(["metadata.tier"]),
        lambda: [ref.load() for ref in client.artifacts.list(exec_id)],
    ):
        try:
            ask()
        except KitaruError:
            continue


def test_a_trap_that_is_imported_tells_so(marker: Path) -> None:
    import trap  # type: ignore[import-not-found]

    del sys.modules["trap"]
    assert trap.flow
    assert marker.exists()


def test_every_column_that_takes_text_is_a_place(home: Path, marker: Path) -> None:
    found = {str(place) for place in places(home)}
    assert {"executions.spec", "executions.spec.target", "calls.result", "chunks.data"} <= found
    assert {"waits.question", "settings.value", "calls.failure.exception.type"} <= found
    assert "executions.created_at" not in found


def test_an_id_that_is_longer_than_a_row_leaves_no_room_and_still_ends(marker: Path) -> None:
    found = KitaruClient().executions.latest()
    shown = views.row(replace(found, exec_id="kr-" + "x" * 300))
    assert shown["flow"] == "…"
