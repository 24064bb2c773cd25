"""Exceptions of user code: how they are recorded, and how the flow gets them back; pure.

What the flow sees of a failed call is always what was recorded, on the first run too, so that an
`except` takes the same branch on every replay. An exception is rebuilt from its recorded state
and a class that is already loaded (found by comparing names, never by importing one), without
running its `__init__`; where the class is not loaded, a stand-in with its name, text and nearest
base takes its place. One that cannot be recorded exactly reaches the flow as
`KitaruUserCodeError`, every time.
"""

from __future__ import annotations

import contextlib
import os
import sys
import traceback as tracebacks
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

from kitaru import codec, config, redaction
from kitaru.errors import (
    FailureOrigin,
    KitaruDivergenceError,
    KitaruError,
    KitaruExecutionError,
    KitaruUserCodeError,
)
from kitaru.models import Execution, ExecutionStatus

_ERRORS: dict[FailureOrigin, type[KitaruExecutionError]] = {
    FailureOrigin.USER_CODE: KitaruUserCodeError,
    FailureOrigin.DIVERGENCE: KitaruDivergenceError,
}
#: Exceptions of a group that its message names.
_MEMBERS = 3
_PACKAGE = str(Path(__file__).parent) + os.sep


def describe(exc: BaseException, *, origin: FailureOrigin | None = None) -> dict[str, Any]:
    """A failure as it is stored: message, type, traceback without locals, origin, state.

    The values of registered secrets are masked in all of it, so they are not in what the flow gets
    back either.
    """
    if origin is None:
        of_user = isinstance(exc, KitaruUserCodeError) or not isinstance(exc, KitaruError)
        origin = FailureOrigin.USER_CODE if of_user else FailureOrigin.RUNTIME
    failure: dict[str, Any] = {
        "message": _clipped(redaction.recordable(_message(exc))),
        "exception_type": _short_name(type(exc)),
        "traceback": _traceback(exc),
        "origin": origin.value,
    }
    state = _state(exc)
    if state is not None:
        failure["exception"] = state
    return failure


def _clipped(message: str) -> str:
    """A message as it is shown; what the exception holds is recorded beside it, whole."""
    missing = len(message) - config.MAX_FAILURE_MESSAGE
    if missing <= 0:
        return message
    return f"{message[: config.MAX_FAILURE_MESSAGE]}… {missing} characters left out"


def _message(exc: BaseException) -> str:
    """Class and text; of a group, whose text tells nothing, those of its first members too."""
    said = f"{_short_name(type(exc))}: {text(exc)}".removesuffix(": ")
    if isinstance(exc, BaseExceptionGroup):
        said += f": {'; '.join(_message(each) for each in islice(_members(exc), _MEMBERS))}"
    return said


def _members(group: BaseExceptionGroup[Any]) -> Iterator[BaseException]:
    todo: list[BaseException] = [group]
    while todo:
        each = todo.pop()
        if isinstance(each, BaseExceptionGroup):
            todo += reversed(each.exceptions)
        else:
            yield each


def rebuild(failure: dict[str, Any], *, call: str) -> Exception:
    """The exception a recorded failure stands for."""
    origin = FailureOrigin(failure["origin"])
    recorded = failure.get("exception")
    if recorded is not None:
        # Its class may be of another version by now, and refuse.
        with contextlib.suppress(Exception):
            return _restore(recorded)
    child = failure.get("exec_id")
    cls = KitaruUserCodeError if child is None else _ERRORS.get(origin, KitaruExecutionError)
    return cls(
        f"{call} failed: {failure['message']}",
        exec_id=child or call.partition("/")[0],
        failure_origin=origin,
    )


def ended(execution: Execution, *, parent: str | None = None) -> KitaruExecutionError:
    """The error for an execution that has ended without a result; `parent` is who started it."""
    failure = execution.failure
    origin = failure.origin if failure else FailureOrigin.UNKNOWN
    child = f" (child of {parent})" if parent else ""
    message = f"Execution {execution.exec_id}{child} is {execution.status}"
    if failure is not None:
        message += f": {failure.message}"
    if execution.status is ExecutionStatus.FAILED:
        again = parent or execution.exec_id
        message += f"\nRun what failed again with `kitaru executions retry {again}`."
    return _ERRORS.get(origin, KitaruExecutionError)(
        message, exec_id=execution.exec_id, status=execution.status, failure_origin=origin
    )


def _state(exc: BaseException) -> dict[str, Any] | None:
    """What rebuilds an exception exactly; `None` where that cannot be recorded."""
    if not isinstance(exc, Exception):
        return None
    try:
        recorded = {
            "type": _full_name(type(exc)),
            "bases": [_full_name(base) for base in _bases(type(exc))],
            "state": codec.encode([_arguments(exc), vars(exc)], path="exception").decode(),
            "text": text(exc),
        }
        recorded = redaction.recordable_value(recorded)
        # Notes and state outside args and attributes would be lost: then it is not the same.
        return recorded if text(_restore(recorded)) == recorded["text"] else None
    except Exception:  # attributes of the user's may raise anything when they are read
        return None


def _arguments(exc: Exception) -> list[Any]:
    # An OSError keeps the file's name out of its args.
    return list(OSError.__reduce__(exc)[1] if isinstance(exc, OSError) else exc.args)


def _restore(recorded: dict[str, Any]) -> Exception:
    """The exception, made without running user code's `__init__`."""
    args, attributes = codec.decode(recorded["state"].encode(), path="exception")
    cls = _class(recorded["type"]) or _stand_in(recorded)
    builtin: Any = next(base for base in cls.__mro__ if base.__module__ == "builtins")
    exc = cls.__new__(cls, *args)
    builtin.__init__(exc, *args)  # fills what built-in exceptions keep outside of Python
    vars(exc).update(attributes)
    return exc


def _class(name: str) -> type[Exception] | None:
    """The loaded class with this name, if there is exactly one."""
    loaded = [*_loaded(Exception)]
    found = [cls for cls in loaded if _full_name(cls) == name]
    if not found:  # a script of a package has the package's name where it is imported
        scripts = [cls for cls in loaded if cls.__module__ == "__main__"]
        found = [cls for cls in scripts if name.endswith(f".{_full_name(cls)}")]
    return found[0] if len(found) == 1 else None


def _stand_in(recorded: dict[str, Any]) -> type[Exception]:
    """A class for an exception whose own is not loaded: same name, text and nearest known base."""
    known = [cls for cls in map(_class, recorded["bases"]) if cls is not None]
    module, _, qualname = recorded["type"].partition(":")
    says = recorded["text"]
    names = {"__module__": module, "__qualname__": qualname, "__str__": lambda self: says}
    return type(qualname.rpartition(".")[2], (known[0] if known else Exception,), names)


def _bases(cls: type[Exception]) -> list[type[Exception]]:
    return [base for base in cls.__mro__[1:] if issubclass(base, Exception)]


def _loaded(base: type[Exception]) -> Iterator[type[Exception]]:
    seen: set[type[Exception]] = set()
    todo = [base]
    while todo:
        cls = todo.pop()
        if cls not in seen:
            seen.add(cls)
            todo += type.__subclasses__(cls)
            yield cls


def _full_name(cls: type[BaseException]) -> str:
    module = cls.__module__
    if module == "__main__":  # a script has another name where it is imported
        module = Path(getattr(sys.modules["__main__"], "__file__", None) or module).stem
    return f"{module}:{cls.__qualname__}"


def _short_name(cls: type[BaseException]) -> str:
    return cls.__name__ if cls.__module__ == "builtins" else f"{cls.__module__}.{cls.__qualname__}"


def text(exc: BaseException) -> str:
    """What an exception says, as text that can be stored."""
    try:
        return str(exc).encode("utf-8", "backslashreplace").decode()
    except Exception as broken:  # a user's __str__ may raise anything
        return f"<its text cannot be read: {type(broken).__name__}>"


def _traceback(exc: BaseException) -> str:
    shown = tracebacks.TracebackException.from_exception(exc, capture_locals=False)
    for part in _chain(shown):
        frames = [frame for frame in part.stack if not frame.filename.startswith(_PACKAGE)]
        part.stack = tracebacks.StackSummary.from_list(frames)
    lines = "".join(shown.format()).encode("utf-8", "backslashreplace").decode()
    lines = redaction.recordable(lines)
    if len(lines) > config.MAX_TRACEBACK:
        missing = len(lines) - config.MAX_TRACEBACK
        lines = f"… {missing} characters left out …\n{lines[-config.MAX_TRACEBACK :]}"
    return lines


def _chain(
    shown: tracebacks.TracebackException | None,
) -> Iterator[tracebacks.TracebackException]:
    while shown is not None:
        yield shown
        shown = shown.__cause__ or shown.__context__
