"""What the upkeep of a store answers: frozen values, ready for JSON.

Sizes are in bytes. Which executions an answer tells of is fixed when it is given.
"""

from __future__ import annotations

from dataclasses import dataclass

from kitaru.models import Model


@dataclass(frozen=True, slots=True)
class Deleted(Model):
    """Executions that are gone; `bytes` counts their values and log lines.

    `children` are executions that these had started and that stay.
    """

    exec_ids: tuple[str, ...]
    bytes: int
    children: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Pruned(Model):
    """How many executions are gone, or would be; `bytes` counts their values and log lines.

    `kept` says of each that was chosen and stays why it has to.
    """

    count: int
    bytes: int
    kept: dict[str, str]
    dry_run: bool = False
