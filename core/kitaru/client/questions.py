"""What a person needs who goes through open questions: all of them, and what each is about."""

from __future__ import annotations

from collections.abc import Callable

from kitaru import config
from kitaru.client import limits
from kitaru.client.artifacts import Artifacts
from kitaru.models import ArtifactView, PendingWait
from kitaru.store import Store, waits

#: How many artifacts of each sort a question's context shows, and how much of each.
_SHOWN = 3
_PREVIEW_CHARACTERS = 200


class Questions:
    """The part of `client.executions` that looks at open waits."""

    _open: Callable[[], Store]
    _artifacts: Artifacts

    def open_waits(self, *, limit: int = config.MAX_ROWS) -> list[PendingWait]:
        """The questions that executions wait for, oldest first; of the whole store.

        The execution's id is what stands before the `/` of a wait's id.

        Args:
            limit: how many at most.

        Raises:
            KitaruUsageError: `limit` cannot be right.

        Example:
            >>> import kitaru
            >>> kitaru.KitaruClient().executions.open_waits()
            []
        """
        limits.checked(limit, most=config.MAX_ROWS)
        with self._open().snapshot() as conn:
            return waits.open_everywhere(conn, limit=limit)

    def context_of(self, exec_id: str) -> list[ArtifactView]:
        """The beginnings of what an answer may depend on: artifacts of kind `context`, results.

        At most the latest three of each, in the order of calls.

        Args:
            exec_id: full id, unique prefix, or `latest`.

        Raises:
            KitaruNotFoundError: there is no such execution.
        """
        found = self._artifacts.list(exec_id)
        context = [ref for ref in found if ref.kind == "context"][-_SHOWN:]
        results = [ref for ref in found if ref.save_type == "step_output"][-_SHOWN:]
        chosen = {ref.artifact_id for ref in [*context, *results]}
        return [
            self._artifacts.show(ref.artifact_id, limit=_PREVIEW_CHARACTERS)
            for ref in found
            if ref.artifact_id in chosen
        ]
