"""How much a run of a case does, where, and who takes part."""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.peers import Peer, PeerError, Session, TooSlow
from benchmarks.rounds import Figures, LeftOut, Side
from benchmarks.worker import Broken

#: File systems that are memory: nothing on them is durable.
IN_MEMORY = {"tmpfs", "ramfs"}


@dataclass(frozen=True)
class Scope:
    """What a case is given.

    Args:
        folder: an empty folder on a disk, for all sides.
        rounds: how often each side does the work.
        quick: only what is short and steady.
        peers: other systems to measure beside.
    """

    folder: Path
    rounds: int
    quick: bool = False
    peers: Sequence[Peer] = ()

    def place(self, name: str) -> Path:
        """A folder of that name for one side."""
        place = self.folder / name
        place.mkdir(mode=0o700, parents=True, exist_ok=True)
        return place

    @contextmanager
    def peer_sides(self, case: str, *, floor: str | None) -> Iterator[Callable[..., list[Side]]]:
        """What makes the sides of the peers that can do a case, from its arguments."""
        with ExitStack() as stack:
            able = [peer for peer in self.peers if case in peer.cases]
            sessions = [stack.enter_context(peer.open(self.folder)) for peer in able]

            def sides(**arguments: Any) -> list[Side]:
                return [
                    Side(session.name, _asking(session, case, arguments), floor, may_be_slow=True)
                    for session in sessions
                ]

            yield sides


def _asking(session: Session, case: str, arguments: Mapping[str, Any]) -> Callable[[], Figures]:
    def ask() -> Figures:
        try:
            return session.run(case, **arguments)
        except TooSlow as reason:
            raise LeftOut(str(reason).removeprefix(f"{session.name}: ").removesuffix(".")) from None
        except PeerError as error:
            # What it said is no text for a page; the rest of the run is still good.
            print(error, file=sys.stderr)
            raise LeftOut("it failed in this run") from None

    return ask


def file_system(folder: Path) -> str:
    """Which kind a folder is on; empty where nothing tells."""
    try:
        mounts = Path("/proc/mounts").read_text().splitlines()
    except OSError:
        return ""
    place = str(folder.resolve())
    points = [(fields[1], fields[2]) for fields in map(str.split, mounts)]
    above = [
        (len(point), kind)
        for point, kind in points
        if place == point or place.startswith(point.rstrip("/") + "/")
    ]
    return max(above)[1] if above else ""


def disk() -> Path:
    """A folder for temporary files that is on a disk."""
    for folder in (Path(tempfile.gettempdir()), Path("/var/tmp")):
        if folder.is_dir() and os.access(folder, os.W_OK) and file_system(folder) not in IN_MEMORY:
            return folder
    raise Broken("The folder of temporary files is in memory. Set TMPDIR to a folder on a disk.")
