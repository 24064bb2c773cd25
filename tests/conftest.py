"""Fixtures that any test may use, and how hard hypothesis searches."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

from tests.support import forget

settings.register_profile("default", deadline=None)
settings.register_profile("nightly", deadline=None, max_examples=2000)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "default"))


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A fresh store's home, which `KITARU_HOME` names; closed when the test has ended."""
    path = tmp_path / "home"
    path.mkdir(mode=0o700)
    monkeypatch.setenv("KITARU_HOME", str(path))
    yield path
    forget(path)
