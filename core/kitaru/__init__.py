"""Kitaru: durable execution for AI agents that a coding assistant can watch and steer.

Importing it defines names and does nothing else; what a name needs is loaded when it is used.
"""

from __future__ import annotations

import sys
import types
from typing import TYPE_CHECKING, Any

#: module -> the public names it defines. The imports for type checkers repeat them.
_PUBLIC = {
    "artifacts": ("load", "save"),
    "checkpoint": ("Checkpoint", "checkpoint"),
    "client": ("KitaruClient",),
    "current": ("current_checkpoint", "current_execution_id"),
    "errors": (
        "FailureOrigin",
        "KitaruBackendError",
        "KitaruContextError",
        "KitaruCorruptionError",
        "KitaruDivergenceError",
        "KitaruError",
        "KitaruExecutionError",
        "KitaruLLMError",
        "KitaruLLMTransientError",
        "KitaruLeaseError",
        "KitaruLogRetrievalError",
        "KitaruNotFoundError",
        "KitaruRuntimeError",
        "KitaruSerializationError",
        "KitaruStateError",
        "KitaruUsageError",
        "KitaruUserCodeError",
        "KitaruWaitValidationError",
    ),
    "flow": ("Flow", "flow"),
    "futures": ("CheckpointFuture", "CheckpointGroup"),
    "handle": ("FlowHandle",),
    "llm": ("llm", "llm_async"),
    "llm_usage": ("record_llm_usage",),
    "logs": ("log",),
    "models": (
        "ArtifactRef",
        "ArtifactView",
        "CallStatus",
        "CheckpointAttempt",
        "CheckpointCall",
        "Execution",
        "ExecutionStatus",
        "FailureInfo",
        "LogEntry",
        "PendingWait",
        "StackInfo",
    ),
    "secrets": (
        "Secret",
        "SecretSummary",
        "create_secret",
        "delete_secret",
        "get_secret",
        "list_secrets",
    ),
    "settings": ("configure",),
    "stacks": (
        "create_stack",
        "current_stack",
        "delete_stack",
        "list_stacks",
        "use_stack",
    ),
    "statistics": (
        "ExecutionStatistics",
        "ExecutionStatisticsAggregation",
        "ExecutionStatisticsDimension",
        "ExecutionStatisticsGroup",
        "ExecutionStatisticsGrouping",
        "ExecutionStatisticsMetric",
        "ExecutionStatisticsMetricSource",
        "ExecutionStatisticsTimeGranularity",
    ),
    "waits": ("sleep", "wait", "wait_async"),
}
_MODULES = {name: module for module, names in _PUBLIC.items() for name in names}
_NAMES = sorted(["__version__", *_MODULES])

if TYPE_CHECKING:
    from kitaru.artifacts import load as load
    from kitaru.artifacts import save as save
    from kitaru.checkpoint import Checkpoint as Checkpoint
    from kitaru.checkpoint import checkpoint as checkpoint
    from kitaru.client import KitaruClient as KitaruClient
    from kitaru.current import current_checkpoint as current_checkpoint
    from kitaru.current import current_execution_id as current_execution_id
    from kitaru.errors import FailureOrigin as FailureOrigin
    from kitaru.errors import KitaruBackendError as KitaruBackendError
    from kitaru.errors import KitaruContextError as KitaruContextError
    from kitaru.errors import KitaruCorruptionError as KitaruCorruptionError
    from kitaru.errors import KitaruDivergenceError as KitaruDivergenceError
    from kitaru.errors import KitaruError as KitaruError
    from kitaru.errors import KitaruExecutionError as KitaruExecutionError
    from kitaru.errors import KitaruLeaseError as KitaruLeaseError
    from kitaru.errors import KitaruLLMError as KitaruLLMError
    from kitaru.errors import KitaruLLMTransientError as KitaruLLMTransientError
    from kitaru.errors import KitaruLogRetrievalError as KitaruLogRetrievalError
    from kitaru.errors import KitaruNotFoundError as KitaruNotFoundError
    from kitaru.errors import KitaruRuntimeError as KitaruRuntimeError
    from kitaru.errors import KitaruSerializationError as KitaruSerializationError
    from kitaru.errors import KitaruStateError as KitaruStateError
    from kitaru.errors import KitaruUsageError as KitaruUsageError
    from kitaru.errors import KitaruUserCodeError as KitaruUserCodeError
    from kitaru.errors import KitaruWaitValidationError as KitaruWaitValidationError
    from kitaru.flow import Flow as Flow
    from kitaru.flow import flow as flow
    from kitaru.futures import CheckpointFuture as CheckpointFuture
    from kitaru.futures import CheckpointGroup as CheckpointGroup
    from kitaru.handle import FlowHandle as FlowHandle
    from kitaru.llm import llm as llm
    from kitaru.llm import llm_async as llm_async
    from kitaru.llm_usage import record_llm_usage as record_llm_usage
    from kitaru.logs import log as log
    from kitaru.models import ArtifactRef as ArtifactRef
    from kitaru.models import ArtifactView as ArtifactView
    from kitaru.models import CallStatus as CallStatus
    from kitaru.models import CheckpointAttempt as CheckpointAttempt
    from kitaru.models import CheckpointCall as CheckpointCall
    from kitaru.models import Execution as Execution
    from kitaru.models import ExecutionStatus as ExecutionStatus
    from kitaru.models import FailureInfo as FailureInfo
    from kitaru.models import LogEntry as LogEntry
    from kitaru.models import PendingWait as PendingWait
    from kitaru.models import StackInfo as StackInfo
    from kitaru.secrets import Secret as Secret
    from kitaru.secrets import SecretSummary as SecretSummary
    from kitaru.secrets import create_secret as create_secret
    from kitaru.secrets import delete_secret as delete_secret
    from kitaru.secrets import get_secret as get_secret
    from kitaru.secrets import list_secrets as list_secrets
    from kitaru.settings import configure as configure
    from kitaru.stacks import create_stack as create_stack
    from kitaru.stacks import current_stack as current_stack
    from kitaru.stacks import delete_stack as delete_stack
    from kitaru.stacks import list_stacks as list_stacks
    from kitaru.stacks import use_stack as use_stack
    from kitaru.statistics import ExecutionStatistics as ExecutionStatistics
    from kitaru.statistics import ExecutionStatisticsAggregation as ExecutionStatisticsAggregation
    from kitaru.statistics import ExecutionStatisticsDimension as ExecutionStatisticsDimension
    from kitaru.statistics import ExecutionStatisticsGroup as ExecutionStatisticsGroup
    from kitaru.statistics import ExecutionStatisticsGrouping as ExecutionStatisticsGrouping
    from kitaru.statistics import ExecutionStatisticsMetric as ExecutionStatisticsMetric
    from kitaru.statistics import ExecutionStatisticsMetricSource as ExecutionStatisticsMetricSource
    from kitaru.statistics import (
        ExecutionStatisticsTimeGranularity as ExecutionStatisticsTimeGranularity,
    )
    from kitaru.waits import sleep as sleep
    from kitaru.waits import wait as wait
    from kitaru.waits import wait_async as wait_async

    __version__: str
else:
    # A checker cannot follow a computed `__all__`; it takes what is imported `as` itself.
    __all__ = _NAMES


def __getattr__(name: str) -> Any:
    import importlib

    if name == "__version__":
        return importlib.import_module("kitaru.version").VERSION
    module = _MODULES.get(name)
    if module is None:
        raise AttributeError(f"module 'kitaru' has no attribute {name!r}")
    value = getattr(importlib.import_module(f"kitaru.{module}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return _NAMES


class _Package(types.ModuleType):
    def __setattr__(self, name: str, value: Any) -> None:
        # Importing the submodules `flow` and `checkpoint` must not bind them over the decorators.
        if not (name in _MODULES and isinstance(value, types.ModuleType)):
            super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Package
