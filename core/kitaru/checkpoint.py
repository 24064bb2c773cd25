"""`@checkpoint`: a unit of work whose result is recorded before the flow goes on.

A call returns the recorded value itself, decoded from its record on the first run too. The
checkpoint gets copies of its arguments, so that a change it makes to them is as invisible to the
flow on the first run as on a replay, when it does not run.
"""

from __future__ import annotations

import copy
import functools
import inspect
import json
from collections.abc import Callable, Iterable
from typing import Any, Generic, ParamSpec, TypeVar, cast, overload

from kitaru import codec, config, context, inputs, naming, redaction, retry
from kitaru.errors import KitaruUsageError
from kitaru.futures import CheckpointFuture, CheckpointGroup

P = ParamSpec("P")
R = TypeVar("R")

_SHOWN = 80
_UNCHANGEABLE = (str, int, float, bool, bytes, type(None))


class Checkpoint(Generic[P, R]):
    """A checkpoint function; call it, `submit` it or `map` it inside a flow."""

    def __init__(
        self, fn: Callable[P, R], *, name: str, type: str | None, policy: retry.RetryPolicy
    ) -> None:
        self.name = name
        self.type = type
        self.policy = policy
        self.fn = fn
        self.__doc__ = fn.__doc__
        self.__name__ = fn.__name__
        self.__qualname__ = fn.__qualname__
        self.__module__ = fn.__module__
        self.__wrapped__ = fn
        self._signature = inspect.signature(fn)

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        """Run the checkpoint, or return what is recorded."""
        driver = context.in_flow(f"Checkpoint {self.name!r}")
        return cast(R, driver.call(self._request(args, kwargs)))

    def submit(self, *args: P.args, **kwargs: P.kwargs) -> CheckpointFuture[R]:
        """Start the checkpoint beside the flow.

        Example:
            >>> import kitaru
            >>> @kitaru.checkpoint
            ... def double(n: int) -> int:
            ...     return 2 * n
            >>> @kitaru.flow
            ... def both() -> int:
            ...     first, second = double.submit(1), double.submit(20)
            ...     return first.result() + second.result()
            >>> both.run().wait()
            42
        """
        driver = context.in_flow(f"Checkpoint {self.name!r}")
        return cast("CheckpointFuture[R]", driver.submit(self._request(args, kwargs)))

    def map(self, items: Iterable[Any]) -> CheckpointGroup[R]:
        """Submit the checkpoint once per item, at most 16 at a time.

        Args:
            items: the first argument of each call.

        Example:
            >>> import kitaru
            >>> @kitaru.checkpoint
            ... def square(n: int) -> int:
            ...     return n * n
            >>> @kitaru.flow
            ... def squares() -> list[int]:
            ...     return square.map([1, 2, 3]).result()
            >>> squares.run().wait()
            [1, 4, 9]
        """
        driver = context.in_flow(f"Checkpoint {self.name!r}")
        requests = [self._request((item,), {}) for item in items]
        futures = [driver.submit(request) for request in requests]
        return CheckpointGroup(cast("list[CheckpointFuture[R]]", futures))

    def _request(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> context.CallRequest:
        try:
            bound = self._signature.bind(*args, **kwargs)
        except TypeError as exc:
            raise TypeError(f"Checkpoint {self.name}{self._signature}: {exc}") from None
        bound.apply_defaults()
        arguments = bound.arguments
        digest = codec.fingerprint(arguments, path=self.name)
        shown = ", ".join(f"{key}={_shown(key, value)}" for key, value in arguments.items())
        return context.CallRequest(
            name=self.name,
            type=self.type,
            inputs_digest=digest,
            inputs_shown=shown[: config.INPUTS_SHOWN],
            run=self._runner(bound),
            returns=self._returns,
            returns_annotation=lambda: inputs.annotation(self.fn, "return"),
            policy=self.policy,
        )

    @functools.cached_property
    def _returns(self) -> codec.DeclaredTypes:
        return codec.return_types(self.fn)

    def _runner(self, bound: inspect.BoundArguments) -> Callable[[], R]:
        if all(type(value) in _UNCHANGEABLE for value in bound.arguments.values()):
            args, kwargs = bound.args, bound.kwargs
            return lambda: self.fn(*args, **kwargs)
        kept = copy.deepcopy((bound.args, bound.kwargs))

        def run() -> R:
            args, kwargs = copy.deepcopy(kept)
            return self.fn(*args, **kwargs)

        return run

    def __repr__(self) -> str:
        return f"<checkpoint {self.name}>"


def _shown(key: str, value: Any) -> str:
    """An argument as messages may show it, with secrets masked."""
    if redaction.is_secret(key, value):
        return redaction.MASK
    if type(value) in (str, bytes):
        return repr(value[:_SHOWN])[:_SHOWN]
    if value is None or type(value) in (bool, float):
        return repr(value)
    if type(value) is int and value.bit_length() < 64:  # beyond some thousand digits `repr` raises
        return repr(value)
    data = codec.plain(codec.encode_any(value, path=key))
    return json.dumps(redaction.shown_value(data), ensure_ascii=False)[:_SHOWN]


@overload
def checkpoint(fn: Callable[P, R], /) -> Checkpoint[P, R]: ...
@overload
def checkpoint(
    *,
    name: str | None = None,
    retries: int = 0,
    retry_delay: float = config.RETRY_DELAY_SECONDS,
    retry_backoff: float = config.RETRY_BACKOFF,
    type: str | None = None,
) -> Callable[[Callable[P, R]], Checkpoint[P, R]]: ...
def checkpoint(
    fn: Callable[..., Any] | None = None,
    /,
    *,
    name: str | None = None,
    retries: int = 0,
    retry_delay: float = config.RETRY_DELAY_SECONDS,
    retry_backoff: float = config.RETRY_BACKOFF,
    type: str | None = None,
) -> Any:
    """Make a function a checkpoint: its result is recorded before the flow goes on.

    Args:
        name: what its calls are called; the function's name by default.
        retries: how often a failed attempt is repeated; each attempt is recorded.
        retry_delay: seconds before the first repetition; half of each pause is random.
        retry_backoff: how much longer each further pause is, up to a minute.
        type: a label for what it does, such as `llm_call` or `tool_call`.

    Raises:
        KitaruUsageError: an option cannot be right, or it is not a plain function.

    Example:
        >>> import kitaru
        >>> @kitaru.checkpoint(retries=2, retry_delay=0.01)
        ... def research(topic: str) -> str:
        ...     return f"notes about {topic}"
        >>> @kitaru.flow
        ... def agent(topic: str) -> str:
        ...     return research(topic)
        >>> agent.run(topic="dogs").wait()
        'notes about dogs'
    """
    if type is not None and not (isinstance(type, str) and redaction.is_storable(type)):
        raise KitaruUsageError(
            f"@checkpoint: type is {type!r}; it must be text without lone surrogates."
        )
    policy = retry.policy(
        retries=retries, delay=retry_delay, backoff=retry_backoff, owner="@checkpoint"
    )

    def decorate(function: Callable[..., Any]) -> Checkpoint[..., Any]:
        full_name = naming.of_function(function, name, what="checkpoint")
        naming.refuse_async(function, what="checkpoint")
        return Checkpoint(function, name=full_name, type=type, policy=policy)

    return decorate if fn is None else decorate(fn)
