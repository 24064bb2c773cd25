"""How much a run of a case does, where, and who takes part."""

from __future__ import annotations

import importlib
import importlib.util
import os
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

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
    peers: Sequence[Any] = ()

    def place(self, name: str) -> Path:
        """A folder of that name for one side."""
        place = self.folder / name
        place.mkdir(mode=0o700, parents=True, exist_ok=True)
        return place

    @contextmanager
    def sessions(self, case: str) -> Iterator[dict[str, Callable[..., Figures]]]:
        """The peers that can do a case, each as a function of its arguments."""
        with ExitStack() as stack:
            able = [peer for peer in self.peers if case in peer.cases]
            opened = {peer.name: stack.enter_context(peer.open(self.folder)) for peer in able}
            yield {name: _asking(name, session, case) for name, session in opened.items()}

    @contextmanager
    def peer_sides(self, case: str, *, floor: str | None) -> Iterator[Callable[..., list[Side]]]:
        """What makes the sides of the peers for a case's arguments."""
        with self.sessions(case) as sessions:

            def sides(**arguments: Any) -> list[Side]:
                return [
                    Side(name, lambda ask=ask: ask(**arguments), floor, may_be_slow=True)
                    for name, ask in sessions.items()
                ]

            yield sides


def _asking(name: str, session: Any, case: str) -> Callable[..., Figures]:
    peers = _peers()

    def ask(**arguments: Any) -> Figures:
        try:
            figures: Figures = session.run(case, **arguments)
        except peers.TooSlow as reason:
            raise LeftOut(str(reason).removeprefix(f"{name}: ").removesuffix(".")) from None
        except peers.PeerError as error:
            # What it said is no text for a page; the rest of the run is still good.
            print(error, file=sys.stderr)
            raise LeftOut("it failed in this run") from None
        return figures

    return ask


def _peers() -> Any:
    return importlib.import_module("benchmarks.peers")


def find_peers() -> tuple[list[Any], list[str]]:
    """The peers that are installed, and a line for each that is not."""
    if importlib.util.find_spec("benchmarks.peers") is None:
        return [], ["no peers: nothing here measures them yet"]
    found: tuple[list[Any], list[str]] = _peers().find()
    return found


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
