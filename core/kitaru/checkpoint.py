"""`@checkpoint`: a unit of work whose result is recorded before the flow goes on.

A call returns the recorded value itself, decoded from its record on the first run too. What a
driver needs to know of a call is made in `requests`; here is what authors see.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Coroutine, Iterable, Iterator, Sequence
from typing import (
    TYPE_CHECKING,
    Any,
    Concatenate,
    Generic,
    Literal,
    ParamSpec,
    TypeVar,
    cast,
    overload,
)

from kitaru import config, context, naming, redaction, retry, serializers
from kitaru.errors import KitaruUsageError
from kitaru.futures import CheckpointFuture, CheckpointGroup
from kitaru.requests import Arguments, CheckpointFunction

P = ParamSpec("P")
Q = ParamSpec("Q")
# Covariant: to pyright an `async def` returns a subclass of the Coroutine in the overloads.
R = TypeVar("R", covariant=True)
T = TypeVar("T")
Item = TypeVar("Item")

Runtime = Literal["inline", "isolated"]


class Checkpoint(CheckpointFunction, Generic[P, R]):
    """A checkpoint function; call it, `submit` it or `map` it inside a flow."""

    if TYPE_CHECKING:  # what tells a type checker the parameters and the result

        def __init__(self, fn: Callable[P, R], **options: Any) -> None: ...

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        """Run the checkpoint, or return what is recorded; of an `async def`, await it."""
        driver = context.in_flow(f"Checkpoint {self.name!r}")
        return cast(R, driver.call(self.request(args, kwargs)))

    @overload
    def submit(
        self: Checkpoint[Q, Coroutine[Any, Any, T]], *args: Q.args, **kwargs: Q.kwargs
    ) -> CheckpointFuture[T]: ...
    @overload
    def submit(self, *args: P.args, **kwargs: P.kwargs) -> CheckpointFuture[R]: ...
    def submit(self, *args: Any, **kwargs: Any) -> Any:
        """Start the checkpoint beside the flow; in an async flow the future is awaited.

        At most 16 submitted calls of an execution run at a time.

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
        (future,) = self._submit([(args, kwargs)], None)
        return future

    @overload
    def map(
        self: Checkpoint[Concatenate[Item, Q], Coroutine[Any, Any, T]],
        items: Iterable[Item],
        *,
        max_workers: int | None = ...,
    ) -> CheckpointGroup[T]: ...
    @overload
    def map(
        self: Checkpoint[Concatenate[Item, Q], R],
        items: Iterable[Item],
        *,
        max_workers: int | None = ...,
    ) -> CheckpointGroup[R]: ...
    def map(self, items: Iterable[Any], *, max_workers: int | None = None) -> Any:
        """Submit the checkpoint once per item.

        Args:
            items: the first argument of each call.
            max_workers: how many run at a time; by default 16, together with whatever else the
                execution has submitted.

        Raises:
            KitaruUsageError: `max_workers` is not a whole number from 1 on.

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
        calls: list[Arguments] = [((item,), {}) for item in self._each(items)]
        return CheckpointGroup(self._submit(calls, max_workers))

    @overload
    def product(
        self: Checkpoint[Q, Coroutine[Any, Any, T]],
        *iterables: Iterable[Any],
        max_workers: int | None = ...,
    ) -> CheckpointGroup[T]: ...
    @overload
    def product(
        self, *iterables: Iterable[Any], max_workers: int | None = ...
    ) -> CheckpointGroup[R]: ...
    def product(self, *iterables: Iterable[Any], max_workers: int | None = None) -> Any:
        """Submit the checkpoint once for each combination of items, the last ones fastest.

        Args:
            iterables: the first argument's values, the second's, and so on.
            max_workers: how many run at a time, as in `map`.

        Raises:
            KitaruUsageError: `max_workers` is not a whole number from 1 on.

        Example:
            >>> import kitaru
            >>> @kitaru.checkpoint
            ... def join(a: str, b: int) -> str:
            ...     return f"{a}{b}"
            >>> @kitaru.flow
            ... def grid() -> list[str]:
            ...     return join.product("ab", [1, 2]).result()
            >>> grid.run().wait()
            ['a1', 'a2', 'b1', 'b2']
        """
        combined = itertools.product(*map(self._each, iterables))
        calls: list[Arguments] = [(args, {}) for args in combined]
        return CheckpointGroup(self._submit(calls, max_workers))

    def _each(self, items: Iterable[Any]) -> Iterator[Any]:
        context.in_flow(f"Checkpoint {self.name!r}")  # before anything is taken from them
        try:
            return iter(items)
        except TypeError:
            raise KitaruUsageError(
                f"Checkpoint {self.name!r}: {items!r:.60} cannot be gone through; give a list."
            ) from None

    def _submit(
        self, calls: Sequence[Arguments], max_workers: int | None
    ) -> list[CheckpointFuture[Any]]:
        driver = context.in_flow(f"Checkpoint {self.name!r}")
        if max_workers is not None and (type(max_workers) is not int or max_workers < 1):
            raise KitaruUsageError(
                f"Checkpoint {self.name!r}: max_workers is {max_workers!r}; give a whole number "
                "from 1 on."
            )
        requests = [self.request(args, kwargs) for args, kwargs in calls]
        return driver.submit(requests, max_workers=max_workers)

    def __repr__(self) -> str:
        return f"<checkpoint {self.name}>"


@overload
def checkpoint(fn: Callable[P, R], /) -> Checkpoint[P, R]: ...
@overload
def checkpoint(
    *,
    name: str | None = None,
    retries: int = 0,
    retry_delay: float = config.RETRY_DELAY_SECONDS,
    retry_backoff: float = config.RETRY_BACKOFF,
    retry_on: type[BaseException] | tuple[type[BaseException], ...] = ...,
    timeout: float | None = None,
    type: str | None = None,
    cache: bool | None = None,
    serializer: Literal["json", "pickle"] = "json",
    runtime: Runtime = "inline",
) -> Callable[[Callable[P, R]], Checkpoint[P, R]]: ...
def checkpoint(
    fn: Callable[..., Any] | None = None,
    /,
    *,
    name: str | None = None,
    retries: int = 0,
    retry_delay: float = config.RETRY_DELAY_SECONDS,
    retry_backoff: float = config.RETRY_BACKOFF,
    retry_on: type[BaseException] | tuple[type[BaseException], ...] = BaseException,
    timeout: float | None = None,
    type: str | None = None,
    cache: bool | None = None,
    serializer: Literal["json", "pickle"] = "json",
    runtime: Runtime = "inline",
) -> Any:
    """Make a function a checkpoint: its result is recorded before the flow goes on.

    Args:
        name: what its calls are called; the function's name by default.
        retries: how often a failed attempt is repeated; each attempt is recorded.
        retry_delay: seconds before the first repetition; half of each pause is random.
        retry_backoff: how much longer each further pause is, up to a minute.
        retry_on: the exceptions after which it is repeated; by default any.
        timeout: seconds that one attempt may take. A coroutine is cancelled then, an isolated
            process killed; the thread of a plain function is left behind.
        type: a label for what it does, such as `llm_call` or `tool_call`.
        cache: whether the result of an earlier call with equal inputs and unchanged source stands
            for a call; `None` leaves that to the flow.
        serializer: how values are recorded: `json`, or `pickle` for what that cannot hold.
        runtime: `isolated` runs it in a process of its own, whose crash is a failed attempt.

    Raises:
        KitaruUsageError: an option cannot be right, or it is no function that can be recorded.

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
    _check(type=type, cache=cache, runtime=runtime)
    policy = retry.policy(
        retries=retries,
        delay=retry_delay,
        backoff=retry_backoff,
        timeout=timeout,
        retry_on=retry_on,
        owner="@checkpoint",
    )
    chosen = serializers.named(serializer, owner="@checkpoint")

    def decorate(function: Callable[..., Any]) -> Checkpoint[..., Any]:
        full_name = naming.of_function(function, name, what="checkpoint")
        naming.refuse_generators(function, what="checkpoint")
        return Checkpoint(
            function,
            name=full_name,
            type=type,
            policy=policy,
            cache=cache,
            serializer=chosen,
            is_isolated=runtime == "isolated",
        )

    return decorate if fn is None else decorate(fn)


def _check(*, type: object, cache: object, runtime: object) -> None:
    if type is not None and not (isinstance(type, str) and redaction.is_storable(type)):
        raise KitaruUsageError(
            f"@checkpoint: type is {type!r}; it must be text without lone surrogates."
        )
    if cache is not None and not isinstance(cache, bool):
        raise KitaruUsageError(f"@checkpoint: cache is {cache!r}; it must be True, False or None.")
    if runtime not in ("inline", "isolated"):
        raise KitaruUsageError(f"@checkpoint: runtime is {runtime!r}; use 'inline' or 'isolated'.")
