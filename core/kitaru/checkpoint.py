"""`@checkpoint`: a unit of work whose result is recorded before the flow goes on.

A call returns the recorded value itself, decoded from its record on the first run too. The
checkpoint gets copies of its arguments, so that a change it makes to them is as invisible to the
flow on the first run as on a replay, when it does not run.
"""

from __future__ import annotations

import contextlib
import copy
import functools
import inspect
import itertools
from collections.abc import Callable, Coroutine, Iterable, Iterator, Sequence
from typing import Any, Concatenate, Generic, Literal, ParamSpec, TypeAlias, TypeVar, cast, overload

from kitaru import codec, config, context, inputs, naming, redaction, retry, serializers
from kitaru.context import CallRequest, IsolatedTask
from kitaru.definition import Target, describe
from kitaru.errors import KitaruSerializationError, KitaruUsageError
from kitaru.futures import CheckpointFuture, CheckpointGroup

P = ParamSpec("P")
Q = ParamSpec("Q")
# Covariant: to pyright an `async def` returns a subclass of the Coroutine in the overloads.
R = TypeVar("R", covariant=True)
T = TypeVar("T")
Item = TypeVar("Item")

Runtime = Literal["inline", "isolated"]
_Arguments: TypeAlias = tuple[tuple[Any, ...], dict[str, Any]]

_METHOD = ". A checkpoint is no method: make it a function, or a @staticmethod"
_UNCHANGEABLE = (str, int, float, bool, bytes, type(None))


class Checkpoint(Generic[P, R]):
    """A checkpoint function; call it, `submit` it or `map` it inside a flow.

    Args:
        fn: the function.
        name: what its calls are called.
        type: a label for what it does.
        policy: its retries and its time limit.
        cache: whether earlier equal calls stand for it; `None` leaves that to the flow.
        serializer: how its values are recorded.
        is_isolated: whether it runs in a process of its own.
    """

    def __init__(
        self,
        fn: Callable[P, R],
        *,
        name: str,
        type: str | None,
        policy: retry.RetryPolicy,
        cache: bool | None = None,
        serializer: serializers.Serializer = serializers.JSON,
        is_isolated: bool = False,
    ) -> None:
        self.name = name
        self.type = type
        self.policy = policy
        self.cache = cache
        self.serializer = serializer
        self.is_isolated = is_isolated
        self.fn = fn
        self.is_async = inspect.iscoroutinefunction(fn)
        self.__doc__ = fn.__doc__
        self.__name__ = fn.__name__
        self.__qualname__ = fn.__qualname__
        self.__module__ = fn.__module__
        self.__wrapped__ = fn
        self._signature = inspect.signature(fn)

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        """Run the checkpoint, or return what is recorded; of an `async def`, await it."""
        driver = context.in_flow(f"Checkpoint {self.name!r}")
        return cast(R, driver.call(self._request(args, kwargs)))

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
        calls: list[_Arguments] = [((item,), {}) for item in self._each(items)]
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
        calls: list[_Arguments] = [(args, {}) for args in combined]
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
        self, calls: Sequence[_Arguments], max_workers: int | None
    ) -> list[CheckpointFuture[Any]]:
        driver = context.in_flow(f"Checkpoint {self.name!r}")
        if max_workers is not None and (type(max_workers) is not int or max_workers < 1):
            raise KitaruUsageError(
                f"Checkpoint {self.name!r}: max_workers is {max_workers!r}; give a whole number "
                "from 1 on."
            )
        requests = [self._request(args, kwargs) for args, kwargs in calls]
        return driver.submit(requests, max_workers=max_workers)

    # --- what the driver and the process of an isolated attempt need -------------------------

    def dump(self, value: Any) -> bytes:
        """The record of a result."""
        return self.serializer.dump(value, types=self._returns, path="result")

    def load(self, data: bytes, call: str) -> Any:
        """The result in a record."""
        return self.serializer.load(data, types=self._returns, path=call)

    def load_arguments(self, data: bytes) -> inspect.BoundArguments:
        """The arguments of an isolated attempt."""
        bound = self._signature.bind_partial()
        path = f"the arguments of {self.name}"
        bound.arguments.update(self.serializer.load(data, types=self._types, path=path))
        return bound

    def _request(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> CallRequest:
        try:
            bound = self._signature.bind(*args, **kwargs)
        except TypeError as exc:
            raise TypeError(
                f"Checkpoint {self.name}{inputs.masked(self._signature)}: {exc}"
                f"{_METHOD if 'self' in self._signature.parameters else ''}"
            ) from None
        bound.apply_defaults()
        arguments = dict(bound.arguments)
        digest = serializers.inputs_digest(arguments, serializer=self.serializer, path=self.name)
        return CallRequest(
            name=self.name,
            type=self.type,
            digest=digest,
            shown=inputs.shown(arguments),
            policy=self.policy,
            run=self._runner(bound),
            dump=self.dump,
            load=self.load,
            adapt=self._adapt,
            is_async=self.is_async,
            isolated=self._task(arguments) if self.is_isolated else None,
            cache=self.cache,
            cache_key=functools.partial(self._cache_key, arguments),
        )

    def _adapt(self, data: bytes, what: str) -> bytes:
        value = codec.decode(data, types=self._returns, path=what)
        value = inputs.conform(value, inputs.annotation(self.fn, "return"), what=what)
        return self.serializer.dump(value, types=self._returns, path=what)

    def _task(self, arguments: dict[str, Any]) -> IsolatedTask:
        if self._target.target is None:
            raise KitaruUsageError(
                f"Checkpoint {self.name!r} cannot run isolated: {self._target.problem}."
            )
        data = self.serializer.dump(arguments, types=self._types, path=self.name)
        return IsolatedTask(self.name, self._target.target, self._target.root, data)

    def _cache_key(self, arguments: dict[str, Any]) -> bytes:
        target = self._target
        what = [self.name, target.module, self.__qualname__, target.source_digest]
        values = serializers.cache_digest(arguments, serializer=self.serializer, path=self.name)
        return codec.fingerprint([*what, self.serializer.name, values, _closed_over(self.fn)])

    @functools.cached_property
    def _target(self) -> Target:
        return describe(self.fn, what="checkpoint")

    @functools.cached_property
    def _returns(self) -> codec.DeclaredTypes:
        return codec.return_types(self.fn)

    @functools.cached_property
    def _types(self) -> codec.DeclaredTypes:
        return inputs.types(self.fn)

    def _runner(self, bound: inspect.BoundArguments) -> Callable[[], Any]:
        if all(type(value) in _UNCHANGEABLE for value in bound.arguments.values()):
            args, kwargs = bound.args, bound.kwargs
            return lambda: self.fn(*args, **kwargs)
        kept = self._copied((bound.args, bound.kwargs))

        def run() -> Any:
            args, kwargs = self._copied(kept)
            return self.fn(*args, **kwargs)

        return run

    def _copied(self, arguments: _Arguments) -> _Arguments:
        try:
            return copy.deepcopy(arguments)
        except Exception as exc:  # copying runs user code
            raise KitaruSerializationError(
                f"The arguments of checkpoint {self.name!r} cannot be copied: "
                f"{type(exc).__name__}: {exc}. Make what cannot be copied inside the checkpoint."
            ) from exc

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


def _closed_over(fn: Callable[..., Any]) -> dict[str, object]:
    """The plain values in which functions differ that one factory has made of one source."""
    code, cells = getattr(fn, "__code__", None), getattr(fn, "__closure__", None)
    found: dict[str, object] = {}
    for name, cell in zip(code.co_freevars if code else (), cells or (), strict=True):
        with contextlib.suppress(ValueError):  # not filled yet
            if type(cell.cell_contents) in _UNCHANGEABLE:
                found[name] = cell.cell_contents
    return found


def _check(*, type: object, cache: object, runtime: object) -> None:
    if type is not None and not (isinstance(type, str) and redaction.is_storable(type)):
        raise KitaruUsageError(
            f"@checkpoint: type is {type!r}; it must be text without lone surrogates."
        )
    if cache is not None and not isinstance(cache, bool):
        raise KitaruUsageError(f"@checkpoint: cache is {cache!r}; it must be True, False or None.")
    if runtime not in ("inline", "isolated"):
        raise KitaruUsageError(f"@checkpoint: runtime is {runtime!r}; use 'inline' or 'isolated'.")
