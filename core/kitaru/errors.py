"""Every error Kitaru raises on purpose, in one tree.

    KitaruError
    ├── KitaruUsageError             an argument, option or setting that cannot be right
    ├── KitaruContextError           a call made where it has no meaning
    ├── KitaruStateError             the execution's status does not allow this action
    │   └── KitaruLeaseError         another runner has taken this execution over
    ├── KitaruRuntimeError           something went wrong while running
    │   ├── KitaruExecutionError     an execution ended without a result
    │   │   ├── KitaruUserCodeError      user code raised
    │   │   └── KitaruDivergenceError    the code no longer matches what was recorded
    │   ├── KitaruBackendError       the store could not do what was asked
    │   │   ├── KitaruNotFoundError      no such execution, artifact, wait or secret (a LookupError)
    │   │   └── KitaruLogRetrievalError  logs could not be read
    │   ├── KitaruCorruptionError    stored bytes are damaged
    │   ├── KitaruLLMError           a model gave no answer, or none that fits
    │   │   └── KitaruLLMTransientError  … which it may give when it is asked again
    │   └── KitaruSerializationError a value that cannot be recorded or rebuilt
    └── KitaruWaitValidationError    an answer that does not fit the question's schema

A message says what happened, to which id, and what to do next.
"""

from __future__ import annotations

from enum import StrEnum


class FailureOrigin(StrEnum):
    """Who caused a failure."""

    USER_CODE = "user_code"
    RUNTIME = "runtime"
    BACKEND = "backend"
    DIVERGENCE = "divergence"
    UNKNOWN = "unknown"


class KitaruError(Exception):
    """Base of all errors raised by Kitaru."""


class KitaruUsageError(KitaruError):
    """An argument, option or setting cannot be right."""


class KitaruContextError(KitaruError):
    """A call was made where it has no meaning."""


class KitaruStateError(KitaruError):
    """The present status does not allow the action."""


class KitaruLeaseError(KitaruStateError):
    """Another runner has taken over the execution this one was driving."""


class KitaruRuntimeError(KitaruError):
    """Something went wrong while running."""


class KitaruExecutionError(KitaruRuntimeError):
    """An execution ended without a result."""

    def __init__(
        self,
        message: str,
        *,
        exec_id: str | None = None,
        status: str | None = None,
        failure_origin: FailureOrigin = FailureOrigin.UNKNOWN,
    ) -> None:
        super().__init__(message)
        self.exec_id = exec_id
        self.status = status
        self.failure_origin = failure_origin


class KitaruUserCodeError(KitaruExecutionError):
    """User code raised an exception."""


class KitaruDivergenceError(KitaruExecutionError):
    """The flow made another call than the one that was recorded."""


class KitaruBackendError(KitaruRuntimeError):
    """The store could not do what was asked."""


class KitaruNotFoundError(KitaruBackendError, LookupError):
    """No execution, artifact, wait, secret or model alias has this id or name."""


class KitaruLogRetrievalError(KitaruBackendError):
    """Logs could not be read."""


class KitaruCorruptionError(KitaruRuntimeError):
    """Stored bytes are damaged."""


class KitaruLLMError(KitaruRuntimeError):
    """A model gave no answer, or none that fits.

    `provider` and `model` say which, `status_code` what HTTP status it told, if any.
    """

    def __init__(
        self,
        message: str,
        *,
        provider: str | None = None,
        model: str | None = None,
        status_code: int | None = None,
    ) -> None:
        super().__init__(message)
        self.provider = provider
        self.model = model
        self.status_code = status_code


class KitaruLLMTransientError(KitaruLLMError):
    """A model gave no answer now, and may give one when it is asked again.

    `retry_after` are the seconds after which its provider asks to come back, if it does.
    """

    retry_after: float | None = None


class KitaruSerializationError(KitaruRuntimeError):
    """A value cannot be recorded exactly, or cannot be rebuilt from its record."""


class KitaruWaitValidationError(KitaruError):
    """An answer does not fit the schema of the question."""


#: Every class above by name: errors cross process borders as a name and a message.
ERROR_TYPES: dict[str, type[KitaruError]] = {
    cls.__name__: cls
    for cls in list(globals().values())
    if isinstance(cls, type) and issubclass(cls, KitaruError)
}
