"""What those need who answer questions: the open ones, what each is about, and what comes of it."""

from __future__ import annotations

from typing import Any

from kitaru import config, launch
from kitaru.client import limits
from kitaru.client.artifacts import Artifacts
from kitaru.client.steering import Steering
from kitaru.models import ArtifactView, Execution, ExecutionStatus, PendingWait
from kitaru.store import executions, waits

#: How many artifacts of each sort a question's context shows, and how much of each.
_SHOWN = 3
_PREVIEW_CHARACTERS = 200


class Questions(Steering):
    """The part of `client.executions` that goes through open waits."""

    _artifacts: Artifacts

    def answer(self, exec_id: str, *, wait: str, value: Any) -> tuple[Execution, bool]:
        """Answer a wait as `input` does, and look whether the execution goes on by itself.

        Args:
            exec_id: full id, unique prefix, or `latest`.
            wait: the wait's name or id.
            value: JSON data.

        Raises:
            KitaruNotFoundError: there is no such execution.
            KitaruStateError: it has no such open wait.
            KitaruWaitValidationError: the value does not fit; the wait stays open.

        Example:
            >>> import kitaru
            >>> asking = kitaru.flow(lambda: kitaru.wait(name="go", timeout=0), name="asking")
            >>> handle = asking.run()
            >>> while kitaru.KitaruClient().executions.continues(handle.exec_id): pass
            >>> executions = kitaru.KitaruClient().executions
            >>> found, goes_on = executions.answer(handle.exec_id, wait="go", value=True)
            >>> found.status.value, goes_on
            ('waiting', False)
        """
        exec_id = self.input(exec_id, wait=wait, value=value).exec_id
        # In this order: a driver that ends between the two looks is seen as finished, not as gone.
        driven = self.continues(exec_id)
        found = self.get(exec_id)
        return found, driven or self.goes_on(found)

    def goes_on(self, execution: Execution) -> bool:
        """Whether an execution needs no `resume`: it ended, needs an answer first, or is driven."""
        if execution.stalled:
            return False
        if execution.pending_wait is not None or execution.status != "waiting":
            return True
        exec_id = execution.exec_id
        return self.continues(exec_id) or self.obstacle(exec_id) is not None

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

    def pending_waits(self, exec_id: str) -> list[PendingWait]:
        """The questions an execution waits for, oldest first."""
        with self._open().snapshot() as conn:
            row = executions.find(conn, exec_id)
            return waits.pending(conn, row.id, exec_id=row.exec_id)

    def continues(self, exec_id: str) -> bool:
        """Whether a live driver will take up what happens next, such as an answer."""
        with self._open().snapshot() as conn:
            return executions.find(conn, exec_id).holder == "alive"

    def obstacle(self, exec_id: str) -> str | None:
        """What a waiting execution waits for, and what to do; `None` where `resume` is of use."""
        with self._open().snapshot() as conn:
            row = executions.find(conn, exec_id)
            is_waiting = row.status is ExecutionStatus.WAITING
            return launch.obstacle(conn, row) if is_waiting else None

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
