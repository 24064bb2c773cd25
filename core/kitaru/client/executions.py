"""Executions as clients see and steer them: `client.executions`."""

from __future__ import annotations

import builtins
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import datetime
from itertools import islice
from typing import Literal, overload

from kitaru import config
from kitaru.client import filters, limits
from kitaru.client.costs import Costs
from kitaru.client.following import LogEvent, LogSource, check_called, chosen
from kitaru.client.questions import Questions
from kitaru.client.statistics import Statistics
from kitaru.client.transfer import Transfer
from kitaru.client.upkeep import Upkeep
from kitaru.client.watching import Watching
from kitaru.errors import KitaruNotFoundError, KitaruUsageError
from kitaru.models import (
    ArtifactRef,
    CheckpointCall,
    Execution,
    ExecutionStatus,
    LogEntry,
    Page,
)
from kitaru.store import (
    Transaction,
    artifacts,
    endings,
    executions,
    journal,
    listing,
    logs,
    shown,
)
from kitaru.store.executions import Row

#: How Python's report of a crash begins, how long one with many threads is, and how much is told.
_CRASH, _CRASH_REPORT_BYTES, _LAST_WORDS = "Fatal Python error", 64 * 1024, 600


class Executions(Watching, Statistics, Costs, Questions, Upkeep, Transfer):
    """The executions of a store; reached as `client.executions`."""

    def get(self, exec_id: str) -> Execution:
        """One execution with its calls, artifacts and children.

        Args:
            exec_id: full id, a prefix that fits only one, `latest`, `latest:<status>`, or
                `latest:<flow>`.

        Raises:
            KitaruNotFoundError: there is none; names the nearest ids.
            KitaruStateError: the prefix fits several.
        """
        with self._open().snapshot() as conn:
            return self._get(conn, executions.find(conn, exec_id))

    def _get(self, conn: Transaction, row: Row) -> Execution:
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
                shown.call_model(call, exec_id=row.exec_id, artifacts=tuple(produced[call.call_id]))
                for call in calls
                if call.kind == "checkpoint"
            ),
            artifacts=refs,
            children=tuple(call.child_exec_id for call in calls if call.child_exec_id),
            _client=self,
        )

    def summary(self, exec_id: str) -> Execution:
        """One execution without its calls, as a row of `list`; `refresh` gives all of it.

        Args:
            exec_id: full id, unique prefix, or `latest`.

        Raises:
            KitaruNotFoundError: there is none; names the nearest ids.
            KitaruStateError: the prefix fits several.
        """
        with self._open().snapshot() as conn:
            return executions.summary(conn, executions.find(conn, exec_id).id, client=self)

    def ended_checkpoints(
        self, exec_id: str, *, cursor: str | None = None, limit: int = config.ENDED_PAGE
    ) -> Page[CheckpointCall]:
        """The checkpoints that have ended, in the order of their ends, without their artifacts.

        `next_cursor` is always set: given later, it asks for those that have ended since. After a
        retry a checkpoint that has failed ends once more.

        Args:
            exec_id: full id, unique prefix, or `latest`.
            cursor: `next_cursor` of an earlier answer.
            limit: how many at most, 1 to 200.

        Raises:
            KitaruNotFoundError: there is no such execution.
            KitaruUsageError: an argument cannot be right.

        Example:
            >>> import kitaru
            >>> step = kitaru.checkpoint(lambda: 1, name="step")
            >>> handle = kitaru.flow(lambda: step() + step(), name="steps").run()
            >>> handle.wait()
            2
            >>> ended = kitaru.KitaruClient().executions.ended_checkpoints
            >>> page = ended(handle.exec_id)
            >>> [call.call_id for call in page]
            ['step', 'step#2']
            >>> ended(handle.exec_id, cursor=page.next_cursor)
            []
        """
        limits.checked(limit, most=config.MAX_PAGE)
        with self._open().snapshot() as conn:
            row = executions.find(conn, exec_id)
            return endings.after(conn, row.id, exec_id=row.exec_id, cursor=cursor, limit=limit)

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
        limits.checked(limit, most=config.MAX_PAGE)
        where = filters.chosen(flow, status, stack, tags=tags, since=since, until=until)
        with self._open().snapshot() as conn:
            return listing.page(conn, where, limit=limit, cursor=cursor, client=self)

    def flow_names(self, *, limit: int = config.MAX_PAGE) -> builtins.list[str]:
        """The names of the flows that have executions, in alphabetical order.

        Args:
            limit: how many at most, 1 to 200.

        Raises:
            KitaruUsageError: `limit` cannot be right.
        """
        limits.checked(limit, most=config.MAX_PAGE)
        with self._open().snapshot() as conn:
            return listing.flow_names(conn, limit=limit)

    def status_counts(self) -> dict[ExecutionStatus, int]:
        """How many executions are in each status; statuses without one are left out."""
        with self._open().snapshot() as conn:
            return listing.count_by_status(conn)

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
            if not filters:
                raise KitaruNotFoundError("There is no execution in this store yet; start one.")
            raise KitaruNotFoundError(
                f"No execution fits {filters}. Widen the filter, or start one."
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
        level: str | None = ...,
        text: str | None = ...,
        tail: int | None = ...,
        cursor: str | None = ...,
    ) -> Page[LogEntry]: ...
    @overload
    def logs(
        self,
        exec_id: str,
        checkpoint: str | None = ...,
        source: LogSource = ...,
        *,
        limit: int | None = ...,
        follow: Literal[True],
        level: str | None = ...,
        text: str | None = ...,
    ) -> Iterator[LogEntry]: ...
    def logs(
        self,
        exec_id: str,
        checkpoint: str | None = None,
        source: LogSource = "step",
        *,
        limit: int | None = None,
        follow: bool = False,
        level: str | None = None,
        text: str | None = None,
        tail: int | None = None,
        cursor: str | None = None,
    ) -> Page[LogEntry] | Iterator[LogEntry]:
        """Captured lines in the order of their times; `next_cursor` asks for the next page.

        Args:
            exec_id: full id, unique prefix, or `latest`.
            checkpoint: only of the calls with this name, or of this call id.
            source: `step` for what user code wrote, `runner` for what its drivers did.
            limit: how many at most, from the first on.
            follow: yield lines as they are stored, until the execution has ended.
            level: only of this level (DEBUG, INFO, WARNING, ERROR, CRITICAL, in any letter case)
                or a higher one; a line with another level's name counts as INFO.
            text: only with this text in the message; the case of ASCII letters does not matter.
            tail: only the last so many; neither with `limit` nor `cursor` nor `follow`.
            cursor: `next_cursor` of the page before; not with `follow`.

        Raises:
            KitaruNotFoundError: there is no such execution, or it has not called the checkpoint.
            KitaruUsageError: an argument cannot be right.

        Example:
            >>> import logging, kitaru
            >>> @kitaru.flow
            ... def speaking() -> None:
            ...     for word in ("one", "two", "three"):
            ...         logging.getLogger("speaker").warning(word)
            >>> handle = speaking.run()
            >>> handle.wait()
            >>> logs = kitaru.KitaruClient().executions.logs
            >>> [line.message for line in logs(handle.exec_id, text="T")]
            ['two', 'three']
            >>> [line.message for line in logs(handle.exec_id, tail=1)]
            ['three']
        """
        which = chosen(source, checkpoint=checkpoint, level=level, text=text)
        for name, count in (("limit", limit), ("tail", tail)):
            if count is not None:
                limits.checked(count, most=config.MAX_ROWS, name=name)
        if tail is not None and (follow or limit is not None or cursor is not None):
            raise KitaruUsageError("tail gives the last lines: leave out limit, cursor and follow.")
        if follow and cursor is not None:
            raise KitaruUsageError("follow starts with the first line: leave out cursor.")
        with self._open().snapshot() as conn:
            row = executions.find(conn, exec_id)
            if not follow:
                page = (
                    logs.read(conn, row.id, which, limit=limit, cursor=cursor)
                    if tail is None
                    else logs.tail(conn, row.id, which, count=tail)
                )
                if checkpoint is not None and not page:
                    check_called(conn, row, checkpoint)
                return page
        events = self._followed(row, which, lambda: False)
        lines = (event.entry for event in events if isinstance(event, LogEvent))
        return islice(lines, limit)

    def last_words(self, exec_id: str) -> str:
        """What the runners of an execution wrote past Python last, such as the report of a crash.

        At most 600 characters of text that anybody may have written; empty where there is none.

        Args:
            exec_id: full id, unique prefix, or `latest`.

        Raises:
            KitaruNotFoundError: there is no such execution.
        """
        with self._open().snapshot() as conn:
            row = executions.find(conn, exec_id)
        path = self._home.path / config.RUNNER_LOGS / f"{row.exec_id}.log"
        try:
            with path.open("rb") as file:
                file.seek(max(0, path.stat().st_size - _CRASH_REPORT_BYTES))
                text = file.read(_CRASH_REPORT_BYTES).decode(errors="replace")
        except FileNotFoundError:  # only a runner that wrote something leaves one
            return ""
        start = text.rfind(_CRASH)
        return (text[start:] if start >= 0 else text[-_LAST_WORDS:])[:_LAST_WORDS]
