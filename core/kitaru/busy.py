"""How many checkpoints of a drive are under way: while there are any, it lets go of nothing."""

from __future__ import annotations

import threading
from collections.abc import Callable


class Busy:
    """A count that is held with `with`, from any thread; `at_rest` is called when it ends at 0."""

    def __init__(self, at_rest: Callable[[], None]) -> None:
        self._at_rest = at_rest
        self._count = 0
        self._lock = threading.Lock()

    def __bool__(self) -> bool:
        return self._count > 0

    def __enter__(self) -> None:
        with self._lock:
            self._count += 1

    def __exit__(self, *raised: object) -> None:
        with self._lock:
            self._count -= 1
            is_at_rest = not self._count
        if is_at_rest:
            self._at_rest()

    #: The same where it begins and ends in different places.
    begin, end = __enter__, __exit__
