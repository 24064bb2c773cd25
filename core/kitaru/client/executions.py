"""Executions as clients see and steer them: `client.executions`."""

from __future__ import annotations

import builtins
import threading
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import datetime
from itertools import islice
from typing import Literal, overload

from kitaru import clock, config, launch
from kitaru.client.steering import Steering
from kitaru.errors import KitaruNotFoundError, KitaruUsageError
from kitaru.models import (
    ArtifactRef,
    Execution,
    ExecutionStatus,
    LogEntry,
    Page,
    PendingWait,
    parse_status,
)
from kitaru.store import artifacts, executions, journal, logs, waits
from kitaru.store.executions import Filter, Row

LogSource = Literal["step", "runner"]


class Executions(Steering):
    """The executions of a store; reached as `client.executions`."""

    def get(self, exec_id: str) -> Execution:
        """One execution with its calls, artifacts and children.

        Args:
            exec_id: full id, or a prefix that fits only one.

        Raises:
            KitaruNotFoundError: there is none; names the nearest ids.
            KitaruStateError: the prefix fits several.
        """
        with self._open().snapshot() as conn:
            row = executions.find(conn, exec_id)
            execution = executions.get(conn, row.id)
            calls = journal.load(conn, row.id, exec_id=row.exec_id)
            found = artifacts.listing(conn, row.id, exec_id=row.exec_id)
        refs = tuple(self._artifacts.bound(artifact.model) for artifact in found)
        produced: dict[str, builtins.list[ArtifactRef]] = defaultdict(builtins.list)
        for ref in refs:
            produced[ref.producing_call].append(ref)
        return replace(
            execution,
            checkpoints=tuple(
                replace(
                    journal.call_model(call, exec_id=row.exec_id),
                    artifacts=tuple(produced[call.call_id]),
                )
                for call in calls
                if call.kind == "checkpoint"
            ),
            artifacts=refs,
            children=tuple(call.child_exec_id for call in calls if call.child_exec_id),
            _client=self,
        )

    def list(
        self,
        flow: str | None = None,
        status: str | ExecutionStatus | None = None,
        stack: str | None = None,
        *,
        tags: Sequence[str] | None = None,
        limit: int = config.DEFAULT_PAGE,
        cursor: str | None = None,
        since: datetime | None = None,
        until: datetime | None = None,
    ) -> Page[Execution]:
        """Executions without their calls, newest first; `next_cursor` asks for the next page.

        Args:
            flow: only of the flow with this name or id.
            status: only in this status.
            stack: only on this stack.
            tags: only with all of these tags.
            limit: how many at most, 1 to 200.
            cursor: `next_cursor` of the page before.
            since: only created at this time or later; an aware datetime.
            until: only created before this time; an aware datetime.

        Raises:
            KitaruUsageError: an argument cannot be right.
        """
        if type(limit) is not int or not 1 <= limit <= config.MAX_PAGE:
            raise KitaruUsageError(f"limit is {limit!r}; it must be from 1 to {config.MAX_PAGE}.")
        for name, time in (("since", since), ("until", until)):
            if time is not None and getattr(time, "tzinfo", None) is None:
                raise KitaruUsageError(f"{name} is {time!s}; give a datetime with a time zone.")
        for name, text in (("flow", flow), ("stack", stack)):
            if text is not None and not isinstance(text, str):
                raise KitaruUsageError(f"{name} is {text!r:.60}; give its name.")
        if isinstance(tags, str):
            raise KitaruUsageError(f"tags is the text {tags!r}; give a list of tags.")
        where = Filter(
            flow=flow,
            status=None if status is None else parse_status(status),
            stack=stack,
            tags=tuple(tags or ()),
            since=since,
            until=until,
        )
        with self._open().snapshot() as conn:
            page = executions.listing(conn, where, limit=limit, cursor=cursor)
        return Page([replace(each, _client=self) for each in page], page.next_cursor)

    def status_counts(self) -> dict[ExecutionStatus, int]:
        """How many executions are in each status; statuses without one are left out."""
        with self._open().snapshot() as conn:
            return executions.count_by_status(conn)

    def latest(
        self,
        flow: str | None = None,
        status: str | ExecutionStatus | None = None,
        stack: str | None = None,
    ) -> Execution:
        """The newest execution that fits, with its calls and artifacts.

        Raises:
            KitaruNotFoundError: none fits.
        """
        found = self.list(flow, status, stack, limit=1)
        if not found:
            asked = {"flow": flow, "status": status, "stack": stack}
            filters = ", ".join(f"{key}={value!s}" for key, value in asked.items() if value)
            raise KitaruNotFoundError(
                f"No execution fits {filters or 'an empty store'}. Widen the filter, or start one."
            )
        return self.get(found[0].exec_id)

    @overload
    def logs(
        self,
        exec_id: str,
        checkpoint: str | None = ...,
        source: LogSource = ...,
        *,
        limit: int | None = ...,
        follow: Literal[False] = ...,
    ) -> builtins.list[LogEntry]: ...
    @overload
    def logs(
        self,
        exec_id: str,
        checkpoint: str | None = ...,
        source: LogSource = ...,
        *,
        limit: int | None = ...,
        follow: Literal[True],
    ) -> Iterator[LogEntry]: ...
    def logs(
        self,
        exec_id: str,
        checkpoint: str | None = None,
        source: LogSource = "step",
        *,
        limit: int | None = None,
        follow: bool = False,
    ) -> builtins.list[LogEntry] | Iterator[LogEntry]:
        """Captured lines in the order they were written.

        Args:
            exec_id: full id or unique prefix.
            checkpoint: only of the calls with this name, or of this call id.
            source: `step` for what user code wrote, `runner` for what its drivers did.
            limit: how many at most, from the first on.
            follow: yield lines as they are stored, until the execution has ended.

        Raises:
            KitaruNotFoundError: there is no such execution.
            KitaruUsageError: an argument cannot be right.
        """
        if source not in ("step", "runner"):
            raise KitaruUsageError(f"source is {source!r}; use 'step' or 'runner'.")
        if limit is not None and (type(limit) is not int or limit < 1):
            raise KitaruUsageError(f"limit is {limit!r}; it must be at least 1.")
        with self._open().snapshot() as conn:
            row = executions.find(conn, exec_id)
            if not follow:
                return logs.read(conn, row.id, source=source, checkpoint=checkpoint, limit=limit)
        return islice(self._follow(row, checkpoint, source), limit)

    def _follow(self, row: Row, checkpoint: str | None, source: LogSource) -> Iterator[LogEntry]:
        store, after, seen, never = self._open(), 0, -1, threading.Event()
        while True:
            if (version := store.version()) != seen:
                seen = version
                with store.snapshot() as conn:
                    status = executions.at(conn, row.id).status
                    found, after = logs.read_after(
                        conn, row.id, after=after, source=source, checkpoint=checkpoint
                    )
                yield from found
                if status.is_finished:
                    return
            else:
                clock.wait(never, config.POLL_SECONDS)

    def pending_waits(self, exec_id: str) -> builtins.list[PendingWait]:
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
