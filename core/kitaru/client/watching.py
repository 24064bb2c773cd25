"""Watching an execution: how it stands as a whole, and what its calls are doing.

`watch` reads again only what can have changed, so that ten thousand checkpoints cost no more to
watch than ten. `timeline` reads all calls once. Neither acts on what it sees.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from kitaru import clock, config
from kitaru.client.following import Following, Idle, looks
from kitaru.frozen import Model
from kitaru.models import CallStatus, Execution
from kitaru.store import executions, journal
from kitaru.store.executions import Row

if TYPE_CHECKING:
    from kitaru.timeline import Call, Timeline

_NEVER = threading.Event()


@dataclass(frozen=True, slots=True)
class Progress(Model):
    """How an execution stands, without its calls, and those of these that have changed.

    `note` says once that nobody drives it and somebody has to act, and what helps.
    """

    execution: Execution
    calls: tuple[Call, ...]
    note: str | None = None


class Watching(Following):
    """What of `client.executions` shows where an execution is and where its time went."""

    def watch(
        self, exec_id: str, *, stop: Callable[[], bool] = lambda: False
    ) -> Iterator[Progress]:
        """Yield how an execution stands whenever that has changed, the last time when it has ended.

        The first one has all calls made so far; each later one those that are new or have changed,
        in the order they were made. Changes that come close to each other are told together.

        Args:
            exec_id: full id, unique prefix, or `latest`.
            stop: asked often; once it says so, no more is yielded.

        Raises:
            KitaruNotFoundError: there is no such execution, or it was deleted meanwhile.

        Example:
            >>> import kitaru
            >>> step = kitaru.checkpoint(lambda: 1, name="step")
            >>> handle = kitaru.flow(lambda: step() + step(), name="steps").run()
            >>> for progress in kitaru.KitaruClient().executions.watch(handle.exec_id):
            ...     last = progress.execution
            >>> str(last.status), last.checkpoint_count
            ('completed', 2)
        """
        with self._open().snapshot() as conn:
            row = executions.find(conn, exec_id)
        return self._watched(row, stop)

    def _watched(self, row: Row, stop: Callable[[], bool]) -> Iterator[Progress]:
        from kitaru import timeline  # for those who watch only

        last, unsure = -1, dict[int, timeline.Call]()
        before: Execution | None = None
        idle = Idle()
        for is_tick in looks(store := self._open(), stop):
            with store.snapshot() as conn:
                now = executions.find(conn, row.exec_id)
                execution = executions.summary(conn, row.id)
                found = journal.since(
                    conn, row.id, exec_id=row.exec_id, after=last, also=unsure.keys()
                )
            changed = []
            for record in found:
                call = timeline.call(record, exec_id=row.exec_id)
                if record.seq > last or unsure.get(record.seq) != call:
                    changed.append(call)
                # What has failed or was cut off may run again.
                unsure[record.seq] = call
                if call.status is CallStatus.COMPLETED:
                    del unsure[record.seq]
            is_asking = bool(execution.pending_waits)
            note = idle.note(store, now, is_asking=is_asking, is_tick=is_tick)
            last = max(last, *(record.seq for record in found), -1)
            if changed or note or execution != before:
                before = execution
                yield Progress(execution, tuple(changed), note)
                if execution.status.is_finished:
                    return
                clock.wait(_NEVER, config.WATCH_SECONDS)

    def timeline(self, exec_id: str) -> Timeline:
        """Where the time of an execution went, from its start to its end or now.

        Args:
            exec_id: full id, unique prefix, or `latest`.

        Raises:
            KitaruNotFoundError: there is no such execution.

        Example:
            >>> import kitaru
            >>> step = kitaru.checkpoint(lambda: 1, name="step")
            >>> handle = kitaru.flow(lambda: step(), name="stepping").run()
            >>> handle.wait()
            1
            >>> [span.label for span in kitaru.KitaruClient().executions.timeline("latest").spans]
            ['step']
        """
        from kitaru import timeline

        with self._open().snapshot() as conn:
            row = executions.find(conn, exec_id)
            execution = executions.summary(conn, row.id)
            calls = journal.load(conn, row.id, exec_id=row.exec_id)
        made = [timeline.call(record, exec_id=row.exec_id) for record in calls]
        return timeline.make(execution, made, now=clock.from_us(clock.now_us()))
