"""`FlowHandle`: a run that was started here, and what became of it."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Generator
from typing import Any, Generic, TypeVar, cast

from kitaru import answers, clock, codec, config, exits, failures, launch
from kitaru.definition import FlowDefinition
from kitaru.errors import KitaruError, KitaruRuntimeError, KitaruStateError
from kitaru.models import Execution, ExecutionStatus
from kitaru.runtime import Driver
from kitaru.store import Lease, Store, executions, leases
from kitaru.store.executions import Row

R = TypeVar("R", covariant=True)


class FlowHandle(Generic[R]):
    """One execution that was started from this process.

    Attributes:
        exec_id: the execution's id.
    """

    def __init__(self, store: Store, flow: FlowDefinition, *, lease: Lease, driver: Driver) -> None:
        self.exec_id = lease.exec_id
        self._store = store
        self._flow = flow
        self._execution = lease.execution
        self._driver = driver

    @property
    def status(self) -> ExecutionStatus:
        """The execution's status, read now."""
        return self._now().status

    def _now(self) -> Row:
        with self._store.snapshot() as conn:
            return executions.at(conn, self._execution)

    def get(self) -> R:
        """The result of a completed execution.

        Raises:
            KitaruStateError: it has not finished.
            KitaruExecutionError: it failed or was cancelled.
        """
        row = self._now()
        if not row.status.is_finished:
            raise KitaruStateError(
                f"Execution {self.exec_id} has not finished: it is {row.status}. "
                "Wait for it with wait()."
            )
        return self._outcome(row)

    def wait(self, timeout: float | None = None) -> R:
        """Block until the execution ends, and return its result; async code awaits the handle.

        Args:
            timeout: seconds to block at most; without end by default.

        Raises:
            KitaruUserCodeError: code of the flow or of a checkpoint raised.
            KitaruDivergenceError: the code no longer matches the record.
            KitaruExecutionError: it was cancelled, or failed for another reason.
            KitaruStateError: nobody drives it any more: it waits for an answer, or was stopped.
            TimeoutError: it has not ended in time.
        """
        deadline = None if timeout is None else clock.monotonic() + timeout
        try:
            self._follow(deadline)
        except KeyboardInterrupt:
            exits.stop([self._driver])
            raise
        while not (row := self._now()).status.is_finished:
            ending = self._driver.ending
            # One that was taken over is followed for as long as its new driver lives.
            followed = ending is not None and ending.why == "lost" and row.holder == "alive"
            if ending is not None and ending.error is not None and not followed:
                raise ending.error
            self._refuse_if_left(row)
            if deadline is not None and clock.monotonic() >= deadline:
                raise TimeoutError(f"Execution {self.exec_id} is still {row.status}.")
            clock.wait(_NEVER, config.TICK_SECONDS)
        return self._outcome(row)

    def __await__(self) -> Generator[Any, Any, R]:
        return self._awaited().__await__()

    async def _awaited(self) -> R:
        import asyncio

        loop, ended = asyncio.get_running_loop(), asyncio.Event()

        def end() -> None:
            with contextlib.suppress(RuntimeError):  # the loop was closed: nobody awaits any more
                loop.call_soon_threadsafe(ended.set)

        self.on_end(end)
        await ended.wait()
        return await asyncio.to_thread(self.wait)

    def on_end(self, callback: Callable[[], None]) -> None:
        """Call this once the drive in this process has ended, from whatever thread."""
        self._driver.on_end(callback)

    def _follow(self, deadline: float | None) -> None:
        # In slices, so that Ctrl-C is noticed on every platform.
        while not self._driver.ended.wait(config.TICK_SECONDS):
            if deadline is not None and clock.monotonic() >= deadline:
                raise TimeoutError(f"Execution {self.exec_id} is still {self.status}.")

    def _refuse_if_left(self, row: Row) -> None:
        if row.holder == "alive":
            return
        left = self._read()
        asked = left.pending_wait
        if asked is not None:
            raise KitaruStateError(
                f"Execution {self.exec_id} waits for an answer to {asked.name!r}, and its driver "
                f"has let go. Answer it: {answers.input_line(self.exec_id, asked.name)}, then "
                f"`kitaru executions resume {self.exec_id}`."
            )
        if row.status is ExecutionStatus.WAITING:
            with self._store.snapshot() as conn:
                obstacle = launch.obstacle(conn, row)
            if obstacle is not None:
                raise KitaruStateError(
                    f"Execution {self.exec_id} waits, and its driver has let go: {obstacle} Then "
                    f"continue it with `kitaru executions resume {self.exec_id}`."
                )
        raise KitaruStateError(
            f"Execution {self.exec_id} is {row.status}, and nobody drives it. "
            f"{left.status_reason or ''} "
            f"Continue it with `kitaru executions resume {self.exec_id}`."
        )

    def _read(self) -> Execution:
        with self._store.snapshot() as conn:
            return executions.get(conn, self._execution)

    def _outcome(self, row: Row) -> R:
        if row.status.is_successful:
            with self._store.snapshot() as conn:
                data = executions.read_result(conn, self._execution, exec_id=self.exec_id)
            assert data is not None
            return cast(R, codec.decode(data, types=self._flow.returns, path="result"))
        ending = self._driver.ending
        raise failures.ended(self._read()) from (ending.cause if ending else None)

    def __repr__(self) -> str:
        return f"<FlowHandle {self.exec_id}>"


_NEVER = threading.Event()


def drive_here(
    store: Store, flow: FlowDefinition, lease: Lease, *, interactive: bool
) -> FlowHandle[Any]:
    """Drive an execution on a thread of its own, and return its handle at once."""
    try:
        driver = launch.driver(store, flow, lease, interactive=interactive)
        exits.install()
        driver.start()
    except BaseException as exc:  # Ctrl-C too: a lease that nobody drives by looks alive
        with contextlib.suppress(KitaruError), store.write() as conn:
            leases.fence(conn, lease)
            leases.revoke(conn, lease.execution)  # a thread that has started yet stops at once
        if not isinstance(exc, RuntimeError):
            raise
        # The system has no more threads.
        raise KitaruRuntimeError(
            f"No thread could be started for execution {lease.exec_id}: {exc}. It is recorded; "
            f"continue it with `kitaru executions resume {lease.exec_id}`."
        ) from exc
    return FlowHandle(store, flow, lease=lease, driver=driver)
