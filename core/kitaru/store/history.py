"""What an execution that was imported from a file may not be: driven on, or read as recorded.

The mark stands in its spec. Drivers look at it, and need nothing of what imports and exports.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from kitaru.errors import KitaruStateError

MARK = "imported"


def is_redacted(spec: Mapping[str, Any]) -> bool:
    """Whether its values are not the recorded ones."""
    return bool((spec.get(MARK) or {}).get("redacted"))


def refuse_redacted(spec: Mapping[str, Any], exec_id: str) -> None:
    """Go on only with an execution whose values are the recorded ones.

    Raises:
        KitaruStateError: it was imported with its secrets masked.
    """
    if is_redacted(spec):
        raise KitaruStateError(
            f"Execution {exec_id} was imported with secrets masked and large values left out, so "
            "its values are not those that were recorded. Export it with --raw to load them."
        )


def refuse_imported(spec: Mapping[str, Any], exec_id: str) -> None:
    """Go on only with an execution of this store's own.

    Raises:
        KitaruStateError: it was imported.
    """
    if spec.get(MARK):
        raise KitaruStateError(
            f"Execution {exec_id} was imported from a file: it is history, and nothing goes on "
            "from it. Run its flow anew."
        )
