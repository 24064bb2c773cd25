"""Kitaru: durable execution for AI agents that a coding assistant can watch and steer.

Importing it defines names and does nothing else; what a name needs is loaded when it is used.
"""

from __future__ import annotations

import sys
import types
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from kitaru.artifacts import load, save
    from kitaru.checkpoint import Checkpoint, checkpoint
    from kitaru.client import KitaruClient
    from kitaru.current import current_checkpoint, current_execution_id
    from kitaru.errors import (
        FailureOrigin,
        KitaruBackendError,
        KitaruContextError,
        KitaruCorruptionError,
        KitaruDivergenceError,
        KitaruError,
        KitaruExecutionError,
        KitaruLeaseError,
        KitaruLogRetrievalError,
        KitaruNotFoundError,
        KitaruRuntimeError,
        KitaruSerializationError,
        KitaruStateError,
        KitaruUsageError,
        KitaruUserCodeError,
        KitaruWaitValidationError,
    )
    from kitaru.flow import Flow, flow
    from kitaru.futures import CheckpointFuture, CheckpointGroup
    from kitaru.handle import FlowHandle
    from kitaru.logs import log
    from kitaru.models import (
        ArtifactRef,
        CallStatus,
        CheckpointAttempt,
        CheckpointCall,
        Execution,
        ExecutionStatus,
        FailureInfo,
        LogEntry,
        PendingWait,
    )
    from kitaru.version import VERSION as __version__
    from kitaru.waits import wait

#: module -> the public names it defines.
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
    "logs": ("log",),
    "models": (
        "ArtifactRef",
        "CallStatus",
        "CheckpointAttempt",
        "CheckpointCall",
        "Execution",
        "ExecutionStatus",
        "FailureInfo",
        "LogEntry",
        "PendingWait",
    ),
    "waits": ("wait",),
}
_MODULES = {name: module for module, names in _PUBLIC.items() for name in names}

__all__ = [
    "ArtifactRef",
    "CallStatus",
    "Checkpoint",
    "CheckpointAttempt",
    "CheckpointCall",
    "CheckpointFuture",
    "CheckpointGroup",
    "Execution",
    "ExecutionStatus",
    "FailureInfo",
    "FailureOrigin",
    "Flow",
    "FlowHandle",
    "KitaruBackendError",
    "KitaruClient",
    "KitaruContextError",
    "KitaruCorruptionError",
    "KitaruDivergenceError",
    "KitaruError",
    "KitaruExecutionError",
    "KitaruLeaseError",
    "KitaruLogRetrievalError",
    "KitaruNotFoundError",
    "KitaruRuntimeError",
    "KitaruSerializationError",
    "KitaruStateError",
    "KitaruUsageError",
    "KitaruUserCodeError",
    "KitaruWaitValidationError",
    "LogEntry",
    "PendingWait",
    "__version__",
    "checkpoint",
    "current_checkpoint",
    "current_execution_id",
    "flow",
    "load",
    "log",
    "save",
    "wait",
]


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
    return __all__


class _Package(types.ModuleType):
    def __setattr__(self, name: str, value: Any) -> None:
        # Importing the submodules `flow` and `checkpoint` must not bind them over the decorators.
        if not (name in _MODULES and isinstance(value, types.ModuleType)):
            super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Package
