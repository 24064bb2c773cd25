"""`kitaru.wait`: a question that suspends the flow until somebody answers it."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Awaitable, Coroutine, Generator
from typing import Any, TypeVar, overload

from kitaru import codec, config, context, logs, naming, redaction, retry
from kitaru.errors import KitaruUsageError

T = TypeVar("T")

#: The types most often asked for, as JSON Schema names them.
_PLAIN: dict[type, str] = {bool: "boolean", int: "integer", str: "string"}


@overload
def wait(
    *,
    name: str | None = ...,
    question: str | None = ...,
    schema: type[bool] = ...,
    timeout: float = ...,
    metadata: dict[str, Any] | None = ...,
) -> bool: ...
@overload
def wait(
    *,
    name: str | None = ...,
    question: str | None = ...,
    schema: None,
    timeout: float = ...,
    metadata: dict[str, Any] | None = ...,
) -> None: ...
@overload
def wait(
    *,
    name: str | None = ...,
    question: str | None = ...,
    schema: type[T],
    timeout: float = ...,
    metadata: dict[str, Any] | None = ...,
) -> T: ...
@overload
def wait(
    *,
    name: str | None = ...,
    question: str | None = ...,
    schema: Any,
    timeout: float = ...,
    metadata: dict[str, Any] | None = ...,
) -> Any: ...
def wait(
    *,
    name: str | None = None,
    question: str | None = None,
    schema: Any = bool,
    timeout: float = config.WAIT_TIMEOUT_SECONDS,
    metadata: dict[str, Any] | None = None,
) -> Any:
    """Ask a person (or a program) and return the answer as the declared type.

    The question is recorded; then the flow's process looks for the answer for `timeout` seconds
    and lets go. The question itself never expires: answered later, the execution goes on with
    `kitaru executions resume`. An async flow awaits the answer; checkers accept that of
    `wait_async`, which is otherwise the same.

    Args:
        name: what to answer it by; in a loop the next ones are `name#2`, `name#3`, ….
        question: what the person reads.
        schema: the answer's type (bool, int, Literal, Enum, dataclass, TypedDict, pydantic
            model, …); `None` asks for a plain go-ahead, `typing.Any` takes any JSON.
        timeout: seconds to hold the process for, 0 to let go at once.
        metadata: JSON data to show with the question.

    Raises:
        KitaruContextError: called outside a flow's body.
        KitaruUsageError: an argument cannot be right, or the type has no schema.

    Example:
        >>> import kitaru
        >>> @kitaru.flow
        ... def publish(topic: str) -> str:
        ...     ok = kitaru.wait(name="approve", question=f"Publish {topic}?", timeout=30)
        ...     return "published" if ok else "rejected"
        >>> handle = publish.run(topic="dogs")
        >>> client = kitaru.KitaruClient()
        >>> while not client.executions.pending_waits(handle.exec_id):
        ...     pass
        >>> _ = client.executions.input(handle.exec_id, wait="approve", value=True)
        >>> handle.wait()
        'published'
    """
    driver = context.in_flow("kitaru.wait()")
    return driver.call(_question(name, question, schema, timeout=timeout, metadata=metadata))


@overload
def wait_async(
    *,
    name: str | None = ...,
    question: str | None = ...,
    schema: type[bool] = ...,
    timeout: float = ...,
    metadata: dict[str, Any] | None = ...,
) -> Coroutine[Any, Any, bool]: ...
@overload
def wait_async(
    *,
    name: str | None = ...,
    question: str | None = ...,
    schema: None,
    timeout: float = ...,
    metadata: dict[str, Any] | None = ...,
) -> Coroutine[Any, Any, None]: ...
@overload
def wait_async(
    *,
    name: str | None = ...,
    question: str | None = ...,
    schema: type[T],
    timeout: float = ...,
    metadata: dict[str, Any] | None = ...,
) -> Coroutine[Any, Any, T]: ...
@overload
def wait_async(
    *,
    name: str | None = ...,
    question: str | None = ...,
    schema: Any,
    timeout: float = ...,
    metadata: dict[str, Any] | None = ...,
) -> Coroutine[Any, Any, Any]: ...
def wait_async(
    *,
    name: str | None = None,
    question: str | None = None,
    schema: Any = bool,
    timeout: float = config.WAIT_TIMEOUT_SECONDS,
    metadata: dict[str, Any] | None = None,
) -> Coroutine[Any, Any, Any]:
    """Ask as `wait` does, in an async flow, with the types of a coroutine that is awaited.

    `await kitaru.wait(…)` does the same there; but to a type checker `wait` returns the answer,
    for that is what it does in every other flow, and no signature can say both.

    Args:
        name: what to answer it by.
        question: what the person reads.
        schema: the answer's type.
        timeout: seconds to hold the process for, 0 to let go at once.
        metadata: JSON data to show with the question.

    Raises:
        KitaruContextError: called outside a flow's body.
        KitaruUsageError: the flow is no `async def`, or an argument cannot be right.

    Example:
        >>> import kitaru
        >>> @kitaru.flow
        ... async def publish(topic: str) -> str:
        ...     ok = await kitaru.wait_async(name="approve", question=f"Publish {topic}?")
        ...     return "published" if ok else "rejected"
        >>> handle = publish.run(topic="dogs")
        >>> client = kitaru.KitaruClient()
        >>> while not client.executions.pending_waits(handle.exec_id):
        ...     pass
        >>> _ = client.executions.input(handle.exec_id, wait="approve", value=True)
        >>> handle.wait()
        'published'
    """
    driver = context.in_flow("kitaru.wait_async()")
    if not driver.is_async:
        raise KitaruUsageError(
            "kitaru.wait_async() is awaited in an `async def` flow; in this one, which is none, "
            "use kitaru.wait(…)."
        )
    coroutine: Coroutine[Any, Any, Any] = driver.call(
        _question(name, question, schema, timeout=timeout, metadata=metadata)
    )
    return coroutine


def sleep(seconds: float, *, timeout: float = config.SLEEP_TIMEOUT_SECONDS) -> Awaitable[None]:
    """Let time pass in a flow; the time of waking is recorded, so a restart does not start over.

    For the first `timeout` seconds the flow's process is held; then it lets go, and the execution
    goes on with `kitaru executions resume` or by `kitaru worker` when the time has come. In an
    async flow it must be awaited; in any other flow it is over when it returns.

    Args:
        seconds: how long, 0 or more.
        timeout: seconds to hold the process for at most.

    Raises:
        KitaruContextError: called outside a flow's body.
        KitaruUsageError: an argument is not a number >= 0, or longer than a century.

    Example:
        >>> import kitaru
        >>> @kitaru.flow
        ... def patient() -> str:
        ...     kitaru.sleep(0.01)
        ...     return "rested"
        >>> patient.run().wait()
        'rested'
    """
    driver = context.in_flow("kitaru.sleep()")
    length = retry.seconds(seconds, what="kitaru.sleep(): seconds")
    request = context.SleepRequest(
        name="sleep",
        digest=codec.fingerprint(length, path="sleep"),
        shown=f"seconds={length:g}",
        seconds=length,
        timeout=retry.seconds(timeout, what="kitaru.sleep(): timeout"),
    )
    slept: Awaitable[None] = driver.call(request)
    return slept if driver.is_async else _Slept()


class _Slept:
    """A sleep that is over; what `sleep` returns is an awaitable in any flow."""

    def __await__(self) -> Generator[Any, Any, None]:
        yield from ()


def _question(
    name: str | None,
    question: str | None,
    schema: Any,
    *,
    timeout: float,
    metadata: dict[str, Any] | None,
) -> context.WaitRequest:
    name = naming.checked("wait" if name is None else name, what="wait")
    if question is not None and not isinstance(question, str):
        raise KitaruUsageError(f"wait {name!r}: question is {question!r:.60}; it must be text.")
    if question is not None and not redaction.is_storable(question):
        raise KitaruUsageError(f"wait {name!r}: question {question!r:.60} has lone surrogates.")
    number = isinstance(timeout, (int, float)) and not isinstance(timeout, bool)
    if not number or not timeout >= 0:
        raise KitaruUsageError(f"wait {name!r}: timeout is {timeout!r}; give seconds >= 0.")
    json_schema, load = _type(schema, name=name)
    told = question and redaction.recordable(question)
    return context.WaitRequest(
        name=name,
        digest=codec.fingerprint([question, json_schema], path=name),
        shown=f"question={told!r:.80}",
        question=told,
        schema=json_schema,
        metadata=logs.json_metadata(metadata or {}, what=f"wait {name!r}"),
        timeout=float(min(timeout, config.MAX_SECONDS)),
        load=load,
    )


def _type(schema: Any, *, name: str) -> tuple[dict[str, Any] | None, Any]:
    if schema is None:
        return None, lambda data, call: None
    if schema is bool or schema is int or schema is str:
        return {"type": _PLAIN[schema]}, lambda data, call: _plain(data, schema)
    from pydantic import TypeAdapter
    from pydantic_core import from_json, to_json

    try:
        adapter: TypeAdapter[Any] = TypeAdapter(schema)
        # A default may be infinite, which JSON has no number for.
        json_schema = from_json(to_json(adapter.json_schema(), inf_nan_mode="strings"))
        return json_schema, lambda data, call: adapter.validate_json(data)
    except Exception as exc:  # types describe themselves: their code may raise anything
        from kitaru import failures

        reason = " ".join(failures.text(exc).partition("\n\n")[0].split()) or type(exc).__name__
        raise KitaruUsageError(
            f"wait {name!r}: {schema!r:.80} cannot be described as JSON Schema ({reason}). Use a "
            "plain type, Literal, Enum, dataclass, TypedDict or pydantic model."
        ) from None


def _plain(data: bytes, plain: Any) -> Any:
    """An answer as pydantic loads it, which is itself loaded only to say what is wrong."""
    with contextlib.suppress(ValueError, RecursionError):
        value = json.loads(data)
        if type(value) is plain and (plain is not str or redaction.is_storable(value)):
            return value
    from pydantic import TypeAdapter

    return TypeAdapter(plain).validate_json(data)
