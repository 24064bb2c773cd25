"""A flow that is run in another flow's body: a child execution, and its handle there."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Generator, Mapping
from typing import Any, TypeVar, cast

from kitaru import codec, inputs, launch, serializers
from kitaru.children import Child
from kitaru.context import ChildRequest, Driver
from kitaru.definition import FlowDefinition
from kitaru.errors import KitaruStateError, KitaruUsageError
from kitaru.handle import FlowHandle, drive_here
from kitaru.store import Lease, Store, Transaction, executions
from kitaru.store.executions import Row

R = TypeVar("R")


def run(driver: Driver, flow: FlowDefinition, arguments: Mapping[str, Any]) -> ChildHandle[Any]:
    """Start a child of the execution whose flow's body this is, or find it on a later drive."""
    data = launch.encoded(flow, arguments)
    types = flow.returns
    request = ChildRequest(
        name=flow.name,
        digest=serializers.inputs_digest(arguments, serializer=serializers.JSON, path=flow.name),
        shown=inputs.shown(arguments),
        run=ChildRun(driver.store, flow, data),
        load=lambda result, call: codec.decode(result, types=types, path=call),
    )
    return ChildHandle(driver, flow, driver.start_child(request))


class ChildRun:
    """How a child execution is made, and driven in this process."""

    def __init__(self, store: Store, flow: FlowDefinition, data: bytes) -> None:
        self._store = store
        self._flow = flow
        self._data = data
        self._prepared: launch.Prepared | None = None
        self._lease: Lease | None = None
        self._callback: Callable[[], None] | None = None
        self.handle: FlowHandle[Any] | None = None

    def prepare(self) -> None:
        """Do what `create` needs and takes time, before the write lock is taken."""
        self._prepared = launch.prepare(self._flow, self._data)

    def create(self, conn: Transaction, parent_exec_id: str) -> str:
        """Record the child and take its lease."""
        assert self._prepared is not None
        self._lease = launch.create(conn, self._prepared, parent_exec_id=parent_exec_id)
        return self._lease.exec_id

    def drive(self) -> None:
        """Drive the child that was made or taken up."""
        assert self._lease is not None
        self.handle = drive_here(self._store, self._flow, self._lease, interactive=False)
        if self._callback is not None:
            self.handle.on_end(self._callback)

    def retry(self, conn: Transaction, exec_id: str) -> bool:
        """Take the lease of a child that has failed, to run it again; whether it had."""
        launch.check_drivable(self._store, self._flow, exec_id)
        try:
            self._lease = launch.take_failed(conn, self._flow, exec_id)
        except KitaruStateError:  # somebody has retried it already, or it has not failed
            return False
        return True

    def attach(self, exec_id: str) -> bool:
        """Take up a child that nobody drives; whether that could be done."""
        try:
            with self._store.snapshot() as conn:  # it is asked often: not under the write lock
                launch.check_resume(conn, exec_id)
            self._lease = launch.resume(self._store, self._flow, exec_id)
        except KitaruStateError:  # it is driven, has ended, or waits for what has not come
            return False
        self.drive()
        return True

    def on_end(self, callback: Callable[[], None]) -> None:
        """Call this whenever a drive of the child's in this process has ended."""
        self._callback = callback
        if self.handle is not None:
            self.handle.on_end(callback)


class ChildHandle(FlowHandle[R]):
    """A child execution, as the flow that runs it sees it.

    Its outcome is part of the flow's record: what `wait` once gave it gives on every drive.
    """

    def __init__(self, driver: Driver, flow: FlowDefinition, child: Child) -> None:
        self.exec_id = child.exec_id
        self._store = driver.store
        self._flow = flow
        self._parent = driver
        self._child = child

    def wait(self, timeout: float | None = None) -> R:
        """Wait until the child ends, and return its result; in an async flow `await` it.

        Args:
            timeout: not for a child: it would run out on one drive and not on another.

        Raises:
            KitaruUserCodeError: code of the child raised; names parent and child.
            KitaruExecutionError: it was cancelled, or failed for another reason.
            KitaruUsageError: a timeout is given, or the flow is async.
        """
        if timeout is not None:
            raise KitaruUsageError(
                f"Child {self.exec_id}: a timeout of wait() would be another one on each drive. "
                "Give the child's flow a timeout: .with_options(timeout=…).run(…)."
            )
        outcome = self._parent.outcome(self._child)
        if inspect.iscoroutine(outcome):
            outcome.close()
            raise KitaruUsageError(
                f"Child {self.exec_id} was started by an async flow; `await` its handle."
            )
        return cast(R, outcome)

    def get(self) -> R:
        """The result of a child that has ended.

        Raises:
            KitaruStateError: it has not finished.
            KitaruExecutionError: it failed or was cancelled.
        """
        status = self.status
        if not status.is_finished:
            raise KitaruStateError(
                f"Execution {self.exec_id} has not finished: it is {status}. Wait for it."
            )
        return self.wait()

    def __await__(self) -> Generator[Any, Any, R]:
        outcome = self._parent.outcome(self._child)
        if not inspect.iscoroutine(outcome):
            raise KitaruUsageError(
                f"Child {self.exec_id} is awaited in a flow that is no `async def`; use .wait()."
            )
        return cast("Generator[Any, Any, R]", outcome.__await__())

    def _now(self) -> Row:
        with self._store.snapshot() as conn:
            return executions.find(conn, self.exec_id)
