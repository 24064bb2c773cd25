"""What a flow is, apart from how it is run: function, name, options, and where its code is."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from kitaru import ids, targets
from kitaru.retry import RetryPolicy


@dataclass(frozen=True)
class FlowDefinition:
    """A flow's function with its options."""

    fn: Callable[..., Any]
    name: str
    policy: RetryPolicy
    tags: tuple[str, ...]

    @functools.cached_property
    def target(self) -> targets.Target:
        """Where another process finds this flow."""
        return targets.describe(self.fn)

    @property
    def flow_id(self) -> str:
        """The stable id of the flow."""
        return ids.flow_id(self.target.module, self.name)
