"""Where no execution can be started: in checkpoints, and a replay in no flow."""

from __future__ import annotations

from pathlib import Path

import pytest

import kitaru
from kitaru import checkpoint, flow
from kitaru.errors import KitaruContextError
from tests.drives import error_of

pytestmark = pytest.mark.usefixtures("home")


@flow
def inner() -> str:
    return "inner"


@checkpoint
def starts() -> str:
    return inner.run().wait()


@flow
def replays() -> str:
    return inner.replay("kr-1", "starts").wait()


@flow
def runs_in_a_checkpoint() -> str:
    return starts()


@pytest.mark.parametrize("outer", [replays, runs_in_a_checkpoint])
def test_a_flow_that_starts_another_fails_and_nothing_is_started(home: Path, outer) -> None:
    error = error_of(outer.run())
    assert isinstance(error.__cause__, KitaruContextError)
    assert "checkpoint" in str(error)
    assert len(kitaru.KitaruClient().executions.list()) == 1
