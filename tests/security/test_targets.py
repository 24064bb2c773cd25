"""Texts that are to make the server run what it must not: none is a target.

`python3 dev chaos targets` sends them to a server, and puts them into its store.
"""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from kitaru.errors import KitaruError
from kitaru_mcp.policy import Policy, resolve_roots
from tests.chaos import targets

#: Names in a file under the root: what they are shows in the runner that imports it.
RUNNERS_MATTER = ("flows.py:agent", "flows:agent")


def test_no_hostile_text_leads_out_of_the_root(tmp_path: Path) -> None:
    place, outside = targets.prepare(tmp_path, tmp_path / "marker")
    policy = Policy(read_only=False, roots=resolve_roots([str(place.project)]))
    known = {*sys.modules}
    texts = [text for text in targets.hostile_targets(outside) if text not in RUNNERS_MATTER]
    assert len(texts) >= 300
    for text in texts:
        with pytest.raises(KitaruError):
            policy.target(text)
        with pytest.raises(KitaruError):
            policy.check_recorded(text, root=str(outside))
    assert {*sys.modules} - known <= {"difflib"}
    assert not (tmp_path / "marker").exists()
