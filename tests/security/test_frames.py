"""Lines that are no messages: the server answers what can be answered, goes on, and ends cleanly.

`python3 dev chaos frames framing` sends more of them, and lets flows write over the wire.
"""

from __future__ import annotations

import random
from pathlib import Path

from tests.chaos import framing


def test_after_odd_lines_the_server_answers_and_a_message_cut_off_ends_it(tmp_path: Path) -> None:
    rng = random.Random(11)
    told = framing.through_frames(tmp_path, rng, servers=1, frames=150)
    assert told.startswith("1 servers, 150 odd lines, ")
    assert told.endswith("0 hung")
