"""What is done to executions by their clients: answering, stopping, and starting runners."""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import asdict, replace
from typing import Any

from kitaru import answers, codec, config, ids, launch
from kitaru import replay as plans
from kitaru.client.artifacts import Artifacts
from kitaru.errors import KitaruNotFoundError, KitaruStateError, KitaruUsageError
from kitaru.heart import heart
from kitaru.models import (
    Execution,
    PendingWait,
    move,
)
from kitaru.store import Store, Transaction, executions, history, journal, keys, waits
from kitaru.store.executions import Row
from kitaru.store.keys import Key


class Steering(ABC):
    """The actions of `client.executions`."""

    def __init__(
        self, open_: Callable[[], Store], home: config.Home, *, artifacts: Artifacts
    ) -> None:
        self._open = open_
        self._home = home
        self._artifacts = artifacts

    @abstractmethod
    def get(self, exec_id: str) -> Execution:
        """One execution with its calls and artifacts."""

    def input(self, exec_id: str, *, wait: str, value: Any) -> Execution:
        """Answer a wait. A polling driver goes on by itself; otherwise `resume` continues it.

        Args:
            exec_id: full id or unique prefix.
            wait: the wait's name or id. Of one made inside a task (`approve#2.1`) the plain name
                will do while only one such wait is open.
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
        heart.hurry()  # its driver may be in this process
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
        heart.hurry()
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
        heart.hurry()
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

    def retry(self, exec_id: str, *, idempotency_key: str | None = None) -> Execution:
        """Run a failed execution again from where it failed, in a runner process.

        Args:
            exec_id: full id or unique prefix.
            idempotency_key: as in `run`; a repetition returns the execution as it stands now.

        Raises:
            KitaruStateError: it has not failed.
            KitaruUsageError: its flow cannot be imported, or the key cannot be right or was used
                for another request; the execution is as it was.
        """
        with self._open().snapshot() as conn:
            row = executions.find(conn, exec_id)
            key = keys.of(idempotency_key, {"action": "retry", "exec_id": row.exec_id})
            if (earlier := keys.find(conn, key)) is None:
                launch.check_retry(conn, row.exec_id)
        if earlier is not None:
            return self._repeated(earlier)
        return self._spawn("retry", row, key=key)

    def replay(
        self,
        exec_id: str,
        from_: str,
        overrides: Mapping[str, Any] | None = None,
        **flow_inputs: Any,
    ) -> Execution:
        """Start a new execution that reuses this one's record up to `from_`, in a runner process.

        Every other keyword is a flow input: `replay_with` is the one with an idempotency key.

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

    def replay_preview(
        self, exec_id: str, *, from_: str, overrides: Mapping[str, Any] | None = None
    ) -> list[str]:
        """The recorded checkpoints that a replay would run again, at least; starts nothing.

        Args:
            exec_id: full id or unique prefix.
            from_: the checkpoint (name or call id) from which calls run again.
            overrides: what `replay` would be given.

        Raises:
            KitaruStateError: it is running, or a selector fits no call or several.
            KitaruUsageError: an override's key cannot be right.
        """
        encoded = plans.encoded(overrides)
        with self._open().snapshot() as conn:
            row, plan = launch.plan_replay(conn, exec_id, from_=from_, overrides=encoded)
            calls = journal.load(conn, row.id, exec_id=row.exec_id)
        again = [call for call in calls if call.kind == "checkpoint" and call.seq >= plan.from_seq]
        return [call.call_id for call in again if call.call_id not in plan.overrides]

    def replay_with(
        self,
        exec_id: str,
        *,
        from_: str,
        overrides: Mapping[str, Any] | None = None,
        flow_inputs: Mapping[str, Any] | None = None,
        idempotency_key: str | None = None,
    ) -> Execution:
        """Like `replay`, with the flow inputs in a mapping, where any name can stand.

        Args:
            exec_id: full id or unique prefix.
            from_: the checkpoint (name or call id) from which calls run again.
            overrides: as in `replay`.
            flow_inputs: inputs to replace; they reach only code that runs again.
            idempotency_key: as in `run`.

        Raises:
            KitaruStateError: it is running, or a selector fits no call or several.
            KitaruUsageError: an input, an override's key or the idempotency key cannot be right,
                or that was used for another request.
        """
        flow_inputs = dict(flow_inputs or {})
        encoded = plans.encoded(overrides)
        codec.encode(flow_inputs, path="flow_inputs")
        texts = {name: data.decode() for name, data in encoded.items()}
        request = {"from_": from_, "flow_inputs": flow_inputs}
        meant = {"action": "replay", "overrides": dict(overrides or {}), **request}
        with self._open().snapshot() as conn:
            row = executions.find(conn, exec_id)
            key = keys.of(idempotency_key, {"exec_id": row.exec_id, **meant})
            if (earlier := keys.find(conn, key)) is None:
                launch.plan_replay(conn, row.exec_id, from_=from_, overrides=encoded)
        if earlier is not None:
            return self._repeated(earlier)
        return self._spawn("replay", row, key=key, overrides=texts, **request)

    def run(
        self,
        target: str,
        args: Mapping[str, Any] | None = None,
        *,
        root: str | None = None,
        stack: str | None = None,
        idempotency_key: str | None = None,
    ) -> Execution:
        """Start an execution of a flow in a runner process.

        Args:
            target: `module:flow` or `path/to/file.py:flow`.
            args: the flow's inputs as JSON data.
            root: the folder the target starts from; the working directory by default.
            stack: the stack to run on.
            idempotency_key: 1 to 200 printable characters. Only the first call with a key starts
                anything; the same call again returns that execution, with `repeated` true.

        Raises:
            KitaruUsageError: the target names no flow, the inputs do not fit it, or the key cannot
                be right or was used for another request.
            KitaruStateError: the stack does not exist.
        """
        folder = os.path.abspath(root or os.getcwd())
        request: dict[str, Any] = {"action": "run", "target": target, "root": folder}
        request |= {"args": dict(args or {}), "stack": stack}
        key = keys.of(idempotency_key, request)
        with self._open().snapshot() as conn:
            earlier = keys.find(conn, key)
        if earlier is not None:
            return self._repeated(earlier)
        return self._start(request, cwd=folder, key=key)

    def _repeated(self, exec_id: str) -> Execution:
        return replace(self.get(exec_id), _repeated=True)

    def _start(self, request: dict[str, Any], *, cwd: str | None, key: Key | None) -> Execution:
        if key is not None:
            request["key"] = asdict(key)
        from kitaru import spawn  # brings subprocess, which reading does without

        answer = spawn.spawn(request, cwd=cwd, home=self._home)
        # Another process may have been quicker with the same key.
        return self._repeated(answer.exec_id) if answer.repeated else self.get(answer.exec_id)

    def _spawn(self, action: str, row: Row, *, key: Key | None = None, **request: Any) -> Execution:
        with self._open().snapshot() as conn:
            spec = executions.drive_data(conn, row.id)["spec"]
        history.refuse_imported(spec, row.exec_id)
        if spec["target"] is None:
            raise KitaruUsageError(
                f"Cannot {action} execution {row.exec_id}: its code cannot be found again, because "
                f"{spec['problem']}. The execution is as it was."
            )
        request |= {"action": action, "exec_id": row.exec_id}
        request |= {name: spec[name] for name in ("target", "root")}
        return self._start(request, cwd=spec["cwd"], key=key)


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
    in_tasks = [(seq, each) for seq, each in asked if ids.is_of_task(each.name, name=wait)]
    # Not where the flow's body has asked it too: a second answer to that is no answer to these.
    if in_tasks and wait not in made:
        if len(in_tasks) == 1:
            return in_tasks[0]
        several = ", ".join(each.name for _, each in in_tasks)
        raise KitaruStateError(
            f"Execution {row.exec_id} asks {wait!r} in several tasks. Name one of them: {several}."
        )
    error = KitaruStateError if wait.rpartition("/")[2] in made else KitaruNotFoundError
    raise error(f"Execution {row.exec_id} has no open wait {wait!r}. Open: {names}.")
