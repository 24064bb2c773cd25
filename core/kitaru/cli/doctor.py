"""`kitaru doctor`: what is wrong with a store, and repairs that are always safe."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

from kitaru.cli import output
from kitaru.cli.command import Answer, Command, listed, open_client
from kitaru.cli.upkeep import bar
from kitaru.errors import KitaruBackendError

if TYPE_CHECKING:
    from kitaru.upkeep import Finding

#: How many findings are told in text.
_TOLD = 50


@click.command("doctor", cls=Command)
@click.option("--full", is_flag=True, help="Also check every index, and read every value.")
@click.option("--repair", is_flag=True, help="Put right what is safe to: each repair is told.")
def doctor(full: bool, repair: bool) -> Answer:
    """Look for what is wrong with the store; exit with 1 where something is.

    \b
    Example:
      kitaru doctor --full
    """
    from kitaru import render

    client = open_client()
    with bar("Reading values") as progress:
        found = client.store.examine(full=full, repair=repair, progress=progress)
    left = sum(not each.repaired for each in found)
    error = None
    if left:
        told = "finding that needs" if left == 1 else "findings that need"
        error = KitaruBackendError(f"The store has {left} {told} somebody.")
    return Answer(
        json=lambda: listed([render.shown(each.to_dict()) for each in found]),
        text=lambda: _text(str(client.home.database), found),
        error=error,
    )


def _text(path: str, found: Sequence[Finding]) -> str:
    lines = [output.fields("Kitaru doctor", [("Store", path), ("Findings", len(found) or "none")])]
    for each in found[:_TOLD]:
        then = "Repaired." if each.repaired else each.advice
        lines.append(output.line(f"  {each.code} {each.id}: {each.message} {then}"))
    if len(found) > _TOLD:
        lines.append(f"  and {len(found) - _TOLD} more; -o json tells them all")
    return "\n".join(lines)
