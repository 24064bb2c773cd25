"""Executions as clients see and steer them: `client.executions`."""

from __future__ import annotations

import builtins
import os
import threading
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from itertools import islice
from typing import Any, Literal, overload

from kitaru import answers, clock, codec, config, launch, spawn
from kitaru import replay as plans
from kitaru.client.artifacts import Artifacts
from kitaru.errors import KitaruNotFoundError, KitaruStateError, KitaruUsageError
from kitaru.models import (
    ArtifactRef,
    Execution,
    ExecutionStatus,
    LogEntry,
    Page,
    PendingWait,
    move,
    parse_status,
)
from kitaru.store import Store, Transaction, artifacts, executions, journal, logs, waits
from kitaru.store.executions import Filter, Row

LogSource = Literal["step", "runner"]


class Executions:
    """The executions of a store; reached as `client.executions`."""

    def __init__(
        self, open_: Callable[[], Store], home: config.Home, *, artifacts: Artifacts
    ) -> None:
        self._open = open_
        self._home = home
        self._artifacts = artifacts

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

    def input(self, exec_id: str, *, wait: str, value: Any) -> Execution:
        """Answer a wait. A polling driver goes on by itself; otherwise `resume` continues it.

        Args:
            exec_id: full id or unique prefix.
            wait: the wait's name or id.
            value: the answer, as JSON data or as the schema's type.

        Raises:
            KitaruNotFoundError: there is no such execution, or it has not asked this.
            KitaruStateError: the execution does not wait, or no longer for this.
            KitaruWaitValidationError: the answer does not fit the schema; the wait stays open.
        """
        data = answers.encode(value, wait=wait)
        with self._open().snapshot() as conn:
            row = executions.find(conn, exec_id)
            seq, asked = _pending(conn, row, wait, action="input")
        answers.validate(data, asked.schema, wait=asked.wait_id)  # may be slow: not in the write
        with self._open().write() as conn:
            row = executions.find(conn, row.exec_id)
            if _pending(conn, row, wait, action="input") != (seq, asked):
                raise KitaruStateError(f"{asked.wait_id} was just asked anew. Look, then answer.")
            waits.answer(conn, row.id, seq, value=data)
            executions.note(conn, row, f"Wait {asked.name} was answered.")
        return self.get(row.exec_id)

    def abort_wait(self, exec_id: str, *, wait: str) -> Execution:
        """Close a wait without an answer, which cancels the execution.

        Raises:
            KitaruNotFoundError: there is no such execution, or it has not asked this.
            KitaruStateError: the execution does not wait, or no longer for this.
        """
        with self._open().write() as conn:
            row = executions.find(conn, exec_id)
            _, asked = _pending(conn, row, wait, action="abort")
            reason = f"Wait {asked.name} was aborted."
            executions.stop(conn, row, action="abort", reason=reason)
        return self.get(row.exec_id)

    def cancel(self, exec_id: str) -> Execution:
        """Stop an execution and its children: at once, or at the next durable call of its driver.

        Raises:
            KitaruStateError: it has ended already.
        """
        with self._open().write() as conn:
            row = executions.find(conn, exec_id)
            move("cancel", exec_id=row.exec_id, status=row.status)
            executions.stop(conn, row, reason="Cancelled.")
        return self.get(row.exec_id)

    def resume(self, exec_id: str) -> Execution:
        """Continue an answered or stalled execution in a runner process.

        Raises:
            KitaruStateError: it is driven, not answered yet, or has ended.
            KitaruUsageError: its flow cannot be imported; the execution is as it was.
        """
        with self._open().snapshot() as conn:
            row = launch.check_resume(conn, exec_id)
        return self._spawn("resume", row)

    def retry(self, exec_id: str) -> Execution:
        """Run a failed execution again from where it failed, in a runner process.

        Raises:
            KitaruStateError: it has not failed.
            KitaruUsageError: its flow cannot be imported; the execution is as it was.
        """
        with self._open().snapshot() as conn:
            row = launch.check_retry(conn, exec_id)
        return self._spawn("retry", row)

    def replay(
        self,
        exec_id: str,
        from_: str,
        overrides: Mapping[str, Any] | None = None,
        **flow_inputs: Any,
    ) -> Execution:
        """Start a new execution that reuses this one's record up to `from_`, in a runner process.

        Args:
            exec_id: full id or unique prefix.
            from_: the checkpoint (name or call id) from which calls run again.
            overrides: `{"checkpoint.<name or call id>": value}`: what the flow gets from a call
                instead of its record.
            flow_inputs: inputs to replace; they reach only code that runs again.

        Raises:
            KitaruStateError: it is running, or a selector fits no call or several.
            KitaruUsageError: an input or an override's key cannot be right.
        """
        return self.replay_with(exec_id, from_=from_, overrides=overrides, flow_inputs=flow_inputs)

    def replay_with(
        self,
        exec_id: str,
        *,
        from_: str,
        overrides: Mapping[str, Any] | None = None,
        flow_inputs: Mapping[str, Any] | None = None,
    ) -> Execution:
        """Like `replay`, with the flow inputs in a mapping, where any name can stand."""
        flow_inputs = dict(flow_inputs or {})
        encoded = plans.encoded(overrides)
        codec.encode(flow_inputs, path="flow_inputs")
        with self._open().snapshot() as conn:
            row, _ = launch.plan_replay(conn, exec_id, from_=from_, overrides=encoded)
        texts = {key: data.decode() for key, data in encoded.items()}
        return self._spawn("replay", row, from_=from_, overrides=texts, flow_inputs=flow_inputs)

    def run(
        self, target: str, args: Mapping[str, Any] | None = None, *, root: str | None = None
    ) -> Execution:
        """Start an execution of a flow in a runner process.

        Args:
            target: `module:flow` or `path/to/file.py:flow`.
            args: the flow's inputs as JSON data.
            root: the folder the target starts from; the working directory by default.

        Raises:
            KitaruUsageError: the target names no flow, or the inputs do not fit it.
        """
        folder = os.path.abspath(root or os.getcwd())
        request = {"action": "run", "target": target, "root": folder, "args": dict(args or {})}
        return self.get(spawn.spawn(request, cwd=folder, home=self._home))

    def _spawn(self, action: str, row: Row, **request: Any) -> Execution:
        with self._open().snapshot() as conn:
            spec = executions.drive_data(conn, row.id)["spec"]
        if spec["target"] is None:
            raise KitaruUsageError(
                f"Cannot {action} execution {row.exec_id}: its code cannot be found again, because "
                f"{spec['problem']}. The execution is as it was."
            )
        request |= {"action": action, "exec_id": row.exec_id}
        request |= {key: spec[key] for key in ("target", "root")}
        return self.get(spawn.spawn(request, cwd=spec["cwd"], home=self._home))


def _pending(conn: Transaction, row: Row, wait: str, *, action: str) -> tuple[int, PendingWait]:
    """The pending wait with this name or id."""
    if not isinstance(wait, str) or not wait.strip():
        raise KitaruUsageError("`wait` is empty; give the wait's name.")
    move(action, exec_id=row.exec_id, status=row.status)
    asked = waits.pending_rows(conn, row.id, exec_id=row.exec_id)
    for seq, each in asked:
        if wait in (each.name, each.wait_id):
            return seq, each
    if not asked:
        reason = launch.obstacle(conn, row) or (
            "its answer is already in. If it does not go on by itself, "
            f"`kitaru executions resume {row.exec_id}`."
        )
        raise KitaruStateError(f"Execution {row.exec_id} has no open wait: {reason}")
    names = ", ".join(each.name for _, each in asked)
    made = [call.call_id for call in journal.load(conn, row.id, exec_id=row.exec_id)]
    error = KitaruStateError if wait.rpartition("/")[2] in made else KitaruNotFoundError
    raise error(f"Execution {row.exec_id} has no open wait {wait!r}. Open: {names}.")
