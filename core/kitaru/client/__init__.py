"""`KitaruClient`: the one door to a store for the CLI, the MCP server and users.

It reads executions and artifacts, answers waits, and starts runner processes; it never imports
user code. Every method reads the store anew and returns frozen snapshots.
"""

from __future__ import annotations

import os
from functools import cached_property
from typing import TYPE_CHECKING

from kitaru import config
from kitaru.client.artifacts import Artifacts
from kitaru.client.executions import Executions
from kitaru.client.suggestions import Suggestions
from kitaru.errors import KitaruError
from kitaru.store import Store, is_current, open_store

if TYPE_CHECKING:
    from kitaru.client.keeping import StoreKeeping

__all__ = ["Artifacts", "Executions", "KitaruClient", "Suggestions"]


class KitaruClient:
    """Reads and steers the executions of one store.

    Args:
        home: the store's folder; by default found as `kitaru status` says.

    Raises:
        KitaruUsageError: the folder cannot be a store's.

    Example:
        >>> import kitaru
        >>> client = kitaru.KitaruClient()
        >>> client.executions.list(status="failed")
        []
    """

    def __init__(self, *, home: str | os.PathLike[str] | None = None) -> None:
        self.home = config.find_home(home)
        self.artifacts = Artifacts(self._open)
        self.executions = Executions(self._open, self.home, artifacts=self.artifacts)
        self.suggestions = Suggestions(self._open, self.home, artifacts=self.artifacts)

    @cached_property
    def store(self) -> StoreKeeping:
        """The store as a whole: its size, a copy of it, what is wrong with it."""
        from kitaru.client.keeping import StoreKeeping  # few need it, and it brings much

        return StoreKeeping(self._open, self.home)

    def version(self) -> int:
        """A number that is another one after any process has committed to the store.

        To be compared with earlier ones of this process; costs microseconds. 0 where there is no
        store yet: none is made.

        Example:
            >>> import kitaru
            >>> client = kitaru.KitaruClient()
            >>> before = client.version()
            >>> handle = kitaru.flow(lambda: None, name="empty").run()
            >>> handle.wait()
            >>> client.version() == before
            False
        """
        return self._open().version() if self.home.database.exists() else 0

    def is_to_be_upgraded(self) -> bool:
        """Whether opening the store brings it to a newer schema first, which may take a while."""
        path = self.home.database
        try:
            return path.exists() and os.access(path, os.W_OK) and not is_current(path)
        except KitaruError:  # it is told by whoever opens the file
            return False

    def _open(self) -> Store:
        return open_store(self.home)
