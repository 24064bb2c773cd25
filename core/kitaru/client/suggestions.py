"""What a half typed word may become: ids, flows, stacks, waits, checkpoints, artifacts.

For shells and MCP clients that complete while somebody types, so it is answered by indexes and
bounded, and never makes or upgrades a store. An execution that is not known (yet) has nothing to
suggest.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass

from kitaru import config
from kitaru.client.artifacts import Artifacts
from kitaru.errors import KitaruNotFoundError, KitaruStateError
from kitaru.models import ExecutionStatus
from kitaru.redaction import safe_text
from kitaru.store import Store, Transaction, executions, is_current, listing, refs, stacks, waits
from kitaru.store.executions import Row

#: How many are suggested at most.
MOST = config.MAX_PAGE


@dataclass(frozen=True, slots=True)
class Suggestion:
    """A value that may be meant, and a few words about it."""

    value: str
    about: str = ""


class Suggestions:
    """What there is in a store that begins with some text; reached as `client.suggestions`.

    Example:
        >>> import kitaru
        >>> handle = kitaru.flow(lambda: 1, name="one").run()
        >>> handle.wait()
        1
        >>> suggestions = kitaru.KitaruClient().suggestions
        >>> suggestions.executions(handle.exec_id[:6])
        [Suggestion(value='kr-...', about='completed one')]
        >>> suggestions.flows("o")
        [Suggestion(value='one', about='')]
    """

    def __init__(
        self, open_: Callable[[], Store], home: config.Home, *, artifacts: Artifacts
    ) -> None:
        self._open = open_
        self._home = home
        self._artifacts = artifacts

    def executions(self, typed: str) -> list[Suggestion]:
        """Ids with this prefix, with status and flow; without one the newest, and `latest`."""
        found = []
        with self._reading() as conn:
            if conn is not None:
                found = refs.beginning_with(conn, typed, limit=MOST)
        words = [refs.LATEST, *(f"{refs.LATEST}:{status}" for status in ExecutionStatus)]
        return [
            *_fitting((Suggestion(each[0], f"{each[1]} {each[2]}") for each in found), ""),
            *(_fitting(map(Suggestion, words), typed) if found or typed else []),
        ]

    def flows(self, typed: str) -> list[Suggestion]:
        """Names of flows that have executions."""
        with self._reading() as conn:
            names = [] if conn is None else listing.flow_names(conn, limit=config.MAX_PAGE)
        return _fitting(map(Suggestion, names), typed)

    def stacks(self, typed: str) -> list[Suggestion]:
        """Names of stacks."""
        with self._reading() as conn:
            found = stacks.infos() if conn is None else stacks.load(conn)
        about = {each.name: "active" if each.is_active else each.type for each in found}
        return _fitting((Suggestion(*each) for each in about.items()), typed)

    def waits(self, exec_id: str | None, typed: str) -> list[Suggestion]:
        """Names of open waits of an execution, with their questions."""
        with self._of(exec_id) as place:
            if place is None:
                return []
            conn, row = place
            found = waits.pending(conn, row.id, exec_id=row.exec_id)
        return _fitting((Suggestion(each.name, each.question or "") for each in found), typed)

    def checkpoints(self, exec_id: str | None, typed: str) -> list[Suggestion]:
        """Ids of an execution's checkpoint calls, with their status."""
        with self._of(exec_id) as place:
            if place is None:
                return []
            conn, row = place
            found = refs.calls_beginning_with(conn, row.id, typed, limit=MOST)
        return _fitting((Suggestion(*each) for each in found), typed)

    def artifacts(self, typed: str) -> list[Suggestion]:
        """Ids of executions, or of the artifacts of the only one that fits."""
        exec_id, slash, _ = typed.partition("/")
        if not slash:
            found = self.executions(exec_id)
            ids = [each for each in found if not each.value.startswith(refs.LATEST)]
            if len(ids) != 1 or not exec_id:
                return found
            exec_id = ids[0].value
            typed = f"{exec_id}/"
        with self._of(exec_id) as place:
            if place is None:
                return []
            listed = self._artifacts.list(place[1].exec_id)
        about = {
            f"{exec_id}/{each.artifact_id.partition('/')[2]}": each.kind or each.save_type
            for each in listed
        }
        return _fitting((Suggestion(*each) for each in about.items()), typed)

    @contextmanager
    def _reading(self) -> Iterator[Transaction | None]:
        """A snapshot; `None` where there is no store, or one that would first be upgraded."""
        if not is_current(self._home.database):
            yield None
            return
        with self._open().snapshot() as conn:
            yield conn

    @contextmanager
    def _of(self, exec_id: str | None) -> Iterator[tuple[Transaction, Row] | None]:
        """A snapshot and an execution; `None` where there is no such one."""
        with self._reading() as conn:
            place = None
            if conn is not None and exec_id:
                # An id that is still being typed fits none, or several.
                with suppress(KitaruNotFoundError, KitaruStateError):
                    place = conn, executions.find(conn, exec_id)
            yield place


def _fitting(found: Iterable[Suggestion], typed: str) -> list[Suggestion]:
    fitting = [
        Suggestion(each.value, " ".join(safe_text(each.about).split()))
        for each in found
        if each.value.startswith(typed)
    ]
    return fitting[:MOST]
